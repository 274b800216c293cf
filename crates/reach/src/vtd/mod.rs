//! What a VT-d unit's root, context and PASID tables say of requesters.

mod binding;
mod pasids;
mod requesters;

use vtd::capability::{Capability, ExtendedCapability};
use vtd::control::RootTableAddress;

use crate::Tables;

/// The registers that decide how a VT-d unit's tables are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VtdRegisters {
    /// RTADDR.
    pub root: RootTableAddress,
    /// CAP.
    pub capability: Capability,
    /// ECAP.
    pub extended: ExtendedCapability,
}

/// A VT-d unit, whose tables are read.
pub(crate) struct Unit<'t, M> {
    pub(crate) tables: &'t Tables<'t, M>,
    pub(crate) registers: VtdRegisters,
}

impl<M> Unit<'_, M> {
    fn host_address_bits(&self) -> u32 {
        self.tables.unit.host_address_bits
    }
}
