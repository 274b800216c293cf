//! Translates as hardware does: through the context cache, the PASID cache, the IOTLB and the paging-structure cache,
//! and fills each.

use super::VtdUnit;
use super::lookup::Lookup;
use crate::answer::{Access, Answer, Direction, Requester};
use crate::memory::Memory;
use crate::vtd::walk::{Context, Device, Page, Trail, Walker, is_message};
use vtd::fault::FaultReason;

impl VtdUnit {
    /// The answer of a unit without caches.
    pub(crate) fn cold_answer(&self, memory: &Memory, access: Access) -> Answer {
        if self.status.tes() { self.walker(memory).answer(access) } else { Answer::untranslated(access) }
    }

    /// The answer of a unit with its caches. The unit caches what it looks up, sets accessed and dirty bits in the
    /// tables, and records faults.
    pub(crate) fn answer(&mut self, memory: &mut Memory, access: Access) -> Answer {
        if !self.status.tes() {
            return Answer::untranslated(access);
        }
        if is_message(access) {
            return Answer::Interrupt;
        }
        let context = self.context(memory, access.requester());
        let kept = self.translated(context, access);
        let answer = kept.unwrap_or_else(|| self.translate(memory, context?, access));
        answer.unwrap_or_else(|reason| {
            if !context.is_ok_and(|context| context.fault_disabled) {
                self.record(access, reason);
            }
            Answer::Blocked(reason.into())
        })
    }

    /// The context of a requester, through context cache and PASID cache.
    fn context(&mut self, memory: &Memory, requester: Requester) -> Result<Context, FaultReason> {
        let device = self.device(memory, requester.source)?;
        if let (Device::Scalable(_), Some(cached)) = (device, self.caches.pasid(requester)) {
            return Ok(cached);
        }
        let context = self.walker(memory).context_of(device, requester.pasid)?;
        if matches!(device, Device::Scalable(_)) {
            self.caches.keep_pasid(requester, context);
        }
        Ok(context)
    }

    fn device(&mut self, memory: &Memory, source: u16) -> Result<Device, FaultReason> {
        if let Some(cached) = self.caches.device(source) {
            return cached;
        }
        let device = self.walker(memory).device(source);
        if device.is_ok() || self.traits.capability.cm() {
            self.caches.keep_device(source, device);
        }
        device
    }

    fn translate(
        &mut self,
        memory: &mut Memory,
        context: Context,
        access: Access,
    ) -> Result<Answer, FaultReason> {
        self.walker(memory).check_width(context.translation, access.iova)?;
        let mut trail = Trail::default();
        let Some(page) = self.page(memory, context, access, &mut trail) else {
            return Ok(Answer::untranslated(access));
        };
        let page = page?;
        let answer = page.answer(access)?;
        trail.check(access.direction)?;
        trail.note(memory, access.direction);
        if context.device_tlb {
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
    ) -> Option<Result<Page, FaultReason>> {
        let Self { traits, root, caches, rng, .. } = self;
        let mut lookup = Lookup { walker: Walker { memory, traits, root: *root }, caches, rng };
        let page = lookup.page(context, access.iova, trail)?;
        let unwritten = |page: &Page| !page.noted && access.direction == Direction::Write;
        if page.as_ref().is_ok_and(unwritten) && trail.marks.is_empty() {
            lookup.drop_page(context, access.iova);
            return lookup.page(context, access.iova, trail);
        }
        Some(page)
    }
}
