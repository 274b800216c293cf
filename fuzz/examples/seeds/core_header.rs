//! A dead kernel in two pages: core header, notes and sections in the first, tables and `struct page` in the second.
//!
//! The one page table speaks for all levels. Its entry 273 leads the direct mapping and its entry 468 the `vmemmap` back
//! to itself, where entry 0 maps the first GiB.

use crate::Seed;

/// Where the notes start, the table of sections, the page table.
const NOTES: usize = 0x100;
const SECTIONS: usize = 0xE00;
const TABLE: usize = 0x1000;
/// Page frames 40 to 55 are RAM: so their `struct page` lie between the table's entries.
const FIRST: usize = 40;

/// As 6.1 gives them; the kernel image is mapped to address 0.
const COMMON: &str = "\
OSRELEASE=6.1.0-56-amd64
PAGESIZE=4096
SYMBOL(init_uts_ns)=ffffffff80000f00
OFFSET(uts_namespace.name)=0
SYMBOL(swapper_pg_dir)=ffffffff80001000
SYMBOL(mem_section)=ffff888000000e00
LENGTH(mem_section)=2048
SIZE(mem_section)=16
OFFSET(mem_section.section_mem_map)=0
NUMBER(SECTION_SIZE_BITS)=27
SIZE(page)=64
OFFSET(page.flags)=0
OFFSET(page._refcount)=52
OFFSET(page.mapping)=24
OFFSET(page._mapcount)=48
OFFSET(page.private)=40
LENGTH(zone.free_area)=11
NUMBER(PG_lru)=4
NUMBER(PG_private)=13
NUMBER(PG_swapcache)=10
NUMBER(PG_swapbacked)=19
NUMBER(PG_hwpoison)=22
NUMBER(PG_head_mask)=65536
NUMBER(phys_base)=0
NUMBER(pgtable_l5_enabled)=0
KERNELOFFSET=6c00000
NUMBER(sme_mask)=0
";
/// How 5.10 to 6.2 mark types of pages, and how 6.12 and later do.
const OLD_TYPES: &str = "\
OFFSET(page.compound_head)=8
OFFSET(page.compound_dtor)=16
OFFSET(page.compound_order)=17
NUMBER(PG_slab)=9
NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-129
NUMBER(HUGETLB_PAGE_DTOR)=2
NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)=-257
";
const NEW_TYPES: &str = "\
OFFSET(page.compound_info)=8
NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)=-184549376
NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-268435456
NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)=-201326592
NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)=-251658240
NUMBER(PAGE_UNACCEPTED_MAPCOUNT_VALUE)=-150994944
";

pub(crate) fn seeds() -> Vec<Seed> {
    vec![
        ("6_1", kernel(OLD_TYPES, &[(0, -129, 2), (4, -1, 0), (4, -1, 0), (1 << 22, -1, 0)])),
        ("7_1", kernel(NEW_TYPES, &[(0, -268_435_456, 1), (1 << 16, -1, 0), (0, -251_658_240, 0)])),
    ]
}

/// A kernel whose pages from frame [`FIRST`] on have these flags, map counts, and orders in `private`.
fn kernel(types: &str, pages: &[(u64, i32, u64)]) -> Vec<u8> {
    let mut memory = vec![0; 0x2000];
    let notes =
        [note(b"CORE\0", 1, &[0; 336]), note(b"VMCOREINFO\0", 0, [COMMON, types].concat().as_bytes())];
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

fn note(name: &[u8], kind: u32, content: &[u8]) -> Vec<u8> {
    let mut bytes = [name.len() as u32, content.len() as u32, kind].map(u32::to_le_bytes).concat();
    for part in [name, content] {
        bytes.extend(part);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

fn put(memory: &mut [u8], at: usize, bytes: &[u8]) {
    memory[at..at + bytes.len()].copy_from_slice(bytes);
}

fn put_word(memory: &mut [u8], at: usize, word: u64) {
    put(memory, at, &word.to_le_bytes());
}
