//! Root entries: one per bus, which names its context tables (9.1, 9.2).

use machine::PhysicalAddress;

use bitfield_struct::bitfield;

use crate::address_reserved;

/// One word of a root entry: a pointer to a context table.
///
/// A legacy entry uses the low word only (9.1). A scalable entry has one word for devfn 0–127 and one for 128–255
/// (9.2); each is present on its own.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct ContextTablePointer {
    /// P: the table is present; otherwise all other bits are ignored.
    pub present: bool,
    #[bits(11)]
    __: u16,
    /// CTP: page frame number of the context table.
    #[bits(52)]
    pub frame: u64,
}

impl ContextTablePointer {
    /// Physical address of the context table.
    pub const fn address(self) -> PhysicalAddress {
        PhysicalAddress::new(self.frame() << 12)
    }

    /// A present pointer to the table at `address`, whose low twelve bits are dropped.
    pub const fn to(address: PhysicalAddress) -> Self {
        Self::new().with_present(true).with_frame(address.get() >> 12)
    }

    /// Reserved bits that are set; they make a present pointer fault.
    pub const fn reserved_bits(self, haw: u32) -> u64 {
        self.into_bits() & (0xFFE | address_reserved(haw))
    }
}

/// A root entry of 128 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RootEntry {
    /// Bits 63:0: the context table, or in scalable mode that of devfn 0–127.
    pub low: ContextTablePointer,
    /// Bits 127:64: reserved, or in scalable mode the context table of devfn 128–255.
    pub high: ContextTablePointer,
}

impl RootEntry {
    /// The entry as its two words.
    pub const fn from_words(low: u64, high: u64) -> Self {
        Self { low: ContextTablePointer::from_bits(low), high: ContextTablePointer::from_bits(high) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `VTD_ROOT_ENTRY_P`, `VTD_ROOT_ENTRY_CTP`, `VTD_ROOT_ENTRY_RSVD` of QEMU.
    #[test]
    fn a_root_entry_is_laid_out_as_qemu_reads_it() {
        let entry = RootEntry::from_words(0x0012_3456_7001, 0);
        assert!(entry.low.present());
        assert_eq!(entry.low.address(), PhysicalAddress::new(0x0012_3456_7000));
        assert_eq!(entry.low.reserved_bits(39), 0);
        assert_eq!(RootEntry::from_words(0x80_0000_0003, 0).low.reserved_bits(39), 0x80_0000_0002);
        assert_eq!(ContextTablePointer::to(PhysicalAddress::new(0x5000)).into_bits(), 0x5001);
    }
}
