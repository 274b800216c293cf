//! Device-TLBs (chapter 4): translations that devices cache and use without asking the unit, which only checks
//! whether the device may.

use super::VtdUnit;
use crate::answer::{Access, Answer, Requester};
use crate::memory::Memory;
use crate::trace::Event;
use crate::vtd::scenario::DeviceTlb;
use crate::vtd::walk::{Context, Page};
use fastrand::Rng;
use machine::SourceId;
use std::collections::BTreeMap;
use vtd::control::TableMode;
use vtd::fault::{FaultReason, FaultStatus};
use vtd::queue::QueueErrorRecord;
use vtd::registers::{FSTS, IQERCD};

/// Entries of one device-TLB: few, so that the device asks the unit now and then.
const ENTRIES: usize = 8;
/// A translated request was made by a device that may keep no translations: LCT.5 and SCT.5 (7.1.3).
const NOT_ALLOWED: FaultReason = FaultReason::CONTEXT_TYPE;
const NOT_ALLOWED_SCALABLE: FaultReason = FaultReason(0x44);

/// The device-TLBs behind a unit, by source-id.
#[derive(Debug, Default)]
pub(super) struct DeviceTlbs(BTreeMap<u16, Kept>);

/// The translations that one device keeps.
#[derive(Debug)]
struct Kept {
    manner: DeviceTlb,
    pages: Vec<(Requester, Page)>,
    /// Whether the device was told to invalidate them, whatever it did then.
    was_told: bool,
}

impl DeviceTlbs {
    fn page(&self, access: Access) -> Option<Page> {
        let pages = &self.0.get(&access.source)?.pages;
        let covers = |(requester, page): &&(Requester, Page)| {
            *requester == access.requester() && page.contains(access.iova)
        };
        pages.iter().find(covers).map(|(_, page)| *page)
    }

    pub(super) fn keep(&mut self, requester: Requester, page: Page, rng: &mut Rng) {
        let Some(kept) = self.0.get_mut(&requester.source) else { return };
        if kept.pages.len() >= ENTRIES {
            kept.pages.swap_remove(rng.usize(..ENTRIES));
        }
        kept.pages.push((requester, page));
    }

    /// How a device answers an invalidation.
    pub(super) fn manner(&self, source: u16) -> DeviceTlb {
        self.0.get(&source).map_or(DeviceTlb::Answers, |kept| kept.manner)
    }
}

impl VtdUnit {
    /// Adds a device with a device-TLB behind this unit.
    pub(crate) fn add_device_tlb(&mut self, source: u16, manner: DeviceTlb) {
        self.device_tlbs.0.insert(source, Kept { manner, pages: Vec::new(), was_told: false });
    }

    /// The devices that have a device-TLB.
    pub(crate) fn device_tlbs(&self) -> impl Iterator<Item = u16> + '_ {
        self.device_tlbs.0.keys().copied()
    }

    /// Whether a device was told to invalidate its translations.
    pub(crate) fn was_told(&self, source: u16) -> bool {
        self.device_tlbs.0.get(&source).is_some_and(|kept| kept.was_told)
    }

    /// Whether a device keeps translations that it was never told to invalidate, and the tables in force let it use them.
    pub(crate) fn keeps_untold(&self, memory: &Memory, source: u16) -> bool {
        let kept = self.device_tlbs.0.get(&source).filter(|kept| !kept.was_told);
        let allowed = |(requester, _): &(Requester, Page)| {
            self.walker(memory).context(*requester).is_ok_and(|context| context.device_tlb)
        };
        kept.is_some_and(|kept| kept.pages.iter().any(allowed))
    }

    /// Whether a device was told to invalidate its translations, and may have kept them all the same.
    pub(crate) fn keeps_on(&self, source: u16) -> bool {
        self.device_tlbs.0.get(&source).is_some_and(|kept| kept.was_told && kept.manner != DeviceTlb::Answers)
    }

    /// The answer to a request with an address that the device keeps; `None` if it keeps none that fits.
    pub(super) fn translated(
        &self,
        context: Result<Context, FaultReason>,
        access: Access,
    ) -> Option<Result<Answer, FaultReason>> {
        let answer = self.device_tlbs.page(access)?.answer(access).ok()?;
        Some(match context {
            Ok(context) if context.device_tlb => Ok(answer),
            _ if self.root.mode() == TableMode::SCALABLE => Err(NOT_ALLOWED_SCALABLE),
            _ => Err(NOT_ALLOWED),
        })
    }

    /// Tells a device to invalidate its translations; some devices obey.
    pub(super) fn forget_in_device(&mut self, requester: Requester) {
        if let Some(kept) = self.device_tlbs.0.get_mut(&requester.source) {
            kept.was_told = true;
            if kept.manner == DeviceTlb::Answers {
                kept.pages.retain(|(of, _)| *of != requester);
            }
        }
        self.events.push(Event::ToldDevice { requester });
    }

    /// Stops waiting for a device (ITE), after its malformed answer (ICE) if it gave one.
    pub(super) fn give_device_up(&mut self, source: u16) {
        let garbled = self.device_tlbs.manner(source) == DeviceTlb::Garbles;
        let status = FaultStatus::from_bits(self.get32(FSTS.offset));
        self.set32(FSTS.offset, status.with_ite(true).with_ice(status.ice() || garbled).into_bits());
        let record = QueueErrorRecord::from_bits(self.get64(IQERCD.offset)).with_silent(SourceId(source));
        let record = if garbled { record.with_confused(SourceId(source)) } else { record };
        self.set64(IQERCD.offset, record.into_bits());
        self.events.push(Event::DeviceSilent { source });
    }
}
