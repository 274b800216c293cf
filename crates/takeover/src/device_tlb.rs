//! Device-TLBs: translations that devices keep themselves (PCI Express ATS; chapter 4).
//!
//! Such a device asks the unit for translations, caches them, and then makes requests with physical addresses, which
//! the unit lets through unchecked. So once the unit's own caches hold nothing of the old tables, the takeover
//! invalidates each of these devices' TLBs. A device that does not confirm may go on using what it cached. As long as
//! nothing was cut out, the new tables say the same; but the device can still reach memory of ours that an old
//! mapping reached. Only a table that blocks the device altogether would prevent that, and it would break off the
//! device's work. So the takeover leaves the device alone and reports it.
//!
//! Two places say which devices these are: the device's context or PASID entry allows its TLB, and the device's own
//! configuration, which the caller reads, enables ATS.

use alloc::vec::Vec;

use machine::{Clock, Frames, Registers};
use vtd::capability::ExtendedCapability;
use vtd::queue::{Descriptor, DeviceTlbInvalidation, PasidDeviceTlbInvalidation};
use vtd::source::SourceId;

use crate::command::CommandedUnit;
use crate::duplicate::Duplicate;
use crate::found::Context;
use crate::hazard::{Danger, HazardPlace, Outcome};
use crate::surroundings::DeviceTlb;
use crate::unit::UnitError;
use machine::growth::push;

impl DeviceTlb {
    /// The descriptor that invalidates everything the device caches for a PASID, or for all requests without PASID.
    fn forget(self, pasid: Option<u32>, extended: ExtendedCapability) -> Descriptor {
        // The field is reserved on units without device-TLB invalidation throttle (6.5.2.5).
        let physical = if extended.dit() { self.physical.0 } else { 0 };
        // Five bits: 32 is zero.
        let (depth, low, high) = (self.depth & 0x1F, (physical & 0xF) as u8, physical >> 4);
        match pasid {
            None => DeviceTlbInvalidation::new()
                .with_source(self.source)
                .with_max_pending(depth)
                .with_physical_low(low)
                .with_physical_high(high)
                .of_everything(),
            Some(pasid) => PasidDeviceTlbInvalidation::new()
                .with_source(self.source)
                .with_pasid(pasid)
                .with_max_pending(depth)
                .with_physical_low(low)
                .with_physical_high(high)
                .of_everything(),
        }
    }
}

/// Invalidates all device-TLBs of the unit's devices; returns those that confirmed.
pub(crate) fn forget_all<R: Registers, C: Clock>(
    unit: &mut CommandedUnit<'_, R, C>,
    copy: &mut Duplicate,
    tlbs: &[DeviceTlb],
    frames: &mut impl Frames,
) -> Vec<DeviceTlb> {
    let mut answering = Vec::new();
    if !unit.unit.extended_capability().dt() {
        return answering;
    }
    for tlb in tlbs {
        if !copy.tables.allows_device_tlb(tlb.source, frames) {
            continue;
        }
        let forgotten = forget_all_of(*tlb, &copy.contexts, unit, frames);
        if forgotten.is_err() || push(&mut answering, *tlb).is_err() {
            copy.hazards.note(HazardPlace::Device(tlb.source), Danger::DeviceTlbSilent, Outcome::KeptInPlace);
        }
    }
    answering
}

/// Invalidates what one device caches for requests without PASID and for each PASID in its tables.
fn forget_all_of<R: Registers, C: Clock>(
    tlb: DeviceTlb,
    contexts: &[Context],
    unit: &mut CommandedUnit<'_, R, C>,
    frames: &mut impl Frames,
) -> Result<(), UnitError> {
    let pasids = of_source(contexts, tlb.source).filter_map(|context| context.pasid);
    [None].into_iter().chain(pasids.map(Some)).try_for_each(|pasid| forget(tlb, pasid, unit, frames))
}

/// Invalidates what a device caches for the requests of these contexts.
pub(crate) fn forget_contexts<'a, R: Registers, C: Clock>(
    tlb: DeviceTlb,
    mut contexts: impl Iterator<Item = &'a Context>,
    unit: &mut CommandedUnit<'_, R, C>,
    frames: &mut impl Frames,
) -> Result<(), UnitError> {
    contexts.try_for_each(|context| forget(tlb, context.pasid, unit, frames))
}

fn forget<R: Registers, C: Clock>(
    tlb: DeviceTlb,
    pasid: Option<u32>,
    unit: &mut CommandedUnit<'_, R, C>,
    frames: &mut impl Frames,
) -> Result<(), UnitError> {
    let request = tlb.forget(pasid, unit.unit.extended_capability());
    unit.forget_in_device(request, frames)
}

/// The contexts of one device; `contexts` are sorted by source-id.
pub(crate) fn of_source(contexts: &[Context], source: SourceId) -> impl Iterator<Item = &Context> {
    let first = contexts.partition_point(|context| context.source < source);
    contexts[first..].iter().take_while(move |context| context.source == source)
}
