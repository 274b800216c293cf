//! Host tables, known as version 1: the tables of AMD-Vi's own format (2.2.3).
//!
//! An entry says itself of which level the table is that it names: levels between may be skipped, and the bits of an address
//! that they would translate must be zero. Next level 0 is a page as large as what the entry covers. Next level 7 is a page of
//! another size, which the lowest clear bit of the address gives; all entries that it covers are alike.

use machine::{Level, PAGE_SHIFT, Permission, PhysicalAddress};

const PRESENT: u64 = 1 << 0;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
/// The address field, as wide as any machine's address can be.
const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;
const NEXT_LEVEL: u32 = 9;
const READ: u64 = 1 << 61;
const WRITE: u64 = 1 << 62;

/// One entry of a host table of any level.
///
/// Rights of all levels, and those of the device table entry, are combined by AND. An entry that is present and allows nothing
/// blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostEntry(pub u64);

/// What the Next Level field of a present entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextLevel {
    /// 0: the entry maps a page as large as what it covers.
    Page,
    /// 1 to 6: it names a table of this level.
    Table(Level),
    /// 7: it maps a page of the size that is in the address.
    SizedPage,
}

/// The IR and IW bits of a permission.
const fn rights(permission: Permission) -> u64 {
    (if permission.reads() { READ } else { 0 }) | (if permission.writes() { WRITE } else { 0 })
}

impl HostEntry {
    /// Bits that hardware sets when it uses an entry, if the device table entry's HAD is set; otherwise it ignores them (2.2.7).
    pub const USED: u64 = ACCESSED | DIRTY;
    /// The bit that makes an entry present.
    pub const PRESENCE: u64 = PRESENT;
    /// Bits that hold the rights of an entry.
    pub const RIGHTS: u64 = READ | WRITE;
    /// Bits that hardware ignores in entries of all kinds, so that processors can share the tables (2.2.4).
    pub const IGNORED: u64 = 1 << 63 | 3 << 7 | 0xF << 1;
    /// Reserved bits of entries that name tables; they make a present entry fault.
    pub const RESERVED_IN_TABLES: u64 = 0x1FF << 52;
    /// Reserved bits of entries that map pages; U and FC, bits 59 and 60, are not among them.
    pub const RESERVED_IN_PAGES: u64 = 0x7F << 52;
    /// The Next Level field.
    pub const NEXT_LEVEL: u64 = 7 << NEXT_LEVEL;

    /// An entry of a table of `level` that maps `address`, which is aligned to what the entry covers.
    pub const fn page(address: PhysicalAddress, permission: Permission) -> Self {
        Self(address.get() & ADDRESS | PRESENT | rights(permission))
    }

    /// An entry that names a table of level `next`, allowing all that the table allows.
    pub const fn table(address: PhysicalAddress, next: Level) -> Self {
        Self(address.get() & ADDRESS | PRESENT | READ | WRITE | (next.number() as u64) << NEXT_LEVEL)
    }

    /// PR: hardware looks at the rest of the entry.
    pub const fn present(self) -> bool {
        self.0 & PRESENT != 0
    }

    /// IR: reads are allowed.
    pub const fn readable(self) -> bool {
        self.0 & READ != 0
    }

    /// IW: writes are allowed.
    pub const fn writable(self) -> bool {
        self.0 & WRITE != 0
    }

    /// Whether all of this is allowed.
    pub const fn allows(self, permission: Permission) -> bool {
        self.present() && self.0 & rights(permission) == rights(permission)
    }

    /// Next Level.
    pub const fn next_level(self) -> NextLevel {
        match Level::new((self.0 >> NEXT_LEVEL & 7) as u8) {
            Some(level) => NextLevel::Table(level),
            None if self.0 & Self::NEXT_LEVEL == 0 => NextLevel::Page,
            None => NextLevel::SizedPage,
        }
    }

    /// The address field: the next table, or the page of an entry with next level 0.
    pub const fn address(self) -> PhysicalAddress {
        PhysicalAddress::new(self.0 & ADDRESS)
    }

