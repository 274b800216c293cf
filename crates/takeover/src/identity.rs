//! What pass-through becomes: a map of the machine's addresses to themselves, without the capture kernel's memory.
//!
//! In pass-through a device reaches whatever it names, the capture kernel included; and there are no I/O addresses
//! that a driver could be given. Tables have neither flaw, and to the device they are the same: they map all memory
//! and, where large pages make that cheap, whatever else firmware and PCI tell of (registers of peers, memory that
//! firmware keeps), each up to the boundary of a large page, since more may be there than was told.

use machine::{ENTRIES, Range};
use vtd::capability::Capability;
use vtd::paging::Level;
use vtd::stage::{ReservedBits, Stage};

use crate::surroundings::{INTERRUPTS, Surroundings};

/// Where there is room, new mappings go above this: below may be more than firmware and PCI tell of.
const CROWDED: Range = Range::new(0, 4 << 30);
/// What must be left above.
const ROOM: u64 = 1 << 30;

/// A map of addresses to themselves, of the largest pages that the unit has.
#[derive(Clone, Copy)]
pub(crate) struct Identity<'a> {
    surroundings: &'a Surroundings<'a>,
    reserved: ReservedBits,
    /// Level of the largest pages.
    largest: Level,
}

/// What an entry of the map is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// There is nothing that may be mapped.
    Nothing,
    /// All is mapped by one leaf.
    Leaf,
    /// A table of smaller pieces.
    Table(Level),
}

impl<'a> Identity<'a> {
    pub(crate) fn new(surroundings: &'a Surroundings<'a>, stage: Stage, capability: Capability) -> Self {
        let reserved = ReservedBits::new(stage, surroundings.host_address_bits, capability);
        let sizes = [Level::THREE, Level::TWO];
        let largest = sizes.into_iter().find(|level| reserved.allow_leaf(*level)).unwrap_or(Level::ONE);
        Self { surroundings, reserved, largest }
    }

    /// What the entry of this level is that covers the addresses from `base`.
    pub(crate) fn piece(&self, level: Level, base: u64) -> Piece {
        let span = Range::new(base, base + level.span());
        if !self.ranges().any(|range| range.overlaps(span)) || self.is_cut_out(span) {
            return Piece::Nothing;
        }
        let free = !self.surroundings.own_memory().touches(span) && !INTERRUPTS.overlaps(span);
        match level.below() {
            None if free => Piece::Leaf,
            None => Piece::Nothing,
            Some(_) if free && self.reserved.allow_leaf(level) && self.is_mapped(span) => Piece::Leaf,
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

    /// What is mapped, but for what is cut out of it.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = Range> + use<'a> {
        let granule = self.largest.span();
        let bits = self.surroundings.host_address_bits;
        let limit = 1u64.checked_shl(bits).unwrap_or(u64::MAX) & !(granule - 1);
        let others = if self.largest == Level::ONE { &[] } else { self.surroundings.kept_free };
        self.surroundings.memory.iter().chain(others).filter(|range| !range.is_empty()).map(move |range| {
            let end = range.end.checked_next_multiple_of(granule).unwrap_or(limit);
            Range::new(range.start & !(granule - 1), end.min(limit))
        })
    }

    /// What was told of and is not mapped for want of large pages.
    pub(crate) fn left_out(&self) -> &'a [Range] {
        if self.largest == Level::ONE { self.surroundings.kept_free } else { &[] }
    }

    /// The addresses below those that new mappings should get, if there is room above in a domain that ends at `end`.
    pub(crate) fn crowded(&self, end: u64) -> Range {
        let memory = self.surroundings.memory.iter().map(|range| range.end).max().unwrap_or(0);
        let crowded = Range::new(0, memory.max(CROWDED.end));
        if end.saturating_sub(crowded.end) >= ROOM { crowded } else { Range::default() }
    }

    fn is_cut_out(&self, span: Range) -> bool {
        self.surroundings.own_memory().covers(span) || INTERRUPTS.covers(span)
    }

