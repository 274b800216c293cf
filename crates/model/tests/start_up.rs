//! The model by itself: a scripted start-up, and each rule of the hardware as seen from outside.
//!
//! Register offsets and table words here are numbers from the specification, not from the `vtd` crate, so that a
//! wrong layout there cannot cancel out between the model and the code that is tested on it.

use machine::{Frames, IoAddress, Level, Permission, Range, Registers};
use model::habits::{Chore, Habit, Habits};
use model::scenario::{Attached, Domain, Function, Mapping, OldQueue, UnitScenario};
use model::walk::Traits;
use model::{Access, Answer, Direction, Machine, MemoryKind, Scenario, UnitRegisters, Violation};
use vtd::capability::{Capability, ExtendedCapability};
use vtd::control::TableMode;
use vtd::fault::FaultReason;
use vtd::paging::AddressWidth;

const GCMD: usize = 0x18;
const GSTS: usize = 0x1C;
const RTADDR: usize = 0x20;
const CCMD: usize = 0x28;
const FSTS: usize = 0x34;
const IQH: usize = 0x80;
const IQT: usize = 0x88;
const IQA: usize = 0x90;
/// Where this machine's units have their floating registers.
const IOTLB: usize = 0xF8;
const FRCD: usize = 0x220;

/// TE and IRE, which a command must repeat.
const KEEP: u32 = 1 << 31 | 1 << 25;
const SRTP: u32 = 1 << 30;
const QIE: u32 = 1 << 26;

/// Function 00:02.0 reads at 0x5678.
const READ: Access =
    Access { source: 0x0010, pasid: None, iova: IoAddress::new(0x5678), direction: Direction::Read };

/// A unit of three levels before one function, which maps 0x5000 to 0x12_3000 for reading. No queue, prompt habits.
fn scenario() -> Scenario {
    let mapping = Mapping {
        iova: 0x5000.into(),
        memory: 0x12_3000.into(),
        level: Level::ONE,
        permission: Permission::Read,
    };
    Scenario {
        seed: 1,
        memory: vec![
            (Range::from(0..0x100_0000), MemoryKind::Old),
            (Range::from(0x100_0000..0x110_0000), MemoryKind::Capture),
            (Range::from(0xFEB0_0000..0xFEC0_0000), MemoryKind::Mmio),
        ],
        units: vec![UnitScenario {
            traits: Traits {
                capability: Capability::new()
                    .with_sagaw(2)
                    .with_mgaw(38)
                    .with_nd(6)
                    .with_fro(0x22)
                    .with_psi(true),
                extended: ExtendedCapability::new().with_iro(0xF).with_qi(true).with_pt(true),
                host_address_bits: 39,
            },
            habits: Chore::VTD
                .into_iter()
                .fold(Habits::default(), |habits, chore| habits.with(chore, Habit::After(0))),
            mode: TableMode::LEGACY,
            queue: OldQueue::Off,
        }],
        domains: vec![Domain {
            id: 7,
            width: AddressWidth::BITS_39,
            mappings: vec![mapping],
            ..Domain::default()
        }],
        functions: vec![Function {
            source: 0x0010,
            attached: Attached::To(0),
            works_at: vec![0x5678.into()],
            ..Function::default()
        }],
        ..Scenario::default()
    }
}

/// The same machine with another unit.
fn with(change: impl FnOnce(&mut UnitScenario)) -> Scenario {
    let mut scenario = scenario();
    change(&mut scenario.units[0]);
    scenario
}

/// Tables that map 0x5000 to 0x45_6000 for function 00:02.0, published. Returns the root table and the lowest table.
fn own_tables(frames: &mut impl Frames) -> (u64, u64) {
    let [root, context, level3, level2, level1] = [(); 5].map(|()| frames.allocate().expect("a frame").get());
    let entries = [
        (root, 0, context | 1),
        (context, 0x20, level3 | 1),
        (context, 0x21, 7 << 8 | 1),
        (level3, 0, level2 | 3),
        (level2, 0, level1 | 3),
        (level1, 5, 0x45_6000 | 1),
    ];
    fill(frames, &entries);
    (root, level1)
}

/// Stores entries, each given with its frame and index, and publishes the frames.
fn fill(frames: &mut impl Frames, entries: &[(u64, usize, u64)]) {
    for &(frame, index, entry) in entries {
        frames.table_mut(frame.into())[index] = entry;
    }
    for &(frame, ..) in entries {
        frames.publish(frame.into(), 0..512);
    }
}

fn command(registers: &mut UnitRegisters, value: u32) {
    registers.write32(GCMD, value);
    (0..10).for_each(|_| _ = registers.read32(GSTS));
}

