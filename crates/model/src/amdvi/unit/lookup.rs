//! Looks pages up in the caches of pages and tables, and fills both.

use super::caches::{Caches, Tag};
use crate::amdvi::walk::{Abort, Context, Guest, Host, Page, Trail, Translation, Walker};
use crate::trail::Table;
use fastrand::Rng;
use machine::IoAddress;

/// What a lookup needs.
pub(super) struct Lookup<'a> {
    pub(super) walker: Walker<'a>,
    pub(super) caches: &'a mut Caches,
    pub(super) rng: &'a mut Rng,
}

impl Lookup<'_> {
    /// The page that an address lies in; `None` if it is not translated.
    pub(super) fn page(
        &mut self,
        context: Context,
        iova: IoAddress,
        trail: &mut Trail,
    ) -> Option<Result<Page, Abort>> {
        match context.translation {
            Translation::Untranslated => None,
            Translation::Host(host) => Some(self.host(host, context.domain, iova, trail)),
            Translation::Guest(guest, host) => Some(self.guest(guest, host, context.domain, iova, trail)),
        }
    }

    /// Drops the cached page that an address lies in.
    pub(super) fn drop_page(&mut self, context: Context, iova: IoAddress) {
        if let Some(tag) = tag(context) {
            self.caches.translations.drop_page(tag, iova);
        }
    }

    fn host(&mut self, host: Host, domain: u16, iova: IoAddress, trail: &mut Trail) -> Result<Page, Abort> {
        let tag = Tag::Host { domain };
        if let Some(page) = self.caches.translations.page(tag, iova) {
            return Ok(page);
        }
        let from = self.caches.translations.table(tag, iova).unwrap_or(host.root);
        let page = self.walker.host_page(host, from, iova, trail)?;
        // The root is in the device table entry.
        self.keep(tag, iova, trail.tables.get(1..).unwrap_or_default(), page);
        Ok(page)
    }

    fn guest(
        &mut self,
        guest: Guest,
        host: Option<Host>,
        domain: u16,
        iova: IoAddress,
        trail: &mut Trail,
    ) -> Result<Page, Abort> {
        let tag = guest_tag(guest, host, domain);
        if let Some(page) = self.caches.translations.page(tag, iova) {
            return Ok(page);
        }
        let (from, walker) = (self.caches.translations.table(tag, iova), self.walker);
        let mut through = |address: IoAddress, trail: &mut Trail| match host {
            None => Ok(Page::identity(address)),
            Some(host) => self.host(host, domain, address, trail),
        };
        let from = from.map_or_else(|| walker.guest_root(guest, &mut through), Ok)?;
        let page = walker.guest_page(guest, from, iova, &mut through, trail)?;
        // The root is cached as other tables are: it stays in force though the CR3 table changes.
        self.keep(tag, iova, &trail.tables, page);
        Ok(page)
    }

    fn keep(&mut self, tag: Tag, iova: IoAddress, tables: &[Table], page: Page) {
        for &table in tables {
            self.caches.translations.keep_table(tag, iova, table, self.rng);
        }
        self.caches.translations.keep_page(tag, page, self.rng);
    }
}

fn guest_tag(guest: Guest, host: Option<Host>, domain: u16) -> Tag {
    let pasid = guest.pasid;
    if host.is_some() { Tag::Nested { domain, pasid } } else { Tag::Guest { domain, pasid } }
}

/// The tag of a context's translations; `None` if it has none.
fn tag(context: Context) -> Option<Tag> {
    match context.translation {
        Translation::Untranslated => None,
        Translation::Host(_) => Some(Tag::Host { domain: context.domain }),
        Translation::Guest(guest, host) => Some(guest_tag(guest, host, context.domain)),
    }
}
