//! AMD-Vi's unit by itself: a scripted start-up, and each rule of the hardware as seen from outside.
//!
//! Register offsets, commands and table words here are numbers from the specification, not from the `amdvi` crate, so that a
//! wrong layout there cannot cancel out between the model and the code that is tested on it.

mod amdvi_kernel;

use amdvi_kernel::{
    CMD_HEAD, CMD_TAIL, CONTROL, DEVICE, DEVICE_TABLE, DOMAIN, EVENT_LOG, EVENT_TAIL, Kernel, READ, RUNS,
    STATUS, hoarding, scenario, with,
};
use machine::{Frames, Range, Registers};
use model::amdvi::Scenario;
use model::amdvi::damage::{Damage, Harm, Victim};
use model::amdvi::scenario::{
    DeviceTlb, ExcludedDevices, Exclusion, Interrupts, Lock, OldCommands, OldLog, Others, Power,
    UnitScenario, Writes,
};
use model::amdvi::walk::Abort;
use model::habits::{Chore, Habit, Junk};
use model::{Access, Answer, Direction, Machine, MemoryKind, Requester, Violation};

/// The answers before and after the takeover of these tests.
const OLD: Answer = Answer::Memory(machine::PhysicalAddress::new(0x12_3678));
const NEW: Answer = Answer::Memory(machine::PhysicalAddress::new(0x45_6678));

fn blocked(abort: Abort) -> Answer {
    Answer::Blocked(abort.into())
}

/// 1. The dead kernel left translation on: 00:02.0 reads 0x5678 and reaches 0x12_3678.
/// 2. The command buffer is turned off, moved, and turned on: the status follows.
/// 3. Our device table is written to the base: the tables in force lead to 0x45_6678 at once, but the device still gets the
///    cached answer.
/// 4. Its entry is invalidated: translations are tagged by domain-id, so the device still gets the same answer.
/// 5. The domain's translations are invalidated: the device reaches 0x45_6678.
/// 6. A completion wait stores its data.
/// 7. The device writes: not allowed. The event log, which we moved, says who, where and why.
#[test]
fn a_unit_from_the_panic_to_its_own_device_table() {
    let machine = hoarding(scenario()).machine();
    let mut kernel = Kernel::new(&machine);
    assert_eq!((kernel.registers.read64(CONTROL), kernel.registers.read64(STATUS) & RUNS), (0x3_148F, 0x18));
    assert_eq!(machine.access(0, READ), OLD);

    kernel.take_buffers();
    let table = kernel.own_tables();
    kernel.registers.write64(DEVICE_TABLE, table | 1);
    assert_eq!((machine.answer(0, READ), machine.access(0, READ)), (NEW, OLD));

    kernel.command([2 << 60 | u64::from(DEVICE), 0]);
    assert_eq!(machine.access(0, READ), OLD);
    kernel.command([3 << 60 | DOMAIN << 32, 0x7FFF_FFFF_FFFF_F003]);
    assert_eq!(machine.access(0, READ), NEW);

    let semaphore = kernel.frames.allocate().unwrap();
    kernel.frames.publish(semaphore, 0..512);
    kernel.command([1 << 60 | semaphore.get() | 1, 0x1234_5678_9ABC]);
    assert_eq!(kernel.frames.table(semaphore)[0], 0x1234_5678_9ABC);
    assert_eq!(kernel.registers.read64(CMD_HEAD), kernel.registers.read64(CMD_TAIL));

    let before = kernel.registers.read64(EVENT_TAIL);
    let write = Access { direction: Direction::Write, ..READ };
    assert_eq!(machine.access(0, write), blocked(Abort::NotAllowed));
    assert_eq!(kernel.registers.read64(EVENT_TAIL), before + 16);
    let event = [0, 1].map(|word| kernel.frames.table(kernel.events)[before as usize / 8 + word]);
    assert_eq!(event, [2 << 60 | 1 << 54 | 1 << 53 | 1 << 52 | DOMAIN << 32 | u64::from(DEVICE), 0x5678]);
    assert_eq!(kernel.registers.read64(STATUS) & 2, 2);
    kernel.registers.write64(STATUS, 2);
    assert_eq!(kernel.registers.read64(STATUS) & 2, 0);
    assert!(!machine.violations().iter().any(|violation| matches!(violation, Violation::Misuse(_))));
}

