//! Second-stage paging entries: what devices' addresses are translated with in legacy mode (9.8).

use crate::address_reserved;
use crate::capability::Capability;
use crate::paging::{ADDRESS, Level, PAGE_SIZE, Permission};

const READ: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
/// One of the bits 61:52, which hardware ignores at every level.
const MARK: u64 = 1 << 55;

/// One second-stage entry of any level.
///
/// Present means that reading or writing is allowed; bit 2 (execute) is ignored, and neither does it make an entry
/// present. Permissions of all levels are combined by AND (3.7.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SecondStageEntry(pub u64);

/// R and W of what a mapping allows.
const fn rights(permission: Permission) -> u64 {
    (if permission.reads() { READ } else { 0 }) | (if permission.writes() { WRITE } else { 0 })
}

impl SecondStageEntry {
    /// An entry that blocks everything.
    pub const BLOCKED: Self = Self(0);

    /// A leaf of `level` that maps `address`, which is aligned to the level's span.
    pub const fn leaf(level: Level, address: u64, permission: Permission) -> Self {
        let page_size = if level.number() > 1 { PAGE_SIZE } else { 0 };
        Self(address & ADDRESS | rights(permission) | page_size)
    }

    /// An entry that points to the next table, allowing all that the table allows.
    pub const fn table(address: u64) -> Self {
        Self(address & ADDRESS | READ | WRITE)
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
        level.number() == 1 || self.0 & PAGE_SIZE != 0
    }

    /// Bits 51:12: the next table, or the first byte of the page if the entry is a well-formed leaf.
    pub const fn address(self) -> u64 {
        self.0 & ADDRESS
    }

    /// The same entry, marked in a bit that hardware ignores.
    pub const fn marked(self) -> Self {
        Self(self.0 | MARK)
    }

    /// The same entry without the mark.
    pub const fn unmarked(self) -> Self {
        Self(self.0 & !MARK)
    }

    /// Whether the entry is marked.
    pub const fn is_marked(self) -> bool {
        self.0 & MARK != 0
    }

    /// The same entry, allowing no more than an entry above it (3.7.1).
    pub const fn restricted_by(self, above: Self) -> Self {
        Self(self.0 & (above.0 | !(READ | WRITE)))
    }

    /// The same mapping as a leaf of this level: 1, or one at which the unit has large pages.
    pub const fn as_leaf_of(self, level: Level) -> Self {
        Self(if level.number() == 1 { self.0 & !PAGE_SIZE } else { self.0 | PAGE_SIZE })
    }

    /// The same entry with another address: permissions, memory type and ignored bits stay.
    pub const fn with_address(self, address: u64) -> Self {
        Self(self.0 & !ADDRESS | address & ADDRESS)
    }
}

/// Which bits must be zero in present entries, by level, for one unit on one machine.
///
/// Two bits are left out because revisions and units differ in them and a bit-for-bit copy is judged by hardware as
/// its original was: bit 11 (snoop control, reserved without ECAP.SC) and bit 62 (transient mapping).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservedBits {
    table: [u64; 6],
    leaf: [u64; 6],
}

impl ReservedBits {
    /// The masks for a machine of `haw` physical address bits and a unit with these capabilities.
    pub const fn new(haw: u32, capability: Capability) -> Self {
        let beyond = address_reserved(haw) & ADDRESS;
        let large = capability.sslps();
        Self {
            // At levels 4 and 5 nothing can be a leaf: bit 7 is reserved. At 2 and 3 it makes the entry a leaf.
            table: [u64::MAX, beyond, beyond, beyond, beyond | PAGE_SIZE, beyond | PAGE_SIZE],
            leaf: [
                u64::MAX,
                beyond,
                beyond | large_leaf(large & 0b01 != 0, Level::TWO),
                beyond | large_leaf(large & 0b10 != 0, Level::THREE),
                PAGE_SIZE,
                PAGE_SIZE,
            ],
        }
    }

    /// Reserved bits that are set in this entry; they make a present entry fault.
    pub const fn set_in(&self, entry: SecondStageEntry, level: Level) -> u64 {
        let masks = if entry.is_leaf(level) { &self.leaf } else { &self.table };
        entry.0 & masks[level.number() as usize]
    }

