//! Divides memory into this kernel's own and the dead kernel's, and gives access to each.

use alloc::vec::Vec;

use arrayvec::ArrayVec;
use machine::growth::push;
use machine::{OldMemory, PAGE_SIZE, PhysicalAddress, Position, Range, Table, Unreadable};

use crate::platform::copy;
use crate::platform::free_parts::for_each_free_part;
use crate::platform::paging::{Access, AddressSpace};

/// Most pieces of our own memory; if there are more, the smaller ones are not used.
const MOST_PIECES: usize = 8;
/// Below this address are real-mode structures of the firmware, and the kernels' trampolines.
const LOW_MEMORY: PhysicalAddress = PhysicalAddress::new(1 << 20);

/// Whole pages of our own memory, in pieces that do not overlap.
pub(crate) type Pieces = ArrayVec<Range<PhysicalAddress>, MOST_PIECES>;

/// The ranges of `usable` that Linux set aside for this kernel, which runs in `image`: the crash reservation, and one below 4
/// GiB if that is above. The loader lists it in pieces, because it put something between them. After it follows what Linux
/// lends (`crashkernel=…,cma`): its programs used that memory, and devices may be writing to it.
pub(crate) fn reserved(
    usable: impl Iterator<Item = Range<PhysicalAddress>>,
    image: Range<PhysicalAddress>,
) -> impl Iterator<Item = Range<PhysicalAddress>> {
    /// What the loader puts between two pieces is shorter: the core header.
    const BETWEEN: u64 = 1 << 20;
    let mut last: Option<Range<PhysicalAddress>> = None;
    usable.take_while(move |piece| {
        let goes_on = last.is_none_or(|last| (1..BETWEEN).contains(&piece.start.count_since(last.end)));
        if last.is_some() || piece.overlaps(image) {
            last = Some(*piece);
        }
        goes_on
    })
}

/// The pages of `usable` that nothing in `occupied` touches.
pub(crate) fn free_pages(
    usable: impl Iterator<Item = Range<PhysicalAddress>>,
    occupied: &[Range<PhysicalAddress>],
) -> Pieces {
    let mut pieces = Pieces::new();
    for range in usable {
        let pages = whole_pages(Range::new(range.start.max(LOW_MEMORY), range.end));
        // If the memory map has more pieces than on any real machine, some memory stays unused.
        for_each_free_part(pages, occupied, &mut |piece| {
            let _ = pieces.try_push(piece);
        });
    }
    pieces
}

/// The part of `free` that is kept for tables which must be below 4 GiB, because the dead kernel's are: a quarter of a piece there, and no
/// more than the device tables of eight units. Empty if the image, and with it most memory, is below anyway.
pub(crate) fn low_part(
    free: &[Range<PhysicalAddress>],
    image: Range<PhysicalAddress>,
) -> Range<PhysicalAddress> {
    const LIMIT: PhysicalAddress = PhysicalAddress::new(1 << 32);
    const MOST: u64 = 8 * (2 << 20);
    let piece = free.iter().filter(|piece| piece.end <= LIMIT && image.start >= LIMIT);
    let largest = piece.max_by_key(|piece| piece.len()).copied().unwrap_or_default();
    let len = (largest.len() / 4).min(MOST) & !(PAGE_SIZE - 1);
    Range::new(largest.start, largest.start.saturating_add(len))
}

/// The pages that lie wholly in `range`.
fn whole_pages(range: Range<PhysicalAddress>) -> Range<PhysicalAddress> {
    Range::new(range.start.align_up(PAGE_SIZE), range.end.align_down(PAGE_SIZE))
}

/// The pages that `range` touches.
pub(crate) fn pages_around(range: Range<PhysicalAddress>) -> Range<PhysicalAddress> {
    Range::new(range.start.align_down(PAGE_SIZE), range.end.align_up(PAGE_SIZE))
}

/// The dead kernel's RAM, mapped read-only.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OldRam {
    /// Ascending and disjoint.
    ranges: &'static [Range<PhysicalAddress>],
}

impl OldRam {
    /// The memory in `ranges`, which ascend and are disjoint, without what is our own; maps it read-only.
    ///
    /// What cannot be mapped cannot be read: that costs the dump those pages, and nothing else. Of a range that goes beyond
    /// the processor's addresses the part below is mapped.
    pub(crate) fn map(
        space: &mut AddressSpace,
        ranges: impl Iterator<Item = Range<PhysicalAddress>>,
        own: &[Range<PhysicalAddress>],
    ) -> Self {
        let mut old = Vec::new();
        let addresses = space.addresses();
        for range in ranges {
            for_each_free_part(range.intersection(addresses), own, &mut |part| {
                // Memory that cannot be recorded here cannot be read either.
                if space.map(part, Access::ReadOnly).is_ok() {
                    let _ = push(&mut old, part);
                }
            });
        }
        Self { ranges: old.leak() }
    }

    /// The ranges that can be read, ascending.
    pub(crate) fn ranges(&self) -> &[Range<PhysicalAddress>] {
        self.ranges
    }

    fn check(&self, address: PhysicalAddress, len: usize) -> Result<(), Unreadable> {
        let unreadable = Unreadable { address, len: len as u64 };
        let wanted = Range::sized(address, unreadable.len).ok_or(unreadable)?;
        let next = self.ranges.partition_point(|range| range.end <= wanted.start);
        let inside = self.ranges.get(next).is_some_and(|range| range.covers(wanted));
        if inside { Ok(()) } else { Err(unreadable) }
    }
}

impl OldMemory for OldRam {
    fn read(&self, address: PhysicalAddress, into: &mut [u8]) -> Result<(), Unreadable> {
        self.check(address, into.len())?;
        copy::read_physical(address, into)
    }

