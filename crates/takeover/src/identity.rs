//! What pass-through becomes: a map of the machine's memory to itself, without the capture kernel's.
//!
//! In pass-through a device reaches whatever it names, the capture kernel included; and there are no I/O addresses
//! that a driver could be given. Tables have neither flaw, and to the device they are the same.

use machine::{ENTRIES, PAGE_SIZE, Range};
use vtd::capability::Capability;
use vtd::paging::Level;
use vtd::second_stage::ReservedBits;

use crate::Surroundings;

/// A map of memory to itself, of the largest pages that the unit has.
#[derive(Clone, Copy)]
pub(crate) struct Identity<'a> {
    surroundings: &'a Surroundings<'a>,
    reserved: ReservedBits,
}

/// What an entry of the map is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// There is no memory that may be mapped.
    Nothing,
    /// All is mapped by one leaf.
    Leaf,
    /// A table of smaller pieces.
    Table(Level),
}

impl<'a> Identity<'a> {
    pub(crate) fn new(surroundings: &'a Surroundings<'a>, capability: Capability) -> Self {
        Self { surroundings, reserved: ReservedBits::new(surroundings.host_address_bits, capability) }
    }

    /// What the entry of this level is that covers the addresses from `base`.
    ///
    /// A page that is memory in part only is mapped: what else it may hold was reached before, too.
    pub(crate) fn piece(&self, level: Level, base: u64) -> Piece {
        let span = Range::new(base, base + level.span());
        let memory = self.surroundings.memory;
        if !memory.iter().any(|range| range.overlaps(span)) || self.surroundings.inside_own(span) {
            return Piece::Nothing;
        }
        let free = !self.surroundings.touches_own(span);
        match level.below() {
            None if free => Piece::Leaf,
            None => Piece::Nothing,
            Some(_) if free && self.reserved.allow_leaf(level) && self.is_memory(span) => Piece::Leaf,
            Some(below) => Piece::Table(below),
        }
    }

    /// How many tables the map takes under a root of this level: counted to one more than `limit`.
    pub(crate) fn count(&self, top: Level, limit: u64) -> u64 {
        let mut count = 0;
        self.count_below(top, 0, limit, &mut count);
        count
    }

    fn count_below(&self, level: Level, base: u64, limit: u64, count: &mut u64) {
        *count += 1;
        for index in 0..ENTRIES as u64 {
            let base = base + index * level.span();
            if *count > limit {
                return;
            }
            if let Piece::Table(below) = self.piece(level, base) {
                self.count_below(below, base, limit, count);
            }
        }
    }

    /// The ranges that were reachable, by whole pages.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = Range> + use<'a> {
        let page = |address: u64| address & !(PAGE_SIZE - 1);
        let outwards =
            move |range: &Range| Range::new(page(range.start), page(range.end.saturating_add(PAGE_SIZE - 1)));
        self.surroundings.memory.iter().map(outwards)
    }

    fn is_memory(&self, span: Range) -> bool {
        self.surroundings.memory.iter().any(|range| range.covers(span))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY: [Range; 2] = [Range::new(0, 0x8000_0000), Range::new(0x1_0000_0000, 0x1_8000_0800)];
    const OWN: [Range; 1] = [Range::new(0x2E00_0000, 0x2F00_0000)];

    fn surroundings() -> Surroundings<'static> {
        Surroundings { host_address_bits: 39, memory: &MEMORY, own: &OWN, kept_free: &[], device_tlbs: &[] }
    }

    fn with_large_pages(sslps: u8) -> Capability {
        Capability::new().with_sslps(sslps)
    }

    #[test]
    fn the_capture_kernels_memory_is_cut_out_of_a_large_page() {
        let surroundings = surroundings();
        let identity = Identity::new(&surroundings, with_large_pages(0b11));
        assert_eq!(identity.piece(Level::THREE, 0), Piece::Table(Level::TWO));
        assert_eq!(identity.piece(Level::THREE, 0x4000_0000), Piece::Leaf);
        assert_eq!(identity.piece(Level::TWO, 0x2DE0_0000), Piece::Leaf);
        assert_eq!(identity.piece(Level::TWO, 0x2E00_0000), Piece::Nothing);
    }

    #[test]
    fn holes_are_not_mapped_and_half_pages_are() {
        let surroundings = surroundings();
        let identity = Identity::new(&surroundings, with_large_pages(0b11));
        assert_eq!(identity.piece(Level::THREE, 0x8000_0000), Piece::Nothing);
        assert_eq!(identity.piece(Level::ONE, 0x1_8000_0000), Piece::Leaf);
        assert_eq!(identity.piece(Level::ONE, 0x1_8000_1000), Piece::Nothing);
    }

    #[test]
    fn the_tables_are_counted_before_they_are_made() {
        let surroundings = surroundings();
        // The root, one table around the capture kernel's memory, two for the half page at the end.
        assert_eq!(Identity::new(&surroundings, with_large_pages(0b11)).count(Level::THREE, 1000), 4);
        // 2 GiB and 2 GiB and a page, in pages of 4 KiB; what holds only our memory needs no table.
        assert_eq!(
            Identity::new(&surroundings, with_large_pages(0)).count(Level::THREE, 9999),
            1 + 5 + 2049 - 8
        );
        assert_eq!(Identity::new(&surroundings, with_large_pages(0)).count(Level::THREE, 100), 101);
    }
}
