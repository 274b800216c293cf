//! Host and guest tables as the unit walks them, written word by word as a kernel would write them.

mod amdvi_kernel;

use amdvi::registers::CONTROL;
use amdvi_kernel::{DEVICE, Kernel, hoarding, scenario, with};
use machine::Registers as _;
use model::amdvi::Scenario;
use model::amdvi::walk::Abort;
use model::{Answer, Direction, Machine, Requester};

const READ_WRITE: u64 = 3 << 61;
const READ: u64 = 1 << 61;
/// PR, and next levels.
const PAGE: u64 = 1;
const SIZED: u64 = 1 | 7 << 9;

fn table(address: u64, level: u64) -> u64 {
    address | READ_WRITE | level << 9 | 1
}

/// The first word of an entry of this mode: V, TV, IR, IW.
fn entry(root: u64, mode: u64) -> [u64; 4] {
    [root | READ_WRITE | mode << 9 | 3, 9, 0, 0]
}

fn machine() -> (Machine, Kernel) {
    let machine = hoarding(scenario()).machine();
    let mut kernel = Kernel::new(&machine);
    kernel.take_buffers();
    (machine, kernel)
}

/// The cold answer to a request; checks that the warm answer is the same, twice.
fn ask_for(machine: &Machine, pasid: Option<u32>, iova: u64, direction: Direction) -> Answer {
    let access = Requester { source: DEVICE, pasid }.access(iova, direction);
    let cold = machine.answer(0, access);
    assert_eq!([machine.access(0, access), machine.access(0, access)], [cold, cold], "{access}");
    cold
}

fn read(machine: &Machine, iova: u64) -> Answer {
    ask_for(machine, None, iova, Direction::Read)
}

fn memory(address: u64) -> Answer {
    Answer::Memory(address.into())
}

fn blocked(abort: Abort) -> Answer {
    Answer::Blocked(abort.into())
}

/// Level 6 translates bits 63:57, level 5 bits 56:48, level 4 47:39, 3 38:30, 2 29:21, 1 20:12.
#[test]
fn six_levels_translate_all_bits_of_an_address() {
    let (machine, mut kernel) = machine();
    let iova = 0xFEDC_BA98_7654_3210_u64;
    let index = |shift: u32| (iova >> shift) as usize & 0x1FF;
    let mut below = kernel.table(&[(index(12), 0x55_5000 | READ_WRITE | PAGE)]);
    for (level, shift) in [(1, 21), (2, 30), (3, 39), (4, 48)] {
        below = kernel.table(&[(index(shift), table(below, level))]);
    }
    let root = kernel.table(&[(0x7F, table(below, 5))]);
    kernel.enter(entry(root, 6));
    assert_eq!(read(&machine, iova), memory(0x55_5210));
    assert_eq!(read(&machine, iova ^ 1 << 12), blocked(Abort::NotPresent));
    assert_eq!(read(&machine, iova ^ 1 << 63), blocked(Abort::NotPresent));
}

/// 4 KiB, 2 MiB, 1 GiB, 512 GiB and 256 TiB, by next level 0.
#[test]
fn a_page_is_as_large_as_what_its_entry_covers() {
    let (machine, mut kernel) = machine();
    let page = |memory: u64| memory | READ | PAGE;
    let level1 = kernel.table(&[(3, page(0x33_3000))]);
    let level2 = kernel.table(&[(0, table(level1, 1)), (1, page(0x40_0000))]);
    let level3 = kernel.table(&[(0, table(level2, 2)), (1, page(0x4000_0000))]);
    let level4 = kernel.table(&[(0, table(level3, 3)), (1, page(0x80_0000_0000))]);
    let level5 = kernel.table(&[(0, table(level4, 4)), (1, page(0))]);
    kernel.enter(entry(level5, 5));
    assert_eq!(read(&machine, 0x3123), memory(0x33_3123));
    assert_eq!(read(&machine, 0x2F_EDCB), memory(0x4F_EDCB));
    assert_eq!(read(&machine, 0x7654_3210), memory(0x7654_3210));
    assert_eq!(read(&machine, 0x80_0000_0000 + 0x12_3456_7890), memory(0x92_3456_7890));
    assert_eq!(read(&machine, (1 << 48) + 0x7654_3210_7654), memory(0x7654_3210_7654));
    assert_eq!(read(&machine, 1 << 57), blocked(Abort::BeyondWidth));
    assert_eq!(ask_for(&machine, None, 0x3123, Direction::Write), blocked(Abort::NotAllowed));
}

