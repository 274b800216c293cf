//! What an AMD-Vi unit's device table and guests' CR3 tables say of requesters.

mod binding;
mod devices;
mod pasids;

use amdvi::control::{Control, DeviceTableBase, ExclusionBase, ExclusionLimit};
use amdvi::device_table::DeviceTableEntry;
use amdvi::feature::{ExtendedFeature, ExtendedFeature2};
use machine::{PhysicalAddress, Range};

use crate::Tables;

/// The registers that decide how an AMD-Vi unit's tables are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AmdViRegisters {
    /// Device table base address: of the only table, or of each of its segments (3.4.1, 3.4.11). Those past the number that
    /// the control register gives mean nothing.
    pub device_tables: [DeviceTableBase; 8],
    /// Control.
    pub control: Control,
    /// Extended features.
    pub features: ExtendedFeature,
    /// Extended features, second register.
    pub features_2: ExtendedFeature2,
    /// First page of the exclusion range.
    pub exclusion_base: ExclusionBase,
    /// Its last page.
    pub exclusion_limit: ExclusionLimit,
}

impl AmdViRegisters {
    /// The exclusion range; empty if there is none.
    pub(crate) fn exclusion(&self) -> Range<PhysicalAddress> {
        self.exclusion_base.range(self.exclusion_limit)
    }

    /// Whether the exclusion range is for the device of this entry (2.2.2.1, EX).
    fn excludes(&self, entry: DeviceTableEntry) -> bool {
        let its = self.exclusion_base.all() || entry.guest.exclusion();
        entry.host.valid() && its && !self.exclusion().is_empty()
    }
}

/// An AMD-Vi unit, whose tables are read.
pub(crate) struct Unit<'t, M> {
    pub(crate) tables: &'t Tables<'t, M>,
    pub(crate) registers: AmdViRegisters,
}

impl<M> Unit<'_, M> {
    fn host_address_bits(&self) -> u32 {
        self.tables.unit.host_address_bits
    }
}