/// Says what the device reads after the leaf of 0x5000 was changed, and the entry above it too, and after a command.
fn after(command: [u64; 2]) -> [Answer; 2] {
    let machine = hoarding(scenario()).machine();
    let mut kernel = Kernel::new(&machine);
    kernel.take_buffers();
    let table = kernel.own_tables();
    kernel.registers.write64(DEVICE_TABLE, table | 1);
    kernel.command([2 << 60 | u64::from(DEVICE), 0]);
    kernel.command([3 << 60 | DOMAIN << 32, 0x7FFF_FFFF_FFFF_F003]);
    assert_eq!(machine.access(0, READ), NEW);
    kernel.map(5, 0x78_9000);
    kernel.command(command);
    let leaf = machine.access(0, READ);
    kernel.command([3 << 60 | DOMAIN << 32, 0x7FFF_FFFF_FFFF_F003]);
    machine.access(0, READ);
    kernel.swap_lowest_table(0x9A_B000);
    kernel.command(command);
    [leaf, machine.access(0, READ)]
}

#[test]
fn each_invalidation_covers_what_it_says_and_no_more() {
    let leaf = Answer::Memory(0x78_9678.into());
    let table = Answer::Memory(0x9A_B678.into());
    let pages = |low: u64, high: u64| [3 << 60 | low << 32, high];
    // The page alone; the page and the tables on the way; 16 KiB around it; everything.
    assert_eq!(after(pages(DOMAIN, 0x5000)), [leaf, leaf]);
    assert_eq!(after(pages(DOMAIN, 0x5002)), [leaf, table]);
    assert_eq!(after(pages(DOMAIN, 0x5003)), [leaf, table]);
    assert_eq!(after(pages(DOMAIN, 0x7FFF_FFFF_FFFF_F003)), [leaf, table]);
    assert_eq!(after([8 << 60, 0]), [leaf, table]);
    // A neighbour; another domain; the device's entry; its interrupts; nothing.
    let stale = [NEW, leaf];
    assert_eq!(after(pages(DOMAIN, 0x6000)), stale);
    assert_eq!(after(pages(DOMAIN + 1, 0x7FFF_FFFF_FFFF_F003)), stale);
    assert_eq!(after([2 << 60 | u64::from(DEVICE), 0]), stale);
    assert_eq!(after([5 << 60 | u64::from(DEVICE), 0]), stale);
}

#[test]
fn without_ia_the_command_that_forgets_everything_stops_the_buffer() {
    let machine = with(|unit| unit.traits.feature.set_ia(false)).machine();
    let mut kernel = Kernel::new(&machine);
    kernel.take_buffers();
    kernel.command([8 << 60, 0]);
    assert_eq!(kernel.registers.read64(STATUS) & 0x10, 0, "CmdBufRun");
    assert_eq!(kernel.registers.read64(CMD_HEAD), 0);
    assert_eq!(kernel.frames.table(kernel.events)[0] >> 60, 5, "ILLEGAL_COMMAND_ERROR");
    assert_eq!(kernel.frames.table(kernel.events)[1], kernel.buffer.get());
}

/// Each state that an entry can be in, by its first word; the device works at 0x5678.
#[test]
fn a_device_table_entry_says_what_becomes_of_requests() {
    let answers = |word: u64| {
        let damage =
            vec![Damage { victim: Victim::Entry { source: DEVICE, word: 0 }, harm: Harm::Overwrite(word) }];
        let machine = Scenario { damage, ..scenario() }.machine();
        let write = Access { direction: Direction::Write, ..READ };
        [READ, write].map(|access| {
            let cold = machine.answer(0, access);
            assert_eq!(machine.access(0, access), cold, "{word:#x}");
            cold
        })
    };
    let passes = Answer::Memory(0x5678.into());
    let no = blocked(Abort::NotAllowed);
    assert_eq!(answers(0), [passes; 2]);
    assert_eq!(answers(0x6000_0000_0000_0000), [passes; 2], "V = 0");
    assert_eq!(answers(1), [blocked(Abort::NoTranslation); 2], "TV = 0");
    assert_eq!(answers(0x6000_0000_0000_0003), [passes; 2], "mode 0");
    assert_eq!(answers(0x2000_0000_0000_0003), [passes, no], "IR alone");
    assert_eq!(answers(3), [no; 2], "neither IR nor IW");
    assert_eq!(answers(0x6000_0000_0000_0007), [blocked(Abort::IllegalEntry); 2], "a reserved bit");
    assert_eq!(answers(0x6000_0000_0000_0E03), [blocked(Abort::IllegalEntry); 2], "mode 7");
    assert_eq!(answers(0x6000_0000_FEB0_0603), [blocked(Abort::TableUnreadable); 2]);
}

