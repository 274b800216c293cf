//! Levels of the tables that translate devices' addresses. Each table is a page of 512 entries, on every IOMMU of x86: VT-d's
//! first and second stage (3.6, 3.7), and the host and guest tables of AMD-Vi (2.2.3, 2.2.6).

use crate::{ENTRIES, IoAddress, PAGE_SHIFT, Range};

/// Bits of an address that one level translates.
const STRIDE: u32 = ENTRIES.ilog2();

/// A level of a page table: level 1 holds pages. VT-d has five levels at most, AMD-Vi six.
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
    /// Tables whose entries cover 128 PiB: the first 128 of them translate all 64 bits of an address.
    pub const SIX: Self = Self(6);

    /// The level with this number, if there is one.
    pub const fn new(number: u8) -> Option<Self> {
        match number {
            1..=6 => Some(Self(number)),
            _ => None,
        }
    }

    /// Its number, 1 to 6.
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

    /// How many bits of an address a table of this level and those below it translate, 21 to 64.
    pub const fn width(self) -> u32 {
        let width = self.shift() + STRIDE;
        if width < u64::BITS { width } else { u64::BITS }
    }

    /// How many entries of a table translate addresses, from the first on: 512, or 128 at level 6.
    pub const fn entries(self) -> usize {
        1 << (self.width() - self.shift())
    }

    /// The addresses, from `start`, that one entry of this level translates.
    pub const fn entry_span(self, start: IoAddress) -> Range<IoAddress> {
        Range::new(start, start.saturating_add(self.span()))
    }

    /// The addresses, from `start`, that a table of this level and those below it translate. At level 6, the last address of
    /// all is left out.
    pub const fn table_span(self, start: IoAddress) -> Range<IoAddress> {
        let len = match 1u64.checked_shl(self.width()) {
            Some(len) => len,
            None => u64::MAX,
        };
        Range::new(start, start.saturating_add(len))
    }

    /// The first address that the entry at `index` translates, in a table that translates those from `start`; the last
    /// address of all if the entry translates none.
    pub const fn address_at(self, start: IoAddress, index: usize) -> IoAddress {
        start.saturating_add((index as u64).saturating_mul(self.span()))
    }

    /// Which of the 512 entries translates this address.
    pub const fn index(self, address: IoAddress) -> usize {
        (address.get() >> self.shift()) as usize % ENTRIES
    }

    /// The level of the tables that entries of this level point to; `None` below level 1.
    pub const fn below(self) -> Option<Self> {
        Self::new(self.0 - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// VT-d, table 3.6: bits 47:39 select a level-4 entry, 38:30 level 3, 29:21 level 2, 20:12 level 1.
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
    fn there_is_nothing_below_level_one() {
        assert_eq!(Level::ONE.below(), None);
        assert_eq!(Level::FIVE.below(), Some(Level::FOUR));
        assert_eq!((Level::new(0), Level::new(6), Level::new(7)), (None, Some(Level::SIX), None));
    }

    /// Bits 63:57 select an entry of level 6: seven bits.
    #[test]
    fn the_highest_level_translates_all_addresses_and_no_more() {
        let (zero, last) = (IoAddress::new(0), IoAddress::new(u64::MAX));
        assert_eq!((Level::SIX.width(), Level::SIX.entries(), Level::FIVE.entries()), (64, 128, 512));
        assert_eq!(Level::SIX.index(last), 127);
        assert_eq!(Level::SIX.table_span(zero), Range::new(zero, last));
        assert_eq!(Level::SIX.address_at(zero, 127), IoAddress::new(127 << 57));
        for index in [128, 511] {
            assert!(Level::SIX.entry_span(Level::SIX.address_at(zero, index)).is_empty());
        }
    }
}
