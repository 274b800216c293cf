//! The tables that replace pass-through: they map the machine's addresses to themselves, without the capture kernel's
//! memory and what units use on of the dead kernel's.
//!
//! In pass-through a device reaches every address, the capture kernel's included, and there are no I/O addresses to
//! give to a driver. Tables solve both problems, and the device sees no difference: they map all memory. Where large
//! pages make it cheap, they also map everything else that firmware and PCI report (registers of peers, memory that
//! firmware reserves), each up to the boundary of a large page, since more may be there than was reported.

use machine::{ENTRIES, INTERRUPT_WINDOW, IoAddress, Level, PhysicalAddress, Position, Range};
use paging::{Architecture, Format, Rules};

use crate::surroundings::Surroundings;

/// New mappings go above this range if there is room: below 4 GiB there may be more than firmware and PCI report.
const CROWDED: Range<IoAddress> = Range::new(IoAddress::new(0), IoAddress::new(4 << 30));
/// How much room must be left above.
const ROOM: u64 = 1 << 30;

/// A map of addresses to themselves, of the largest pages that the unit has.
#[derive(Clone, Copy)]
pub(crate) struct Identity<'a> {
    surroundings: &'a Surroundings<'a>,
    rules: Rules,
    /// Level of the largest pages.
    largest: Level,
}

/// A map of addresses to themselves that replaces pass-through: all domains of the same format share it.
///
/// Nobody writes its tables: a domain that gets mappings of its own copies the tables on their paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdentityMap {
    /// Format of the tables, level of the root table, and level of the largest pages.
    pub(crate) shape: (Format, Level, Level),
    pub(crate) root: PhysicalAddress,
    /// Leaf entries.
    pub(crate) leaves: u64,
}

/// What an entry of the map is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// There is nothing that may be mapped.
    Nothing,
    /// One leaf maps all of it.
    Leaf,
    /// A table of smaller pieces.
    Table(Level),
}

impl<'a> Identity<'a> {
    pub(crate) fn new(
        surroundings: &'a Surroundings<'a>,
        format: Format,
        architecture: Architecture,
    ) -> Self {
        let rules = Rules::new(format, surroundings.host_address_bits, architecture);
        let sizes = [Level::THREE, Level::TWO];
        let largest = sizes.into_iter().find(|level| rules.allow_leaf(*level)).unwrap_or(Level::ONE);
        Self { surroundings, rules, largest }
    }

    /// The shape of a map under a root table of this level.
    pub(crate) fn shape(&self, format: Format, top: Level) -> (Format, Level, Level) {
        (format, top, self.largest)
    }

    /// What the entry of this level is that covers the addresses from `base`.
    pub(crate) fn piece(&self, level: Level, base: IoAddress) -> Piece {
        let span = level.entry_span(base);
        if !self.ranges().any(|range| range.overlaps(span)) || self.is_cut_out(span) {
            return Piece::Nothing;
        }
        let free = !self.cuts().any(|cut| cut.overlaps(span));
        match level.below() {
            None if free => Piece::Leaf,
            None => Piece::Nothing,
            Some(_) if free && self.rules.allow_leaf(level) && self.is_mapped(span) => Piece::Leaf,
            Some(below) => Piece::Table(below),
        }
    }

    /// How many tables the map needs under a root of this level; counting stops at one more than `limit`.
    pub(crate) fn count(&self, top: Level, limit: u64) -> u64 {
        let mut count = 0;
        self.count_below(top, IoAddress::new(0), limit, &mut count);
        count
    }

    fn count_below(&self, level: Level, base: IoAddress, limit: u64, count: &mut u64) {
        *count += 1;
        for index in 0..ENTRIES {
            let base = level.address_at(base, index);
            if *count > limit {
                return;
            }
            if let Piece::Table(below) = self.piece(level, base) {
                self.count_below(below, base, limit, count);
            }
        }
    }

