//! Which pages a reader needs before others, on kernels made by hand.

#![expect(clippy::unwrap_used, reason = "helpers of tests may stop at the first surprise as tests do")]

use fixtures::Memory;
use fixtures::info::UP_TO_6_2;
use fixtures::kernel::{ARRAYS, HEAD, IN_USE, Page, SLAB, TAIL, describe, machine, vmcoreinfo};
use std::cell::Cell;

use machine::{OldMemory, PhysicalAddress, Range, Table, Unreadable};
use proptest::prelude::*;
use vmcore::{Kernel, Ram, Vital, VmcoreInfo};

const PRESENT: u64 = 1;
const LARGE: u64 = 1 << 7;
/// `PG_reserved` of 6.1 (`include/linux/page-flags.h`), and what else stands in `flags` of a page of node 0's normal zone.
const RESERVED: Page = Page { flags: 1 << 12 | 0x2 << 52 | 0x1f_ffff << 30, ..IN_USE };
/// Entry of the top-level table for 0xffffc90000000000, where vmalloc's area begins (`Documentation/arch/x86/x86_64/mm.rst`).
const VMALLOC: u64 = 0x1000 + 402 * 8;
/// Tables for that area, one for each level below the top.
const TABLES: [u64; 3] = [0x10_0000, 0x10_1000, 0x10_2000];
/// Page frames of tables that every kernel of these has: of the direct map, and of the array of `struct page`.
const OTHER_TABLES: [u64; 3] = [2, 3, 4];

/// All page frames below `end` that are vital.
fn vital(memory: &impl OldMemory, end: u64) -> Vec<u64> {
    let text = vmcoreinfo(UP_TO_6_2);
    let kernel = Kernel::new(VmcoreInfo::new(text.as_bytes()));
    let ram = Ram::from_ranges([Range::from(0..end << 12)].into_iter()).unwrap();
    let mut vital = Vital::new(memory, &kernel, &ram).unwrap();
    (0..end).filter(|pfn| vital.contains(*pfn)).collect()
}

/// A machine of 256 MiB that has tables for vmalloc's area, with nothing in the last.
fn machine_with_vmalloc() -> Memory {
    let mut memory = machine(2);
    memory.write_u64(VMALLOC, TABLES[0] | PRESENT);
    memory.write_u64(TABLES[0], TABLES[1] | PRESENT);
    memory.write_u64(TABLES[1], TABLES[2] | PRESENT);
    memory
}

fn with_tables(more: impl IntoIterator<Item = u64>) -> Vec<u64> {
    let tables = OTHER_TABLES.into_iter().chain(TABLES.map(|table| table >> 12));
    let mut all: Vec<u64> = tables.chain(more).collect();
    all.sort_unstable();
    all.dedup();
    all
}

#[test]
fn what_the_kernel_maps_anywhere_but_directly_is_vital_and_so_are_tables() {
    let mut memory = machine_with_vmalloc();
    memory.write_u64(TABLES[2] + 8, 0x555_5000 | PRESENT);
    memory.write_u64(TABLES[2] + 16, 0x555_7000);
    memory.write_u64(TABLES[1] + 8, 0x600_0000 | PRESENT | LARGE);
    assert_eq!(vital(&memory, 0x1_0000), with_tables([0x5555].into_iter().chain(0x6000..0x6200)));
}

#[test]
fn tables_of_the_lower_half_are_a_process_own_and_not_vital() {
    let mut memory = machine_with_vmalloc();
    memory.write_u64(0x1000 + 255 * 8, 0x777_7000 | PRESENT);
    assert_eq!(vital(&memory, 0x1_0000), with_tables([]));
}

#[test]
fn a_table_of_small_pages_in_the_direct_map_is_vital_and_what_it_maps_is_not() {
    let mut memory = machine_with_vmalloc();
    // What was one page of 1 GiB is three of 4 KiB: the table of sections, what it points to, and another.
    memory.write_u64(0x2000, 0x333_3000 | PRESENT);
    memory.write_u64(0x333_3000, 0x444_4000 | PRESENT);
    for page in [5, 6, 7] {
        memory.write_u64(0x444_4000 + page * 8, page << 12 | PRESENT);
    }
    assert_eq!(vital(&memory, 0x1_0000), with_tables([0x3333, 0x4444]));
}

#[test]
fn what_was_allocated_before_there_were_allocators_is_vital_but_for_the_array_of_pages() {
    let mut memory = machine_with_vmalloc();
    describe(&mut memory, 1, &[RESERVED]);
    describe(&mut memory, 0x7000, &[RESERVED, IN_USE, RESERVED]);
    describe(&mut memory, ARRAYS >> 12, &vec![RESERVED; 0x400]);
    assert_eq!(vital(&memory, 0x1_0000), with_tables([1, 0x7000, 0x7002]));
}

#[test]
fn what_is_reserved_is_not_known_where_the_top_level_table_has_other_flags() {
    let mut memory = machine_with_vmalloc();
    describe(&mut memory, 1, &[Page { flags: 1 << 12 | 1 << 3, ..IN_USE }]);
    describe(&mut memory, 0x7000, &[RESERVED]);
    assert_eq!(vital(&memory, 0x1_0000), with_tables([]));
}

#[test]
fn pages_of_the_slab_allocator_are_vital_with_their_tails() {
    let mut memory = machine_with_vmalloc();
    let head = Page { flags: SLAB | HEAD, ..IN_USE };
    describe(&mut memory, 0x7000, &[head, Page { order: 2, ..TAIL }, TAIL, TAIL, IN_USE]);
    describe(&mut memory, 0x7fff, &[Page { flags: SLAB, ..IN_USE }]);
    assert_eq!(vital(&memory, 0x1_0000), with_tables((0x7000..0x7004).chain([0x7fff])));
}

