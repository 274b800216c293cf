//! First-stage paging entries: the processor's own page-table format (9.7).
//!
//! Addresses are sign-extended: hardware blocks addresses that are not canonical before it reads any table (3.6).

use machine::{IoAddress, Level, Permission, PhysicalAddress};

use crate::capability::Capability;
use crate::paging::{self, ADDRESS, PAGE_SIZE};

const PRESENT: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const EXTENDED_ACCESSED: u64 = 1 << 10;
/// PAT of a leaf of level 1. In larger leaves this bit is [`PAGE_SIZE`], and the PAT bit is [`LARGE_PAT`].
const PAT: u64 = 1 << 7;
const LARGE_PAT: u64 = 1 << 12;

/// One first-stage entry of any level.
///
/// Rights of all levels are combined by AND (3.6.1). Bits 63:52 are ignored, the processor's execute-disable bit
/// among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FirstStageEntry(pub u64);

impl FirstStageEntry {
    /// Bits that hardware sets when it uses an entry: A, D, and EA if the PASID entry's EAFE is set (3.6.2).
    pub const USED: u64 = Self::ACCESSED_DIRTY | EXTENDED_ACCESSED;
    /// Those of them that processors know too.
    pub const ACCESSED_DIRTY: u64 = ACCESSED | DIRTY;
    /// The bit that makes an entry present.
    pub const PRESENCE: u64 = PRESENT;
    /// Bits that hold the rights of an entry.
    pub const RIGHTS: u64 = WRITE | USER;

    /// Makes a leaf of `level` that maps `address`, which is aligned to the level's span, for user requests.
    ///
    /// The format has no write-only pages: all present ones can be read.
    pub const fn leaf(level: Level, address: PhysicalAddress, permission: Permission) -> Self {
        let page_size = if level.number() > 1 { PAGE_SIZE } else { 0 };
        let write = if permission.writes() { WRITE } else { 0 };
        Self(address.get() & ADDRESS | PRESENT | USER | write | page_size)
    }

    /// Makes an entry that names the next table and allows all that the table allows.
    pub const fn table(address: PhysicalAddress) -> Self {
        Self(address.get() & ADDRESS | PRESENT | WRITE | USER)
    }

    /// P: hardware looks at the rest of the entry.
    pub const fn present(self) -> bool {
        self.0 & PRESENT != 0
    }

    /// R/W: writes are allowed. Supervisor requests can write without it unless the PASID entry's WPE is set.
    pub const fn writable(self) -> bool {
        self.0 & WRITE != 0
    }

    /// U/S: user requests are allowed. A request without PASID is a user request unless RID_PRIV is set.
    pub const fn user(self) -> bool {
        self.0 & USER != 0
    }

    /// A: the entry was used.
    pub const fn accessed(self) -> bool {
        self.0 & ACCESSED != 0
    }

    /// D: the page was written; ignored in entries that name tables.
    pub const fn dirty(self) -> bool {
        self.0 & DIRTY != 0
    }

    /// EA: the entry was used by a request whose PASID entry's EAFE is set.
    pub const fn extended_accessed(self) -> bool {
        self.0 & EXTENDED_ACCESSED != 0
    }

    /// Whether user requests may do all of this.
    pub const fn allows(self, permission: Permission) -> bool {
        self.present() && self.user() && (self.writable() || !permission.writes())
    }

    /// Whether an entry of this level maps memory rather than naming a table.
    pub const fn is_leaf(self, level: Level) -> bool {
        paging::is_leaf(self.0, level)
    }

    /// Bits 51:12: the next table, or the first byte of the page if the entry is a well-formed leaf of level 1. In
    /// larger leaves bit 12 is the PAT bit: see [`page`](Self::page).
    pub const fn address(self) -> PhysicalAddress {
        PhysicalAddress::new(self.0 & ADDRESS)
    }

    /// The first byte of the page that a leaf of this level maps.
    pub const fn page(self, level: Level) -> PhysicalAddress {
        PhysicalAddress::new(self.0 & ADDRESS & !(level.span() - 1))
    }

    /// The mapping of `address` as a leaf of level `to`, with the rights and memory type of this leaf of level `from`.
    pub const fn as_leaf_of(self, from: Level, to: Level, address: PhysicalAddress) -> Self {
        let pat = self.0 & if from.number() == 1 { PAT } else { LARGE_PAT } != 0;
        let rest = self.0 & !(ADDRESS | PAGE_SIZE);
        let shape = match (to.number(), pat) {
            (1, false) => 0,
            (1, true) => PAT,
            (_, false) => PAGE_SIZE,
            (_, true) => PAGE_SIZE | LARGE_PAT,
        };
        Self(rest | address.get() & ADDRESS | shape)
    }

    /// Reserved bits that are set, on a machine of `haw` physical address bits and a unit with these capabilities; they
    /// make a present entry fault.
    pub const fn reserved_bits(self, level: Level, haw: u32, capability: Capability) -> u64 {
        self.0 & if self.is_leaf(level) { leaf_mask(level, haw, capability) } else { paging::beyond(haw) }
    }
}

/// Reserved bits of leaves. At levels 4 and 5, which have no leaves, bit 7 itself is reserved. All units support
/// pages of 2 MiB; pages of 1 GiB need CAP.FS1GP.
pub const fn leaf_mask(level: Level, haw: u32, capability: Capability) -> u64 {
    let beyond = paging::beyond(haw);
    match level.number() {
        1 => beyond,
        3 if !capability.fs1gp() => beyond | PAGE_SIZE,
        2 | 3 => beyond | (level.span() - 1) & ADDRESS & !LARGE_PAT,
        _ => beyond | PAGE_SIZE,
    }
}

