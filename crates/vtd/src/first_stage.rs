//! First-stage paging entries: the processor's own page-table format (9.7).

use crate::address_reserved;
use crate::paging::Level;

const PRESENT: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const PAGE_SIZE: u64 = 1 << 7;
const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;

/// One first-stage entry of any level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FirstStageEntry(pub u64);

impl FirstStageEntry {
    /// P: hardware looks at the rest of the entry.
    pub const fn present(self) -> bool {
        self.0 & PRESENT != 0
    }

    /// R/W: writes are allowed.
    pub const fn writable(self) -> bool {
        self.0 & WRITE != 0
    }

    /// U/S: user requests are allowed.
    pub const fn user(self) -> bool {
        self.0 & USER != 0
    }

    /// Whether an entry of this level maps memory rather than naming a table.
    pub const fn is_leaf(self, level: Level) -> bool {
        level.number() == 1 || self.0 & PAGE_SIZE != 0
    }

    /// Bits 51:12: the next table, or the first byte of the page if the entry is a well-formed leaf.
    pub const fn address(self) -> u64 {
        self.0 & ADDRESS
    }

    /// The same entry with another address.
    pub const fn with_address(self, address: u64) -> Self {
        Self(self.0 & !ADDRESS | address & ADDRESS)
    }

    /// Reserved bits that are set for a machine of `haw` physical address bits; they make a present entry fault.
    ///
    /// Bit 12 of a large leaf is its PAT bit and not reserved.
    pub const fn reserved_bits(self, level: Level, haw: u32) -> u64 {
        let beyond = address_reserved(haw) & ADDRESS;
        let shape = match level.number() {
            2 | 3 if self.is_leaf(level) => (level.span() - 1) & ADDRESS & !0x1000,
            4 | 5 => PAGE_SIZE,
            _ => 0,
        };
        self.0 & (beyond | shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Linux writes first-stage entries with `DMA_FL_PTE_PRESENT` (bit 0), `DMA_PTE_WRITE` (1), `DMA_FL_PTE_US` (2).
    #[test]
    fn entries_are_laid_out_as_linux_writes_them() {
        let entry = FirstStageEntry(0x1234_5007 | 1 << 63);
        assert!(entry.present() && entry.writable() && entry.user());
        assert_eq!(entry.address(), 0x1234_5000);
        assert_eq!(entry.with_address(0x7000).0, 0x7007 | 1 << 63);
    }

    #[test]
    fn the_pat_bit_of_a_large_page_is_not_reserved() {
        assert_eq!(FirstStageEntry(0x3083).reserved_bits(Level::TWO, 46), 0x2000);
        assert_eq!(FirstStageEntry(0x83).reserved_bits(Level::FOUR, 46), 0x80);
    }
}
