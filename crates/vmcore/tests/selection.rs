//! Which pages are kept, on memory whose pages are known.

#![expect(clippy::unwrap_used, reason = "helpers of tests may stop at the first surprise as tests do")]

use fixtures::Memory;
use fixtures::info::*;
use fixtures::kernel::*;
use machine::{PAGE_SIZE, Range};
use proptest::prelude::*;
use vmcore::{Counts, Kernel, Level, Ram, Selection, Unknown, VmcoreInfo};

const DIALECTS: [&str; 5] = [UP_TO_6_2, UP_TO_6_5, UP_TO_6_8, UP_TO_6_11, SINCE_7_1];
/// Page frames in a section.
const SECTION: u64 = 32768;
/// Where the tests put the pages that they look at.
const HERE: u64 = 4096;

fn kernel(dialect: &str) -> Kernel {
    Kernel::new(VmcoreInfo::new(vmcoreinfo(dialect).as_bytes()))
}

fn level(number: u8) -> Level {
    Level::new(number).unwrap()
}

/// RAM from page frame 1024 on, so that pages and page tables of the kernel are in it.
fn ram(sections: u64) -> Ram {
    Ram::from_ranges([Range::from(1024 * PAGE_SIZE..sections * SECTION * PAGE_SIZE)].into_iter()).unwrap()
}

/// The page frames that `level` leaves out of a small machine.
fn left_out(memory: &Memory, kernel: &Kernel, number: u8) -> Vec<u64> {
    let ram = Ram::from_ranges([Range::from(1024 << 12..(HERE + 2048) << 12)].into_iter()).unwrap();
    let (bitmap, counts) = select(memory, kernel, &ram, level(number), SECTION);
    let left_out: Vec<_> = (1024..ram.end_pfn()).filter(|&pfn| !is_set(&bitmap, pfn)).collect();
    assert_eq!(counts.ram - counts.kept(), left_out.len() as u64);
    left_out
}

fn is_set(bitmap: &[u8], pfn: u64) -> bool {
    bitmap[(pfn / 8) as usize] >> (pfn % 8) & 1 == 1
}

/// Selects chunk by chunk.
fn select(memory: &Memory, kernel: &Kernel, ram: &Ram, level: Level, chunk: u64) -> (Vec<u8>, Counts) {
    let mut bitmap = vec![0xaa; (ram.end_pfn() / 8) as usize];
    let mut selection = Selection::new(memory, kernel, ram, level).unwrap();
    let (mut counts, mut pfn) = (Counts::default(), 0);
    for part in bitmap.chunks_mut((chunk / 8) as usize) {
        counts += selection.fill(pfn, part);
        pfn += part.len() as u64 * 8;
    }
    (bitmap, counts)
}

/// The levels that leave out page frame `HERE` if it is described as `page`.
fn levels_without(dialect: &str, page: Page) -> Vec<u8> {
    let mut memory = machine(1);
    describe(&mut memory, HERE, &[page]);
    let kernel = kernel(dialect);
    assert_eq!(kernel.unknown().collect::<Vec<_>>(), []);
    (0..32).filter(|&number| left_out(&memory, &kernel, number).contains(&HERE)).collect()
}

fn levels_with(bits: u8) -> Vec<u8> {
    (0..32).filter(|number| number & bits != 0).collect()
}

/// A page of a type, in the words of each dialect.
fn typed(dialect: &str, old_bit: i32, new_type: i32) -> Page {
    let mapcount = if dialect == SINCE_7_1 { new_type << 24 } else { !old_bit };
    Page { mapcount, ..IN_USE }
}

/// `PG_slab` has been a type since 6.10.
fn slab(dialect: &str) -> Page {
    match dialect {
        UP_TO_6_11 | SINCE_7_1 => typed(dialect, 0x1000, 0xf5),
        _ => Page { flags: SLAB, ..IN_USE },
    }
}

