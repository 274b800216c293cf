//! Translation as hardware does it: by way of the context cache, the PASID cache, the IOTLB and the paging-structure
//! cache, filling each.

use super::Unit;
use super::caches::{Cached, CachedTable};
use crate::answer::{Access, Answer, Requester};
use crate::memory::Memory;
use crate::walk::{Context, Device, Page, Table, Translation, is_interrupt};
use vtd::fault::FaultReason;

impl Unit {
    /// The answer of a unit without caches.
    pub(crate) fn cold_answer(&self, memory: &Memory, access: Access) -> Answer {
        if self.status.tes() { self.walker(memory).answer(access) } else { Answer::Memory(access.iova) }
    }

    /// The answer as the caches have it; what is looked up is cached, what is blocked is recorded.
    pub(crate) fn answer(&mut self, memory: &Memory, access: Access) -> Answer {
        if !self.status.tes() {
            return Answer::Memory(access.iova);
        }
        if is_interrupt(access.iova) {
            return Answer::Interrupt;
        }
        let context = self.context(memory, access.requester());
        let answer = context.and_then(|context| self.translate(memory, context, access));
        answer.unwrap_or_else(|reason| {
            if !context.is_ok_and(|context| context.fault_disabled) {
                self.record(access, reason);
            }
            Answer::Blocked(reason)
        })
    }

    /// The context of a requester, by way of context cache and PASID cache.
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
        memory: &Memory,
        context: Context,
        access: Access,
    ) -> Result<Answer, FaultReason> {
        self.walker(memory).check_width(context.translation, access.iova)?;
        match context.translation {
            Translation::PassThrough => Ok(Answer::Memory(access.iova)),
            Translation::SecondStage(root) => {
                self.page(memory, context.domain, root, access.iova)?.answer(access)
            }
        }
    }

    /// The page of `iova`: cached, or walked to from the lowest table that is cached.
    fn page(&mut self, memory: &Memory, domain: u16, root: Table, iova: u64) -> Result<Page, FaultReason> {
        if let Some(page) = self.caches.page(domain, iova) {
            return Ok(page);
        }
        let from = self.caches.table(domain, iova).unwrap_or(root);
        let mut below = Vec::new();
        let page = self.walker(memory).second_stage(from, iova, |table| below.push(table))?;
        for &table in &below[1..] {
            self.caches.keep_table(CachedTable { domain, iova, table }, &mut self.rng);
        }
        if page.rights.any() || self.traits.capability.cm() {
            self.caches.keep_page(Cached { domain, page }, &mut self.rng);
        }
        Ok(page)
    }
}