    /// The addresses that are mapped, without those that are cut out.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = Range<IoAddress>> + use<'a> {
        let granule = self.largest.span();
        let bits = self.surroundings.host_address_bits;
        let limit = IoAddress::new(1u64.checked_shl(bits).unwrap_or(u64::MAX)).align_down(granule);
        let others = if self.largest == Level::ONE { &[] } else { self.surroundings.kept_free };
        let memory = self.memory().map(same_addresses);
        memory.chain(others.iter().copied()).filter(|range| !range.is_empty()).map(move |range| {
            let end = range.end.get().checked_next_multiple_of(granule).map_or(limit, IoAddress::new);
            Range::new(range.start.align_down(granule), end.min(limit))
        })
    }

    /// The memory that is mapped.
    fn memory(&self) -> impl Iterator<Item = Range<PhysicalAddress>> + use<'a> {
        let Surroundings { memory, other_memory, .. } = *self.surroundings;
        let others = if self.largest == Level::THREE { other_memory } else { &[] };
        memory.iter().chain(others).copied()
    }

    /// What firmware and PCI report that is not mapped because the unit has no large pages.
    pub(crate) fn left_out(&self) -> &'a [Range<IoAddress>] {
        if self.largest == Level::ONE { self.surroundings.kept_free } else { &[] }
    }

    /// The addresses below those that new mappings should get, if there is room above in a domain that ends at `end`.
    pub(crate) fn crowded(&self, end: IoAddress) -> Range<IoAddress> {
        let memory = self.memory().map(|range| same_addresses(range).end);
        let crowded = Range::new(CROWDED.start, memory.fold(CROWDED.end, IoAddress::max));
        if end.count_since(crowded.end) >= ROOM { crowded } else { Range::default() }
    }

    /// The dead kernel's memory that units use on.
    pub(crate) fn in_use(&self) -> &'a [Range<PhysicalAddress>] {
        self.surroundings.in_use
    }

    fn is_cut_out(&self, span: Range<IoAddress>) -> bool {
        self.cuts().any(|cut| cut.covers(span))
    }

    /// What is not mapped, whatever memory there is.
    fn cuts(&self) -> impl Iterator<Item = Range<IoAddress>> + use<'a> {
        let Surroundings { own, in_use, .. } = *self.surroundings;
        own.iter().chain(in_use).map(|memory| same_addresses(*memory)).chain([INTERRUPT_WINDOW])
    }

    fn is_mapped(&self, span: Range<IoAddress>) -> bool {
        self.ranges().any(|range| range.covers(span))
    }
}

/// The I/O addresses of memory that is mapped to itself.
pub(crate) fn same_addresses(memory: Range<PhysicalAddress>) -> Range<IoAddress> {
    Range::from(memory.start.get()..memory.end.get())
}

#[cfg(test)]
mod tests {
    use super::*;
    use vtd::capability::Capability;

    const MEMORY: [Range<PhysicalAddress>; 2] =
        [memory(0, 0x8000_0000), memory(0x1_0000_0000, 0x1_8000_0800)];
    const OWN: [Range<PhysicalAddress>; 1] = [memory(0x2E00_0000, 0x2F00_0000)];

    const fn memory(start: u64, end: u64) -> Range<PhysicalAddress> {
        Range::new(PhysicalAddress::new(start), PhysicalAddress::new(end))
    }