fn buddy(dialect: &str, order: u64) -> Page {
    Page { private: order, ..typed(dialect, 0x80, 0xf0) }
}

/// Head and first tail of a compound page.
fn compound(dialect: &str, order: u64) -> [Page; 2] {
    let head = Page { flags: HEAD, ..IN_USE };
    let tail = match dialect {
        UP_TO_6_2 | UP_TO_6_5 => Page { order: order as u8, ..TAIL },
        _ => Page { flags: order, ..TAIL },
    };
    [head, tail]
}

/// Writes a compound page, all tails included.
fn describe_compound(memory: &mut Memory, dialect: &str, pfn: u64, order: u64, change: impl Fn(&mut Page)) {
    let [mut head, tail] = compound(dialect, order);
    change(&mut head);
    describe(memory, pfn, &vec![TAIL; 1 << order]);
    describe(memory, pfn, &[head, tail]);
}

/// Marks the compound page at `pfn` as one of hugetlbfs.
fn mark_hugetlb(memory: &mut Memory, dialect: &str, pfn: u64, order: u64) {
    match dialect {
        UP_TO_6_2 | UP_TO_6_5 => memory.write(ARRAYS + (pfn + 1) * 64 + 16, &[2]),
        UP_TO_6_8 => memory.write_u64(ARRAYS + (pfn + 1) * 64, order | 1 << 8),
        _ => {
            let head = Page { flags: HEAD, ..typed(dialect, 0x800, 0xf4) };
            describe(memory, pfn, &[head]);
        }
    }
}

#[test]
fn the_kernel_is_described() {
    let (memory, kernel) = (machine(1), kernel(UP_TO_6_2));
    let names = kernel.utsname(&memory).unwrap();
    assert_eq!(names.release(), Some("6.1.0-56-amd64"));
    assert_eq!(&names.as_bytes()[..6], b"Linux\0");
    assert_eq!((kernel.phys_base(), kernel.kaslr_offset()), (0, Some(0x6c0_0000)));
}

#[test]
fn a_page_in_use_by_the_kernel_is_always_kept() {
    for dialect in DIALECTS {
        assert_eq!(levels_without(dialect, IN_USE), []);
        assert_eq!(levels_without(dialect, slab(dialect)), []);
        assert_eq!(
            levels_without(dialect, Page { mapping: 1, ..slab(dialect) }),
            [],
            "a slab is not anonymous"
        );
    }
}

#[test]
fn cache_goes_with_2_and_4_and_private_cache_with_4_alone() {
    for dialect in DIALECTS {
        let mapping = 0xffff_8880_1234_5670;
        let cache = Page { flags: LRU, mapping, ..IN_USE };
        assert_eq!(levels_without(dialect, cache), levels_with(2 | 4));
        let private = Page { flags: LRU | PRIVATE, mapping, ..IN_USE };
        assert_eq!(levels_without(dialect, private), levels_with(4));
    }
}

#[test]
fn the_swap_cache_is_cache_only_where_pages_are_swap_backed() {
    for dialect in DIALECTS {
        assert_eq!(levels_without(dialect, Page { flags: SWAP_CACHE, ..IN_USE }), []);
        let page = Page { flags: SWAP_CACHE | SWAP_BACKED, ..IN_USE };
        assert_eq!(levels_without(dialect, page), levels_with(2 | 4));
    }
}

#[test]
fn anonymous_pages_go_with_8_even_on_the_lru_lists() {
    for dialect in DIALECTS {
        let page = Page { flags: LRU | SWAP_BACKED, mapping: 0xffff_8880_1234_5671, ..IN_USE };
        assert_eq!(levels_without(dialect, page), levels_with(8));
    }
}

#[test]
fn poisoned_and_offline_pages_are_never_kept() {
    let every_level: Vec<_> = (0..32).collect();
    for dialect in DIALECTS {
        assert_eq!(levels_without(dialect, Page { flags: POISONED, ..IN_USE }), every_level);
        assert_eq!(levels_without(dialect, typed(dialect, 0x100, 0xf1)), every_level);
    }
}