    fn is_mapped(&self, span: Range) -> bool {
        self.ranges().any(|range| range.covers(span))
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
        let identity = Identity::new(&surroundings, Stage::Second, with_large_pages(0b11));
        assert_eq!(identity.piece(Level::THREE, 0), Piece::Table(Level::TWO));
        assert_eq!(identity.piece(Level::THREE, 0x4000_0000), Piece::Leaf);
        assert_eq!(identity.piece(Level::TWO, 0x2DE0_0000), Piece::Leaf);
        assert_eq!(identity.piece(Level::TWO, 0x2E00_0000), Piece::Nothing);
    }

    #[test]
    fn what_lies_beside_memory_is_mapped_to_the_end_of_a_large_page() {
        let surroundings = surroundings();
        let identity = Identity::new(&surroundings, Stage::Second, with_large_pages(0b11));
        assert_eq!(identity.piece(Level::THREE, 0x8000_0000), Piece::Nothing);
        assert_eq!(identity.piece(Level::THREE, 0x1_8000_0000), Piece::Leaf);
        let identity = Identity::new(&surroundings, Stage::Second, with_large_pages(0));
        assert_eq!(identity.piece(Level::ONE, 0x1_8000_0000), Piece::Leaf);
        assert_eq!(identity.piece(Level::ONE, 0x1_8000_1000), Piece::Nothing);
    }

    /// The window at 3 GiB holds registers of peers, and the interrupt addresses, which no table may map.
    #[test]
    fn peers_are_mapped_where_that_is_cheap_and_interrupts_never() {
        let window = [Range::new(0xC000_0000, 0x1_0000_0000)];
        let surroundings = Surroundings { kept_free: &window, ..surroundings() };
        let identity = Identity::new(&surroundings, Stage::Second, with_large_pages(0b11));
        assert_eq!(identity.piece(Level::THREE, 0xC000_0000), Piece::Table(Level::TWO));
        assert_eq!(identity.piece(Level::TWO, 0xFEA0_0000), Piece::Leaf);
        assert_eq!(identity.piece(Level::ONE, 0xFEDF_F000), Piece::Leaf);
        assert_eq!(identity.piece(Level::ONE, 0xFEE0_0000), Piece::Nothing);
        assert_eq!(identity.piece(Level::ONE, 0xFEEF_F000), Piece::Nothing);
        assert_eq!(identity.piece(Level::ONE, 0xFEF0_0000), Piece::Leaf);
        assert_eq!(identity.left_out(), []);
        let identity = Identity::new(&surroundings, Stage::Second, with_large_pages(0));
        assert_eq!(identity.piece(Level::THREE, 0xC000_0000), Piece::Nothing);
        assert_eq!(identity.left_out(), window);
    }

    #[test]
    fn nothing_is_mapped_beyond_the_machines_addresses() {
        let window = [Range::new(1 << 38, u64::MAX)];
        let surroundings = Surroundings { kept_free: &window, ..surroundings() };
        let identity = Identity::new(&surroundings, Stage::Second, with_large_pages(0b11));
        assert_eq!(identity.piece(Level::THREE, (1 << 39) - (1 << 30)), Piece::Leaf);
        assert_eq!(identity.piece(Level::THREE, 1 << 39), Piece::Nothing);
    }

    #[test]
    fn new_mappings_go_above_memory_where_there_is_room() {
        let surroundings = surroundings();
        let identity = Identity::new(&surroundings, Stage::Second, with_large_pages(0b11));
        assert_eq!(identity.crowded(1 << 39), Range::new(0, 0x1_8000_0800));
        assert_eq!(identity.crowded(0x1_8000_1000), Range::default());
    }

    #[test]
    fn the_tables_are_counted_before_they_are_made() {
        let surroundings = surroundings();
        // The root, and one table around the capture kernel's memory.
        assert_eq!(
            Identity::new(&surroundings, Stage::Second, with_large_pages(0b11)).count(Level::THREE, 1000),
            2
        );
        // 2 GiB and 2 GiB and a page, in pages of 4 KiB; what holds only our memory needs no table.
        assert_eq!(
            Identity::new(&surroundings, Stage::Second, with_large_pages(0)).count(Level::THREE, 9999),
            1 + 5 + 2049 - 8
        );
        assert_eq!(
            Identity::new(&surroundings, Stage::Second, with_large_pages(0)).count(Level::THREE, 100),
            101
        );
    }
}