    /// Binary logarithm of the size of a page with next level 7: twice what the bits below the lowest clear bit of the
    /// address cover. `None` if no bit is clear.
    pub const fn page_shift(self) -> Option<u32> {
        let ones = (self.0 >> PAGE_SHIFT).trailing_ones();
        let shift = PAGE_SHIFT + ones + 1;
        if shift <= 52 { Some(shift) } else { None }
    }

    /// An entry with next level 7 that maps the page of `2^shift` bytes at `address`, 8 KiB at least.
    pub const fn sized_page(address: PhysicalAddress, shift: u32, permission: Permission) -> Self {
        let size = ((1 << (shift - 1)) - 1) & ADDRESS;
        Self(Self::page(address, permission).0 & !(1 << (shift - 1)) | size | Self::NEXT_LEVEL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: u64) -> PhysicalAddress {
        PhysicalAddress::new(address)
    }

    /// `IOMMU_PTE_*` of Linux: PR bit 0, next level 11:9, IR 61, IW 62; leaves of level 1 and 2 that a dead Linux left.
    #[test]
    fn entries_are_laid_out_as_linux_writes_them() {
        assert_eq!(HostEntry::page(at(0x1234_5000), Permission::ReadWrite).0, 0x6000_0000_1234_5001);
        assert_eq!(HostEntry::page(at(0x20_0000), Permission::Write).0, 0x4000_0000_0020_0001);
        assert_eq!(HostEntry::table(at(0x5000), Level::TWO).0, 0x6000_0000_0000_5401);
        let read = HostEntry::page(at(0x1000), Permission::Read);
        assert!(read.allows(Permission::Read) && !read.allows(Permission::ReadWrite));
        assert!(!HostEntry(!1).present() && !HostEntry(!1).allows(Permission::Read));
    }

    #[test]
    fn the_next_level_is_in_the_entry() {
        let next = |level: u64| HostEntry(1 | level << 9).next_level();
        assert_eq!((next(0), next(7)), (NextLevel::Page, NextLevel::SizedPage));
        for level in 1..=6 {
            assert_eq!(next(level), NextLevel::Table(Level::new(level as u8).unwrap()));
        }
    }

    /// The specification's examples of page sizes (2.2.3): the lowest clear bit is bit 12 for 8 KiB, 13 for 16 KiB, 19 for
    /// 1 MiB, 20 for 2 MiB, 31 for 4 GiB.
    #[test]
    fn the_size_of_a_page_is_in_its_address() {
        let shift = |address: u64| HostEntry(address | 0xE01).page_shift();
        assert_eq!(shift(0), Some(13));
        assert_eq!(shift(0x1000), Some(14));
        assert_eq!(shift(0x7_F000), Some(20));
        assert_eq!(shift(0xF_F000), Some(21));
        assert_eq!(shift(0x7FFF_F000), Some(32));
        assert_eq!((shift(0x7_FFFF_FFFF_F000), shift(0xF_FFFF_FFFF_F000)), (Some(52), None));
        assert_eq!(shift(0x5_0000), Some(13));
    }

    /// `PAGE_SIZE_PTE(0x10000, 64 KiB)` of Linux, and what this reads.
    #[test]
    fn sized_pages_are_written_as_they_are_read() {
        assert_eq!(HostEntry::sized_page(at(0x1_0000), 16, Permission::ReadWrite).0, 0x6000_0000_0001_7E01);
        for shift in 13..=51 {
            let entry = HostEntry::sized_page(at(1 << 51), shift, Permission::Read);
            assert_eq!((entry.page_shift(), entry.next_level()), (Some(shift), NextLevel::SizedPage));
        }
    }

    #[test]
    fn no_bit_has_two_meanings() {
        let fields = [
            HostEntry::PRESENCE,
            HostEntry::USED,
            HostEntry::NEXT_LEVEL,
            ADDRESS,
            HostEntry::RESERVED_IN_TABLES,
            HostEntry::RIGHTS,
            HostEntry::IGNORED,
        ];
        assert_eq!(fields.iter().fold(0, |all, field| all | field), u64::MAX);
        assert_eq!(fields.iter().map(|field| field.count_ones()).sum::<u32>(), 64);
        assert_eq!(HostEntry::RESERVED_IN_TABLES & !HostEntry::RESERVED_IN_PAGES, 3 << 59);
    }
}