#[test]
fn a_free_block_goes_with_16_as_a_whole() {
    for dialect in DIALECTS {
        let mut memory = machine(1);
        describe(&mut memory, HERE, &[buddy(dialect, 3)]);
        let block: Vec<_> = (HERE..HERE + 8).collect();
        assert_eq!(left_out(&memory, &kernel(dialect), 16), block);
        assert_eq!(left_out(&memory, &kernel(dialect), 15), []);
    }
}

#[test]
fn a_free_block_of_an_impossible_order_is_kept() {
    for order in [11, 64, u64::MAX] {
        assert_eq!(
            levels_without(UP_TO_6_2, Page { flags: LRU, ..buddy(UP_TO_6_2, order) }),
            levels_with(6).into_iter().filter(|number| number & 16 == 0).collect::<Vec<_>>()
        );
    }
}

#[test]
fn a_free_block_that_is_not_aligned_to_its_order_is_kept() {
    let mut memory = machine(1);
    describe(&mut memory, HERE + 2, &[buddy(UP_TO_6_2, 2)]);
    assert_eq!(left_out(&memory, &kernel(UP_TO_6_2), 31), []);
}

#[test]
fn memory_that_was_not_accepted_is_free() {
    let mut memory = machine(1);
    describe(&mut memory, HERE, &[typed(SINCE_7_1, 0, 0xf7)]);
    assert_eq!(left_out(&memory, &kernel(SINCE_7_1), 16), (HERE..HERE + 1024).collect::<Vec<_>>());
}

#[test]
fn tails_go_the_way_of_their_head() {
    for dialect in DIALECTS {
        let mut memory = machine(1);
        describe_compound(&mut memory, dialect, HERE, 9, |head| head.mapping = 1);
        describe_compound(&mut memory, dialect, HERE + 512, 9, |head| head.flags |= LRU);
        describe_compound(&mut memory, dialect, HERE + 1024, 4, |_| {});
        let kernel = kernel(dialect);
        assert_eq!(left_out(&memory, &kernel, 8), (HERE..HERE + 512).collect::<Vec<_>>());
        assert_eq!(left_out(&memory, &kernel, 2), (HERE + 512..HERE + 1024).collect::<Vec<_>>());
    }
}

#[test]
fn pages_of_hugetlbfs_are_user_pages() {
    for dialect in DIALECTS {
        let mut memory = machine(1);
        describe_compound(&mut memory, dialect, HERE, 9, |_| {});
        assert_eq!(left_out(&memory, &kernel(dialect), 31), []);
        mark_hugetlb(&mut memory, dialect, HERE, 9);
        assert_eq!(left_out(&memory, &kernel(dialect), 8), (HERE..HERE + 512).collect::<Vec<_>>());
        assert_eq!(left_out(&memory, &kernel(dialect), 23), []);
    }
}

#[test]
fn a_compound_page_that_is_not_aligned_to_its_order_loses_its_head_only() {
    let mut memory = machine(1);
    describe_compound(&mut memory, UP_TO_6_2, HERE + 2, 9, |head| head.mapping = 1);
    assert_eq!(left_out(&memory, &kernel(UP_TO_6_2), 8), [HERE + 2]);
}

