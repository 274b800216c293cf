//! Levels and widths of page tables, common to first and second stage (3.6, 3.7).

use machine::{IoAddress, Range};

use crate::address_reserved;

/// Bits of an address that one level translates.
const STRIDE: u32 = 9;
/// Bits of an address within a page.
const PAGE_SHIFT: u32 = 12;
/// PS, in entries of either stage above level 1: the entry maps a page and names no table.
pub(crate) const PAGE_SIZE: u64 = 1 << 7;
/// The address field of entries of either stage, as wide as any host's address can be.
pub(crate) const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;

/// Whether an entry of either stage maps memory, at this level, rather than naming a table.
pub(crate) const fn is_leaf(entry: u64, level: Level) -> bool {
    level.number() == 1 || entry & PAGE_SIZE != 0
}

/// Address bits beyond the `haw` physical address bits of the machine: in entries of either stage that name tables,
/// these are the only reserved bits.
pub(crate) const fn beyond(haw: u32) -> u64 {
    address_reserved(haw) & ADDRESS
}

/// A level of a page table: level 1 holds pages, level 5 is the highest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(u8);

impl Level {
    /// Tables of 4 KiB pages.
    pub const ONE: Self = Self(1);
    /// Tables whose leaves are 2 MiB.
    pub const TWO: Self = Self(2);
    /// Tables whose leaves are 1 GiB.
    pub const THREE: Self = Self(3);
    /// Tables whose entries cover 512 GiB.
    pub const FOUR: Self = Self(4);
    /// Tables whose entries cover 256 TiB.
    pub const FIVE: Self = Self(5);

    /// The level with this number, if there is one.
    pub const fn new(number: u8) -> Option<Self> {
        match number {
            1..=5 => Some(Self(number)),
            _ => None,
        }
    }

    /// Its number, 1 to 5.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Binary logarithm of [`span`](Self::span).
    pub const fn shift(self) -> u32 {
        PAGE_SHIFT + STRIDE * (self.0 as u32 - 1)
    }

    /// How many bytes one entry covers.
    pub const fn span(self) -> u64 {
        1 << self.shift()
    }

    /// How many bits of an address a table of this level and those below it translate.
    pub const fn width(self) -> u32 {
        self.shift() + STRIDE
    }

    /// The addresses, from `start`, that one entry of this level translates.
    pub const fn entry_span(self, start: IoAddress) -> Range<IoAddress> {
        Range::new(start, start.saturating_add(self.span()))
    }

    /// The addresses, from `start`, that a table of this level and those below it translate.
    pub const fn table_span(self, start: IoAddress) -> Range<IoAddress> {
        Range::new(start, start.saturating_add(1 << self.width()))
    }

    /// The first address that the entry at `index` translates, in a table that translates those from `start`.
    pub const fn address_at(self, start: IoAddress, index: usize) -> IoAddress {
        start.saturating_add(index as u64 * self.span())
    }

    /// Which of the 512 entries translates this address.
    pub const fn index(self, address: IoAddress) -> usize {
        (address.get() >> self.shift() & 0x1FF) as usize
    }

    /// The level of the tables that entries of this level point to; `None` below level 1.
    pub const fn below(self) -> Option<Self> {
        Self::new(self.0 - 1)
    }
}

/// What a mapping allows a device to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Permission {
    /// Reads.
    Read,
    /// Writes.
    Write,
    /// Both.
    ReadWrite,
}

impl Permission {
    /// Whether reads are allowed.
    pub const fn reads(self) -> bool {
        matches!(self, Self::Read | Self::ReadWrite)
    }

    /// Whether writes are allowed.
    pub const fn writes(self) -> bool {
        matches!(self, Self::Write | Self::ReadWrite)
    }
}

/// AW: width code of second-stage tables in context and PASID entries (9.3, 9.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddressWidth(pub u8);

impl AddressWidth {
    /// Three levels.
    pub const BITS_39: Self = Self(1);
    /// Four levels.
    pub const BITS_48: Self = Self(2);
    /// Five levels.
    pub const BITS_57: Self = Self(3);

    /// Level of the root table; `None` for codes that no current unit supports (30 and 64 bits are obsolete).
    pub const fn top(self) -> Option<Level> {
        match self {
            Self::BITS_39 => Some(Level::THREE),
            Self::BITS_48 => Some(Level::FOUR),
            Self::BITS_57 => Some(Level::FIVE),
            _ => None,
        }
    }

    /// Bits of an address that these tables translate.
    pub const fn bits(self) -> Option<u32> {
        match self.top() {
            Some(level) => Some(level.width()),
            None => None,
        }
    }
}

code!(AddressWidth);

#[cfg(test)]
mod tests {
    use super::*;

    /// Table 3.6: bits 47:39 select a level-4 entry, 38:30 level 3, 29:21 level 2, 20:12 level 1.
    #[test]
    fn each_level_takes_its_nine_bits() {
        let address = 0x0000_FF80_4020_3FFF;
        assert_eq!(Level::FIVE.index(IoAddress::new(address)), 0);
        assert_eq!(Level::FOUR.index(IoAddress::new(address)), 0x1FF);
        assert_eq!(Level::THREE.index(IoAddress::new(address)), 1);
        assert_eq!(Level::TWO.index(IoAddress::new(address)), 1);
        assert_eq!(Level::ONE.index(IoAddress::new(address)), 3);
        assert_eq!(Level::TWO.span(), 2 << 20);
        assert_eq!(Level::THREE.span(), 1 << 30);
    }

    #[test]
    fn widths_name_the_levels_of_the_specification() {
        assert_eq!(AddressWidth::BITS_39.bits(), Some(39));
        assert_eq!(AddressWidth::BITS_48.bits(), Some(48));
        assert_eq!(AddressWidth::BITS_57.bits(), Some(57));
        assert_eq!(AddressWidth(0).top(), None);
        assert_eq!(AddressWidth(7).top(), None);
    }

    #[test]
    fn there_is_nothing_below_level_one() {
        assert_eq!(Level::ONE.below(), None);
        assert_eq!(Level::FIVE.below(), Some(Level::FOUR));
    }
}
