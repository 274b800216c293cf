//! Identifies a remapping unit by its registers.

use alloc::vec::Vec;

use machine::growth::collected;
use machine::{PAGE_SIZE, PhysicalAddress, Range};
use record::{Architecture, Register};
use vtd::dmar::Drhd;

use crate::listing::ListedUnit;
#[cfg(mutations)]
use crate::mutations::unit::UnitRegisters;
#[cfg(not(mutations))]
use crate::platform::mmio::Mmio as UnitRegisters;
use crate::platform::paging::AddressSpace;
use crate::remapping::LostError;
use crate::watchdogs::WaitClock;

/// The clock for all waits on units.
static CLOCK: WaitClock = WaitClock;

/// A remapping unit, identified by its registers.
pub(super) type FoundUnit = takeover::Unit<'static, UnitRegisters, WaitClock>;

/// Maps a unit's registers, as many as a takeover needs.
pub(super) fn unit(listed: &ListedUnit<'_>, space: &mut AddressSpace) -> Result<FoundUnit, LostError> {
    match listed {
        ListedUnit::Vtd(drhd) => vtd_unit(drhd, space),
        ListedUnit::AmdVi(ivhd) => {
            let registers = UnitRegisters::map(space, place(ivhd.base, amdvi::registers::BYTES)?)?;
            Ok(takeover::Unit::amdvi(registers, &CLOCK)?)
        }
    }
}

/// The architecture of a unit, as the record tells it.
pub(super) const fn architecture(listed: &ListedUnit<'_>) -> Architecture {
    match listed {
        ListedUnit::Vtd(_) => Architecture::Vtd,
        ListedUnit::AmdVi(_) => Architecture::AmdVi,
    }
}

/// Maps as many registers as the firmware's table says, and more if the unit itself says that it has more.
fn vtd_unit(drhd: &Drhd, space: &mut AddressSpace) -> Result<FoundUnit, LostError> {
    let mut open = |size: usize| -> Result<_, LostError> {
        let registers = UnitRegisters::map(space, place(drhd.base, size)?)?;
        Ok(takeover::Unit::vtd(registers, size, &CLOCK)?)
    };
    let told = drhd.register_bytes() as usize;
    let unit = open(told)?;
    if unit.register_bytes() <= told { Ok(unit) } else { Ok(open(unit.register_bytes()).unwrap_or(unit)) }
}

/// Where `size` bytes of registers at `base` are; firmware that lists units which do not exist writes all sorts of things
/// there. Registers begin at a page (VT-d 8.3), those of AMD-Vi at 16 KiB (3.2.2).
fn place(base: u64, size: usize) -> Result<Range<PhysicalAddress>, LostError> {
    let start = Some(PhysicalAddress::new(base)).filter(|_| base != 0 && base.is_multiple_of(PAGE_SIZE));
    start.and_then(|start| Range::sized(start, size as u64)).ok_or(LostError::Nowhere(base))
}

/// The values of all registers that can be read; none if there is no memory for them.
pub(super) fn readable_registers(unit: &FoundUnit) -> Vec<Register> {
    let values = unit.registers().into_iter();
    collected(values.map(|(offset, value)| Register { offset: offset as u16, value })).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::frames::FramePool;
    use crate::platform::paging::Features;

    /// Seen on real machines: 0, all ones, and addresses within a page.
    #[test]
    fn no_address_of_a_unit_stops_the_capture_kernel() {
        let features = Features { levels: 4, largest: 3, limit: 1 << 46 };
        let mut space = AddressSpace::new(FramePool::new(16).unwrap(), features).unwrap();
        let bases = [
            0,
            u64::MAX,
            u64::MAX - 0xFFF,
            !0xFFF - 0x1000,
            0xFED9_0001,
            0xFED9_0FFF,
            1 << 46,
            (1 << 46) - 0x1000,
        ];
        for base in bases {
            let mut table =
                [b"DMAR\x40\0\0\0".as_slice(), &[0; 40], &[0, 0, 16, 0, 1, 1, 0, 0], &base.to_le_bytes()]
                    .concat();
            table[9] = table.iter().fold(0, |sum, byte| sum.wrapping_sub(*byte));
            let drhd = vtd::dmar::Dmar::parse(&table).unwrap().units().next().unwrap();
            let lost = unit(&ListedUnit::Vtd(drhd), &mut space).map(|_| ()).unwrap_err();
            assert!(lost.is_absence(), "{base:#x}: {lost}");
        }
    }
}