fn take_root(registers: &mut UnitRegisters, root: u64) {
    registers.write64(RTADDR, root);
    command(registers, KEEP | SRTP);
}

/// 1. The dead kernel left translation on: 00:02.0 reads 0x5678 and reaches 0x12_3678.
/// 2. We build tables that lead to 0x45_6678. We write RTADDR: nothing changes.
/// 3. SRTP: the tables in force lead to 0x45_6678, but the device still gets the cached answer.
/// 4. CCMD invalidates contexts: the IOTLB is tagged by domain-id, so the device still gets the same answer.
/// 5. IOTLB invalidates translations: the device reaches 0x45_6678.
/// 6. It writes: no permission. FSTS shows a fault, the record says who, where and why; it can be cleared.
/// 7. The queue is turned on: the unit fetches context-cache, IOTLB and wait descriptors, and writes the wait's
///    status.
/// 8. The unit now refuses register-based invalidation.
#[test]
fn a_unit_from_the_panic_to_its_own_queue() {
    let machine = scenario().machine();
    let mut registers = machine.registers(0);
    let mut frames = machine.frames(16);
    let old = Answer::Memory(0x12_3678.into());
    let new = Answer::Memory(0x45_6678.into());

    assert_eq!(registers.read32(GSTS), 0xC300_0000);
    assert_eq!(machine.access(0, READ), old);

    let (root, _) = own_tables(&mut frames);
    registers.write64(RTADDR, root);
    assert_eq!(machine.answer(0, READ), old);

    command(&mut registers, KEEP | SRTP);
    assert_eq!(registers.read32(GSTS), 0xC300_0000);
    assert_eq!((machine.answer(0, READ), machine.access(0, READ)), (new, old));

    registers.write64(CCMD, 1 << 63 | 1 << 61);
    (0..5).for_each(|_| _ = registers.read64(CCMD));
    assert_eq!(registers.read64(CCMD) >> 59, 0b00101, "done, globally");
    assert_eq!(machine.access(0, READ), old);

    registers.write64(IOTLB, 1 << 63 | 1 << 60);
    (0..5).for_each(|_| _ = registers.read64(IOTLB));
    assert_eq!(registers.read64(IOTLB) >> 57, 0b0001001, "done, globally");
    assert_eq!(machine.access(0, READ), new);

    machine.silence(0x0010);
    registers.write32(FRCD + 12, 1 << 31);
    registers.write32(FSTS, 1);
    let write = Access { direction: Direction::Write, ..READ };
    assert_eq!(machine.access(0, write), Answer::Blocked(FaultReason::WRITE.into()));
    assert_eq!(registers.read32(FSTS) & 0b11, 0b10);
    assert_eq!(registers.read64(FRCD), 0x5000);
    assert_eq!(registers.read64(FRCD + 8), 1 << 63 | 5 << 32 | 0x0010);
    registers.write32(FRCD + 12, 1 << 31);
    assert_eq!(registers.read32(FSTS), 0);

    let (queue, status) = (frames.allocate().unwrap().get(), frames.allocate().unwrap().get());
    frames.table_mut(queue.into())[..6].copy_from_slice(&[0x11, 0, 0xD2, 0, 0x2A_0000_0025, status + 8]);
    frames.publish(queue.into(), 0..512);
    frames.publish(status.into(), 0..512);
    registers.write64(IQA, queue);
    command(&mut registers, KEEP | QIE);
    registers.write64(IQT, 0x30);
    machine.run(20);
    assert_eq!(registers.read64(IQH), 0x30);
    assert_eq!(frames.table(status.into())[1], 0x2A);

    let before = machine.violations().len();
    registers.write64(CCMD, 1 << 63 | 1 << 61);
    assert_eq!(registers.read64(CCMD) >> 59, 0b00100, "nothing was done");
    assert_eq!(machine.violations().len(), before + 1);
}

#[test]
fn what_is_not_published_is_not_seen_by_the_hardware() {
    let machine = scenario().machine();
    let mut frames = machine.frames(16);
    let (root, level1) = own_tables(&mut frames);
    take_root(&mut machine.registers(0), root);
    let access = Access { iova: 0x6000.into(), ..READ };
    frames.table_mut(level1.into())[6] = 0x78_9001;
    assert!(matches!(machine.answer(0, access), Answer::Blocked(_)));
    frames.publish(level1.into(), 6..7);
    assert_eq!(machine.answer(0, access), Answer::Memory(0x78_9000.into()));
}