    /// Whether the unit has leaves of this level.
    pub const fn allow_leaf(&self, level: Level) -> bool {
        level.number() == 1 || self.leaf[level.number() as usize] & PAGE_SIZE == 0
    }

    /// Mask for leaves of this level.
    pub const fn leaf_mask(&self, level: Level) -> u64 {
        self.leaf[level.number() as usize]
    }
}

/// A large leaf must be aligned; where the unit has none, its page-size bit itself is reserved.
const fn large_leaf(supported: bool, level: Level) -> u64 {
    if supported { (level.span() - 1) & ADDRESS } else { PAGE_SIZE }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masks(sslps: u8) -> ReservedBits {
        ReservedBits::new(39, Capability::new().with_sslps(sslps))
    }

    /// `DMA_PTE_*` of Linux: read bit 0, write bit 1, large page bit 7.
    #[test]
    fn entries_are_laid_out_as_linux_writes_them() {
        assert_eq!(SecondStageEntry::leaf(Level::ONE, 0x1234_5000, Permission::ReadWrite).0, 0x1234_5003);
        assert_eq!(SecondStageEntry::leaf(Level::TWO, 0x20_0000, Permission::Write).0, 0x20_0082);
        assert_eq!(SecondStageEntry::leaf(Level::ONE, 0x1000, Permission::Read).0, 0x1001);
        assert!(!SecondStageEntry(1 << 2).present());
        assert!(!SecondStageEntry(0x1003).is_leaf(Level::TWO));
    }

    /// `VTD_SPTE_*_RSVD_MASK` of QEMU for 39 address bits, less bits 11, 62 and those from 52 up.
    #[test]
    fn reserved_bits_are_qemus() {
        let beyond = 0x000F_FF80_0000_0000;
        let all = SecondStageEntry(0x000F_FFFF_FFFF_F003);
        assert_eq!(masks(3).set_in(all, Level::ONE), beyond);
        assert_eq!(masks(3).set_in(all, Level::TWO), beyond);
        assert_eq!(masks(3).set_in(SecondStageEntry(all.0 | 0x80), Level::TWO), beyond | 0x1F_F000);
        assert_eq!(masks(3).set_in(SecondStageEntry(all.0 | 0x80), Level::THREE), beyond | 0x3FFF_F000);
        assert_eq!(masks(3).set_in(SecondStageEntry(0x83), Level::FOUR), 0x80);
    }

    #[test]
    fn a_large_page_that_the_unit_lacks_is_a_reserved_bit() {
        assert_eq!(masks(0b01).set_in(SecondStageEntry(0x83), Level::TWO), 0);
        assert_eq!(masks(0b01).set_in(SecondStageEntry(0x83), Level::THREE), 0x80);
        assert!(masks(0b01).allow_leaf(Level::TWO) && !masks(0b01).allow_leaf(Level::THREE));
        assert!(masks(0).allow_leaf(Level::ONE) && !masks(0b11).allow_leaf(Level::FOUR));
    }

    /// `VTD_SL_IGN_COM` of QEMU: bits 61:52 and 63 are ignored.
    #[test]
    fn the_mark_is_in_a_bit_that_hardware_ignores() {
        let mark = SecondStageEntry(0).marked().0;
        assert_eq!(mark & 0xBFF0_0000_0000_0000, mark);
        assert!(SecondStageEntry(mark).is_marked() && !SecondStageEntry(mark | 3).unmarked().is_marked());
    }

    #[test]
    fn permissions_of_two_levels_are_combined_by_and() {
        assert_eq!(SecondStageEntry(0x5083).restricted_by(SecondStageEntry(0x1001)).0, 0x5081);
    }

    #[test]
    fn a_new_address_keeps_all_other_bits() {
        let entry = SecondStageEntry(0xFFFF_FFFF_FFFF_FFFF).with_address(0x5000);
        assert_eq!(entry.0, 0xFFF0_0000_0000_5FFF);
    }
}
