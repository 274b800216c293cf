//! PASID directory and PASID table entries of scalable mode (9.5, 9.6).

use machine::PhysicalAddress;

use bitfield_struct::bitfield;

use crate::address_reserved;
use crate::paging::AddressWidth;

/// Entries in a PASID table of one page.
pub const PASID_TABLE_ENTRIES: usize = 64;
/// Words of a PASID table entry.
pub const PASID_ENTRY_WORDS: usize = 8;

/// A PASID directory entry: a pointer to a PASID table of 64 entries (9.5).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct PasidDirectoryEntry {
    /// P: present.
    pub present: bool,
    /// FPD: faults are not recorded.
    pub fault_disabled: bool,
    #[bits(10)]
    __: u16,
    /// SMPTBLPTR: page frame number of the PASID table.
    #[bits(52)]
    pub frame: u64,
}

impl PasidDirectoryEntry {
    /// Physical address of the PASID table.
    pub const fn table(self) -> PhysicalAddress {
        PhysicalAddress::new(self.frame() << 12)
    }

    /// Reserved bits that are set; they make a present entry fault.
    pub const fn reserved_bits(self, haw: u32) -> u64 {
        self.into_bits() & (0xFFC | address_reserved(haw))
    }
}

/// PGTT: the tables that translate the requests of a PASID (9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PasidTranslationType(pub u8);

impl PasidTranslationType {
    /// First-stage tables only.
    pub const FIRST_STAGE: Self = Self(1);
    /// Second-stage tables only.
    pub const SECOND_STAGE: Self = Self(2);
    /// First stage, whose addresses the second stage translates.
    pub const NESTED: Self = Self(3);
    /// Requests reach the address they name.
    pub const PASS_THROUGH: Self = Self(4);
}

machine::code!(PasidTranslationType);

/// FSPM: levels of first-stage tables (9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstStagePagingMode(pub u8);

impl FirstStagePagingMode {
    /// Four levels.
    pub const FOUR_LEVELS: Self = Self(0);
    /// Five levels.
    pub const FIVE_LEVELS: Self = Self(1);

    /// The same width as a code of second-stage tables; for reserved codes, a width that no table has.
    pub const fn width(self) -> AddressWidth {
        AddressWidth(self.0.saturating_add(AddressWidth::BITS_48.0))
    }

    /// The mode of tables of this width; there is none for three levels.
    pub const fn of(width: AddressWidth) -> Self {
        if width.0 == AddressWidth::BITS_57.0 { Self::FIVE_LEVELS } else { Self::FOUR_LEVELS }
    }
}

machine::code!(FirstStagePagingMode);

/// Word 0 of a PASID table entry: the second stage.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct PasidSecondStage {
    /// P: present.
    pub present: bool,
    /// FPD: faults are not recorded.
    pub fault_disabled: bool,
    /// AW: width of the second-stage tables.
    #[bits(3)]
    pub width: AddressWidth,
    __: bool,
    /// PGTT: translation type.
    #[bits(3)]
    pub translation: PasidTranslationType,
    /// SSADE: hardware sets accessed and dirty bits in second-stage entries.
    pub accessed_dirty: bool,
    #[bits(2)]
    __: u8,
    /// SSPTPTR: page frame number of the second-stage root.
    #[bits(52)]
    pub frame: u64,
}

/// Word 1 of a PASID table entry: the domain and snooping.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct PasidDomain {
    /// DID: domain-id.
    pub domain: u16,
    #[bits(7)]
    __: u8,
    /// PWSNP: page walks snoop the processor's caches.
    pub walk_snoop: bool,
    /// PGSNP: accesses snoop the processor's caches.
    pub page_snoop: bool,
    /// CD: caches disabled.
    pub cache_disabled: bool,
    /// EMTE: memory types of the second stage are used.
    pub memory_types: bool,
    #[bits(5)]
    __: u8,
    /// PAT: page attribute table.
    pub pat: u32,
}

/// Word 2 of a PASID table entry: the first stage.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct PasidFirstStage {
    /// SRE: supervisor requests are allowed.
    pub supervisor: bool,
    __: bool,
    /// FSPM: levels of the first-stage tables.
    #[bits(2)]
    pub mode: FirstStagePagingMode,
    /// WPE: supervisor writes honour read-only pages.
    pub write_protect: bool,
    #[bits(2)]
    __: u8,
    /// EAFE: hardware sets the extended accessed bit.
    pub extended_accessed: bool,
    #[bits(4)]
    __: u8,
    /// FSPTPTR: page frame number of the first-stage root.
    #[bits(52)]
    pub frame: u64,
}

