//! The formats.

use amdvi::host_table::HostEntry;
use machine::{Level, Permission, PhysicalAddress};
use vtd::first_stage::FirstStageEntry;
use vtd::second_stage::SecondStageEntry;

use crate::entry::PageEntry;

/// The format of the entries of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// VT-d's first stage: the processor's format (9.7).
    FirstStage,
    /// VT-d's second stage, of legacy mode and of hypervisors (9.8).
    SecondStage,
    /// AMD-Vi's host tables, version 1 (2.2.3).
    AmdV1,
    /// AMD-Vi's guest tables, version 2: the processor's format (2.2.6).
    AmdV2,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 4] = [Self::FirstStage, Self::SecondStage, Self::AmdV1, Self::AmdV2];

    /// An entry of this format.
    pub const fn entry(self, bits: u64) -> PageEntry {
        PageEntry { format: self, bits }
    }

    /// An entry that blocks everything.
    pub const fn blocked(self) -> PageEntry {
        self.entry(0)
    }

    /// Makes a leaf of `level` that maps `address`, which is aligned to the level's span.
    ///
    /// Its accessed and dirty bits are already set: where hardware walks tables without snooping the processor's
    /// caches, it faults when it has to set them (VT-d, 3.10).
    #[inline(never)]
    pub const fn leaf(self, level: Level, address: PhysicalAddress, permission: Permission) -> PageEntry {
        let bits = match self {
            Self::FirstStage | Self::AmdV2 => FirstStageEntry::leaf(level, address, permission).0,
            Self::SecondStage => SecondStageEntry::leaf(level, address, permission).0,
            Self::AmdV1 => HostEntry::page(address, permission).0,
        };
        self.entry(bits | self.used())
    }

    /// Makes an entry that names a table of level `next`, one below its own, and allows all that the table allows, with the
    /// accessed bit set as in leaves.
    #[inline(never)]
    pub const fn table(self, address: PhysicalAddress, next: Level) -> PageEntry {
        let bits = match self {
            Self::FirstStage | Self::AmdV2 => FirstStageEntry::table(address).0,
            Self::SecondStage => SecondStageEntry::table(address).0,
            Self::AmdV1 => HostEntry::table(address, next).0,
        };
        self.entry(bits | self.used())
    }

    /// Bits that make an entry present: any one of them is enough.
    pub const fn presence(self) -> u64 {
        // Bit 0 in all formats but one.
        const { assert!(HostEntry::PRESENCE == FirstStageEntry::PRESENCE) };
        if matches!(self, Self::SecondStage) { SecondStageEntry::PRESENCE } else { FirstStageEntry::PRESENCE }
    }

    /// The index of the first present entry of a table at `from` or after it.
    pub fn next_present(self, table: &[u64], from: usize) -> Option<usize> {
        let presence = self.presence();
        let rest = table.get(from..)?;
        rest.iter().position(|word| word & presence != 0).map(|offset| from + offset)
    }

    /// Whether the upper half of all addresses repeats the highest translated bit in all bits above it (VT-d, 3.6).
    pub const fn extends_sign(self) -> bool {
        matches!(self, Self::FirstStage | Self::AmdV2)
    }

    /// Whether caches tell translations of one domain-id apart by PASID (VT-d 6.2.1, AMD-Vi 2.2.6).
    pub const fn is_tagged_by_pasid(self) -> bool {
        matches!(self, Self::FirstStage | Self::AmdV2)
    }

    /// A bit that hardware ignores in entries of all levels, whether they name tables or map pages: software may mark entries
    /// with it.
    ///
    /// VT-d ignores bits 61:52 of either stage; in processors' entries, software has bits 58:52. AMD-Vi reserves these bits in
    /// version 1, and ignores bit 8.
    pub const fn mark(self) -> u64 {
        if matches!(self, Self::AmdV1) { 1 << 8 } else { 1 << 55 }
    }

    /// Bits that hardware may set when it uses an entry: they record the use, and change no translation.
    pub const fn used(self) -> u64 {
        const { assert!(HostEntry::USED == FirstStageEntry::ACCESSED_DIRTY) };
        match self {
            Self::FirstStage => FirstStageEntry::USED,
            Self::SecondStage => SecondStageEntry::USED,
            Self::AmdV1 | Self::AmdV2 => HostEntry::USED,
        }
    }

    /// Bits that hold the rights of an entry.
    pub(crate) const fn rights(self) -> u64 {
        match self {
            Self::FirstStage | Self::AmdV2 => FirstStageEntry::RIGHTS,
            Self::SecondStage => SecondStageEntry::RIGHTS,
            Self::AmdV1 => HostEntry::RIGHTS,
        }
    }
}