#[test]
fn devices_beyond_the_table_pass_and_those_that_nobody_set_up_are_as_the_table_says() {
    let answer = |others: Others, source: u16| {
        let machine = with(|unit| unit.others = others).machine();
        machine.answer(0, Access { source, ..READ })
    };
    let passes = Answer::Memory(0x5678.into());
    assert_eq!(answer(Others::Blocked, 0x00FF), blocked(Abort::NotAllowed));
    assert_eq!(answer(Others::Aborted, 0x00FF), blocked(Abort::NoTranslation));
    assert_eq!(answer(Others::Untranslated, 0x00FF), passes);
    assert_eq!(answer(Others::Blocked, 0x0100), passes, "two pages have 256 entries");
}

#[test]
fn a_table_in_segments_is_selected_by_the_highest_bits() {
    let machine = |segments: u8, source: u16| {
        let mut scenario = with(|unit| unit.segments = segments);
        scenario.functions[0].source = source;
        scenario.machine()
    };
    for (segments, source) in [(0, 0x0010), (1, 0x8010), (2, 0xC010), (3, 0xE010), (3, 0x2010)] {
        let machine = machine(segments, source);
        assert_eq!(machine.answer(0, Access { source, ..READ }), OLD);
        let beyond = Access { source: source ^ 0x1000, ..READ };
        assert_eq!(machine.answer(0, beyond), Answer::Memory(0x5678.into()));
        let other = Access { source: source ^ 0x8000, ..READ };
        assert_ne!(machine.answer(0, other), OLD);
    }
}

#[test]
fn the_exclusion_range_passes_for_all_or_for_those_whose_entry_says_so() {
    use model::amdvi::scenario::Excluded;
    let passes = Answer::Memory(0x5678.into());
    let answer = |devices, excluded, range: std::ops::Range<u64>| {
        let mut scenario = with(|unit| unit.exclusion = Some(Exclusion { range: range.into(), devices }));
        scenario.functions[0].excluded = excluded;
        let machine = scenario.machine();
        assert_eq!(machine.answer(0, READ), machine.access(0, READ));
        machine.answer(0, READ)
    };
    assert_eq!(answer(ExcludedDevices::All, Excluded::No, 0x4000..0x6000), passes);
    assert_eq!(answer(ExcludedDevices::Some, Excluded::Yes, 0x4000..0x6000), passes);
    assert_eq!(answer(ExcludedDevices::Some, Excluded::No, 0x4000..0x6000), OLD);
    assert_eq!(answer(ExcludedDevices::All, Excluded::Yes, 0x6000..0x8000), OLD);
}

#[test]
fn interrupts_go_through_the_table_of_their_device_and_its_cache() {
    let message = Access { iova: 0xFEE0_0014.into(), direction: Direction::Write, ..READ };
    let machine = hoarding(scenario()).machine();
    let Answer::Remapped(entry) = machine.answer(0, message) else { panic!("not remapped") };
    assert_eq!(machine.access(0, message), Answer::Remapped(entry));
    let passed = with(|unit| unit.interrupts = Interrupts::Passed).machine();
    assert_eq!(passed.answer(0, message), Answer::Interrupt);
    let mut kernel = Kernel::new(&machine);
    kernel.take_buffers();
    let table = kernel.own_tables();
    kernel.registers.write64(DEVICE_TABLE, table | 1);
    kernel.command([2 << 60 | u64::from(DEVICE), 0]);
    assert_eq!(machine.answer(0, message), Answer::Interrupt, "our entry has no IV");
    assert_eq!(machine.access(0, message), Answer::Remapped(entry));
    kernel.command([5 << 60 | u64::from(DEVICE), 0]);
    assert_eq!(machine.access(0, message), Answer::Interrupt);
}

#[test]
fn addresses_of_hypertransport_are_no_memory() {
    let special = Access { iova: 0xFD_0000_0000.into(), ..READ };
    assert_eq!(scenario().machine().answer(0, special), blocked(Abort::Special));
    let ignored = with(|unit| unit.traits.feature2.set_ht_range_ignore(true)).machine();
    assert_eq!(ignored.answer(0, special), blocked(Abort::BeyondWidth));
}

