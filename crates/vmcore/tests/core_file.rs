//! Core files as `/proc/vmcore` and other tools write them, read as memory.

#![expect(clippy::unwrap_used, reason = "helpers of tests may stop at the first surprise as tests do")]

use fixtures::Memory;
use machine::{OldMemory, Unreadable};
use proptest::prelude::*;
use vmcore::{CoreFile, CoreHeader};

/// A `PT_LOAD`: offset, physical address, bytes in the file, bytes in memory.
type Load = [u64; 4];

/// A core file of `size` bytes with these segments. Each 8 bytes from offset 0x2000 on hold their offset.
fn core(size: u64, loads: &[Load]) -> Memory {
    let mut words = vec![0x0001_0102_464c_457f, 0, 0x0000_0001_003e_0004, 0, 0x40, 0, 0x0038_0040_0000_0000];
    words.push(loads.len() as u64);
    for [offset, physical, stored, len] in loads {
        words.extend([1, *offset, 0, *physical, *stored, *len, 0]);
    }
    let mut file = Memory::new(size);
    for (offset, word) in (0..).step_by(8).zip(words) {
        file.write_u64(offset, word);
    }
    for offset in (0x2000..size).step_by(8) {
        file.write_u64(offset, offset);
    }
    file
}

fn open(size: u64, loads: &[Load]) -> CoreFile<Memory> {
    let file = core(size, loads);
    let header = CoreHeader::read(&file, 0).unwrap();
    CoreFile::new(file, &header).unwrap()
}

fn unreadable(address: u64, len: u64) -> Unreadable {
    Unreadable { address: address.into(), len }
}

#[test]
fn memory_is_found_where_its_segment_stores_it() {
    let memory = open(0x10000, &[[0x4000, 0x10_0000, 0x3000, 0x3000], [0x2000, 0x1000, 0x2000, 0x2000]]);
    assert_eq!(memory.read_u64(0x10_0008.into()), Ok(0x4008));
    assert_eq!(memory.read_u64(0x2ff8.into()), Ok(0x3ff8));
    assert_eq!(memory.read_u64(0x3000.into()), Err(unreadable(0x3000, 8)));
    assert_eq!(memory.expected_len(), 0x7000);
    let mut table = [0; 512];
    memory.read_table(0x10_2000.into(), &mut table).unwrap();
    assert_eq!((table[0], table[511]), (0x6000, 0x6ff8));
}

#[test]
fn a_read_goes_on_in_the_next_segment() {
    let memory = open(0x10000, &[[0x5000, 0x2000, 0x1000, 0x1000], [0x3000, 0x1000, 0x1000, 0x1000]]);
    let mut words = [[0; 8]; 2];
    memory.read(0x1ff8.into(), words.as_flattened_mut()).unwrap();
    assert_eq!(words.map(u64::from_le_bytes), [0x3ff8, 0x5000]);
}

/// The loader lists the kernel image once more under its own virtual address.
#[test]
fn of_overlapping_segments_the_one_that_begins_first_counts() {
    let memory = open(0x10000, &[[0x8000, 0x2000, 0x4000, 0x4000], [0x2000, 0x1000, 0x3000, 0x3000]]);
    assert_eq!(memory.read_u64(0x2000.into()), Ok(0x3000));
    assert_eq!(memory.read_u64(0x4000.into()), Ok(0xa000));
    assert_eq!(memory.read_u64(0x6000.into()), Err(unreadable(0x6000, 8)));
}

/// The first word of each half of a page.
fn halves(memory: &CoreFile<Memory>, pfn: u64) -> Result<[u64; 2], Unreadable> {
    let mut page = [0xFF; 4096];
    memory.read_page(pfn, &mut page)?;
    Ok([0, 0x800].map(|at| u64::from_le_bytes(*page[at..].first_chunk().unwrap())))
}