    fn surroundings() -> Surroundings<'static> {
        Surroundings::new(39, &MEMORY, &OWN)
    }

    fn with_large_pages(sslps: u8) -> Architecture {
        Architecture::Vtd(Capability::new().with_sslps(sslps))
    }

    #[test]
    fn other_memory_is_mapped_where_the_stage_has_pages_of_1_gib() {
        let other_memory = [memory(0x20_0000_0000, 0x28_0000_0000)];
        let surroundings = Surroundings { other_memory: &other_memory, ..surroundings() };
        let piece = |format, architecture| {
            Identity::new(&surroundings, format, architecture)
                .piece(Level::THREE, IoAddress::new(0x20_0000_0000))
        };
        let first = Architecture::Vtd(Capability::new().with_fs1gp(true));
        assert_eq!(piece(Format::SecondStage, with_large_pages(0b11)), Piece::Leaf);
        assert_eq!(piece(Format::FirstStage, first), Piece::Leaf);
        assert_eq!(piece(Format::SecondStage, with_large_pages(0b01)), Piece::Nothing);
        assert_eq!(piece(Format::FirstStage, with_large_pages(0b11)), Piece::Nothing);
    }

    #[test]
    fn the_capture_kernels_memory_is_cut_out_of_a_large_page() {
        let surroundings = surroundings();
        let identity = Identity::new(&surroundings, Format::SecondStage, with_large_pages(0b11));
        assert_eq!(identity.piece(Level::THREE, IoAddress::new(0)), Piece::Table(Level::TWO));
        assert_eq!(identity.piece(Level::THREE, IoAddress::new(0x4000_0000)), Piece::Leaf);
        assert_eq!(identity.piece(Level::TWO, IoAddress::new(0x2DE0_0000)), Piece::Leaf);
        assert_eq!(identity.piece(Level::TWO, IoAddress::new(0x2E00_0000)), Piece::Nothing);
    }

    #[test]
    fn what_lies_beside_memory_is_mapped_to_the_end_of_a_large_page() {
        let surroundings = surroundings();
        let identity = Identity::new(&surroundings, Format::SecondStage, with_large_pages(0b11));
        assert_eq!(identity.piece(Level::THREE, IoAddress::new(0x8000_0000)), Piece::Nothing);
        assert_eq!(identity.piece(Level::THREE, IoAddress::new(0x1_8000_0000)), Piece::Leaf);
        let identity = Identity::new(&surroundings, Format::SecondStage, with_large_pages(0));
        assert_eq!(identity.piece(Level::ONE, IoAddress::new(0x1_8000_0000)), Piece::Leaf);
        assert_eq!(identity.piece(Level::ONE, IoAddress::new(0x1_8000_1000)), Piece::Nothing);
    }

    /// The window at 3 GiB holds registers of peers, and the interrupt addresses, which no table may map.
    #[test]
    fn peers_are_mapped_where_that_is_cheap_and_interrupts_never() {
        let window = [Range::from(0xC000_0000..0x1_0000_0000)];
        let surroundings = Surroundings { kept_free: &window, ..surroundings() };
        let identity = Identity::new(&surroundings, Format::SecondStage, with_large_pages(0b11));
        assert_eq!(identity.piece(Level::THREE, IoAddress::new(0xC000_0000)), Piece::Table(Level::TWO));
        assert_eq!(identity.piece(Level::TWO, IoAddress::new(0xFEA0_0000)), Piece::Leaf);
        assert_eq!(identity.piece(Level::ONE, IoAddress::new(0xFEDF_F000)), Piece::Leaf);
        assert_eq!(identity.piece(Level::ONE, IoAddress::new(0xFEE0_0000)), Piece::Nothing);
        assert_eq!(identity.piece(Level::ONE, IoAddress::new(0xFEEF_F000)), Piece::Nothing);
        assert_eq!(identity.piece(Level::ONE, IoAddress::new(0xFEF0_0000)), Piece::Leaf);
        assert_eq!(identity.left_out(), []);
        let identity = Identity::new(&surroundings, Format::SecondStage, with_large_pages(0));
        assert_eq!(identity.piece(Level::THREE, IoAddress::new(0xC000_0000)), Piece::Nothing);
        assert_eq!(identity.left_out(), window);
    }

    #[test]
    fn nothing_is_mapped_beyond_the_machines_addresses() {
        let window = [Range::from(1 << 38..u64::MAX)];
        let surroundings = Surroundings { kept_free: &window, ..surroundings() };
        let identity = Identity::new(&surroundings, Format::SecondStage, with_large_pages(0b11));
        assert_eq!(identity.piece(Level::THREE, IoAddress::new((1 << 39) - (1 << 30))), Piece::Leaf);
        assert_eq!(identity.piece(Level::THREE, IoAddress::new(1 << 39)), Piece::Nothing);
    }

    #[test]
    fn new_mappings_go_above_memory_where_there_is_room() {
        let surroundings = surroundings();
        let identity = Identity::new(&surroundings, Format::SecondStage, with_large_pages(0b11));
        assert_eq!(identity.crowded(IoAddress::new(1 << 39)), Range::from(0..0x1_8000_0800));
        assert_eq!(identity.crowded(IoAddress::new(0x1_8000_1000)), Range::default());
    }

    #[test]
    fn the_tables_are_counted_before_they_are_made() {
        let surroundings = surroundings();
        // The root, and one table around the capture kernel's memory.
        assert_eq!(
            Identity::new(&surroundings, Format::SecondStage, with_large_pages(0b11))
                .count(Level::THREE, 1000),
            2
        );
        // 2 GiB and 2 GiB and a page, in pages of 4 KiB; what holds only our memory needs no table.
        assert_eq!(
            Identity::new(&surroundings, Format::SecondStage, with_large_pages(0)).count(Level::THREE, 9999),
            1 + 5 + 2049 - 8
        );
        assert_eq!(
            Identity::new(&surroundings, Format::SecondStage, with_large_pages(0)).count(Level::THREE, 100),
            101
        );
    }
}