/// The lowest clear bit of the address is half the size: 64 KiB at level 1, 4 MiB at level 2. All entries that a page covers are
/// alike, and any of them stands for all of it.
#[test]
fn a_sized_page_has_its_size_in_its_address() {
    let (machine, mut kernel) = machine();
    let small: Vec<(usize, u64)> =
        (0x10..0x20).map(|index| (index, 0x12_7000 | READ_WRITE | SIZED)).collect();
    let level1 = kernel.table(&small);
    let large = 0x100_0000 | 0x1F_F000 | READ_WRITE | SIZED;
    let level2 = kernel.table(&[(0, table(level1, 1)), (2, large), (3, large)]);
    kernel.enter(entry(level2, 2));
    for offset in [0, 0x1234, 0xF_FFF] {
        assert_eq!(read(&machine, 0x1_0000 + (offset & 0xFFFF)), memory(0x12_0000 + (offset & 0xFFFF)));
    }
    assert_eq!(read(&machine, 0x40_0000 + 0x3A_BCDE), memory(0x100_0000 + 0x3A_BCDE));
    assert_eq!(read(&machine, 0x2_0000), blocked(Abort::NotPresent));
}

#[test]
fn sizes_and_levels_that_make_no_sense_are_refused() {
    let answer = |word: u64| {
        let (machine, mut kernel) = machine();
        let level2 = kernel.table(&[(0, word)]);
        kernel.enter(entry(level2, 2));
        read(&machine, 0x123)
    };
    // At level 2: a page of 64 KiB, of 2 MiB, of 1 GiB; a table of level 2, of level 3; reserved bits; too much memory.
    assert_eq!(answer(0x7000 | READ_WRITE | SIZED), blocked(Abort::Malformed));
    assert_eq!(answer(0xF_F000 | READ_WRITE | SIZED), blocked(Abort::Malformed));
    assert_eq!(answer(0x1FFF_F000 | READ_WRITE | SIZED), blocked(Abort::Malformed));
    assert_eq!(answer(table(0x100_0000, 2)), blocked(Abort::Malformed));
    assert_eq!(answer(table(0x100_0000, 3)), blocked(Abort::Malformed));
    assert_eq!(answer(1 << 52 | READ_WRITE | PAGE), blocked(Abort::Reserved));
    assert_eq!(answer(1 << 59 | READ_WRITE | PAGE), memory(0x123));
    assert_eq!(answer(1 << 59 | table(0x100_0000, 1)), blocked(Abort::Reserved));
    assert_eq!(answer(1 << 46 | READ_WRITE | PAGE), blocked(Abort::Reserved));
    assert_eq!(answer(table(0xFEB0_0000, 1)), blocked(Abort::TableUnreadable));
    assert_eq!(answer(READ_WRITE), blocked(Abort::NotPresent));
}

/// A table of level 4 names one of level 1: bits 38:21 must be zero.
#[test]
fn levels_are_skipped_where_their_bits_are_zero() {
    let (machine, mut kernel) = machine();
    let level1 = kernel.table(&[(3, 0x33_3000 | READ_WRITE | PAGE)]);
    let level4 = kernel.table(&[(2, table(level1, 1))]);
    kernel.enter(entry(level4, 4));
    let base = 2_u64 << 39;
    assert_eq!(read(&machine, base + 0x3123), memory(0x33_3123));
    for bit in [21, 29, 30, 38] {
        assert_eq!(read(&machine, base + (1 << bit) + 0x3123), blocked(Abort::Malformed), "bit {bit}");
    }
}

/// P, US, RW, PS: the processor's bits.
const GUEST: u64 = 0x7;
const GUEST_PAGE: u64 = 0x87;

fn with_guests() -> Scenario {
    let mut scenario = hoarding(with(|unit| {
        let feature = &mut unit.traits.feature;
        *feature = feature.with_gats(1).with_glx(2).with_gio(true);
    }));
    scenario.units[0].traits.host_address_bits = 40;
    scenario
}

/// Guest tables of four levels that map 0x1000 to 0x77_7000 and, in the upper half, 2 MiB to 0x80_0000.
fn guest_tables(kernel: &mut Kernel) -> u64 {
    let level1 = kernel.table(&[(1, 0x77_7000 | GUEST)]);
    let level2 = kernel.table(&[(0, level1 | GUEST), (1, 0x80_0000 | GUEST_PAGE)]);
    let level3 = kernel.table(&[(0, level2 | GUEST)]);
    kernel.table(&[(0, level3 | GUEST), (256, level3 | GUEST)])
}