/// A PASID table entry of 512 bits (9.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PasidEntry {
    /// Bits 63:0.
    pub second: PasidSecondStage,
    /// Bits 127:64.
    pub domain: PasidDomain,
    /// Bits 191:128.
    pub first: PasidFirstStage,
    /// Bits 511:192, reserved.
    pub reserved: [u64; 5],
}

impl PasidEntry {
    /// The entry as its eight words.
    pub const fn from_words(words: [u64; PASID_ENTRY_WORDS]) -> Self {
        let [second, domain, first, reserved @ ..] = words;
        Self {
            second: PasidSecondStage::from_bits(second),
            domain: PasidDomain::from_bits(domain),
            first: PasidFirstStage::from_bits(first),
            reserved,
        }
    }

    /// The eight words of the entry.
    pub const fn words(self) -> [u64; PASID_ENTRY_WORDS] {
        let [w3, w4, w5, w6, w7] = self.reserved;
        [self.second.into_bits(), self.domain.into_bits(), self.first.into_bits(), w3, w4, w5, w6, w7]
    }

    /// Physical address of the second-stage root table.
    pub const fn second_stage_table(self) -> PhysicalAddress {
        PhysicalAddress::new(self.second.frame() << 12)
    }

    /// Physical address of the first-stage root table.
    pub const fn first_stage_table(self) -> PhysicalAddress {
        PhysicalAddress::new(self.first.frame() << 12)
    }

    /// Whether a bit is set that is reserved on every unit; such a bit makes a present entry fault.
    ///
    /// Fields of features that a unit lacks are reserved too, but this differs between units and revisions (AW of a
    /// unit without second stage), so they are not checked.
    pub fn has_reserved_bits(self, haw: u32) -> bool {
        let second = self.second.into_bits() & (0xC20 | address_reserved(haw));
        let domain = self.domain.into_bits() & 0xF87F_0000;
        let first = self.first.into_bits() & (0xF02 | address_reserved(haw));
        second | domain | first != 0 || self.reserved != [0; 5]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `PASID_*` and the `pasid_set_*` functions of Linux's `drivers/iommu/intel/pasid.h`.
    #[test]
    fn an_entry_is_laid_out_as_linux_writes_it() {
        let second = PasidSecondStage::from_bits(0x7_6543_2000 | 2 << 6 | 2 << 2 | 1);
        assert!(second.present());
        assert_eq!(second.translation(), PasidTranslationType::SECOND_STAGE);
        assert_eq!(second.width(), AddressWidth::BITS_48);
        assert_eq!(second.frame(), 0x76_5432);
        assert!(PasidSecondStage::from_bits(1 << 9).accessed_dirty());
        assert_eq!(PasidDomain::from_bits(0xBEEF).domain(), 0xBEEF);
        assert!(PasidDomain::from_bits(1 << 23).walk_snoop());
        assert!(PasidDomain::from_bits(1 << 24).page_snoop());
        assert!(PasidFirstStage::from_bits(1).supervisor());
        assert_eq!(PasidFirstStage::from_bits(1 << 2).mode(), FirstStagePagingMode::FIVE_LEVELS);
        assert!(PasidFirstStage::from_bits(1 << 4).write_protect());
        assert!(PasidFirstStage::from_bits(1 << 7).extended_accessed());
    }

    /// 9.6: FSPM 0 has four levels, 1 has five, the others are reserved.
    #[test]
    fn first_stage_modes_are_widths() {
        let widths = [0, 1, 2, 3].map(|code| FirstStagePagingMode(code).width().bits());
        assert_eq!(widths, [Some(48), Some(57), None, None]);
        assert_eq!(FirstStagePagingMode::of(AddressWidth::BITS_57), FirstStagePagingMode::FIVE_LEVELS);
        assert_eq!(FirstStagePagingMode::of(AddressWidth::BITS_48), FirstStagePagingMode::FOUR_LEVELS);
    }

    #[test]
    fn a_bit_in_the_last_word_is_reserved() {
        assert!(PasidEntry::from_words([0, 0, 0, 0, 0, 0, 0, 1]).has_reserved_bits(46));
        assert!(!PasidEntry::from_words([0x1085, 7, 0, 0, 0, 0, 0, 0]).has_reserved_bits(46));
    }
}
