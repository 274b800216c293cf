//! Core headers as loaders leave them, and damaged ones.

use fixtures::Memory;
use machine::Range;
use proptest::prelude::*;
use vmcore::{CoreHeader, HeaderError, Note, Notes, Ram, Segment, with_note};

/// What `kexec -s` left for a Debian 6.1 kernel on a machine with 1 GiB: the crash region is 0x32000000..0x3e000000.
const LEFT_BY_KEXEC: [u64; 43] = [
    0x0001_0102_464c_457f,
    0,
    0x0000_0001_003e_0004,
    0,
    0x40,
    0,
    0x0038_0040_0000_0000,
    5,
    4,
    0x3e83_9400,
    0,
    0x3e83_9400,
    0x170,
    0x170,
    0,
    4,
    0x019b_4000,
    0,
    0x019b_4000,
    0x1024,
    0x1024,
    0,
    0x7_0000_0001,
    0x1580_0000,
    0xffff_ffff_87c0_0000,
    0x1580_0000,
    0x0283_0000,
    0x0283_0000,
    0,
    0x7_0000_0001,
    0x0010_0000,
    0xffff_8db7_8010_0000,
    0x0010_0000,
    0x31f0_0000,
    0x31f0_0000,
    0,
    0x7_0000_0001,
    0x3e00_0000,
    0xffff_8db7_be00_0000,
    0x3e00_0000,
    0x01fd_2000,
    0x01fd_2000,
    0,
];

fn read(words: &[u64]) -> Result<CoreHeader, HeaderError> {
    let mut memory = Memory::new(1 << 20);
    memory.write(0x3000, words.iter().copied().map(u64::to_le_bytes).collect::<Vec<_>>().as_flattened());
    CoreHeader::read(&memory, 0x3000)
}

fn left_by_kexec_but(change: impl Fn(&mut [u64; 43])) -> Result<CoreHeader, HeaderError> {
    let mut words = LEFT_BY_KEXEC;
    change(&mut words);
    read(&words)
}

#[test]
fn the_header_of_the_kernel_loader_is_read() {
    let header = read(&LEFT_BY_KEXEC).unwrap();
    let notes = [Range::from(0x3e83_9400..0x3e83_9570), Range::from(0x019b_4000..0x019b_5024)];
    assert_eq!(header.notes(), notes);
    assert_eq!(header.segments().len(), 3);
    let image = Segment {
        physical: Range::from(0x1580_0000..0x1803_0000),
        virtual_start: 0xffff_ffff_87c0_0000.into(),
        stored_at: 0x1580_0000,
        stored_len: 0x0283_0000,
    };
    assert_eq!(header.segments()[0], image);
    assert_eq!(header.place(), Range::from(0x3000..0x3000 + 64 + 5 * 56));
}

#[test]
fn the_kernel_image_which_is_listed_twice_counts_once() {
    let ram = read(&LEFT_BY_KEXEC).unwrap().ram().clone();
    let ranges = [Range::from(0x10_0000..0x3200_0000), Range::from(0x3e00_0000..0x3ffd_2000)];
    assert_eq!(ram.ranges().collect::<Vec<_>>(), ranges);
    assert_eq!(ram.pages(), 212_690);
    assert_eq!(ram.end_pfn(), 0x3ffd2);
}

#[test]
fn what_is_no_core_of_this_kind_of_machine_is_refused() {
    let no_header = Err(HeaderError::NoHeader { address: 0x3000 });
    assert_eq!(left_by_kexec_but(|words| words[0] ^= 0x7f), no_header);
    assert_eq!(left_by_kexec_but(|words| words[0] ^= 3 << 32), no_header, "32 bits");
    assert_eq!(left_by_kexec_but(|words| words[2] = 0x0000_0001_003e_0002), no_header, "a program");
    assert_eq!(left_by_kexec_but(|words| words[2] = 0x0000_0001_00b7_0004), no_header, "an Arm machine");
    assert_eq!(left_by_kexec_but(|words| words[6] = 0x0020_0040_0000_0000), no_header, "short entries");
}

#[test]
fn a_header_with_more_entries_than_any_machine_has_is_refused() {
    let result = left_by_kexec_but(|words| {
        (words[7], words[5]) = (0xffff, 8 * 8);
        words[8 + 5] = 0x4_0001 << 32;
    });
    assert_eq!(result, Err(HeaderError::TooLong { count: 0x4_0001 }));
}

/// From 65535 program headers on, their number is in the first section header (`PN_XNUM` in `elf.h`).
#[test]
fn a_number_of_entries_that_does_not_fit_is_read_from_the_first_section_header() {
    let count = 70_000;
    let mut words = LEFT_BY_KEXEC[..8].to_vec();
    (words[5], words[7]) = (0x40, 0xffff);
    words[4] = 0x80;
    words.extend([0, 0, 0, 0, 0, count << 32, 0, 0]);
    for index in 0..count {
        words.extend([1, 0, 0, index << 13, 4096, 4096, 0]);
    }
    let mut memory = Memory::new(8 << 20);
    memory.write(0x3000, words.iter().copied().map(u64::to_le_bytes).collect::<Vec<_>>().as_flattened());
    let header = CoreHeader::read(&memory, 0x3000).unwrap();
    assert_eq!((header.segments().len() as u64, header.ram().pages()), (count, count));
}

#[test]
fn entries_past_the_end_of_memory_are_reported() {
    assert!(matches!(left_by_kexec_but(|words| words[4] = 1 << 40), Err(HeaderError::Unreadable(_))));
    assert_eq!(
        left_by_kexec_but(|words| words[4] = u64::MAX),
        Err(HeaderError::NoHeader { address: 0x3000 })
    );
}

