//! Finds where configuration space is mapped into memory (7.2.2).

use core::ops::RangeInclusive;

use machine::{PhysicalAddress, Range};

use crate::Function;

/// Bytes of a bus's configuration space: ECAM gives the bus number just these address bits (table 7-1).
const BUS: u64 = 1 << 20;

/// A group of PCI buses and where their configuration space is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ecam {
    /// Physical address of the configuration space of bus 0, whether or not it is one of the group.
    base: u64,
    /// PCI segment group.
    pub segment: u16,
    first_bus: u8,
    last_bus: u8,
}

impl Ecam {
    /// Reads an entry of ACPI's table MCFG (PCI firmware specification 3.3, table 4-3); `None` if it cannot be right.
    pub fn decode(entry: &[u8; 16]) -> Option<Self> {
        let [b0, b1, b2, b3, b4, b5, b6, b7, s0, s1, first_bus, last_bus, ..] = *entry;
        let base = u64::from_le_bytes([b0, b1, b2, b3, b4, b5, b6, b7]);
        let possible = base != 0 && base.is_multiple_of(BUS) && base.checked_add(256 * BUS).is_some();
        let sound = first_bus <= last_bus && possible;
        sound.then_some(Self { base, segment: u16::from_le_bytes([s0, s1]), first_bus, last_bus })
    }

    /// Whether a bus is in both groups.
    pub fn shares_bus(self, other: Self) -> bool {
        let overlaps = self.first_bus <= other.last_bus && other.first_bus <= self.last_bus;
        self.segment == other.segment && overlaps
    }

    /// The buses of the group.
    pub fn buses(self) -> RangeInclusive<u8> {
        self.first_bus..=self.last_bus
    }

    /// The physical addresses of the configuration space of all its buses, one mebibyte each.
    pub fn range(self) -> Range<PhysicalAddress> {
        let bus = |number: u8| self.base + u64::from(number) * BUS;
        Range::from(bus(self.first_bus)..bus(self.last_bus) + BUS)
    }

    /// Where in [`range`](Self::range) a function's configuration space begins; `None` if it is not of the group.
    pub fn offset_of(self, function: Function) -> Option<usize> {
        let is_ours = function.segment == u32::from(self.segment) && self.buses().contains(&function.bus);
        let bus = is_ours.then(|| usize::from(function.bus - self.first_bus))?;
        Some(bus << 20 | usize::from(function.devfn) << 12)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ecam() -> Ecam {
        let entry = [0, 0, 0, 0xB0, 0, 0, 0, 0, 1, 0, 0x10, 0x1F, 0, 0, 0, 0];
        Ecam::decode(&entry).unwrap()
    }

    #[test]
    fn a_group_is_mapped_from_its_first_bus_on() {
        assert_eq!(ecam().range(), Range::from(0xB100_0000..0xB200_0000));
        let at = |bus| ecam().offset_of(Function { segment: 1, bus, devfn: 0x0A });
        assert_eq!((at(0x10), at(0x1F)), (Some(0xA000), Some(0xF0_A000)));
        assert_eq!((at(0x0F), at(0x20)), (None, None));
        assert_eq!(ecam().offset_of(Function { segment: 0, bus: 0x10, devfn: 0 }), None);
    }
}
