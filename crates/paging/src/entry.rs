//! One entry of a table of any format.

use amdvi::host_table::{HostEntry, NextLevel};
use machine::{Level, Permission, PhysicalAddress};
use vtd::first_stage::FirstStageEntry;
use vtd::second_stage::SecondStageEntry;

use crate::format::Format;
use crate::step::{Page, Step};

/// The address field of entries of all formats, as wide as any machine's address can be.
pub(crate) const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;

/// One entry of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageEntry {
    /// Its format.
    pub format: Format,
    /// The entry.
    pub bits: u64,
}

impl PageEntry {
    const fn with_bits(self, bits: u64) -> Self {
        Self { bits, ..self }
    }

    /// Whether hardware looks at the rest of the entry.
    pub const fn present(self) -> bool {
        self.bits & self.format.presence() != 0
    }

    /// Whether requests without PASID may do all of this.
    #[inline(never)]
    pub const fn allows(self, permission: Permission) -> bool {
        match self.format {
            Format::FirstStage | Format::AmdV2 => FirstStageEntry(self.bits).allows(permission),
            Format::SecondStage => SecondStageEntry(self.bits).allows(permission),
            Format::AmdV1 => HostEntry(self.bits).allows(permission),
        }
    }

    /// The next step below an entry of a table of this level, if no reserved bit is set in it.
    #[inline(never)]
    pub const fn step(self, level: Level) -> Step {
        if !self.present() {
            return Step::Absent;
        }
        match self.format {
            Format::AmdV1 => self.step_of_v1(level),
            _ if self.is_leaf(level) => Step::Page(Page::around(self.address(), level.shift())),
            _ => Step::below(self.address(), level),
        }
    }

    /// The levels of tables only go down, and a page is at least as large as what the entry covers, and at most as large as
    /// what its table does. Smaller and larger ones are malformed (AMD-Vi 2.2.3), and pages beyond all physical addresses.
    const fn step_of_v1(self, level: Level) -> Step {
        let entry = HostEntry(self.bits);
        match (entry.next_level(), entry.page_shift()) {
            (NextLevel::Table(next), _) if next.number() < level.number() => {
                Step::Table { table: self.address(), level: next }
            }
            (NextLevel::Page, _) if level.number() < Level::SIX.number() => {
                Step::Page(Page::around(self.address(), level.shift()))
            }
            (NextLevel::SizedPage, Some(shift)) if level.shift() <= shift && shift <= level.width() => {
                Step::Page(Page::around(self.address(), shift))
            }
            _ => Step::Malformed,
        }
    }

    /// Whether a present entry of this level maps memory rather than naming a table.
    pub const fn is_leaf(self, level: Level) -> bool {
        match self.format {
            Format::FirstStage | Format::AmdV2 => FirstStageEntry(self.bits).is_leaf(level),
            Format::SecondStage => SecondStageEntry(self.bits).is_leaf(level),
            Format::AmdV1 => !matches!(HostEntry(self.bits).next_level(), NextLevel::Table(_)),
        }
    }

    /// Whether an entry of this level names a table.
    pub const fn names_table(self, level: Level) -> bool {
        matches!(self.step(level), Step::Table { .. })
    }

    /// The address field: the next table, or where a page is.
    pub const fn address(self) -> PhysicalAddress {
        PhysicalAddress::new(self.bits & ADDRESS)
    }

    /// The same entry, naming another table of the same level: rights and ignored bits stay.
    pub const fn with_table(self, table: PhysicalAddress) -> Self {
        self.with_bits(self.bits & !ADDRESS | table.get() & ADDRESS)
    }

    /// Makes a leaf of level `to` that maps `address` and no more than what it covers, with all other properties of this leaf
    /// of level `from`. Above level 1 the unit must support such pages.
    #[inline(never)]
    pub const fn as_leaf_of(self, from: Level, to: Level, address: PhysicalAddress) -> Self {
        self.with_bits(match self.format {
            Format::FirstStage | Format::AmdV2 => FirstStageEntry(self.bits).as_leaf_of(from, to, address).0,
            Format::SecondStage => SecondStageEntry(self.bits).as_leaf_of(to, address).0,
            Format::AmdV1 => self.bits & !(ADDRESS | HostEntry::NEXT_LEVEL) | address.get() & ADDRESS,
        })
    }

    /// The same entry, allowing no more than an entry above it does: rights of all levels are combined by AND (VT-d 3.6.1,
    /// 3.7.1; AMD-Vi 2.2.3).
    pub const fn restricted_by(self, above: Self) -> Self {
        self.with_bits(self.bits & (above.bits | !self.format.rights()))
    }

    /// The same entry without the bits that hardware set when it used it.
    pub const fn unused(self) -> Self {
        self.with_bits(self.bits & !self.format.used())
    }

    /// The same entry, with the bits added that hardware set in `other` when it used it.
    pub const fn used_like(self, other: Self) -> Self {
        self.with_bits(self.bits | other.bits & self.format.used())
    }

    /// The same entry with the mark, which changes nothing that it translates.
    pub const fn marked(self) -> Self {
        self.with_bits(self.bits | self.format.mark())
    }

    /// The same entry without the mark.
    pub const fn unmarked(self) -> Self {
        self.with_bits(self.bits & !self.format.mark())
    }

    /// Whether the entry has the mark.
    pub const fn is_marked(self) -> bool {
        self.bits & self.format.mark() != 0
    }
}