#[test]
fn what_of_a_page_is_no_ram_reads_as_zeros() {
    let memory = open(0x10000, &[[0x2800, 0x1800, 0x1800, 0x1800], [0x4000, 0x8000, 0x100, 0x100]]);
    assert_eq!(halves(&memory, 1), Ok([0, 0x2800]));
    assert_eq!(halves(&memory, 2), Ok([0x3000, 0x3800]));
    assert_eq!(halves(&memory, 8), Ok([0x4000, 0]));
    assert_eq!(halves(&memory, 3), Err(unreadable(0x3000, 4096)));
    assert_eq!(halves(&memory, u64::MAX), Err(unreadable(u64::MAX, 4096)));
}

#[test]
fn a_page_that_two_segments_share_is_put_together_from_both() {
    let memory = open(0x10000, &[[0x2000, 0x1000, 0x800, 0x800], [0x5800, 0x1800, 0x800, 0x800]]);
    assert_eq!(halves(&memory, 1), Ok([0x2000, 0x5800]));
}

/// As makedumpfile writes ELF cores: a segment is longer in memory by the pages that were left out.
#[test]
fn what_a_segment_has_in_memory_only_was_left_out_unless_another_has_it() {
    let memory = open(0x10000, &[[0x2000, 0x1000, 0x1800, 0x5000], [0x6000, 0x4000, 0x1000, 0x1000]]);
    let mut bits = [0xFF; 2];
    memory.keep_saved(0, &mut bits);
    assert_eq!(bits, [0b1101_0111, 0xFF], "pages 3 and 5");
    memory.keep_saved(8, &mut bits);
    assert_eq!(bits, [0b1101_0111, 0xFF]);
}

#[test]
fn a_file_that_was_cut_short_lacks_what_was_cut_off() {
    let memory = open(0x3000, &[[0x2000, 0x1000, 0x2000, 0x2000]]);
    assert_eq!(memory.read_u64(0x1000.into()), Ok(0x2000));
    assert_eq!(halves(&memory, 2), Err(unreadable(0x2000, 4096)));
    assert_eq!(memory.expected_len(), 0x4000);
}

#[test]
fn memory_that_was_left_out_of_a_segment_cannot_be_read() {
    let memory = open(0x10000, &[[0x2000, 0x1000, 0x1000, 0x3000]]);
    assert_eq!(memory.read_u64(0x1ff8.into()), Ok(0x2ff8));
    assert_eq!(memory.read_u64(0x2000.into()), Err(unreadable(0x2000, 8)));
}

proptest! {
    #[test]
    fn every_byte_is_one_that_a_segment_stores(
        loads in prop::collection::vec((0..0x8000u64, 0..0x8000u64, 0..0x3000u64, 0..0x3000u64), 0..12),
        address in 0..0x9000u64,
    ) {
        let loads: Vec<Load> = loads.iter().map(|&(offset, physical, stored, len)| [offset, physical, stored, len]).collect();
        let memory = open(0x10000, &loads);
        let stored = |&[offset, physical, stored, len]: &Load| {
            let inside = physical <= address && address < physical + stored.min(len);
            inside.then(|| address - physical + offset)
        };
        let places: Vec<_> = loads.iter().filter_map(stored).collect();
        let mut byte = [0];
        let read = memory.read(address.into(), &mut byte).is_ok();
        // Below 0x2000 are headers.
        let fits = |at: &u64| *at < 0x2000 || byte[0] == (at & !7).to_le_bytes()[*at as usize % 8];
        prop_assert_eq!(read, places.iter().any(fits), "{:x?}", places);
    }

    #[test]
    fn no_numbers_break_it(loads in prop::collection::vec(any::<[u64; 4]>(), 0..12), address in any::<u64>()) {
        let memory = open(0x10000, &loads);
        let _ = (memory.read_u64(address.into()), memory.expected_len(), memory.read_table((address & !0xfff).into(), &mut [0; 512]));
        for [_, physical, ..] in loads {
            let _ = (memory.read_u64(physical.into()), halves(&memory, physical / 4096));
        }
    }
}