#[test]
fn a_compound_page_of_1_gib_goes_as_a_whole_across_sections_and_chunks() {
    let mut memory = machine(17);
    for section in 8..16 {
        describe(&mut memory, section * SECTION, &vec![TAIL; SECTION as usize]);
    }
    describe_compound(&mut memory, UP_TO_6_2, 8 * SECTION, 18, |head| head.mapping = 1);
    let (kernel, ram) = (kernel(UP_TO_6_2), ram(17));
    for chunk in [SECTION / 2, 5 * SECTION, 17 * SECTION] {
        let (_, counts) = select(&memory, &kernel, &ram, level(8), chunk);
        assert_eq!(counts.user, 8 * SECTION, "chunks of {chunk}");
    }
    let mut selection = Selection::new(&memory, &kernel, &ram, level(8)).unwrap();
    let mut bitmap = [0; 8];
    assert_eq!(selection.fill(12 * SECTION, &mut bitmap).user, 64, "starting in its middle");
    assert_eq!(selection.fill(16 * SECTION, &mut bitmap).user, 0);
    assert_eq!(selection.fill(12 * SECTION + 64, &mut bitmap).user, 64, "going back");
}

#[test]
fn a_chunk_may_end_between_a_head_and_its_tails() {
    let mut memory = machine(1);
    describe_compound(&mut memory, UP_TO_6_2, HERE, 5, |head| head.mapping = 1);
    let (kernel, ram) = (kernel(UP_TO_6_2), ram(1));
    let mut selection = Selection::new(&memory, &kernel, &ram, level(8)).unwrap();
    assert_eq!(selection.fill(HERE - 7, &mut [0; 1]).user, 1);
    assert_eq!(selection.fill(HERE + 1, &mut [0; 8]).user, 31);
}

#[test]
fn holes_are_in_no_bitmap_and_in_no_count() {
    let mut memory = machine(1);
    describe(&mut memory, HERE, &[buddy(UP_TO_6_2, 4)]);
    let parts = [Range::from(1024 << 12..(HERE + 3) << 12), Range::from((HERE + 9) << 12..SECTION << 12)];
    let ram = Ram::from_ranges(parts.into_iter()).unwrap();
    let (bitmap, counts) = select(&memory, &kernel(UP_TO_6_2), &ram, Level::ALL, SECTION);
    assert_eq!((counts.ram, counts.free), (SECTION - 1024 - 6, 16 - 6));
    assert!((HERE..HERE + 16).all(|pfn| !is_set(&bitmap, pfn)));
    assert!(is_set(&bitmap, HERE + 16));
}

#[test]
fn pages_whose_description_cannot_be_read_are_kept_and_counted() {
    let mut memory = machine(2);
    describe(&mut memory, HERE, &[buddy(UP_TO_6_2, 10); 1]);
    memory.punch(Range::from(ARRAYS + 8192 * 64 + 5..ARRAYS + 8192 * 64 + 6));
    memory.write_u64(0x6010, 0);
    let (_, counts) = select(&memory, &kernel(UP_TO_6_2), &ram(2), Level::ALL, SECTION);
    assert_eq!(counts.free, 1024);
    assert_eq!(counts.unknown, SECTION + 64, "a section without an array, and a page of it that is broken");
}

#[test]
fn without_a_fact_what_depends_on_it_is_kept_and_the_fact_is_named() {
    let mut memory = machine(1);
    let cache = Page { flags: LRU, ..IN_USE };
    describe(&mut memory, HERE, &[buddy(UP_TO_6_2, 1), IN_USE, cache, Page { mapping: 1, ..IN_USE }]);
    let without = |line: &str| {
        let text = vmcoreinfo(UP_TO_6_2);
        let text = text.lines().filter(|other| !other.starts_with(line)).collect::<Vec<_>>().join("\n");
        let kernel = Kernel::new(VmcoreInfo::new(text.as_bytes()));
        (left_out(&memory, &kernel, 31), kernel.unknown().map(|Unknown(name)| name).collect::<Vec<_>>())
    };
    let all = vec![HERE, HERE + 1, HERE + 2, HERE + 3];
    assert_eq!(without("no such line"), (all, vec![]));
    let buddy = "NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)";
    assert_eq!(without(buddy), (vec![HERE + 2, HERE + 3], vec![buddy]));
    assert_eq!(without("NUMBER(PG_lru)"), (vec![HERE, HERE + 1, HERE + 3], vec!["NUMBER(PG_lru)"]));
    for line in [
        "OFFSET(page.compound_head)",
        "SYMBOL(mem_section)",
        "SIZE(page)",
        "NUMBER(PG_head_mask)",
        "NUMBER(phys_base)",
    ] {
        assert_eq!(without(line), (vec![], vec![line]));
    }
}