/// The entry with a CR3 table of this many levels: GV, GLX; bits 14:12 of its address in 60:58, 30:15 in 31:16 of the second
/// word, 51:31 in 63:43. GIoV on demand.
fn guest_entry(cr3: u64, levels: u64, giov: u64) -> [u64; 4] {
    let low = 1 << 55 | (levels - 1) << 56 | giov << 54 | (cr3 >> 12 & 7) << 58;
    [3 | READ_WRITE | low, 9 | (cr3 >> 15 & 0xFFFF) << 16 | (cr3 >> 31) << 43, 0, 0]
}

#[test]
fn a_pasid_selects_the_root_through_one_to_three_levels() {
    for (levels, pasid) in [(1_u32, 0x1A5_u32), (2, 0x2_A5A5), (3, 0xF_A5A5)] {
        let machine = with_guests().machine();
        let mut kernel = Kernel::new(&machine);
        kernel.take_buffers();
        let mut cr3 = guest_tables(&mut kernel);
        for level in 0..levels {
            cr3 = kernel.table(&[((pasid >> (9 * level)) as usize & 0x1FF, cr3 | 1)]);
        }
        kernel.enter(guest_entry(cr3, levels.into(), 0));
        let ask = |pasid, iova| ask_for(&machine, pasid, iova, Direction::Write);
        assert_eq!(ask(Some(pasid), 0x1234), memory(0x77_7234));
        assert_eq!(ask(Some(pasid), 0xFFFF_8000_0021_2345), memory(0x81_2345));
        assert_eq!(ask(Some(pasid), 0x0000_8000_0000_1000), blocked(Abort::BeyondWidth));
        assert_eq!(ask(Some(pasid ^ 1), 0x1234), blocked(Abort::NotPresent));
        assert_eq!(ask(None, 0x1234), memory(0x1234), "without PASID and GIoV: mode 0");
    }
}

#[test]
fn requests_without_pasid_are_those_of_pasid_zero_where_giov_says_so() {
    let machine = with_guests().machine();
    let mut kernel = Kernel::new(&machine);
    kernel.take_buffers();
    let root = guest_tables(&mut kernel);
    let cr3 = kernel.table(&[(0, root | 1)]);
    kernel.enter(guest_entry(cr3, 1, 1));
    assert_eq!(read(&machine, 0x1234), memory(0x77_7234));
    assert_eq!(read(&machine, 0x5000), blocked(Abort::NotPresent));
}

/// All addresses of guest tables go through host tables, which map 1 GiB from 0x40_0000_0000 to itself below, and one page more.
#[test]
fn guest_tables_are_nested_in_host_tables() {
    const GUEST_BASE: u64 = 0x40_0000_0000;
    let machine = with_guests().machine();
    let mut kernel = Kernel::new(&machine);
    kernel.take_buffers();
    let guest = |table: u64| (table + GUEST_BASE) | GUEST;
    let level1 = kernel.table(&[(1, 0x9000 | GUEST), (2, 0x77_7000 | GUEST)]);
    let level2 = kernel.table(&[(0, guest(level1))]);
    let level3 = kernel.table(&[(0, guest(level2))]);
    let level4 = kernel.table(&[(0, guest(level3))]);
    let cr3 = kernel.table(&[(5, (level4 + GUEST_BASE) | 1)]);
    let host1 = kernel.table(&[(9, 0x12_3000 | READ_WRITE | PAGE)]);
    let host2 = kernel.table(&[(0, table(host1, 1))]);
    let host3 = kernel.table(&[(0, table(host2, 2)), (0x100, READ_WRITE | PAGE)]);
    let ask = |pasid, iova| ask_for(&machine, pasid, iova, Direction::Read);
    let mut entry = guest_entry(cr3, 1, 0);
    entry[0] |= host3 | 3 << 9;
    kernel.enter(entry);
    assert_eq!(ask(Some(5), 0x1234), memory(0x12_3234), "the address of the CR3 table is physical");
    // GCR3TRPMode: host tables translate it too.
    let mut registers = machine.registers(0);
    let control = registers.read64(CONTROL.offset);
    registers.write64(CONTROL.offset, control | 1 << 58);
    machine.run(50);
    let mut entry = guest_entry(cr3 + GUEST_BASE, 1, 0);
    entry[0] |= host3 | 3 << 9;
    kernel.enter(entry);
    assert_eq!(ask(Some(5), 0x1234), memory(0x12_3234));
    assert_eq!(ask(Some(5), 0x2234), blocked(Abort::NotPresent), "the host maps no 0x77_7000");
    assert_eq!(ask(None, 0x9234), memory(0x12_3234), "requests without PASID go through the host alone");
    let mut reached: Vec<_> =
        machine.reached(0).into_iter().map(|it| (it.requester.pasid, it.iova.get())).collect();
    reached.sort_unstable();
    assert_eq!(reached, [(None, 0x9000), (None, GUEST_BASE), (Some(5), 0x1000)]);
}