#[test]
fn what_is_in_the_write_buffer_is_not_seen_before_it_is_flushed() {
    let scenario = with(|unit| unit.traits.capability.set_rwbf(true));
    let seen_early = (0..20).filter(|seed| {
        let machine = Scenario { seed: *seed, ..scenario.clone() }.machine();
        let mut frames = machine.frames(16);
        let (root, _) = own_tables(&mut frames);
        machine.registers(0).write64(RTADDR, root);
        machine.registers(0).write32(GCMD, KEEP | SRTP);
        machine.run(1);
        machine.answer(0, READ) == Answer::Memory(0x45_6678.into())
    });
    assert!(seen_early.count() < 20);
}

#[test]
fn a_changed_answer_and_a_reach_into_the_capture_kernel_are_violations() {
    let machine = scenario().machine();
    let mut frames = machine.frames(16);
    let (root, level1) = own_tables(&mut frames);
    machine.guard(Vec::new());
    assert_eq!(machine.violations(), []);
    take_root(&mut machine.registers(0), root);
    assert!(machine.violations().iter().any(|violation| matches!(violation, Violation::Continuity { .. })));
    assert_eq!(machine.trespasses(0), []);
    frames.store(level1.into(), 5, 0x100_0001);
    frames.publish(level1.into(), 5..6);
    machine.run(5);
    assert!(machine.violations().iter().any(|violation| matches!(violation, Violation::Isolation { .. })));
    assert_eq!(machine.trespasses(0).len(), 1);
}

#[test]
fn turning_translation_off_is_a_violation_at_once() {
    let machine = scenario().machine();
    command(&mut machine.registers(0), 1 << 25);
    let violations = machine.violations();
    assert!(violations.contains(&Violation::Misuse("translation was turned off")));
    assert!(violations.iter().any(|violation| matches!(violation, Violation::Continuity { .. })));
}

#[test]
fn a_chore_that_is_never_done_never_shows_in_the_status() {
    let stuck = Habits::default().with(Chore::TakeRoot, Habit::Never);
    let machine = with(|unit| unit.habits = stuck).machine();
    let mut frames = machine.frames(16);
    let (root, _) = own_tables(&mut frames);
    take_root(&mut machine.registers(0), root);
    machine.run(10_000);
    assert_eq!(machine.registers(0).read32(GSTS) & SRTP, 0);
    assert_eq!(machine.answer(0, READ), Answer::Memory(0x12_3678.into()));
}

#[test]
fn a_head_that_has_come_to_the_tail_does_not_say_that_all_is_done() {
    let late = |unit: &mut UnitScenario| {
        unit.habits = unit.habits.clone().with(Chore::FinishDescriptor, Habit::After(50));
    };
    let machine = with(late).machine();
    let mut frames = machine.frames(16);
    let mut registers = machine.registers(0);
    let (root, _) = own_tables(&mut frames);
    let queue = frames.allocate().unwrap().get();
    frames.table_mut(queue.into())[..4].copy_from_slice(&[0x11, 0, 0xD2, 0]);
    frames.publish(queue.into(), 0..512);
    registers.write64(IQA, queue);
    command(&mut registers, KEEP | QIE);
    take_root_with_queue(&mut registers, root);
    assert_eq!(machine.access(0, READ), Answer::Memory(0x12_3678.into()));
    registers.write64(IQT, 0x20);
    machine.run(10);
    assert_eq!(registers.read64(IQH), 0x20);
    assert_eq!(machine.access(0, READ), Answer::Memory(0x12_3678.into()));
    machine.run(100);
    assert_eq!(machine.access(0, READ), Answer::Memory(0x45_6678.into()));
}

fn take_root_with_queue(registers: &mut UnitRegisters, root: u64) {
    registers.write64(RTADDR, root);
    command(registers, KEEP | QIE | SRTP);
}

#[test]
fn a_descriptor_that_makes_no_sense_stops_the_queue_there() {
    let machine = with(|unit| unit.queue = OldQueue::Stopped).machine();
    let registers = machine.registers(0);
    machine.run(20);
    assert_eq!(registers.read32(FSTS) & 0x10, 0x10);
    assert_ne!(registers.read64(IQH), registers.read64(IQT));
}

#[test]
fn the_old_kernels_waits_may_report_and_count_as_no_change() {
    let machine = with(|unit| unit.queue = OldQueue::Busy(3)).machine();
    machine.run(100);
    assert_eq!(machine.registers(0).read64(IQH), machine.registers(0).read64(IQT));
    assert_eq!((machine.old_pages_changed(), machine.violations()), (vec![], vec![]));
}

