//! Translates as hardware does: through the caches of device table entries, interrupts, pages and tables, and fills each.

use super::AmdViUnit;
use super::lookup::Lookup;
use crate::amdvi::walk::{Abort, Context, Page, Trail, Walker};
use crate::answer::{Access, Answer, Direction};
use crate::memory::Memory;
use amdvi::device_table::DeviceTableEntry;

impl AmdViUnit {
    /// The answer of a unit without caches.
    pub(crate) fn cold_answer(&self, memory: &Memory, access: Access) -> Answer {
        self.walker(memory).answer(access)
    }

    /// The answer of a unit with its caches. The unit caches what it looks up, sets accessed and dirty bits in the
    /// tables, and logs events.
    pub(crate) fn answer(&mut self, memory: &mut Memory, access: Access) -> Answer {
        if !self.translates() {
            return Answer::untranslated(access);
        }
        self.answer_by_caches(memory, access).unwrap_or_else(|abort| {
            self.report(access, abort, memory);
            Answer::Blocked(abort.into())
        })
    }

    fn answer_by_caches(&mut self, memory: &mut Memory, access: Access) -> Result<Answer, Abort> {
        let entry = self.entry(memory, access.source)?;
        if let Some(kept) = self.translated(entry, access) {
            return kept;
        }
        if let Some(answer) = self.set_apart(memory, entry, access) {
            return answer;
        }
        let context = self.walker(memory).context_of(entry, access.pasid)?;
        self.translate(memory, (entry, context), access)
    }

    /// The entry of a device. Those that are not valid are cached too.
    pub(super) fn entry(&mut self, memory: &Memory, source: u16) -> Result<DeviceTableEntry, Abort> {
        if let Some(cached) = self.caches.device(source) {
            return Ok(cached);
        }
        let entry = self.walker(memory).entry(source)?;
        self.caches.keep_device(source, entry);
        Ok(entry)
    }

    /// The answer to an access that no page table is asked about.
    fn set_apart(
        &mut self,
        memory: &Memory,
        entry: DeviceTableEntry,
        access: Access,
    ) -> Option<Result<Answer, Abort>> {
        if let Some(cached) = self.caches.interrupt(access.source, access.iova) {
            return Some(Ok(cached));
        }
        let answer = self.walker(memory).set_apart(entry, access)?;
        if let Ok(remapped @ Answer::Remapped(_)) = answer {
            self.caches.keep_interrupt(access.source, access.iova, remapped);
        }
        Some(answer)
    }

    fn translate(
        &mut self,
        memory: &mut Memory,
        (entry, context): (DeviceTableEntry, Context),
        access: Access,
    ) -> Result<Answer, Abort> {
        let mut trail = Trail::default();
        let Some(page) = self.page(memory, context, access, &mut trail) else {
            return context.pass(access);
        };
        let page = page?.restricted(context.rights);
        let answer = page.answer(access)?;
        trail.check(access.direction)?;
        trail.note(memory, access.direction);
        if context.device_tlb {
            let page = self.walker(memory).told(entry, access, page);
            self.device_tlbs.keep(access.requester(), page, &mut self.rng);
        }
        Ok(answer)
    }

    /// The page of an access. A cached page whose dirty bit is not set is walked to again before a write.
    fn page(
        &mut self,
        memory: &Memory,
        context: Context,
        access: Access,
        trail: &mut Trail,
    ) -> Option<Result<Page, Abort>> {
        let bases = self.bases();
        let Self { traits, caches, rng, devices, .. } = self;
        let mut lookup = Lookup { walker: Walker { memory, traits, bases, devices }, caches, rng };
        let page = lookup.page(context, access.iova, trail)?;
        let unwritten = |page: &Page| !page.noted && access.direction == Direction::Write;
        if page.as_ref().is_ok_and(unwritten) && trail.marks.is_empty() {
            lookup.drop_page(context, access.iova);
            return lookup.page(context, access.iova, trail);
        }
        Some(page)
    }
}
