//! Identifies a remapping unit by its registers.

use alloc::vec::Vec;

use machine::Range;
use machine::growth::collected;
use record::Register;
use vtd::dmar::Drhd;
use vtd::registers::{Access, FIXED};

#[cfg(mutations)]
use crate::mutations::unit::UnitRegisters;
use crate::platform::clock::Tsc;
#[cfg(not(mutations))]
use crate::platform::mmio::Mmio as UnitRegisters;
use crate::platform::paging::AddressSpace;
use crate::remapping::LostError;

/// The clock for all waits on units.
static CLOCK: Tsc = Tsc;

/// A remapping unit, identified by its registers.
pub(super) type FoundUnit = takeover::Unit<'static, UnitRegisters, Tsc>;

/// Maps a unit's registers: as many as the firmware's table says, and more if the unit itself says that it has more.
pub(super) fn unit(drhd: &Drhd, space: &mut AddressSpace) -> Result<FoundUnit, LostError> {
    let mut open = |size: usize| -> Result<_, LostError> {
        let range = Range::from(drhd.base..drhd.base.saturating_add(size as u64));
        let registers = UnitRegisters::map(space, range)?;
        Ok(takeover::Unit::new(registers, size, &CLOCK)?)
    };
    let told = drhd.register_bytes() as usize;
    let unit = open(told)?;
    if unit.register_bytes() <= told { Ok(unit) } else { Ok(open(unit.register_bytes()).unwrap_or(unit)) }
}

/// The values of all registers that can be read; none if there is no memory for them.
pub(super) fn readable_registers(unit: &FoundUnit) -> Vec<Register> {
    let readable = FIXED.into_iter().filter(|register| register.access != Access::WriteOnly);
    let values =
        readable.map(|register| Register { offset: register.offset as u16, value: unit.read(register) });
    collected(values).unwrap_or_default()
}
