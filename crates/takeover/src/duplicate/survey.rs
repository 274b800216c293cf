//! Checks a table of level 1 as a whole, at the speed of memory.

use machine::{ENTRIES, PAGE_SIZE, PhysicalAddress, Range, Table};
use paging::Format;

/// What a survey of a table of level 1 shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Survey {
    pub(super) present: u64,
    /// Some entry may be wrong; if this is not set, none is.
    pub(super) suspicious: bool,
}

/// The smallest aligned block of addresses around the capture kernel's memory. The upper bits of an address tell
/// whether it is in the block, and a processor compares those for many entries at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    upper: u64,
    mask: u64,
}

impl Block {
    /// The block around `range`; if that is empty, the upper half of all addresses, where no machine has memory.
    pub(super) fn around(range: Range<PhysicalAddress>) -> Self {
        if range.is_empty() {
            return Self { upper: 1 << 51, mask: 1 << 51 };
        }
        let (first, last) = (range.start.get(), range.end.get() - 1);
        let differing = (first ^ last).max(PAGE_SIZE - 1);
        let mask = !(u64::MAX >> differing.leading_zeros());
        Self { upper: first & mask, mask: mask & 0x000F_FFFF_FFFF_FFFF }
    }

    /// Returns a number whose highest bit is set if and only if the entry's address is in the block.
    ///
    /// The entry and the block differ in bits below 2^52, so subtracting one from the difference sets the highest bit
    /// only for zero. OR combines these numbers for many entries, which vector units without 64-bit comparisons
    /// (SSE2) do at full speed.
    const fn sign(self, entry: u64) -> u64 {
        ((entry ^ self.upper) & self.mask).wrapping_sub(1)
    }
}

/// Reads each entry once, without branches: in almost all tables nothing is wrong. An entry with one of the bits `unusual` is
/// worth an exact look.
///
/// Entries that are not present may raise suspicion too; the second check is exact.
pub(super) fn survey(table: &Table, format: Format, unusual: u64, own: Block) -> Survey {
    let (mut all, mut any, mut ours) = (u64::MAX, 0, 0);
    for word in table {
        all &= word;
        any |= word;
        ours |= own.sign(*word);
    }
    let full = all & format.presence() != 0;
    let present = if full { ENTRIES as u64 } else { present_in(table, format) };
    Survey { present, suspicious: any & unusual != 0 || ours >> 63 != 0 }
}

/// How many entries are present.
fn present_in(table: &Table, format: Format) -> u64 {
    // Bit 0 makes an entry present, and in second-stage tables so does bit 1.
    let second = format.presence() & 0b10;
    table.iter().map(|word| (word | (word & second) >> 1) & 1).sum()
}

/// Runs of present entries in a table of level 1, as ranges of indices.
pub(super) struct Runs<'a> {
    table: &'a Table,
    format: Format,
    next: usize,
}

impl<'a> Runs<'a> {
    pub(super) fn of(table: &'a Table, format: Format) -> Self {
        Self { table, format, next: 0 }
    }
}

impl Iterator for Runs<'_> {
    type Item = core::ops::Range<usize>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.format.next_present(self.table, self.next)?;
        let rest = self.table.get(start..)?;
        let length = rest.iter().position(|word| !self.format.entry(*word).present());
        self.next = length.map_or(ENTRIES, |length| start + length);
        Some(start..self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Range<PhysicalAddress> =
        Range::new(PhysicalAddress::new(0x2E00_0000), PhysicalAddress::new(0x2F00_0000));

    fn suspicion(entry: u64) -> bool {
        let mut table = [0; ENTRIES];
        table[300] = entry;
        survey(&table, Format::SecondStage, 0x000F_FF80_0000_0000, Block::around(OWN)).suspicious
    }

    #[test]
    fn every_address_of_ours_raises_suspicion() {
        for address in (OWN.start.get()..OWN.end.get()).step_by(PAGE_SIZE as usize) {
            assert!(suspicion(address | 3 | 1 << 63));
        }
        assert!(!suspicion(OWN.end.get() | 3));
        assert!(!suspicion((OWN.start.get() - PAGE_SIZE) | 3));
        assert!(suspicion(1 << 45 | 3));
    }

    #[test]
    fn memory_across_a_large_boundary_is_suspected_with_all_around_it() {
        let own = Block::around(Range::from(0xFFFF_F000..0x1_0000_1000));
        let has = |block: Block, entry| block.sign(entry) >> 63 != 0;
        assert!(has(own, 0xFFFF_F003) && has(own, 0x1_0000_0003));
        assert!(!has(Block::around(Range::from(0..0)), 3));
    }

    #[test]
    fn runs_of_present_entries_are_found_to_the_last() {
        let mut table = [0; ENTRIES];
        for index in [0, 1, 7, 510, 511] {
            table[index] = 0x1001;
        }
        let runs = [0..2, 7..8, 510..512];
        assert!(Runs::of(&table, Format::SecondStage).eq(runs));
        assert_eq!(
            survey(&table, Format::SecondStage, 0, Block::around(OWN)),
            Survey { present: 5, suspicious: false }
        );
    }
}
