//! New core files: a reader finds all of their content in the right place, and nothing else.

#![expect(clippy::unwrap_used, reason = "helpers of tests may stop at the first surprise as tests do")]

use fixtures::Memory;
use machine::{OldMemory, PAGE_SIZE, Range};
use proptest::prelude::*;
use vmcore::{CoreFile, CoreHeader, CoreLayout, Ram, Segment, TooManyPieces};

const NOTES: &[u8] = b"some notes";

fn segment(start: u64, end: u64, virtual_start: u64) -> Segment {
    let virtual_start = virtual_start.into();
    Segment { physical: Range::from(start..end), virtual_start, stored_at: start, stored_len: end - start }
}

fn frames(ranges: &[(u64, u64)]) -> Ram {
    Ram::from_ranges(ranges.iter().map(|(start, end)| Range::from(start * PAGE_SIZE..end * PAGE_SIZE)))
        .unwrap()
}

/// The core that a layout describes; each page begins with its address.
fn written(layout: &CoreLayout<'_>, kept: &Ram, missing: &Ram) -> Memory {
    let mut file = Memory::new(layout.size());
    file.write(0, &layout.headers(missing).unwrap());
    file.write(layout.notes_at(), NOTES);
    for range in kept.ranges() {
        for address in (range.start.get()..range.end.get()).step_by(PAGE_SIZE as usize) {
            file.write_u64(layout.page_at(address / PAGE_SIZE).unwrap(), address);
        }
    }
    file
}

#[test]
fn kept_pages_are_found_again_and_others_are_not_there() {
    let segments = [segment(0x2000, 0x8000, 0xffff_8880_0000_2000)];
    let kept = frames(&[(2, 4), (6, 7)]);
    let layout = CoreLayout::new(&segments, &kept, NOTES.len()).unwrap();
    let file = written(&layout, &kept, &Ram::default());
    let header = CoreHeader::read(&file, 0).unwrap();
    assert_eq!(header.ram(), &kept);
    assert_eq!(header.notes(), [Range::sized(layout.notes_at(), NOTES.len() as u64).unwrap()]);
    let places = header.segments().iter().map(|segment| (segment.physical, segment.virtual_start));
    let expected = [
        (Range::from(0x2000..0x4000), 0xffff_8880_0000_2000.into()),
        (Range::from(0x6000..0x7000), 0xffff_8880_0000_6000.into()),
    ];
    assert!(places.eq(expected));
    let core = CoreFile::new(file, &header).unwrap();
    assert_eq!((core.read_u64(0x3000.into()), core.read_u64(0x6000.into())), (Ok(0x3000), Ok(0x6000)));
    assert!(core.read_u64(0x4000.into()).is_err());
}

#[test]
fn the_kernel_image_keeps_its_addresses_and_is_stored_once() {
    let image = segment(0x3000, 0x5000, 0xffff_ffff_8100_0000);
    let segments = [image, segment(0x1000, 0x8000, 0xffff_8880_0000_1000)];
    let kept = frames(&[(2, 4)]);
    let layout = CoreLayout::new(&segments, &kept, 0).unwrap();
    let header = CoreHeader::read(&written(&layout, &kept, &Ram::default()), 0).unwrap();
    let [memory, image] = header.segments() else { panic!("two segments") };
    assert_eq!((memory.physical, memory.stored_len), (Range::from(0x2000..0x4000), 0x2000));
    assert_eq!(image.physical, Range::from(0x3000..0x4000));
    assert_eq!(image.virtual_start, 0xffff_ffff_8100_0000.into());
    assert_eq!(image.stored_at, memory.stored_at + PAGE_SIZE);
    assert_eq!(layout.size(), memory.stored_at + 2 * PAGE_SIZE);
}

#[test]
fn a_range_that_ends_within_a_page_does_so_in_the_core() {
    let segments = [segment(0x1000, 0x2c00, 0)];
    let layout = CoreLayout::new(&segments, &frames(&[(1, 3)]), 0).unwrap();
    let header = CoreHeader::read(&written(&layout, &Ram::default(), &Ram::default()), 0).unwrap();
    assert_eq!(header.segments()[0].physical, Range::from(0x1000..0x2c00));
}

/// A page more than fit, each with a gap after it: the gaps are stored as well.
#[test]
fn more_pieces_than_the_format_counts_are_joined() {
    let segments = [segment(0, 1 << 40, 0)];
    let ranges: Vec<_> = (0..60_001).map(|piece| (2 * piece, 2 * piece + 1)).collect();
    let layout = CoreLayout::new(&segments, &frames(&ranges), 0).unwrap();
    assert!(layout.page_at(1).is_some());
    let header = CoreHeader::read(&written(&layout, &Ram::default(), &Ram::default()), 0).unwrap();
    assert_eq!(header.segments().len(), 1);
}

#[test]
fn memory_in_too_many_pieces_for_lack_of_pages_is_refused() {
    let segments = [segment(0, 1 << 40, 0)];
    let layout = CoreLayout::new(&segments, &frames(&[(0, 100_000)]), 0).unwrap();
    let holes = |count| frames(&(0..count).map(|hole| (2 * hole + 1, 2 * hole + 2)).collect::<Vec<_>>());
    assert!(layout.headers(&holes(4_000)).is_ok());
    assert_eq!(layout.headers(&holes(4_001)), Err(TooManyPieces));
    assert_eq!(layout.headers(&holes(50_000)), Err(TooManyPieces));
}

proptest! {
    #[test]
    fn what_is_kept_and_not_missing_is_what_the_core_has(
        kept in prop::collection::vec((0u64..200, 1u64..20), 1..20),
        missing in prop::collection::vec((0u64..200, 1u64..9), 0..10),
    ) {
        let ranges = |list: &[(u64, u64)]| frames(&list.iter().map(|(at, len)| (*at, at + len)).collect::<Vec<_>>());
        let (kept, missing) = (ranges(&kept), ranges(&missing));
        let segments = [segment(0x64_000, 0x78_000, 1 << 63), segment(0, 1 << 30, 1 << 62)];
        let layout = CoreLayout::new(&segments, &kept, NOTES.len()).unwrap();
        let file = written(&layout, &kept, &missing);
        let header = CoreHeader::read(&file, 0).unwrap();
        let core = CoreFile::new(file, &header).unwrap();
        for pfn in 0..230 {
            let address = pfn * PAGE_SIZE;
            let there = kept.contains(pfn) && !missing.contains(pfn);
            prop_assert_eq!(header.ram().contains(pfn), there);
            prop_assert_eq!(core.read_u64(address.into()).ok(), there.then_some(address));
        }
    }
}