    fn read_table(&self, address: PhysicalAddress, into: &mut Table) -> Result<(), Unreadable> {
        self.check(address, size_of_val(into))?;
        copy::read_physical_table(address, into)
    }
}

/// All mapped memory, used to read what the boot loader put into our own region.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mapped;

impl OldMemory for Mapped {
    fn read(&self, address: PhysicalAddress, into: &mut [u8]) -> Result<(), Unreadable> {
        copy::read_physical(address, into)
    }

    fn read_table(&self, address: PhysicalAddress, into: &mut Table) -> Result<(), Unreadable> {
        copy::read_physical_table(address, into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::frames::FramePool;
    use crate::platform::paging::Features;

    #[test]
    fn our_memory_is_whole_pages_above_the_low_mebibyte_without_what_is_occupied() {
        let usable = [Range::from(0..0xA_0000), Range::from(0x20_0800..0x30_0900)];
        let occupied = [Range::from(0x21_0800..0x21_1800), Range::from(0x2F_F000..0x40_0000)];
        let pieces = free_pages(usable.into_iter(), &occupied);
        assert_eq!(pieces[..], [Range::from(0x20_1000..0x21_0000), Range::from(0x21_2000..0x2F_F000)]);
    }

    #[test]
    fn a_part_below_4_gib_is_kept_where_the_image_is_above() {
        let (low, high) = (Range::from(0x1000_0000..0x1100_0000), Range::from(1 << 32..5 << 30));
        let image = Range::from((1 << 32) + 0x10_0000..(1 << 32) + 0x20_0000);
        assert_eq!(low_part(&[low, high], image), Range::from(0x1000_0000..0x1040_0000));
        let large = Range::from(0x1000_0000..0x3000_0000);
        assert_eq!(low_part(&[large, high], image).len(), 16 << 20);
        assert!(low_part(&[high], image).is_empty() && low_part(&[], image).is_empty());
        assert!(low_part(&[large, low], low).is_empty());
    }

    #[test]
    fn memory_that_linux_lends_is_not_ours() {
        let low = Range::from(0x1000_0000..0x1100_0000);
        let pieces = [Range::from(0x4000_0000..0x4090_0000), Range::from(0x4091_0000..0x4100_0000)];
        let lent = [Range::from(0x4100_0000..0x4800_0000), Range::from(0x2000_0000..0x3000_0000)];
        let found = |image: u64, usable: &[Range<PhysicalAddress>]| -> Vec<_> {
            reserved(usable.iter().copied(), Range::from(image..image + 0x10_0000)).collect()
        };
        let all = [low, pieces[0], pieces[1], lent[0], lent[1]];
        for image in [0x4000_0000, 0x40A0_0000] {
            assert_eq!(found(image, &all), all[..3], "{image:#x}");
        }
        assert_eq!(found(0x4000_0000, &[pieces[0], lent[1]]), [pieces[0]]);
        let beyond = Range::from(0x40A0_0000..0x5000_0000);
        assert_eq!(found(0x4000_0000, &[pieces[0], beyond]), [pieces[0]], "a MiB and more between");
        let three = [pieces[0], Range::from(0x4091_0000..0x40C0_0000), Range::from(0x40C1_0000..0x4100_0000)];
        assert_eq!(found(0x4000_0000, &three), three);
    }

    #[test]
    fn a_memory_map_in_too_many_pieces_is_bounded() {
        let usable =
            (1..100).map(|number| Range::sized(PhysicalAddress::new(number << 21), PAGE_SIZE).unwrap());
        assert_eq!(free_pages(usable, &[]).len(), MOST_PIECES);
        let endless = [Range::from(u64::MAX - 10..u64::MAX)];
        assert!(free_pages(endless.into_iter(), &[]).is_empty());
    }

    #[test]
    fn old_memory_is_read_inside_its_ranges_only() {
        let memory = vec![7u8; 4 * PAGE_SIZE as usize];
        let start = (memory.as_ptr() as u64).next_multiple_of(PAGE_SIZE);
        let features = Features { levels: 4, largest: 1, limit: 1 << 47 };
        let mut space = AddressSpace::new(FramePool::new(16).unwrap(), features).unwrap();
        let ours = Range::from(start + PAGE_SIZE..start + 2 * PAGE_SIZE);
        let old = OldRam::map(&mut space, [Range::from(start..start + 3 * PAGE_SIZE)].into_iter(), &[ours]);

        let mut bytes = [0; 16];
        assert_eq!(old.read((start + PAGE_SIZE - 16).into(), &mut bytes), Ok(()));
        assert_eq!(bytes, [7; 16]);
        for outside in [start + PAGE_SIZE - 15, start + PAGE_SIZE, start + 3 * PAGE_SIZE - 8, u64::MAX - 3] {
            assert!(old.read(outside.into(), &mut bytes).is_err(), "{outside:#x}");
        }
        assert_eq!(old.read_table((start + 2 * PAGE_SIZE).into(), &mut [0; 512]), Ok(()));
        assert!(old.read_table((start + PAGE_SIZE).into(), &mut [0; 512]).is_err());
    }

    #[test]
    fn of_memory_beyond_the_processors_addresses_only_the_part_below_is_there() {
        let features = Features { levels: 4, largest: 3, limit: 1 << 40 };
        let mut space = AddressSpace::new(FramePool::new(16).unwrap(), features).unwrap();
        let below = Range::from(0..1 << 30);
        let across = Range::from((1 << 40) - (1 << 30)..(1 << 40) + (1 << 30));
        let beyond = Range::from(1 << 50..u64::MAX);
        let old = OldRam::map(&mut space, [below, across, beyond].into_iter(), &[]);
        assert_eq!(old.ranges(), [below, Range::from(across.start.get()..1 << 40)]);
    }
}
