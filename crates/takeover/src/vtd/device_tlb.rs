//! The descriptors that have devices invalidate what they keep (6.5.2.5, 6.5.2.6).

use vtd::capability::ExtendedCapability;
use vtd::queue::{Descriptor, DeviceTlbInvalidation, PasidDeviceTlbInvalidation};

use crate::surroundings::DeviceTlb;

/// The descriptor that invalidates everything a device caches for a PASID, or for all requests without PASID.
pub(crate) fn everything_in(tlb: DeviceTlb, pasid: Option<u32>, extended: ExtendedCapability) -> Descriptor {
    // The field is reserved on units without device-TLB invalidation throttle (6.5.2.5).
    let physical = if extended.dit() { tlb.physical.0 } else { 0 };
    // Five bits: 32 is zero.
    let (depth, low, high) = (tlb.depth & 0x1F, (physical & 0xF) as u8, physical >> 4);
    match pasid {
        None => DeviceTlbInvalidation::new()
            .with_source(tlb.source)
            .with_max_pending(depth)
            .with_physical_low(low)
            .with_physical_high(high)
            .of_everything(),
        Some(pasid) => PasidDeviceTlbInvalidation::new()
            .with_source(tlb.source)
            .with_pasid(pasid)
            .with_max_pending(depth)
            .with_physical_low(low)
            .with_physical_high(high)
            .of_everything(),
    }
}
