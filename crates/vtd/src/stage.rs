//! What first- and second-stage tables have in common: one view for code that treats both alike.
//!
//! Both formats have 512 entries a table, the address and the page-size bit in the same places, and ignore bits 61:52.
//! They differ in what makes an entry present, in the rights, and in the bits that hardware sets.

use machine::{Level, Permission, PhysicalAddress, Range};

use crate::capability::Capability;
use crate::first_stage::{self, FirstStageEntry};
use crate::paging::{self, ADDRESS, PAGE_SIZE};
use crate::second_stage::{self, SecondStageEntry};

/// Which of the two formats the entries of a table have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// The processor's format (9.7).
    First,
    /// The format of legacy mode and of hypervisors (9.8).
    Second,
}

impl Stage {
    /// An entry of this format.
    pub const fn entry(self, bits: u64) -> PageEntry {
        PageEntry { stage: self, bits }
    }

    /// An entry that blocks everything.
    pub const fn blocked(self) -> PageEntry {
        self.entry(0)
    }

    /// Makes a leaf of `level` that maps `address`, which is aligned to the level's span.
    ///
    /// Its accessed and dirty bits are already set: where hardware walks tables without snooping the processor's
    /// caches, it faults when it has to set them (3.10).
    pub const fn leaf(self, level: Level, address: PhysicalAddress, permission: Permission) -> PageEntry {
        let bits = match self {
            Self::First => FirstStageEntry::leaf(level, address, permission).0,
            Self::Second => SecondStageEntry::leaf(level, address, permission).0,
        };
        self.entry(bits | self.used())
    }

    /// Makes an entry that names the next table and allows all that the table allows, with the accessed bit set as in
    /// leaves.
    pub const fn table(self, address: PhysicalAddress) -> PageEntry {
        let bits = match self {
            Self::First => FirstStageEntry::table(address).0,
            Self::Second => SecondStageEntry::table(address).0,
        };
        self.entry(bits | self.used())
    }

    /// Bits that make an entry present: any one of them is enough.
    pub const fn presence(self) -> u64 {
        match self {
            Self::First => FirstStageEntry::PRESENCE,
            Self::Second => SecondStageEntry::PRESENCE,
        }
    }

    /// The index of the first present entry of a table at `from` or after it.
    pub fn next_present(self, table: &[u64], from: usize) -> Option<usize> {
        let rest = table.get(from..)?;
        rest.iter().position(|word| self.entry(*word).present()).map(|offset| from + offset)
    }

    /// Bits that hardware may set when it uses an entry: they record the use, and change no translation.
    const fn used(self) -> u64 {
        match self {
            Self::First => FirstStageEntry::USED,
            Self::Second => SecondStageEntry::USED,
        }
    }

    /// Bits that hold the rights of an entry.
    const fn rights(self) -> u64 {
        match self {
            Self::First => FirstStageEntry::RIGHTS,
            Self::Second => SecondStageEntry::RIGHTS,
        }
    }
}

/// One entry of a page table of either stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageEntry {
    /// Its format.
    pub stage: Stage,
    /// The entry.
    pub bits: u64,
}

impl PageEntry {
    const fn with_bits(self, bits: u64) -> Self {
        Self { bits, ..self }
    }

    /// Whether hardware looks at the rest of the entry.
    pub const fn present(self) -> bool {
        self.bits & self.stage.presence() != 0
    }

    /// Whether requests without PASID may do all of this.
    pub const fn allows(self, permission: Permission) -> bool {
        match self.stage {
            Stage::First => FirstStageEntry(self.bits).allows(permission),
            Stage::Second => SecondStageEntry(self.bits).allows(permission),
        }
    }

    /// Whether an entry of this level maps memory rather than naming a table.
    pub const fn is_leaf(self, level: Level) -> bool {
        paging::is_leaf(self.bits, level)
    }

    /// Whether a present entry of this level names a table.
    pub const fn names_table(self, level: Level) -> bool {
        self.present() && !self.is_leaf(level)
    }

    /// The next table, if this entry names one.
    pub const fn table(self) -> PhysicalAddress {
        PhysicalAddress::new(self.bits & ADDRESS)
    }

    /// The first byte of the page that a well-formed leaf of this level maps.
    pub const fn page(self, level: Level) -> PhysicalAddress {
        PhysicalAddress::new(self.bits & ADDRESS & !(level.span() - 1))
    }

    /// The memory that a well-formed leaf of this level maps.
    pub const fn target(self, level: Level) -> Range<PhysicalAddress> {
        let start = self.page(level);
        Range::new(start, start.saturating_add(level.span()))
    }

    /// The same entry, naming another table: rights and ignored bits stay.
    pub const fn with_table(self, table: PhysicalAddress) -> Self {
        self.with_bits(self.bits & !ADDRESS | table.get() & ADDRESS)
    }

    /// Makes a leaf of level `to` that maps `address`, with all other properties of this leaf of level `from`. Above
    /// level 1 the unit must support such pages.
    pub const fn as_leaf_of(self, from: Level, to: Level, address: PhysicalAddress) -> Self {
        self.with_bits(match self.stage {
            Stage::First => FirstStageEntry(self.bits).as_leaf_of(from, to, address).0,
            Stage::Second => SecondStageEntry(self.bits).as_leaf_of(to, address).0,
        })
    }

    /// The same entry, allowing no more than an entry above it does: rights of all levels are combined by AND (3.6.1,
    /// 3.7.1).
    pub const fn restricted_by(self, above: Self) -> Self {
        self.with_bits(self.bits & (above.bits | !self.stage.rights()))
    }

    /// The same entry without the bits that hardware set when it used it.
    pub const fn unused(self) -> Self {
        self.with_bits(self.bits & !self.stage.used())
    }