/// A of all entries on the way, and D of the page.
#[test]
fn a_read_marks_guest_entries_accessed_and_a_write_marks_the_page_dirty_too() {
    use machine::Frames;
    let machine = with_guests().machine();
    let mut kernel = Kernel::new(&machine);
    kernel.take_buffers();
    let level1 = kernel.table(&[(1, 0x77_7000 | GUEST)]);
    let level2 = kernel.table(&[(0, level1 | GUEST)]);
    let level3 = kernel.table(&[(0, level2 | GUEST)]);
    let level4 = kernel.table(&[(0, level3 | GUEST)]);
    let cr3 = kernel.table(&[(0, level4 | 1)]);
    kernel.enter(guest_entry(cr3, 1, 1));
    let marks = |kernel: &Kernel| {
        machine.run(1);
        [(level4, 0), (level1, 1)].map(|(table, index)| kernel.frames.table(table.into())[index] & 0x60)
    };
    assert_eq!(marks(&kernel), [0, 0]);
    read(&machine, 0x1000);
    assert_eq!(marks(&kernel), [0x20, 0x20]);
    ask_for(&machine, None, 0x1000, Direction::Write);
    assert_eq!(marks(&kernel), [0x20, 0x60]);
}

/// The addresses of an invalidation that covers all.
const ALL: u64 = 0x7FFF_FFFF_FFFF_F000;

/// The root of a PASID is cached: a change of the CR3 table takes effect with an invalidation of that PASID, tables included.
#[test]
fn what_is_cached_for_a_pasid_is_forgotten_by_domain_and_pasid() {
    use machine::Frames;
    let machine = with_guests().machine();
    let mut kernel = Kernel::new(&machine);
    kernel.take_buffers();
    let roots = [guest_tables(&mut kernel), guest_tables(&mut kernel)];
    let level1 = kernel.table(&[(1, 0x99_9000 | GUEST)]);
    let level2 = kernel.table(&[(0, level1 | GUEST)]);
    let level3 = kernel.table(&[(0, level2 | GUEST)]);
    let other = kernel.table(&[(0, level3 | GUEST)]);
    let cr3 = kernel.table(&[(4, roots[0] | 1), (5, roots[1] | 1)]);
    kernel.enter(guest_entry(cr3, 1, 0));
    let warm = || {
        let access = Requester { source: DEVICE, pasid: Some(5) }.access(0x1000, Direction::Read);
        machine.access(0, access)
    };
    assert_eq!(warm(), memory(0x77_7000));
    kernel.frames.store(cr3.into(), 5, other | 1);
    kernel.frames.publish(cr3.into(), 5..6);
    let pages = |domain: u64, pasid: u64| 3 << 60 | domain << 32 | pasid;
    // Another PASID, another domain, the host's translations, pages without tables, the device's entry.
    for command in [
        [pages(9, 4), ALL | 7],
        [pages(8, 5), ALL | 7],
        [pages(9, 0), ALL | 3],
        [pages(9, 5), ALL | 5],
        [2 << 60 | u64::from(DEVICE), 0],
    ] {
        kernel.command(command);
        assert_eq!(warm(), memory(0x77_7000), "{command:x?}");
    }
    kernel.command([pages(9, 5), ALL | 7]);
    assert_eq!(warm(), memory(0x99_9000));
}

/// PASIDs of one device share tables where their entries in the CR3 table name the same, and no sooner.
#[test]
fn requesters_share_what_the_same_page_tables_translate() {
    use model::amdvi::scenario::{Domain, Process, Stage};
    let mut scenario = with_guests();
    let guest =
        |id| Domain { id, stage: Stage::Guest, top: machine::Level::FOUR, ..scenario.domains[0].clone() };
    scenario.domains = vec![guest(9), guest(10)];
    let process = |pasid, domain| Process { pasid, domain, ..Process::default() };
    scenario.functions[0].processes = vec![process(1, 1), process(2, 0)];
    let requester = |pasid| Requester { source: DEVICE, pasid };
    assert_eq!(scenario.machine().sharing_before(0, requester(None)), [None, Some(2)].map(requester));
}