#[test]
fn a_segment_that_passes_the_end_of_physical_addresses_is_clipped_and_counted() {
    for len in [u64::MAX, 1 << 52] {
        let header = left_by_kexec_but(|words| words[42 - 1] = len).unwrap();
        assert_eq!((header.segments().len(), header.clipped()), (3, 1));
        assert!(header.ram().end_pfn() <= 0x3ffd2, "what is stored is there");
    }
}

#[test]
fn a_page_that_is_ram_in_part_is_ram() {
    let ranges = [Range::from(0x1000..0x9fc00), Range::from(0xa_0800..0xa_0900)];
    let ram = Ram::from_ranges(ranges.into_iter()).unwrap();
    assert_eq!(ram.ranges().collect::<Vec<_>>(), [Range::from(0x1000..0xa_1000)]);
}

#[test]
fn the_bitmap_of_ram_has_its_lowest_bit_first() {
    let ram =
        Ram::from_ranges([Range::from(0x1000..0x3000), Range::from(0xa000..0x1_2000)].into_iter()).unwrap();
    let mut bitmap = [0xff; 3];
    assert_eq!(ram.fill(0, &mut bitmap), 10);
    assert_eq!(bitmap, [0b0000_0110, 0b1111_1100, 0b0000_0011]);
    assert_eq!(ram.fill(11, &mut bitmap), 7);
    assert_eq!(bitmap, [0b0111_1111, 0, 0]);
}

proptest! {
    #[test]
    fn no_bytes_break_the_reader(words in prop::collection::vec(any::<u64>(), 0..200), intact in 0..60usize) {
        let mut words = words;
        let intact = intact.min(words.len()).min(LEFT_BY_KEXEC.len());
        words[..intact].copy_from_slice(&LEFT_BY_KEXEC[..intact]);
        if let Ok(header) = read(&words) {
            let ranges: Vec<_> = header.ram().ranges().collect();
            prop_assert!(ranges.iter().all(|range| !range.is_empty()));
            prop_assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start));
        }
    }

    /// What can be copied can be read, and the copy leads to the same.
    #[test]
    fn no_bytes_break_the_copy(words in prop::collection::vec(any::<u64>(), 0..200), intact in 0..60usize) {
        let mut words = words;
        let intact = intact.min(words.len()).min(LEFT_BY_KEXEC.len());
        words[..intact].copy_from_slice(&LEFT_BY_KEXEC[..intact]);
        let (mut memory, mut elsewhere) = (Memory::new(1 << 20), Memory::new(8 << 20));
        memory.write(0x3000, words.iter().copied().map(u64::to_le_bytes).collect::<Vec<_>>().as_flattened());
        let note = Note { name: b"A\0", kind: 1, content: &[7; 5] };
        if let Ok(copy) = with_note(&memory, 0x3000, &note, |_| 0x8000) {
            elsewhere.write(0x8000, &copy);
            let [old, new] = [(&memory, 0x3000), (&elsewhere, 0x8000)].map(|(memory, at)| CoreHeader::read(memory, at).unwrap());
            prop_assert_eq!((new.segments(), new.ram(), new.clipped()), (old.segments(), old.ram(), old.clipped()));
            prop_assert_eq!(&new.notes()[1..], old.notes());
        }
    }

    #[test]
    fn merged_ranges_hold_the_same_pages(ranges in prop::collection::vec((0..200u64, 0..20u64), 0..30)) {
        let ranges: Vec<_> = ranges.iter().map(|&(start, len)| Range::from(start * 1024..(start + len) * 1024)).collect();
        let ram = Ram::from_ranges(ranges.iter().copied()).unwrap();
        for pfn in 0..60 {
            let page = Range::from(pfn * 4096..(pfn + 1) * 4096);
            prop_assert_eq!(ram.contains(pfn), ranges.iter().any(|range| range.overlaps(page)));
        }
    }
}

/// Linux merges the notes that come first, and drops their entries (`fs/proc/vmcore.c`): there must be none behind those of memory.
#[test]
fn a_copy_leads_to_one_more_note_and_is_the_same_otherwise() {
    let mut memory = Memory::new(1 << 30);
    let words = LEFT_BY_KEXEC.map(u64::to_le_bytes);
    memory.write(0x3000, words.as_flattened());
    let note = Note { name: b"HOLDOVER\0", kind: 7, content: b"12345" };
    let copy = with_note(&memory, 0x3000, &note, |_| 0x8000).unwrap();
    memory.write(0x8000, &copy);
    let [old, new] = [0x3000, 0x8000].map(|at| CoreHeader::read(&memory, at).unwrap());
    assert_eq!((new.segments(), new.ram(), new.clipped()), (old.segments(), old.ram(), 0));
    assert_eq!(new.notes()[1..], *old.notes());
    assert_eq!(new.notes()[0].end, 0x8000 + copy.len() as u64);
    let expected = fixtures::note::note(note.name, note.kind, note.content);
    assert_eq!(Notes::read(&memory, &new).unwrap().bytes(), expected);
    assert_eq!(copy[copy.len() - 12..], [0; 12], "Linux stops there");
    assert_eq!(copy[64..68], 4_u32.to_le_bytes());
}

#[test]
fn a_header_without_room_for_one_more_entry_is_not_copied() {
    let mut memory = Memory::new(8 << 20);
    let mut words = LEFT_BY_KEXEC;
    words[7] = 0xFFFE;
    memory.write(0x3000, words.map(u64::to_le_bytes).as_flattened());
    let copy = with_note(&memory, 0x3000, &Note { name: b"A\0", kind: 0, content: &[] }, |_| 0);
    assert_eq!(copy, Err(HeaderError::TooLong { count: 0xFFFE }));
}
