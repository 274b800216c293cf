//! Looks pages up in the IOTLB and the paging-structure cache, and fills both.

use super::caches::{Caches, Tag};
use crate::trail::Table;
use crate::vtd::walk::{Context, FirstStage, Page, SecondStage, Trail, Translation, Walker};
use fastrand::Rng;
use machine::IoAddress;
use vtd::fault::FaultReason;

/// What a lookup needs.
pub(super) struct Lookup<'a> {
    pub(super) walker: Walker<'a>,
    pub(super) caches: &'a mut Caches,
    pub(super) rng: &'a mut Rng,
}

impl Lookup<'_> {
    /// The page that an address lies in; `None` in pass-through.
    pub(super) fn page(
        &mut self,
        context: Context,
        iova: IoAddress,
        trail: &mut Trail,
    ) -> Option<Result<Page, FaultReason>> {
        let tag = tag(context)?;
        match context.translation {
            Translation::PassThrough => None,
            Translation::SecondStage(second) => Some(self.second(second, context.domain, iova, trail)),
            Translation::FirstStage(first) => Some(self.first(first, None, tag, iova, trail)),
            Translation::Nested(first, second) => Some(self.first(first, Some(second), tag, iova, trail)),
        }
    }

    /// Drops the cached page that an address lies in.
    pub(super) fn drop_page(&mut self, context: Context, iova: IoAddress) {
        if let Some(tag) = tag(context) {
            self.caches.translations.drop_page(tag, iova);
        }
    }

    fn second(
        &mut self,
        second: SecondStage,
        domain: u16,
        iova: IoAddress,
        trail: &mut Trail,
    ) -> Result<Page, FaultReason> {
        let tag = Tag::Second { domain };
        if let Some(page) = self.caches.translations.page(tag, iova) {
            return Ok(page);
        }
        let from = self.caches.translations.table(tag, iova).unwrap_or(second.root);
        let page = self.walker.second_stage(second, from, iova, trail)?;
        self.keep(tag, iova, trail, page);
        Ok(page)
    }

    fn first(
        &mut self,
        first: FirstStage,
        second: Option<SecondStage>,
        tag: Tag,
        iova: IoAddress,
        trail: &mut Trail,
    ) -> Result<Page, FaultReason> {
        if let Some(page) = self.caches.translations.page(tag, iova) {
            return Ok(page);
        }
        let from: Table = self.caches.translations.table(tag, iova).unwrap_or(first.root);
        let walker = self.walker;
        let mut host = |address: IoAddress, trail: &mut Trail| match (second, tag) {
            (Some(second), Tag::Nested { domain, .. }) => {
                walker.check_guest(second, address)?;
                self.second(second, domain, address, trail)
            }
            _ => Ok(Page::identity(address)),
        };
        let page = walker.first_stage(first, from, iova, &mut host, trail)?;
        self.keep(tag, iova, trail, page);
        Ok(page)
    }

    /// Caches the tables below the first of a walk, and the page at its end unless it allows nothing; units in
    /// caching mode cache such a page too (6.1).
    fn keep(&mut self, tag: Tag, iova: IoAddress, trail: &Trail, page: Page) {
        for &table in trail.tables.iter().skip(1) {
            self.caches.translations.keep_table(tag, iova, table, self.rng);
        }
        if page.rights.any() || self.walker.traits.capability.cm() {
            self.caches.translations.keep_page(tag, page, self.rng);
        }
    }
}

/// The tag of a context's translations; `None` in pass-through.
fn tag(context: Context) -> Option<Tag> {
    let Context { domain, pasid, .. } = context;
    match context.translation {
        Translation::PassThrough => None,
        Translation::SecondStage(_) => Some(Tag::Second { domain }),
        Translation::FirstStage(first) => Some(Tag::First { domain, pasid, privilege: first.privilege }),
        Translation::Nested(first, _) => Some(Tag::Nested { domain, pasid, privilege: first.privilege }),
    }
}
