//! **bounded**: memory. Machines whose tables do not fit are taken over within the budget, one rung of the ladder at
//! a time: exact copy, folded, kept in place, blocked.

use crate::common::{attach, take_over};
use machine::{Frames, Level, PhysicalAddress, Range};
use model::scenario::{Attached, Domain, Function, OldQueue, UnitScenario};
use model::vast::{Order, Vast};
use model::walk::Traits;
use model::{Access, Answer, Direction, Machine, MemoryKind, Requester, Scenario};
use takeover::{Limits, MapError, Outcome, Report};
use vtd::capability::{Capability, ExtendedCapability};

const GIB: u64 = 1 << 30;
const DISK: u16 = 0x00FA;
/// A crash reservation of 32 MiB, and the frames in the quarter of it that is for tables.
const CAPTURE: Range<PhysicalAddress> =
    Range::new(PhysicalAddress::new(0x1000_0000), PhysicalAddress::new(0x1200_0000));
const QUARTER: usize = 2048;
/// Where the tables are, and the memory that they map.
const TABLES: PhysicalAddress = PhysicalAddress::new(4 * GIB);
const MAPPED: PhysicalAddress = PhysicalAddress::new(1 << 40);

/// A machine whose disk has all I/O addresses below `bytes` mapped in pages of 4 KiB.
fn scenario(bytes: u64, order: Order) -> Scenario {
    let vast = Vast { pages: bytes >> 12, tables: TABLES, memory: MAPPED, top: Level::FOUR, order };
    let capability =
        Capability::new().with_sagaw(0b0100).with_mgaw(47).with_nd(6).with_fro(0x22).with_sslps(0b11);
    let extended = ExtendedCapability::new().with_qi(true).with_iro(0xF);
    Scenario {
        seed: 1,
        memory: vec![
            (Range::new(PhysicalAddress::new(0), CAPTURE.start), MemoryKind::Old),
            (CAPTURE, MemoryKind::Capture),
            (Range::new(CAPTURE.end, PhysicalAddress::new(0x8000_0000)), MemoryKind::Old),
            (Range::new(TABLES, vast.end()), MemoryKind::Old),
            (Range::new(MAPPED, MAPPED.saturating_add(bytes)), MemoryKind::Old),
        ],
        units: vec![UnitScenario {
            traits: Traits { capability, extended, host_address_bits: 46 },
            queue: OldQueue::Idle,
            ..UnitScenario::default()
        }],
        domains: vec![Domain { id: 9, vast: Some(vast), ..Domain::default() }],
        functions: vec![Function {
            source: DISK,
            attached: Attached::To(0),
            works_at: vec![0x1008.into(), (bytes - 8).into()],
            ..Function::default()
        }],
        ..Scenario::default()
    }
}

/// Takes the machine over with at most `budget` frames, and checks answers all over the mapped addresses.
fn take(scenario: &Scenario, budget: usize) -> (Machine, Report) {
    let machine = scenario.machine();
    let (mut frames, clock) = (machine.frames(budget), machine.clock());
    let limits = Limits { deadline: verdict::DEADLINE, ..Limits::default() };
    let report = take_over(&machine, &mut frames, &clock, &limits).expect("a takeover").report().clone();
    assert_eq!(verdict::told(&machine), "");
    assert_eq!(machine.old_pages_changed(), []);
    (machine, report)
}

/// Reads all over the mapped addresses, one in most tables of level 2.
fn samples(bytes: u64) -> impl Iterator<Item = Access> {
    let iovas = (0..bytes).step_by((GIB + 0x20_3000) as usize).chain([0, bytes - 1]);
    iovas.map(|iova| access(iova, Direction::Write))
}

fn access(iova: u64, direction: Direction) -> Access {
    Access { source: DISK, pasid: None, iova: iova.into(), direction }
}

fn assert_all_translate(machine: &Machine, bytes: u64) {
    for access in samples(bytes) {
        let before = machine.answer_before(0, access);
        assert!(matches!(before, Answer::Memory(address) if address >= MAPPED));
        assert_eq!(machine.answer(0, access), before, "{access}");
    }
}

fn outcomes(report: &Report) -> (Outcome, Outcome) {
    (report.contexts[0].outcome, report.domains[0].outcome)
}

#[test]
fn a_terabyte_in_small_pages_is_kept_in_place_within_a_quarter_of_32_mib() {
    let mut scenario = scenario(1 << 40, Order::Swapped);
    // Watching a device between any two of four million steps would take most of the time.
    scenario.functions[0].works_at.clear();
    let (machine, report) = take(&scenario, QUARTER);
    assert_eq!(outcomes(&report), (Outcome::KeptInPlace, Outcome::KeptInPlace));
    assert_eq!(report.leaf_mappings(), 1 << 28);
    // Root and context table; one table of level 4, two of level 3, 1024 of level 2.
    assert_eq!(report.tables_duplicated, 2 + 1 + 2 + 1024);
    assert_all_translate(&machine, 1 << 40);
}