#[test]
fn levels_are_the_sums_that_makedumpfile_knows() {
    assert_eq!(Level::new(32), None);
    assert_eq!(Level::ALL, level(31));
    assert!(level(1).leaves_out_zero() && !level(30).leaves_out_zero());
}

/// A `struct page` with the marks that matter likely, in the words of 6.1.
fn any_page() -> impl Strategy<Value = Page> {
    let flags =
        prop::sample::subsequence(vec![LRU, SLAB, SWAP_CACHE, PRIVATE, HEAD, SWAP_BACKED, POISONED], 0..4);
    let mapcount = prop_oneof![4 => Just(-1), 2 => Just(-129), 1 => Just(-257), 1 => any::<i32>()];
    let private = prop_oneof![4 => 0..12u64, 1 => any::<u64>()];
    let fields = (flags, 0..8u64, 0..2u64, private, mapcount, 0..6u8);
    fields.prop_map(|(flags, head, mapping, private, mapcount, order)| Page {
        flags: flags.iter().sum(),
        compound_head: u64::from(head == 0),
        mapping,
        private,
        mapcount,
        order,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn chunks_of_any_size_give_the_same_bitmap(
        pages in prop::collection::vec(any_page(), 1..400),
        number in 0..32u8,
        chunk in 1..400u64,
    ) {
        let mut memory = machine(1);
        describe(&mut memory, 1024, &pages);
        let ram = Ram::from_ranges([Range::from(1000 * PAGE_SIZE..3072 * PAGE_SIZE)].into_iter()).unwrap();
        let kernel = kernel(UP_TO_6_2);
        let (whole, counts) = select(&memory, &kernel, &ram, level(number), SECTION);
        let set: u64 = whole.iter().map(|byte| u64::from(byte.count_ones())).sum();
        prop_assert_eq!(counts.kept(), set);
        prop_assert_eq!(select(&memory, &kernel, &ram, level(number), chunk * 8), (whole.clone(), counts));

        let (mut part, start) = (vec![0; 40], 1000 + chunk);
        Selection::new(&memory, &kernel, &ram, level(number)).unwrap().fill(start, &mut part);
        prop_assert!((0..320).all(|n| is_set(&part, n) == is_set(&whole, start + n)), "a chunk out of the middle");
    }

    #[test]
    fn random_memory_under_random_facts_breaks_nothing(
        words in prop::collection::vec(any::<u64>(), 1024),
        numbers in prop::collection::vec(any::<i64>(), 40),
        number in 0..32u8,
    ) {
        let mut memory = Memory::new(1 << 20);
        for (at, word) in (0..1 << 20).step_by(8).zip(words.iter().cycle()) {
            memory.write_u64(at, if word % 3 == 0 { word & 0xf_f0ff | 1 } else { *word });
        }
        let text: String = vmcoreinfo(UP_TO_6_2).lines().zip(&numbers).map(|(line, number)| {
            let (key, value) = line.split_once('=').unwrap();
            if number % 8 == 0 { format!("{key}={number}\n") } else { format!("{key}={value}\n") }
        }).collect();
        let kernel = Kernel::new(VmcoreInfo::new(text.as_bytes()));
        let ram = Ram::from_ranges([Range::from(0..1 << 30)].into_iter()).unwrap();
        let (bitmap, counts) = select(&memory, &kernel, &ram, level(number), SECTION);
        let set: u64 = bitmap.iter().map(|byte| u64::from(byte.count_ones())).sum();
        prop_assert_eq!(counts.kept(), set);
        prop_assert_eq!(counts.ram, 1 << 18);
        let _ = kernel.utsname(&memory);
    }
}
