//! Notes as dead kernels leave them, whole and damaged.

#![expect(clippy::unwrap_used, reason = "helpers of tests may stop at the first surprise as tests do")]

use fixtures::Memory;
use fixtures::note::note;
use machine::Range;
use proptest::prelude::*;
use vmcore::{CoreHeader, Note, Notes, VmcoreInfo, notes_in};

const HEADER: u64 = 0x1000;
const FIRST: u64 = 0x2000;
const SECOND: u64 = 0x3000;
const INFO: u64 = 0x4000;

/// A core header that lists places of notes.
fn header(memory: &mut Memory, places: &[Range<u64>]) -> CoreHeader {
    let mut words = vec![0x0001_0102_464c_457f, 0, 0x0000_0001_003e_0004, 0, 0x40, 0, 0x0038_0040_0000_0000];
    words.push(places.len() as u64);
    for place in places {
        words.extend([4, place.start, 0, place.start, place.len(), place.len(), 0]);
    }
    for (address, word) in (HEADER..).step_by(8).zip(words) {
        memory.write_u64(address, word);
    }
    CoreHeader::read(memory, HEADER).unwrap()
}

fn read(parts: &[(u64, Vec<u8>)], len: u64) -> Notes {
    let mut memory = Memory::new(1 << 20);
    for (address, bytes) in parts {
        memory.write(*address, bytes);
    }
    let places: Vec<_> = parts.iter().map(|(address, _)| Range::from(*address..*address + len)).collect();
    let header = header(&mut memory, &places);
    Notes::read(&memory, &header).unwrap()
}

fn registers(processor: u8) -> Vec<u8> {
    note(b"CORE\0", 1, &[processor; 336])
}

fn info() -> Vec<u8> {
    note(b"VMCOREINFO\0", 0, b"OSRELEASE=6.1.0\nPAGESIZE=4096\n")
}

#[test]
fn notes_of_all_processors_are_joined_up_to_their_terminators() {
    let notes = read(&[(FIRST, registers(1)), (SECOND, registers(2)), (INFO, info())], 0x400);
    assert_eq!(notes.bytes(), [registers(1), registers(2), info()].concat());
    assert_eq!((notes.processors(), notes.damaged()), (2, 0));
}

#[test]
fn vmcoreinfo_is_found_among_them() {
    let notes = read(&[(FIRST, registers(1)), (INFO, info())], 0x400);
    let place = notes.vmcoreinfo_place().unwrap();
    assert_eq!(place, 12 + 8 + 336 + 12 + 12..12 + 8 + 336 + 12 + 12 + 30);
    assert_eq!(&notes.bytes()[place], b"OSRELEASE=6.1.0\nPAGESIZE=4096\n");
    assert_eq!(notes.vmcoreinfo().os_release(), Some("6.1.0"));
}

#[test]
fn a_note_added_to_theirs_stands_behind_them_as_the_kernel_would_write_it() {
    let mut notes = read(&[(FIRST, registers(1)), (INFO, info())], 0x400);
    let added = Note { name: b"Example\0", kind: 7, content: b"says" };
    notes.push(&added).unwrap();
    assert_eq!(notes.bytes(), [registers(1), info(), note(added.name, 7, added.content)].concat());
    assert_eq!(notes.vmcoreinfo().os_release(), Some("6.1.0"));
    let found: Vec<_> = notes_in(notes.bytes()).collect();
    assert_eq!(
        found.iter().map(|note| note.name).collect::<Vec<_>>(),
        [b"CORE\0", &b"VMCOREINFO\0"[..], added.name]
    );
    assert_eq!(found[2], added);
}

#[test]
fn notes_of_a_segment_end_at_an_empty_one_or_where_the_segment_cuts_them() {
    let two = [registers(1), info()].concat();
    assert_eq!(notes_in(&two[..two.len() - 1]).count(), 1);
    assert_eq!(notes_in(&[registers(1), vec![0; 12], info()].concat()).count(), 1);
    assert_eq!(notes_in(&[0xFF; 40]).count(), 0);
    assert_eq!(notes_in(&[]).count(), 0);
}

#[test]
fn a_processor_that_was_never_started_leaves_nothing_and_that_is_no_damage() {
    let notes = read(&[(FIRST, vec![0; 0x400]), (SECOND, registers(2))], 0x400);
    assert_eq!(notes.bytes(), registers(2));
    assert_eq!((notes.processors(), notes.damaged()), (1, 0));
}