/// Whether tables with a root of this level translate `address`: its upper bits equal the highest translated bit
/// (3.6).
pub const fn is_canonical(address: IoAddress, top: Level) -> bool {
    let unused = 64 - top.width();
    let address = address.get();
    ((address << unused).cast_signed() >> unused).cast_unsigned() == address
}

#[cfg(test)]
mod tests {
    use super::*;

    const HUGE: Capability = Capability::new().with_fs1gp(true);

    /// `DMA_FL_PTE_*` of Linux: present bit 0, user 2, accessed 5, dirty 6; `DMA_PTE_WRITE` 1, `DMA_PTE_LARGE_PAGE` 7;
    /// EA is bit 10 in tables 34 to 40.
    #[test]
    fn entries_are_laid_out_as_linux_writes_them() {
        assert_eq!(
            FirstStageEntry::leaf(Level::ONE, PhysicalAddress::new(0x1234_5000), Permission::ReadWrite).0,
            0x1234_5007
        );
        assert_eq!(
            FirstStageEntry::leaf(Level::TWO, PhysicalAddress::new(0x20_0000), Permission::Write).0,
            0x20_0087
        );
        assert_eq!(
            FirstStageEntry::leaf(Level::ONE, PhysicalAddress::new(0x1000), Permission::Read).0,
            0x1005
        );
        assert_eq!(FirstStageEntry::table(PhysicalAddress::new(0x1000)).0, 0x1007);
        let entry = FirstStageEntry(0x1234_5067 | 1 << 63);
        assert!(entry.present() && entry.writable() && entry.user() && entry.accessed() && entry.dirty());
        assert!(FirstStageEntry(0x400).extended_accessed() && !FirstStageEntry(!0x467).present());
    }

    #[test]
    fn user_requests_need_the_user_bit_and_writes_need_more() {
        assert!(FirstStageEntry(0b101).allows(Permission::Read));
        assert!(!FirstStageEntry(0b101).allows(Permission::Write));
        assert!(!FirstStageEntry(0b011).allows(Permission::Read));
        assert!(FirstStageEntry(0b111).allows(Permission::ReadWrite));
    }

    /// `VTD_FPTE_PAGE_*_RSVD_MASK` and `VTD_FPTE_LPAGE_*_RSVD_MASK` of QEMU for 39 address bits, less those below 12,
    /// which are no address; `VTD_FS_UPPER_IGNORED`: bits 63:52 are never reserved.
    #[test]
    fn reserved_bits_are_qemus() {
        let beyond = 0x000F_FF80_0000_0000;
        let all = |shape: u64| FirstStageEntry(0xFFFF_FFFF_FFFF_F001 | shape);
        for level in [Level::ONE, Level::TWO, Level::THREE, Level::FOUR, Level::FIVE] {
            assert_eq!(all(0).reserved_bits(level, 39, HUGE), beyond, "{level:?}");
        }
        assert_eq!(all(0x80).reserved_bits(Level::ONE, 39, HUGE), beyond);
        assert_eq!(all(0x80).reserved_bits(Level::TWO, 39, HUGE), beyond | 0x1F_E000);
        assert_eq!(all(0x80).reserved_bits(Level::THREE, 39, HUGE), beyond | 0x3FFF_E000);
        assert_eq!(all(0x80).reserved_bits(Level::FOUR, 39, HUGE), beyond | 0x80);
        assert_eq!(all(0x80).reserved_bits(Level::FIVE, 39, HUGE), beyond | 0x80);
    }

    #[test]
    fn a_huge_page_that_the_unit_lacks_is_a_reserved_bit() {
        let none = Capability::new();
        assert_eq!(FirstStageEntry(0x83).reserved_bits(Level::THREE, 46, none), 0x80);
        assert_eq!(FirstStageEntry(0x83).reserved_bits(Level::TWO, 46, none), 0);
    }

    /// Bit 12 of a large leaf is its memory type (tables 36 and 38), bit 7 that of a small one.
    #[test]
    fn the_memory_type_moves_with_the_size_of_the_page() {
        let small = FirstStageEntry(0x20_0000 | 0xFF);
        assert_eq!(small.as_leaf_of(Level::ONE, Level::TWO, PhysicalAddress::new(0x20_0000)).0, 0x20_10FF);
        let large = FirstStageEntry(0x40_10E7 | 1 << 63);
        assert_eq!(large.page(Level::TWO), PhysicalAddress::new(0x40_0000));
        assert_eq!(
            large.as_leaf_of(Level::TWO, Level::ONE, PhysicalAddress::new(0x40_3000)).0,
            0x40_30E7 | 1 << 63
        );
        assert_eq!(
            FirstStageEntry(0x40_00E7).as_leaf_of(Level::TWO, Level::ONE, PhysicalAddress::new(0x40_3000)).0,
            0x40_3067
        );
        assert_eq!(
            FirstStageEntry(0x40_10E7).as_leaf_of(Level::THREE, Level::TWO, PhysicalAddress::new(0)).0,
            0x10E7
        );
    }

    /// `VTD_FR_FS_NON_CANONICAL` of QEMU: bits 63:47, or 63:56, are all alike.
    #[test]
    fn addresses_are_sign_extended() {
        assert!(is_canonical(IoAddress::new(0x0000_7FFF_FFFF_FFFF), Level::FOUR));
        assert!(!is_canonical(IoAddress::new(0x0000_8000_0000_0000), Level::FOUR));
        assert!(is_canonical(IoAddress::new(0xFFFF_8000_0000_0000), Level::FOUR));
        assert!(is_canonical(IoAddress::new(0x0000_8000_0000_0000), Level::FIVE));
        assert!(!is_canonical(IoAddress::new(0x0100_0000_0000_0000), Level::FIVE));
        assert!(is_canonical(IoAddress::new(u64::MAX), Level::FIVE));
    }
}