fn status_after_stop(unit: impl FnOnce(&mut UnitScenario)) -> (u64, Machine) {
    let machine = with(unit).machine();
    let mut registers = machine.registers(0);
    registers.write64(CONTROL, 0x3_148F & !(1 << 12));
    machine.run(5_000);
    (registers.read64(STATUS) & 0x10, machine)
}

#[test]
fn the_buffer_that_a_dead_kernel_left_is_idle_or_busy_or_stopped_or_stuck() {
    let state = |unit: fn(&mut UnitScenario)| {
        let machine = with(unit).machine();
        let registers = machine.registers(0);
        machine.run(5_000);
        let moved = registers.read64(CMD_HEAD) == registers.read64(CMD_TAIL);
        assert_eq!((machine.old_pages_changed(), machine.violations()), (vec![], vec![]));
        (registers.read64(CONTROL) & 1 << 12 != 0, registers.read64(STATUS) & 0x10 != 0, moved)
    };
    assert_eq!(state(|_| ()), (true, true, true));
    assert_eq!(state(|unit| unit.commands = OldCommands::Busy(3)), (true, true, true));
    assert_eq!(state(|unit| unit.commands = OldCommands::Stopped), (true, false, false));
    assert_eq!(state(|unit| unit.commands = OldCommands::Off), (false, false, false));
    let stuck = |unit: &mut UnitScenario| {
        unit.commands = OldCommands::Busy(3);
        unit.habits = unit.habits.clone().with(Chore::FetchDescriptor, Habit::Never);
    };
    assert_eq!(state(stuck), (true, true, false));
}

#[test]
fn a_buffer_that_is_turned_off_stops_unless_the_unit_never_gets_there() {
    assert_eq!(status_after_stop(|_| ()).0, 0);
    assert_eq!(status_after_stop(|unit| unit.commands = OldCommands::Busy(3)).0, 0);
    let never = |chore| {
        move |unit: &mut UnitScenario| {
            unit.commands = OldCommands::Busy(3);
            unit.habits = unit.habits.clone().with(chore, Habit::Never);
        }
    };
    assert_eq!(status_after_stop(never(Chore::StopCommands)).0, 0x10);
    let (status, _) = status_after_stop(|unit| {
        unit.commands = OldCommands::Busy(3);
        unit.habits = unit.habits.clone().with(Chore::FinishDescriptor, Habit::Never);
    });
    // Nothing was fetched before it was turned off, or something that never ends.
    assert!(status == 0 || status == 0x10);
}

#[test]
fn a_buffer_that_is_moved_while_it_runs_is_misuse() {
    let machine = scenario().machine();
    let mut registers = machine.registers(0);
    registers.write64(8, 8 << 56 | 0x100_0000);
    machine.run(1);
    let moved = Violation::Misuse("a buffer was moved while the unit used it");
    assert!(machine.violations().contains(&moved));
}

#[test]
fn turning_translation_off_is_a_violation_at_once() {
    let machine = scenario().machine();
    machine.registers(0).write64(CONTROL, 0x3_148E);
    machine.run(5);
    let violations = machine.violations();
    assert!(violations.contains(&Violation::Misuse("translation was turned off")));
    assert!(violations.iter().any(|violation| matches!(violation, Violation::Continuity { .. })));
    assert!(!machine.translates(0));
}

#[test]
fn a_unit_that_nobody_turned_on_translates_nothing() {
    let machine = with(|unit| unit.power = Power::Off).machine();
    assert_eq!(machine.answer(0, READ), Answer::Memory(0x5678.into()));
    assert_eq!(machine.access(0, READ), Answer::Memory(0x5678.into()));
    assert_eq!(machine.registers(0).read64(CONTROL), 0x3_148E);
}