#[test]
fn a_note_that_runs_past_its_place_is_left_out_and_counted() {
    let broken = [registers(1), note(b"CORE\0", 1, &[7; 0x400])].concat();
    let notes = read(&[(FIRST, broken), (SECOND, registers(2))], 0x400);
    assert_eq!(notes.bytes(), [registers(1), registers(2)].concat());
    assert_eq!((notes.processors(), notes.damaged()), (2, 1));
}

#[test]
fn notes_that_fill_their_place_need_no_terminator() {
    let notes = read(&[(FIRST, registers(1))], registers(1).len() as u64);
    assert_eq!((notes.processors(), notes.damaged()), (1, 0));
}

#[test]
fn a_place_outside_memory_is_counted_as_damaged() {
    let notes = read(&[(0xf_ff00, vec![]), (INFO, info())], 0x100_0000);
    assert_eq!((notes.bytes(), notes.damaged()), (info().as_slice(), 0));
    let notes = read(&[(1 << 40, vec![]), (INFO, info())], 0x400);
    assert_eq!((notes.bytes(), notes.damaged()), (info().as_slice(), 1));
}

#[test]
fn a_note_as_large_as_memory_itself_is_not_believed() {
    let words = [5, 0x7fff_ffff, 1u32].map(u32::to_le_bytes);
    let notes = read(&[(FIRST, words.as_flattened().to_vec())], 1 << 40);
    assert_eq!((notes.bytes().len(), notes.damaged()), (0, 1));
}

#[test]
fn values_are_read_as_the_kernel_prints_them() {
    let text = "BUILD-ID=3b43\nPAGESIZE=4096\nSYMBOL(prb)=ffffffff896622c0\nOFFSET(page.lru)=8\nSIZE(page)=64\n\
        LENGTH(zone.free_area)=11\nNUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-129\nKERNELOFFSET=6c00000\nCRASHTIME=1795330431\n";
    let info = VmcoreInfo::new(text.as_bytes());
    assert_eq!(info.page_size(), Some(4096));
    assert_eq!(info.symbol("prb"), Some(0xffff_ffff_8966_22c0.into()));
    assert_eq!(info.offset("page.lru"), Some(8));
    assert_eq!(info.size("page"), Some(64));
    assert_eq!(info.length("zone.free_area"), Some(11));
    assert_eq!(info.number("PAGE_BUDDY_MAPCOUNT_VALUE"), Some(-129));
    assert_eq!(info.kernel_offset(), Some(0x6c0_0000));
    assert_eq!(info.crash_time(), Some(1_795_330_431));
    assert_eq!(info.value("BUILD-ID"), Some(b"3b43".as_slice()));
}

#[test]
fn a_key_is_not_found_inside_another_or_without_a_number() {
    let info = VmcoreInfo::new(
        b"NUMBER(PG_lru_x)=1\nXNUMBER(PG_lru)=2\nNUMBER(PG_lru)\nNUMBER(PG_slab)=\nSYMBOL(a)=0x1",
    );
    assert_eq!(info.number("PG_lru"), None);
    assert_eq!(info.number("PG_slab"), None);
    assert_eq!(info.symbol("a"), None);
}

proptest! {
    #[test]
    fn no_bytes_break_the_reader_of_notes(bytes in prop::collection::vec(any::<u8>(), 0..600), len in 0..2000u64) {
        prop_assert!(notes_in(&bytes).count() <= bytes.len() / 12);
        let notes = read(&[(FIRST, bytes.clone()), (INFO, [info(), bytes].concat())], len);
        if let Some(place) = notes.vmcoreinfo_place() {
            prop_assert!(place.end <= notes.bytes().len());
        }
    }

    #[test]
    fn small_notes_of_random_sizes_never_pass_their_place(
        words in prop::collection::vec(0..64u32, 0..200),
        len in 0..800u64,
    ) {
        let bytes: Vec<_> = words.iter().copied().flat_map(u32::to_le_bytes).collect();
        prop_assert!(read(&[(FIRST, bytes)], len).bytes().len() as u64 <= len);
    }

    #[test]
    fn no_text_breaks_a_lookup(text in prop::collection::vec(any::<u8>(), 0..300)) {
        let info = VmcoreInfo::new(&text);
        let _ = (info.number("a"), info.symbol(""), info.offset("b"), info.os_release(), info.kernel_offset());
    }
}