/// Five levels, and pages of 2 MiB and 1 GiB, each entered by its own nine bits.
#[test]
fn superpages_keep_the_low_bits_of_the_address() {
    let mut scenario = scenario();
    let capability = &mut scenario.units[0].traits.capability;
    *capability = capability.with_sagaw(8).with_mgaw(56).with_sslps(3);
    scenario.memory.push((Range::from(0x1_0000_0000..0x1_8000_0000), MemoryKind::Old));
    let iova = 0x01AB_CDEF_4000_0000;
    scenario.domains = vec![Domain {
        id: 7,
        width: AddressWidth::BITS_57,
        mappings: vec![
            Mapping {
                iova: iova.into(),
                memory: 0x1_4000_0000.into(),
                level: Level::THREE,
                permission: Permission::ReadWrite,
            },
            Mapping {
                iova: 0x40_0000.into(),
                memory: 0x60_0000.into(),
                level: Level::TWO,
                permission: Permission::ReadWrite,
            },
        ],
        ..Domain::default()
    }];
    let machine = scenario.machine();
    let answer = |iova: u64| machine.answer(0, Access { iova: iova.into(), ..READ });
    assert_eq!(answer(iova + 0x2345_6789), Answer::Memory(0x1_6345_6789.into()));
    assert_eq!(answer(0x41_2345), Answer::Memory(0x61_2345.into()));
    assert_eq!(answer(0x60_0000), Answer::Blocked(FaultReason::READ.into()));
    assert_eq!(answer(1 << 57), Answer::Blocked(FaultReason::ADDRESS_BEYOND_WIDTH.into()));
    assert_eq!(answer(0xFEE0_1000), Answer::Interrupt);
}

fn machine_with_leaf(word: u64) -> (Machine, Answer) {
    let machine = scenario().machine();
    let mut frames = machine.frames(16);
    let (root, level1) = own_tables(&mut frames);
    frames.table_mut(level1.into())[5] = word;
    frames.publish(level1.into(), 0..512);
    take_root(&mut machine.registers(0), root);
    let answer = machine.answer(0, READ);
    (machine, answer)
}

#[test]
fn entries_that_hardware_refuses_are_refused_for_its_reasons() {
    assert_eq!(machine_with_leaf(0).1, Answer::Blocked(FaultReason(6).into()));
    assert_eq!(machine_with_leaf(0x45_6002).1, Answer::Blocked(FaultReason(6).into()));
    assert_eq!(machine_with_leaf(1 << 39 | 1).1, Answer::Blocked(FaultReason(0xC).into()));
    assert_eq!(machine_with_leaf(0xFEE0_0001).1, Answer::Blocked(FaultReason(0xE).into()));
    let strange = Access { source: 0x0018, ..READ };
    assert_eq!(machine_with_leaf(1).0.answer(0, strange), Answer::Blocked(FaultReason(2).into()));
    let other_bus = Access { source: 0x0118, ..READ };
    assert_eq!(machine_with_leaf(1).0.answer(0, other_bus), Answer::Blocked(FaultReason(1).into()));
}

/// With bit 10 of RTADDR, root words cover half a bus, context entries have 32 bytes, PASID table entries 64.
#[test]
fn scalable_tables_are_read_as_the_specification_lays_them_out() {
    let scalable =
        |unit: &mut UnitScenario| unit.traits.extended = unit.traits.extended.with_smts(true).with_ssts(true);
    let machine = with(scalable).machine();
    let mut frames = machine.frames(16);
    let (_, level1) = own_tables(&mut frames);
    let [root, context, directory, pasids, level3, level2] =
        [(); 6].map(|()| frames.allocate().expect("a frame").get());
    let entries = [
        (root, 0, context | 1),
        (context, 0x10 * 4, directory | 1),
        (directory, 0, pasids | 1),
        (pasids, 0, level3 | 2 << 6 | 1 << 2 | 1),
        (pasids, 1, 9),
        (level3, 0, level2 | 3),
        (level2, 0, level1 | 3),
    ];
    fill(&mut frames, &entries);
    take_root(&mut machine.registers(0), root | 1 << 10);
    assert_eq!(machine.answer(0, READ), Answer::Memory(0x45_6678.into()));
    let of_process = Access { pasid: Some(0), ..READ };
    assert_eq!(machine.answer(0, of_process), Answer::Blocked(FaultReason(0x45).into()), "PASIDE is clear");
    let upper_half = Access { source: 0x0090, ..READ };
    assert_eq!(machine.answer(0, upper_half), Answer::Blocked(FaultReason(0x39).into()));
}
