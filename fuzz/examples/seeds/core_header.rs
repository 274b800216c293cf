//! A dead kernel in two pages: core header, notes and sections in the first, tables and `struct page` in the second.
//!
//! One page table serves all levels. Its entry 273 (the direct mapping) and its entry 468 (the `vmemmap`) point back
//! to the table itself, whose entry 0 maps the first GiB.

use crate::Seed;
use fixtures::info::{FACTS, SINCE_7_1, UP_TO_6_2};
use fixtures::note::note;

/// Where the notes start, the table of sections, the page table.
const NOTES: usize = 0x100;
const SECTIONS: usize = 0xE00;
const TABLE: usize = 0x1000;
/// Page frames 40 to 55 are RAM: so their `struct page` lie between the table's entries.
const FIRST: usize = 40;

/// Where the kernel's tables are: its image is mapped to address 0.
const PLACES: &str = "\
SYMBOL(init_uts_ns)=ffffffff80000f00
SYMBOL(swapper_pg_dir)=ffffffff80001000
SYMBOL(mem_section)=ffff888000000e00
";

pub(crate) fn seeds() -> Vec<Seed> {
    vec![
        ("6_1", kernel(UP_TO_6_2, &[(0, -129, 2), (4, -1, 0), (4, -1, 0), (1 << 22, -1, 0)])),
        ("7_1", kernel(SINCE_7_1, &[(0, -268_435_456, 1), (1 << 16, -1, 0), (0, -251_658_240, 0)])),
    ]
}

/// A kernel whose pages from frame [`FIRST`] on have these flags, map counts, and orders in `private`.
fn kernel(types: &str, pages: &[(u64, i32, u64)]) -> Vec<u8> {
    let mut memory = vec![0; 0x2000];
    let notes =
        [note(b"CORE\0", 1, &[0; 336]), note(b"VMCOREINFO\0", 0, [PLACES, FACTS, types].concat().as_bytes())];
    put(&mut memory, 0, &core_header(notes.concat().len() + 12));
    put(&mut memory, NOTES, &notes.concat());
    put_word(&mut memory, SECTIONS, 0xFFFF_8880_0000_0E10);
    put_word(&mut memory, SECTIONS + 16, 0xFFFF_EA00_0000_100F);
    for (entry, value) in [(0, 0x81), (273, TABLE as u64 | 1), (468, TABLE as u64 | 1)] {
        put_word(&mut memory, TABLE + entry * 8, value);
    }
    for (at, (flags, map_count, order)) in (TABLE + FIRST * 64..).step_by(64).zip(pages) {
        put_word(&mut memory, at, *flags);
        put_word(&mut memory, at + 40, *order);
        put(&mut memory, at + 48, &map_count.to_le_bytes());
    }
    memory
}

/// An ELF header, a `PT_NOTE` and a `PT_LOAD` (System V ABI, chapters 4 and 5).
fn core_header(note_bytes: usize) -> Vec<u8> {
    let mut bytes = Vec::from(*b"\x7fELF\x02\x01\x01");
    bytes.resize(16, 0);
    bytes.extend([4, 0, 62, 0, 1, 0, 0, 0]);
    bytes.extend([0_u64, 64, 0].map(u64::to_le_bytes).concat());
    bytes.extend([0, 0, 0, 0, 64, 0, 56, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    let (ram, len) = (FIRST as u64 * 4096, 16 * 4096);
    bytes.extend([4, NOTES as u64, 0, 0, 0, note_bytes as u64, 0].map(u64::to_le_bytes).concat());
    bytes.extend([1, ram, 0xFFFF_8880_0000_0000 + ram, ram, len, len, 4096].map(u64::to_le_bytes).concat());
    bytes
}

fn put(memory: &mut [u8], at: usize, bytes: &[u8]) {
    memory[at..at + bytes.len()].copy_from_slice(bytes);
}

fn put_word(memory: &mut [u8], at: usize, word: u64) {
    put(memory, at, &word.to_le_bytes());
}