#[test]
fn sixty_four_gigabytes_of_neighbouring_pages_are_folded() {
    let (machine, report) = take(&scenario(64 * GIB, Order::Ascending), QUARTER);
    assert_eq!(outcomes(&report), (Outcome::Folded, Outcome::Folded));
    assert_eq!(report.leaf_mappings(), 64 << 18);
    // Each of the 64 tables of level 2 amounts to a page of 1 GiB.
    assert_eq!(report.tables_duplicated, 2 + 1 + 1);
    assert_all_translate(&machine, 64 * GIB);
}

#[test]
fn what_fits_is_copied_exactly() {
    let (machine, report) = take(&scenario(2 * GIB, Order::Ascending), QUARTER);
    assert_eq!(outcomes(&report), (Outcome::Duplicated, Outcome::Duplicated));
    assert_eq!(report.tables_duplicated, 2 + 1 + 1 + 2 + 1024);
    assert_all_translate(&machine, 2 * GIB);
}

/// Root, context table, queue and status, the spare frames, and three for the domain, one of which is for checking tables.
#[test]
fn with_few_frames_whole_subtrees_are_kept() {
    let spare = Limits::default().spare_frames;
    let (machine, report) = take(&scenario(8 * GIB, Order::Swapped), spare + 6);
    assert_eq!(outcomes(&report), (Outcome::KeptInPlace, Outcome::KeptInPlace));
    assert!(report.tables_duplicated < 2 + 1 + 1 + 8, "{}", report.tables_duplicated);
    assert_eq!(report.leaf_mappings(), 8 << 18);
    assert_all_translate(&machine, 8 * GIB);
}

/// The queue, the root table and a context table take all but the spare ones.
#[test]
fn without_frames_the_domain_is_blocked_and_nothing_else() {
    let spare = Limits::default().spare_frames;
    let machine = scenario(8 * GIB, Order::Swapped).machine();
    let (mut frames, clock) = (machine.frames(spare + 4), machine.clock());
    let limits = Limits { deadline: verdict::DEADLINE, ..Limits::default() };
    let taken = take_over(&machine, &mut frames, &clock, &limits).expect("a takeover");
    assert_eq!(outcomes(taken.report()), (Outcome::Blocked, Outcome::Blocked));
    assert!(machine.status(0).tes());
    assert!(samples(8 * GIB).all(|access| matches!(machine.answer(0, access), Answer::Blocked(_))));
}

/// A page in a table that would be kept leads into the capture kernel's memory: that table is copied and the page cut out.
#[test]
fn a_table_that_reaches_the_capture_kernel_is_not_kept() {
    let mut scenario = scenario(1 << 36, Order::Swapped);
    let (table, index) = (777, 5);
    scenario.words = vec![(TABLES.saturating_add(table * 4096 + index * 8), CAPTURE.start.get() | 3)];
    let (machine, report) = take(&scenario, 300);
    assert_eq!(outcomes(&report), (Outcome::Fenced, Outcome::Fenced));
    assert_eq!(report.domains[0].fenced, 1);
    let access = access(table << 21 | index << 12, Direction::Read);
    assert_eq!(machine.answer_before(0, access), Answer::Memory(CAPTURE.start));
    assert!(matches!(machine.answer(0, access), Answer::Blocked(_)));
    assert_eq!(machine.trespasses(0), []);
    assert_all_translate(&machine, 1 << 36);
}

/// All addresses that the unit can translate are below kept tables, and one address is free: a driver gets it, and
/// only the three tables on its path are copied. All others translate as before, in the tables where they were.
#[test]
fn a_mapping_into_a_kept_subtree_copies_its_path_alone() {
    const ALL: u64 = 512 * GIB;
    let mut scenario = scenario(ALL, Order::Swapped);
    scenario.functions[0].works_at.clear();
    scenario.units[0].traits.capability = scenario.units[0].traits.capability.with_mgaw(38);
    let (table, index) = (100_777, 5);
    scenario.words = vec![(TABLES.saturating_add(table * 4096 + index * 8), 0)];
    let machine = scenario.machine();
    let (mut frames, clock) = (machine.frames(Limits::default().spare_frames + 6), machine.clock());
    let limits = Limits { deadline: verdict::DEADLINE, ..Limits::default() };
    let mut taken = take_over(&machine, &mut frames, &clock, &limits).expect("a takeover");
    assert_eq!(outcomes(taken.report()), (Outcome::KeptInPlace, Outcome::KeptInPlace));

    let before = frames.available();
    let disk = Requester { source: DISK, pasid: None };
    let (_, buffers) = attach(&machine, &mut taken, &mut frames, &[disk], &[1]).expect("the free page");
    assert_eq!(before - frames.available(), 3);
    assert_eq!(buffers[0].iova.start.get(), table << 21 | index << 12);
    let reached = machine.answer(0, disk.access(buffers[0].iova.start, Direction::Write));
    assert_eq!(reached, Answer::Memory(buffers[0].memory.start));
    for neighbour in [buffers[0].iova.start.get() - 0x1000, buffers[0].iova.end.get()] {
        let access = disk.access(neighbour, Direction::Write);
        assert_eq!(machine.answer(0, access), machine.answer_before(0, access));
    }
    assert_all_translate(&machine, ALL);
    assert_eq!(machine.old_pages_changed(), []);
    let full = attach(&machine, &mut taken, &mut frames, &[disk], &[1]);
    assert!(full.is_err_and(|error| error.to_string().contains(&MapError::NoAddress.to_string())));
}
