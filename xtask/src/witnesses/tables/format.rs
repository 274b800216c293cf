//! What the entries of page tables say, in each format.

use super::{ADDRESS, PRESENT, READ, WRITE};

/// The entry maps a page larger than 4 KiB: `PS`, in both of VT-d's formats.
const LARGE: u64 = 1 << 7;
/// Requests without a PASID have a user's rights: in the first stage, every entry on the way must grant them.
const USER: u64 = 1 << 2;
/// Where AMD's entries have what VT-d's have in bits 1:0, `IR` and `IW`.
const RIGHTS_OF_AMD: u32 = 61;

/// How entries are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Format {
    /// VT-d's first stage, the processor's own format (VT-d specification, section 9.7).
    First,
    /// VT-d's second stage (section 9.8).
    Second,
    /// AMD's host tables (AMD I/O virtualization technology specification, section 2.2.3): each entry names the level that it leads to.
    Amd,
}

/// Where an entry leads that grants some rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// To a page, by the address at which it begins and the bits of an offset within it. AMD's may be larger than what the entry
    /// covers: its neighbours are the same then.
    Page { address: u64, bits: u32 },
    /// To a table of this level.
    Table { address: u64, level: u32 },
}

impl Format {
    /// What an entry allows: [`READ`], [`WRITE`], both or nothing.
    pub(super) fn rights(self, entry: u64) -> u64 {
        match self {
            Self::First if entry & (PRESENT | USER) == PRESENT | USER => READ | entry & WRITE,
            Self::Second => entry & (READ | WRITE),
            Self::Amd if entry & PRESENT != 0 => entry >> RIGHTS_OF_AMD & (READ | WRITE),
            Self::First | Self::Amd => 0,
        }
    }

    /// Where an entry of a table of this level leads; `None` if the unit would refuse a request that comes to it.
    pub(super) fn next(self, entry: u64, level: u32) -> Option<Next> {
        let (address, bits) = (entry & ADDRESS, bits_below(level));
        let page = |bits: u32| Some(Next::Page { address: address & !((1_u64 << bits) - 1), bits });
        match self {
            Self::First | Self::Second if level == 1 || entry & LARGE != 0 => page(bits),
            Self::First | Self::Second => Some(Next::Table { address, level: level - 1 }),
            Self::Amd => match (entry >> 9 & 7) as u32 {
                0 => page(bits),
                7 => page(bits_of_odd_page(address)).filter(|_| bits_of_odd_page(address) < bits + 9),
                below if below < level => Some(Next::Table { address, level: below }),
                _ => None,
            },
        }
    }

    /// How many entries a table of this level has.
    pub(super) fn entries(self, level: u32) -> u64 {
        // Level 6 translates what is left of 64 bits.
        if self == Self::Amd && level == 6 { 128 } else { 512 }
    }
}

/// The bits of an I/O address that an entry of a table of this level does not translate.
pub(super) fn bits_below(level: u32) -> u32 {
    3 + 9 * level
}

/// The bits of an offset within a page of a size of its own: the lowest bit of the address that is zero is the highest of the
/// offset (AMD, section 2.2.3, "page size encodings").
fn bits_of_odd_page(address: u64) -> u32 {
    13 + (address >> 12).trailing_ones()
}
