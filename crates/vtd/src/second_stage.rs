//! Second-stage paging entries: the format that translates devices' addresses in legacy mode (9.8).

use machine::{Level, Permission, PhysicalAddress};

use crate::capability::Capability;
use crate::paging::{self, ADDRESS, PAGE_SIZE};

const READ: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const ACCESSED: u64 = 1 << 8;
const DIRTY: u64 = 1 << 9;

/// One second-stage entry of any level.
///
/// An entry is present if it allows reads or writes. Hardware ignores bit 2 (execute), which does not make an entry
/// present either. Permissions of all levels are combined by AND (3.7.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SecondStageEntry(pub u64);

/// The R and W bits of a permission.
const fn rights(permission: Permission) -> u64 {
    (if permission.reads() { READ } else { 0 }) | (if permission.writes() { WRITE } else { 0 })
}

impl SecondStageEntry {
    /// Bits that hardware sets when it uses an entry, if the PASID entry's SSADE is set; otherwise it ignores them
    /// (3.7.2).
    pub const USED: u64 = ACCESSED | DIRTY;
    /// The bits that make an entry present: any one of them is enough.
    pub const PRESENCE: u64 = READ | WRITE;
    /// Bits that hold the rights of an entry.
    pub const RIGHTS: u64 = READ | WRITE;

    /// A leaf of `level` that maps `address`, which is aligned to the level's span.
    pub const fn leaf(level: Level, address: PhysicalAddress, permission: Permission) -> Self {
        let page_size = if level.number() > 1 { PAGE_SIZE } else { 0 };
        Self(address.get() & ADDRESS | rights(permission) | page_size)
    }

    /// An entry that points to the next table, allowing all that the table allows.
    pub const fn table(address: PhysicalAddress) -> Self {
        Self(address.get() & ADDRESS | READ | WRITE)
    }

    /// Whether reads are allowed.
    pub const fn readable(self) -> bool {
        self.0 & READ != 0
    }

    /// Whether writes are allowed.
    pub const fn writable(self) -> bool {
        self.0 & WRITE != 0
    }

    /// Whether hardware looks at the rest of the entry.
    pub const fn present(self) -> bool {
        self.0 & (READ | WRITE) != 0
    }

    /// Whether all of this is allowed.
    pub const fn allows(self, permission: Permission) -> bool {
        self.0 & rights(permission) == rights(permission)
    }

    /// Whether an entry of this level maps memory rather than naming a table.
    pub const fn is_leaf(self, level: Level) -> bool {
        paging::is_leaf(self.0, level)
    }

    /// Bits 51:12: the next table, or the first byte of the page if the entry is a well-formed leaf.
    pub const fn address(self) -> PhysicalAddress {
        PhysicalAddress::new(self.0 & ADDRESS)
    }

    /// The mapping of `address` as a leaf of level `to`: rights, memory type and ignored bits stay.
    pub const fn as_leaf_of(self, to: Level, address: PhysicalAddress) -> Self {
        let page_size = if to.number() > 1 { PAGE_SIZE } else { 0 };
        Self(self.0 & !(ADDRESS | PAGE_SIZE) | address.get() & ADDRESS | page_size)
    }

    /// Reserved bits that are set, on a machine of `haw` physical address bits and a unit with these capabilities; they
    /// make a present entry fault.
    pub const fn reserved_bits(self, level: Level, haw: u32, capability: Capability) -> u64 {
        self.0 & if self.is_leaf(level) { leaf_mask(level, haw, capability) } else { paging::beyond(haw) }
    }
}

/// Reserved bits of leaves. Large leaves must be aligned; at levels where the unit has no leaves, the page-size bit
/// itself is reserved.
///
/// Here and in entries that name tables, bit 11 (snoop control, reserved without ECAP.SC) and bit 62 (transient
/// mapping) are left out: revisions and units differ in them, and hardware judges a bit-for-bit copy as it judged the
/// original.
pub const fn leaf_mask(level: Level, haw: u32, capability: Capability) -> u64 {
    let beyond = paging::beyond(haw);
    let large = capability.sslps();
    match level.number() {
        1 => beyond,
        2 if large & 0b01 != 0 => beyond | (level.span() - 1) & ADDRESS,
        3 if large & 0b10 != 0 => beyond | (level.span() - 1) & ADDRESS,
        _ => beyond | PAGE_SIZE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reserved(bits: u64, level: Level, sslps: u8) -> u64 {
        SecondStageEntry(bits).reserved_bits(level, 39, Capability::new().with_sslps(sslps))
    }

    /// `DMA_PTE_*` of Linux: read bit 0, write bit 1, large page bit 7.
    #[test]
    fn entries_are_laid_out_as_linux_writes_them() {
        assert_eq!(
            SecondStageEntry::leaf(Level::ONE, PhysicalAddress::new(0x1234_5000), Permission::ReadWrite).0,
            0x1234_5003
        );
        assert_eq!(
            SecondStageEntry::leaf(Level::TWO, PhysicalAddress::new(0x20_0000), Permission::Write).0,
            0x20_0082
        );
        assert_eq!(
            SecondStageEntry::leaf(Level::ONE, PhysicalAddress::new(0x1000), Permission::Read).0,
            0x1001
        );
        assert!(!SecondStageEntry(1 << 2).present());
        assert!(!SecondStageEntry(0x1003).is_leaf(Level::TWO));
    }

    /// `VTD_SPTE_*_RSVD_MASK` of QEMU for 39 address bits, less bits 11, 62 and those from 52 up.
    #[test]
    fn reserved_bits_are_qemus() {
        let beyond = 0x000F_FF80_0000_0000;
        let all = 0x000F_FFFF_FFFF_F003;
        assert_eq!(reserved(all, Level::ONE, 0b11), beyond);
        assert_eq!(reserved(all, Level::TWO, 0b11), beyond);
        assert_eq!(reserved(all | 0x80, Level::TWO, 0b11), beyond | 0x1F_F000);
        assert_eq!(reserved(all | 0x80, Level::THREE, 0b11), beyond | 0x3FFF_F000);
        assert_eq!(reserved(0x83, Level::FOUR, 0b11), 0x80);
    }

    #[test]
    fn a_large_page_that_the_unit_lacks_is_a_reserved_bit() {
        assert_eq!(reserved(0x83, Level::TWO, 0b01), 0);
        assert_eq!(reserved(0x83, Level::THREE, 0b01), 0x80);
    }

    #[test]
    fn a_leaf_of_another_size_keeps_all_but_address_and_size() {
        let all = SecondStageEntry(u64::MAX);
        assert_eq!(all.as_leaf_of(Level::ONE, PhysicalAddress::new(0x5000)).0, 0xFFF0_0000_0000_5F7F);
        assert_eq!(SecondStageEntry(3).as_leaf_of(Level::TWO, PhysicalAddress::new(0x20_0000)).0, 0x20_0083);
    }
}