/// A log of 512 entries is full with 511.
#[test]
fn a_full_event_log_overflows_and_stops_until_it_is_started_again() {
    let machine = with(|unit| unit.events = OldLog::Full).machine();
    let mut registers = machine.registers(0);
    assert_eq!(registers.read64(STATUS) & 0b1001, 0b0001, "EventOverflow, and not EventLogRun");
    assert_eq!(registers.read64(EVENT_TAIL), 511 * 16);
    machine.silence(DEVICE);
    let stray = Access { iova: 0x7000.into(), ..READ };
    assert_eq!(machine.access(0, stray), blocked(Abort::NotPresent));
    assert_eq!(registers.read64(EVENT_TAIL), 511 * 16);
    registers.write64(CONTROL, 0x3_148F & !(3 << 2));
    machine.run(50);
    registers.write64(STATUS, 1);
    let mut kernel = Kernel::new(&machine);
    kernel.take_buffers();
    assert_eq!(kernel.registers.read64(STATUS) & 0b1001, 0b1000);
    machine.access(0, stray);
    assert_eq!(kernel.registers.read64(EVENT_TAIL), 16);
}

#[test]
fn the_event_log_runs_on_where_the_unit_never_stops_it() {
    let stuck = |unit: &mut UnitScenario| {
        unit.habits = unit.habits.clone().with(Chore::SwitchEvents, Habit::Never);
    };
    let machine = with(stuck).machine();
    machine.silence(DEVICE);
    let mut registers = machine.registers(0);
    registers.write64(CONTROL, 0x3_148F & !(3 << 2));
    machine.run(5_000);
    assert_eq!(registers.read64(STATUS) & 8, 8, "EventLogRun");
}

/// Page requests and guest interrupts go on being logged until somebody stops that. Before, that is the old kernel's doing;
/// once it is known that its memory must stay as it is, it is a violation.
#[test]
fn logs_of_others_go_on_writing_old_memory_until_they_are_stopped() {
    let logging = |unit: &mut UnitScenario| unit.logs = OldLog::Running;
    let machine = with(logging).machine();
    let registers = machine.registers(0);
    let control = registers.read64(CONTROL);
    assert_eq!(control, 0x3_148F | 7 << 13 | 3 << 28);
    machine.run(200);
    assert!(registers.read64(0x2038) > 0 && registers.read64(0x2048) > 0, "both tails");
    assert_eq!((machine.old_pages_changed(), machine.violations()), (vec![], vec![]));
    machine.guard(Vec::new());
    machine.run(100);
    assert!(machine.violations().iter().any(|violation| matches!(violation, Violation::Logged { .. })));

    let machine = with(logging).machine();
    machine.silence(DEVICE);
    let mut registers = machine.registers(0);
    registers.write64(CONTROL, 0x3_148F & !(3 << 2));
    machine.run(50);
    assert_eq!(registers.read64(STATUS) & 0x180, 0, "PprLogRun, GALogRun");
    machine.guard(Vec::new());
    machine.run(200);
    assert_eq!(machine.violations(), []);
}

#[test]
fn where_registers_are_locked_bases_stay_and_waits_store_into_one_page_only() {
    let machine = with(|unit| unit.lock = Lock::Locked).machine();
    let mut registers = machine.registers(0);
    let bases = [0x00, 0x08, 0x10, 0x38, 0xE0, 0x20, 0x28];
    let before = bases.map(|base| registers.read64(base));
    let store = registers.read64(0x20);
    for base in bases {
        registers.write64(base, 0x100_0000);
    }
    registers.write32(4, 1);
    assert_eq!(bases.map(|base| registers.read64(base)), before);
    assert_eq!(machine.answer(0, READ), OLD);
    assert_eq!(registers.read64(0x28) & !0xFFF, store & !0xFFF, "one page");
}

/// Between the two halves devices make requests with a base that is half old, half new.
#[test]
fn a_base_that_is_written_in_halves_is_torn_for_a_moment() {
    let torn = |writes, above: u64| {
        let mut scenario = with(|unit| unit.writes = writes);
        let high = above << 32;
        scenario.memory.push((Range::from(high + 0x100_0000..high + 0x110_0000), MemoryKind::Capture));
        scenario.memory.retain(|(range, kind)| *kind != MemoryKind::Capture || range.start.get() >= high);
        let machine = scenario.machine();
        let mut kernel = Kernel::beside_devices(&machine);
        kernel.take_buffers();
        let table = kernel.tables_like_the_old_ones(&machine.old_memory());
        kernel.registers.write64(DEVICE_TABLE, table | 1);
        kernel.command([8 << 60, 0]);
        assert_eq!(machine.access(0, READ), OLD);
        machine.violations().iter().any(|violation| matches!(violation, Violation::Continuity { .. }))
    };
    assert!(!torn(Writes::Whole, 0) && !torn(Writes::Whole, 1) && !torn(Writes::Halves, 0));
    assert!(torn(Writes::Halves, 1));
}

