//! Which entries a unit accepts on a machine.

use amdvi::host_table::HostEntry;
use machine::Level;
use vtd::capability::Capability;
use vtd::{address_reserved, first_stage, second_stage};

use crate::entry::{ADDRESS, PageEntry};
use crate::format::Format;
use crate::step::Step;

/// The architecture of a unit, and what it can do, as far as that matters for tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// VT-d, with these capabilities.
    Vtd(Capability),
    /// AMD-Vi, whose units all have the same sizes of pages.
    AmdVi {
        /// Bits of an address that devices may use.
        address_bits: u32,
    },
}

impl Architecture {
    /// Bits of an address that devices may use.
    pub const fn address_bits(self) -> u32 {
        match self {
            Self::Vtd(capability) => capability.guest_address_bits(),
            Self::AmdVi { address_bits } => address_bits,
        }
    }

    /// The capabilities of VT-d that say of large pages what holds here.
    const fn large_pages(self) -> Capability {
        match self {
            Self::Vtd(capability) => capability,
            Self::AmdVi { .. } => Capability::new().with_fs1gp(true),
        }
    }
}

/// The highest level of which leaves are made: pages of 1 GiB.
const LARGEST: Level = Level::THREE;

/// What a unit accepts in entries of one format, on one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    format: Format,
    /// Bits that must be zero in entries that name tables.
    table: u64,
    /// Bits that must be zero in leaves, by level; a power of two of them, which needs no check of the index.
    leaf: [u64; 8],
}

impl Rules {
    /// The rules for tables of this format, for a unit on a machine of `host_address_bits` physical address bits.
    #[inline(never)]
    pub const fn new(format: Format, host_address_bits: u32, architecture: Architecture) -> Self {
        let mut leaf = [u64::MAX; 8];
        let mut number = 1;
        while let Some(level) = Level::new(number) {
            leaf[number as usize % 8] = leaf_mask(format, level, host_address_bits, architecture);
            number += 1;
        }
        let beyond = address_reserved(host_address_bits) & ADDRESS;
        let table = match format {
            Format::AmdV1 => beyond | HostEntry::RESERVED_IN_TABLES,
            _ => beyond,
        };
        Self { format, table, leaf }
    }

    /// The next step below an entry of a table of this level.
    #[inline(never)]
    pub const fn step(&self, entry: PageEntry, level: Level) -> Step {
        if entry.present() && self.set_in(entry, level) != 0 { Step::Malformed } else { entry.step(level) }
    }

    /// Reserved bits that are set in this entry; they make a present entry fault.
    pub const fn set_in(&self, entry: PageEntry, level: Level) -> u64 {
        entry.bits & if entry.is_leaf(level) { self.leaf[level.number() as usize % 8] } else { self.table }
    }

    /// Whether the unit has leaves of this level, up to 1 GiB.
    #[inline(never)]
    pub const fn allow_leaf(&self, level: Level) -> bool {
        let leaf = self.format.leaf(level, machine::PhysicalAddress::new(0), machine::Permission::ReadWrite);
        level.number() <= LARGEST.number() && self.set_in(leaf, level) == 0
    }

    /// The bits that are clear in all leaves of level 1 of which nothing is to be checked but the address. An entry with one of
    /// them may be as it must be; [`step`](Self::step) says.
    pub const fn unusual(&self) -> u64 {
        let reserved = self.leaf[Level::ONE.number() as usize % 8];
        match self.format {
            Format::AmdV1 => reserved | HostEntry::NEXT_LEVEL,
            _ => reserved,
        }
    }
}

/// Bits that must be zero in leaves of this level.
const fn leaf_mask(format: Format, level: Level, host_address_bits: u32, architecture: Architecture) -> u64 {
    let capability = architecture.large_pages();
    match format {
        Format::FirstStage | Format::AmdV2 => first_stage::leaf_mask(level, host_address_bits, capability),
        Format::SecondStage => second_stage::leaf_mask(level, host_address_bits, capability),
        Format::AmdV1 => address_reserved(host_address_bits) & ADDRESS | HostEntry::RESERVED_IN_PAGES,
    }
}