    /// The same entry, with the bits added that hardware set in `other` when it used it.
    pub const fn used_like(self, other: Self) -> Self {
        self.with_bits(self.bits | other.bits & self.stage.used())
    }
}

/// Which bits must be zero in present entries, by level, for one unit on one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservedBits {
    /// In entries that name tables.
    table: u64,
    /// In leaves, by level.
    leaf: [u64; 7],
}

impl ReservedBits {
    /// The masks for a machine of `haw` physical address bits and a unit with these capabilities.
    pub const fn new(stage: Stage, haw: u32, capability: Capability) -> Self {
        let mut leaf = [u64::MAX; 7];
        let mut number = 1;
        while let Some(level) = Level::new(number) {
            leaf[number as usize] = match stage {
                Stage::First => first_stage::leaf_mask(level, haw, capability),
                Stage::Second => second_stage::leaf_mask(level, haw, capability),
            };
            number += 1;
        }
        Self { table: paging::beyond(haw), leaf }
    }

    /// Reserved bits that are set in this entry; they make a present entry fault.
    pub const fn set_in(&self, entry: PageEntry, level: Level) -> u64 {
        entry.bits & if entry.is_leaf(level) { self.leaf_mask(level) } else { self.table }
    }

    /// Whether the unit has leaves of this level.
    pub const fn allow_leaf(&self, level: Level) -> bool {
        level.number() == 1 || self.leaf_mask(level) & PAGE_SIZE == 0
    }

    /// Mask for leaves of this level.
    pub const fn leaf_mask(&self, level: Level) -> u64 {
        self.leaf[level.number() as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn present_entries_are_found_one_after_another() {
        let table = [0, 0x1001, 0x1002, 0x1000, 0x1001];
        let found = |stage: Stage| (0..=5).map(move |from| stage.next_present(&table, from));
        assert!(found(Stage::Second).eq([Some(1), Some(1), Some(2), Some(4), Some(4), None]));
        assert!(found(Stage::First).eq([Some(1), Some(1), Some(4), Some(4), Some(4), None]));
        assert_eq!(Stage::First.next_present(&table, 6), None);
    }

    #[test]
    fn rights_of_two_levels_are_combined_by_and() {
        let second = |bits| Stage::Second.entry(bits);
        let first = |bits| Stage::First.entry(bits);
        assert_eq!(second(0x5083).restricted_by(second(0x1001)).bits, 0x5081);
        assert_eq!(first(0x50E7).restricted_by(first(0x1003)).bits, 0x50E3);
        assert_eq!(first(0x50E7).restricted_by(first(0x1005)).bits, 0x50E5);
    }

    /// A and D are bits 5 and 6 in first-stage entries, 8 and 9 in second-stage ones.
    #[test]
    fn what_hardware_noted_is_told_from_what_it_is_told() {
        let (first, second) = (Stage::First.entry(0x567), Stage::Second.entry(0x303));
        assert_eq!((first.unused().bits, second.unused().bits), (0x107, 3));
        assert_eq!(Stage::First.entry(7).used_like(first).bits, 0x467);
        assert_eq!(Stage::Second.entry(3).used_like(second).bits, 0x303);
    }

    /// 3.10: software sets A, D and EA beforehand.
    #[test]
    fn new_entries_need_no_note_of_their_use() {
        assert_eq!(
            Stage::First.leaf(Level::ONE, PhysicalAddress::new(0x1000), Permission::Read).bits,
            0x1465
        );
        assert_eq!(Stage::First.table(PhysicalAddress::new(0x1000)).bits, 0x1467);
        assert_eq!(
            Stage::Second.leaf(Level::TWO, PhysicalAddress::new(0x20_0000), Permission::Write).bits,
            0x20_0382
        );
        assert_eq!(Stage::Second.table(PhysicalAddress::new(0x1000)).bits, 0x1303);
    }

    #[test]
    fn which_large_pages_there_are_is_the_units_business() {
        let capability = Capability::new().with_sslps(0b10);
        let (first, second) = (
            ReservedBits::new(Stage::First, 46, capability),
            ReservedBits::new(Stage::Second, 46, capability),
        );
        assert_eq!(
            [Level::ONE, Level::TWO, Level::THREE].map(|level| first.allow_leaf(level)),
            [true, true, false]
        );
        assert_eq!(
            [Level::ONE, Level::TWO, Level::THREE].map(|level| second.allow_leaf(level)),
            [true, false, true]
        );
        let huge = Capability::new().with_fs1gp(true);
        assert!(ReservedBits::new(Stage::First, 46, huge).allow_leaf(Level::THREE));
        assert!(!ReservedBits::new(Stage::First, 46, huge).allow_leaf(Level::FOUR));
    }

    #[test]
    fn masks_by_level_are_those_of_the_formats() {
        let capability = Capability::new().with_sslps(0b11).with_fs1gp(true);
        for level in (1..=5).filter_map(Level::new) {
            for bits in [u64::MAX, !PAGE_SIZE] {
                let first = ReservedBits::new(Stage::First, 39, capability);
                let expected = FirstStageEntry(bits).reserved_bits(level, 39, capability);
                assert_eq!(first.set_in(Stage::First.entry(bits), level), expected);
                let second = ReservedBits::new(Stage::Second, 39, capability);
                let expected = SecondStageEntry(bits).reserved_bits(level, 39, capability);
                assert_eq!(second.set_in(Stage::Second.entry(bits), level), expected);
            }
        }
    }

    #[test]
    fn a_table_pointer_keeps_its_other_bits() {
        let entry = Stage::Second.entry(0xFFFF_FFFF_FFFF_FFFF).with_table(PhysicalAddress::new(0x5000));
        assert_eq!(entry.bits, 0xFFF0_0000_0000_5FFF);
    }
}