#[test]
fn a_unit_that_answers_nothing_reads_as_ones() {
    let dead = |unit: &mut UnitScenario| {
        let all = [CONTROL, STATUS, CMD_HEAD, CMD_TAIL, DEVICE_TABLE, EVENT_LOG];
        let junk = |register| Junk { register, reads: 0..u64::MAX, value: u64::MAX };
        unit.habits = all
            .into_iter()
            .fold(unit.habits.clone(), |habits, register| habits.with_junk(junk(register)).deaf_to(register));
    };
    let machine = with(dead).machine();
    let mut registers = machine.registers(0);
    registers.write64(DEVICE_TABLE, 0x100_0001);
    assert_eq!([DEVICE_TABLE, STATUS].map(|register| registers.read64(register)), [u64::MAX; 2]);
    assert_eq!(machine.answer(0, READ), OLD);
}

/// A device-TLB holds what it got until it is told, in time, to forget it; the unit only checks whether it may have one.
#[test]
fn a_device_tlb_answers_until_it_is_told_to_forget() {
    let machine = |manner| {
        let mut scenario = hoarding(scenario());
        scenario.functions[0].device_tlb = Some(manner);
        scenario.machine()
    };
    let told = |manner| {
        let machine = machine(manner);
        let mut kernel = Kernel::new(&machine);
        kernel.take_buffers();
        let table = kernel.own_tables_with(1 << 32);
        kernel.registers.write64(DEVICE_TABLE, table | 1);
        kernel.command([8 << 60, 0]);
        assert_eq!(machine.access(0, READ), OLD);
        assert!(machine.keeps_untold(0, DEVICE));
        let [source, device] = [u64::from(DEVICE) << 32, u64::from(DEVICE)];
        kernel.command([4 << 60 | source | 1 << 24 | device, 0x7FFF_FFFF_FFFF_F001]);
        let semaphore = kernel.frames.allocate().unwrap();
        kernel.frames.publish(semaphore, 0..512);
        kernel.command([1 << 60 | semaphore.get() | 1, 7]);
        let code = kernel.frames.table(kernel.events)[0] >> 60;
        (machine.access(0, READ), kernel.frames.table(semaphore)[0], code)
    };
    assert_eq!(told(DeviceTlb::Answers), (NEW, 7, 0));
    assert_eq!(told(DeviceTlb::Silent), (OLD, 7, 7), "IOTLB_INV_TIMEOUT");
    assert_eq!(told(DeviceTlb::Stalls), (OLD, 0, 0));
    let machine = machine(DeviceTlb::Answers);
    let mut kernel = Kernel::new(&machine);
    kernel.take_buffers();
    let table = kernel.own_tables();
    kernel.registers.write64(DEVICE_TABLE, table | 1);
    kernel.command([8 << 60, 0]);
    assert_eq!(machine.access(0, READ), blocked(Abort::InvalidRequest), "our entry has no I");
    assert!(!machine.keeps_untold(0, DEVICE));
}

#[test]
fn a_request_with_a_pasid_needs_guest_tables() {
    let machine = scenario().machine();
    let with_pasid = Requester { source: DEVICE, pasid: Some(1) }.access(0x5678, Direction::Read);
    assert_eq!(machine.answer(0, with_pasid), blocked(Abort::InvalidRequest));
}

/// A unit answers a device's request for a translation so that the device gets what it would get without one: its large page reaches
/// into the exclusion range, and what it keeps of it does not.
#[test]
fn a_device_tlb_keeps_nothing_of_the_exclusion_range() {
    let mut scenario = hoarding(scenario());
    let range = Range::from(0x7000..0x8000);
    scenario.units[0].exclusion = Some(Exclusion { range, devices: ExcludedDevices::All });
    let large = &mut scenario.domains[0].mappings[0];
    (large.iova, large.memory, large.level) = (0.into(), 0x20_0000.into(), machine::Level::TWO);
    scenario.functions[0].device_tlb = Some(DeviceTlb::Answers);
    let machine = scenario.machine();
    machine.silence(DEVICE);
    let inside = Access { iova: 0x7123.into(), ..READ };
    for access in [READ, inside, READ] {
        assert_eq!(machine.access(0, access), machine.answer(0, access), "{access}");
    }
    assert_eq!(machine.answer(0, inside), Answer::Memory(0x7123.into()));
}
