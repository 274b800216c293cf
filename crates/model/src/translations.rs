//! The translations that a unit caches: pages, and the tables on the way to them, each under a tag that its architecture gives it. Any
//! of them may be evicted at any time.

use crate::evict::{drop_one, replace};
use crate::trail::Table;
use fastrand::Rng;
use machine::IoAddress;

/// A page that can be cached.
pub(crate) trait CachedPage: Copy {
    /// Whether an address lies in it.
    fn holds(&self, iova: IoAddress) -> bool;
}

/// Cached translations.
#[derive(Debug)]
pub(crate) struct Translations<Tag, Page> {
    pages: Vec<(Tag, Page)>,
    tables: Vec<CachedTable<Tag>>,
}

/// A cached table: the one that translates the lower bits of addresses from `iova`.
#[derive(Clone, Copy, Debug)]
struct CachedTable<Tag> {
    tag: Tag,
    iova: IoAddress,
    table: Table,
}

impl<Tag, Page> Default for Translations<Tag, Page> {
    fn default() -> Self {
        Self { pages: Vec::new(), tables: Vec::new() }
    }
}

impl<Tag: Copy + Eq, Page: CachedPage> Translations<Tag, Page> {
    /// The cached page that `iova` lies in.
    pub(crate) fn page(&self, tag: Tag, iova: IoAddress) -> Option<Page> {
        let found = self.pages.iter().find(|(of, page)| *of == tag && page.holds(iova));
        found.map(|(_, page)| *page)
    }

    /// Drops a page whose cached accessed and dirty state is not enough.
    pub(crate) fn drop_page(&mut self, tag: Tag, iova: IoAddress) {
        self.pages.retain(|(of, page)| *of != tag || !page.holds(iova));
    }

    pub(crate) fn keep_page(&mut self, tag: Tag, page: Page, rng: &mut Rng) {
        replace(&mut self.pages, (tag, page), rng);
    }

    /// The lowest cached table on the way to `iova`.
    pub(crate) fn table(&self, tag: Tag, iova: IoAddress) -> Option<Table> {
        let on_the_way = |cached: &&CachedTable<Tag>| cached.tag == tag && cached.covers(iova);
        self.tables.iter().filter(on_the_way).map(|cached| cached.table).min_by_key(|table| table.level)
    }

    /// Keeps the table that a walk to `iova` went through.
    pub(crate) fn keep_table(&mut self, tag: Tag, iova: IoAddress, table: Table, rng: &mut Rng) {
        replace(&mut self.tables, CachedTable { tag, iova, table }, rng);
    }

    /// Forgets the pages that `covers` says.
    pub(crate) fn forget_pages(&mut self, covers: impl Fn(Tag, Page) -> bool) {
        self.pages.retain(|(tag, page)| !covers(*tag, *page));
    }

    /// Forgets the tables that `covers` says, each by an address below it and the width of the addresses that it translates.
    pub(crate) fn forget_tables(&mut self, covers: impl Fn(Tag, IoAddress, u32) -> bool) {
        self.tables.retain(|cached| !covers(cached.tag, cached.iova, cached.table.level.width()));
    }

    /// Evicts a random page and a random table.
    pub(crate) fn evict(&mut self, rng: &mut Rng) {
        drop_one(&mut self.pages, rng);
        drop_one(&mut self.tables, rng);
    }
}

impl<Tag> CachedTable<Tag> {
    fn covers(&self, iova: IoAddress) -> bool {
        let width = self.table.level.width();
        iova.get().checked_shr(width) == self.iova.get().checked_shr(width)
    }
}
