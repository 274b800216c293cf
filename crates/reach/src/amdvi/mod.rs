//! What an AMD-Vi unit's device table and guests' CR3 tables say of requesters.

mod binding;
mod devices;
mod pasids;

use amdvi::control::{Control, DeviceTableBase};
use amdvi::feature::ExtendedFeature;

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