#[test]
fn frames_in_more_than_one_window_are_found_whatever_is_asked_first() {
    let mut memory = machine(300);
    memory.write_u64(VMALLOC, TABLES[0] | PRESENT);
    memory.write_u64(TABLES[0], TABLES[1] | PRESENT);
    memory.write_u64(TABLES[1], TABLES[2] | PRESENT);
    memory.write_u64(TABLES[2], 0x9_0000_0000 | PRESENT);
    let text = vmcoreinfo(UP_TO_6_2);
    let kernel = Kernel::new(VmcoreInfo::new(text.as_bytes()));
    let ram = Ram::from_ranges([Range::from(0..300 << 27)].into_iter()).unwrap();
    let mut vital = Vital::new(&memory, &kernel, &ram).unwrap();
    let asked = [0x90_0000, 0x90_0001, 2, 5, 0x90_0000, u64::MAX].map(|pfn| vital.contains(pfn));
    assert_eq!(asked, [true, false, true, false, true, false]);
}

/// Two gibibytes in turn, so often that the 32 GiB of a window are mapped sixteen times over.
#[test]
fn what_is_mapped_after_the_same_memory_was_mapped_too_often_is_not_looked_at() {
    let mut memory = machine(300);
    memory.write_u64(VMALLOC, TABLES[0] | PRESENT);
    memory.write_u64(VMALLOC + 8, TABLES[1] | PRESENT);
    for entry in 0..512 {
        memory.write_u64(TABLES[0] + entry * 8, (entry % 2 + 2) << 30 | PRESENT | LARGE);
    }
    memory.write_u64(TABLES[1], 5 << 30 | PRESENT | LARGE);
    let text = vmcoreinfo(UP_TO_6_2);
    let kernel = Kernel::new(VmcoreInfo::new(text.as_bytes()));
    let ram = Ram::from_ranges([Range::from(0..300 << 27)].into_iter()).unwrap();
    let mut vital = Vital::new(&memory, &kernel, &ram).unwrap();
    let asked = [1, 2, 3, 4, 5].map(|gibibyte| vital.contains((gibibyte << 18) + 1));
    assert_eq!(asked, [false, true, true, false, false]);
}

#[test]
fn nothing_is_vital_of_a_kernel_of_which_nothing_is_known() {
    let (memory, kernel) = (machine_with_vmalloc(), Kernel::new(VmcoreInfo::new(b"")));
    let ram = Ram::from_ranges([Range::from(0..1 << 28)].into_iter()).unwrap();
    let mut vital = Vital::new(&memory, &kernel, &ram).unwrap();
    assert!((0..0x1_0000).all(|pfn| !vital.contains(pfn)));
}

/// Memory of which the tables from `first_odd` on are full: each entry leads to one of those tables, no two neighbours to the
/// same.
struct Maze {
    sound: Memory,
    first_odd: u64,
    tables_read: Cell<u32>,
}

impl OldMemory for Maze {
    fn read(&self, address: PhysicalAddress, into: &mut [u8]) -> Result<(), Unreadable> {
        self.sound.read(address, into)
    }

    fn read_table(&self, address: PhysicalAddress, into: &mut Table) -> Result<(), Unreadable> {
        self.tables_read.set(self.tables_read.get() + 1);
        if address.get() < self.first_odd {
            return self.sound.read_table(address, into);
        }
        for (index, entry) in (0..).zip(into) {
            *entry = (self.first_odd + ((index % 7) << 12)) | PRESENT;
        }
        Ok(())
    }
}

#[test]
fn tables_that_lead_to_each_other_for_ever_are_left_after_a_while() {
    let maze = Maze { sound: machine_with_vmalloc(), first_odd: TABLES[0], tables_read: Cell::new(0) };
    assert!(vital(&maze, 0x1_0000).contains(&(TABLES[0] >> 12)));
    assert_eq!(maze.tables_read.get(), 1 << 16);
}

#[test]
fn one_table_behind_many_neighbouring_entries_is_read_once() {
    let mut sound = machine_with_vmalloc();
    for entry in 0..512 {
        sound.write_u64(TABLES[0] + entry * 8, TABLES[1] | PRESENT);
        sound.write_u64(TABLES[1] + entry * 8, TABLES[2] | PRESENT);
        sound.write_u64(TABLES[2] + entry * 8, 0x555_5000 | PRESENT);
    }
    let maze = Maze { sound, first_odd: u64::MAX, tables_read: Cell::new(0) };
    assert_eq!(vital(&maze, 0x1_0000), with_tables([0x5555]));
    assert_eq!(maze.tables_read.get(), 1 + 1 + 2 + 3, "top, direct map, array of pages, vmalloc's area");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn exactly_the_mapped_frames_are_vital(mapped in prop::collection::btree_map(0u64..512, 0x200u64..0x3ff, 0..60)) {
        let mut memory = machine_with_vmalloc();
        for (entry, pfn) in &mapped {
            memory.write_u64(TABLES[2] + entry * 8, pfn << 12 | PRESENT);
        }
        prop_assert_eq!(vital(&memory, 0x1_0000), with_tables(mapped.into_values()));
    }

    #[test]
    fn tables_full_of_anything_are_survived(words in prop::collection::vec((0u64..4096, any::<u64>()), 0..400)) {
        let mut memory = machine_with_vmalloc();
        for (at, word) in words {
            // Half of the entries lead somewhere in this memory.
            let word = if word % 2 == 0 { word | PRESENT } else { word & 0xfff_ffff };
            memory.write_u64(0x1000 + at * 8, word);
        }
        vital(&memory, 0x1_0000);
    }
}
