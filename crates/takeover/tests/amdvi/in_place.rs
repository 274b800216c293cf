//! Units that go on with what the dead kernel made: registers that are locked, bases that cannot move in one step.

use ::amdvi::control::BufferBase;
use ::amdvi::registers::{COMMAND_BUFFER, COMMAND_TAIL, DEVICE_TABLE, Register};
use machine::{Frames, PAGE_SIZE, Permission, PhysicalAddress, Range, Registers, SourceId, Table};
use model::amdvi::Scenario;
use model::amdvi::scenario::{
    Attached, DeviceTlb, Function, Lock, OldCommands, OldLog, Others, TablePlace, Writes,
};
use model::habits::{Intrusion, Junk};
use model::trace::Event;
use model::{Machine, MemoryKind, Own, OwnFrames, Requester, Rights, Violation};
use takeover::failure::{InForce, Reason};
use takeover::hazard::{Danger, HazardPlace, Obstacle};
use takeover::{AttachError, Inherited, Outcome, UnitError};
use verdict::{isolation, limits, told};

use crate::common::{PLENTY, Taken, take_over};
use crate::story::{DISK, DOMAIN, FEATURES, IOVA, PAGE, dangers, reach, with};

/// EFR.SNPSup.
const SNP: u64 = 1 << 63;

/// A unit whose registers are locked, as secure nested paging does it.
pub(crate) fn locked() -> Scenario {
    with(|unit| {
        unit.lock = Lock::Locked;
        unit.traits.feature = (FEATURES | SNP).into();
    })
}

/// A unit that takes its base in two halves, and whose device table is above 4 GiB. Ours is not.
pub(crate) fn halved() -> Scenario {
    let scenario = with(|unit| (unit.writes, unit.table_place) = (Writes::Halves, TablePlace::High));
    with_high_memory(scenario)
}

fn with_high_memory(mut scenario: Scenario) -> Scenario {
    scenario.memory.push((Range::from(0x1_0000_0000..0x1_0100_0000), MemoryKind::Old));
    scenario
}

/// The memory that the dead kernel's device table is in.
pub(crate) fn table(machine: &Machine) -> Range<PhysicalAddress> {
    let start = machine.root(0);
    Range::new(start, start.saturating_add(machine.device_entries(0) as u64 * 32))
}

/// The memory that the unit's command buffer is in.
pub(crate) fn commands(machine: &Machine) -> Range<PhysicalAddress> {
    let base = BufferBase::from_bits(machine.registers(0).read64(COMMAND_BUFFER.offset));
    Range::sized(base.address(), base.entries().unwrap() as u64 * 16).unwrap()
}

/// Whatever is not about logs, which stay where they are.
pub(crate) fn violations(machine: &Machine) -> Vec<Violation> {
    let is_of_log = |violation: &Violation| matches!(violation, Violation::Logged { .. });
    machine.violations().into_iter().filter(|violation| !is_of_log(violation)).collect()
}

/// Takes a machine over, and checks that the table of before is in force, that no device noticed, and that nothing but it and the
/// command buffer was written.
fn in_place(scenario: &Scenario, then: impl FnOnce(&Machine, &mut Taken<'_>, &mut OwnFrames)) {
    let machine = scenario.machine();
    let (mut frames, clock) = (machine.frames(PLENTY), machine.clock());
    let old = table(&machine);
    let mut taken = take_over(scenario, &machine, &mut frames, &clock, &limits()).unwrap();
    assert_eq!(taken[0].report().root, taken[0].report().found.root());
    then(&machine, &mut taken[0], &mut frames);
    machine.run(300);
    assert_eq!(violations(&machine), [], "{}", told(&machine));
    isolation::check(&machine, 0).unwrap();
    assert_eq!(table(&machine), old);
    let commands = commands(&machine);
    let may_change = |page: &PhysicalAddress| old.contains(*page) || commands.contains(*page);
    let changed = machine.old_pages_changed();
    assert!(changed.iter().all(may_change), "{changed:x?}");
    assert!(changed.iter().any(|page| old.contains(*page)), "the table was not changed");
}

/// What the report says of a unit with a locked register.
fn said_of_locked(machine: &Machine) -> [(HazardPlace, Danger, Outcome); 2] {
    let table = Danger::TableInPlace { table: machine.root(0), why: Obstacle::Locked };
    [Danger::BuffersInPlace, table].map(|danger| (HazardPlace::Unit, danger, Outcome::KeptInPlace))
}

#[test]
fn a_locked_unit_is_taken_over_with_what_it_has() {
    in_place(&locked(), |machine, taken, _| {
        assert_eq!(dangers(taken), said_of_locked(machine));
        assert_eq!(reach(machine, DISK, IOVA + 0x12), Some(PAGE + 0x12));
    });
}

/// Control may be locked as well: nothing is turned off that might not go on again.
#[test]
fn a_locked_unit_is_never_told_to_stop_its_buffer() {
    in_place(&locked(), |machine, _, _| {
        let trace = machine.trace();
        let mut controlled = trace.events().iter().filter_map(|(_, event)| match event {
            Event::Controlled { control } => Some(control),
            _ => None,
        });
        assert!(controlled.all(|control| control.command_buffer() && control.event_log()), "{trace}");
    });
}

/// Where the register itself is lost on the unit, that shows only when it is written.
#[test]
fn a_unit_that_is_deaf_to_bases_is_taken_over_with_what_it_has() {
    let scenario = with(|unit| unit.lock = Lock::Locked);
    in_place(&scenario, |machine, taken, _| assert_eq!(dangers(taken), said_of_locked(machine)));
    let scenario = with(|unit| unit.habits = unit.habits.clone().deaf_to(0));
    in_place(&scenario, |machine, taken, _| assert_eq!(dangers(taken), said_of_locked(machine)[1..]));
}

/// The base is not written; buffers of our own are in use.
#[test]
fn a_base_that_would_move_across_4_gib_stays() {
    in_place(&halved(), |machine, taken, _| {
        let [(place, Danger::TableInPlace { table, why: Obstacle::Halves { old, .. } }, outcome)] =
            dangers(taken)[..]
        else {
            panic!("{:?}", dangers(taken));
        };
        assert_eq!((place, outcome), (HazardPlace::Unit, Outcome::KeptInPlace));
        assert_eq!((table, old), (machine.root(0), machine.root(0)));
        let own = machine.ranges(MemoryKind::Capture)[0];
        assert!(own.covers(commands(machine)));
    });
}

#[test]
fn a_driver_gets_addresses_by_the_table_in_place_and_loses_them_again() {
    for scenario in [locked(), halved()] {
        in_place(&scenario, |machine, taken, frames| {
            let own = machine.ranges(MemoryKind::Capture)[0];
            let buffer = Range::new((own.end.get() - 2 * PAGE_SIZE).into(), own.end);
            // One that the old kernel did not know, and one that it did.
            for source in [0x20, DISK.source] {
                let requester = Requester { source, pasid: None };
                machine.guard(vec![Own { requester, memory: buffer }]);
                let device = taken.attach(SourceId(source), &[], frames).unwrap();
                let old = machine.old_memory();
                let iova = taken.map(&device, buffer, Permission::ReadWrite, &old, frames).unwrap();
                assert_eq!(reach(machine, requester, iova.get() + 0x1234), Some(buffer.start.get() + 0x1234));
                let mapped = Range::new(iova, iova.saturating_add(buffer.len()));
                taken.unmap(&device, mapped, frames).unwrap();
                assert_eq!(reach(machine, requester, iova.get()), None);
                if source == DISK.source {
                    assert_eq!((device.id, device.inherited), (DOMAIN, Inherited::Tables));
                }
            }
            machine.guard(Vec::new());
        });
    }
}

/// A table of ours would have had an entry for it.
#[test]
fn a_device_for_which_the_table_in_place_has_no_entry_is_named() {
    for mut scenario in [locked(), halved()] {
        scenario.units[0].table_pages = 1;
        scenario.functions.push(Function {
            source: 0x90,
            attached: Attached::Untranslated,
            ..Function::default()
        });
        let machine = scenario.machine();
        let (mut frames, clock) = (machine.frames(PLENTY), machine.clock());
        let mut taken = take_over(&scenario, &machine, &mut frames, &clock, &limits()).unwrap();
        let named = (HazardPlace::Device(SourceId(0x90)), Danger::NoEntry, Outcome::KeptInPlace);
        assert!(dangers(&taken[0]).contains(&named), "{:?}", dangers(&taken[0]));
        let refused = taken[0].attach(SourceId(0x90), &[], &mut frames).unwrap_err();
        assert_eq!(refused, AttachError::NoEntry(SourceId(0x90)));
    }
}

/// Pass-through becomes a map without our memory, in the table in place too; what was blocked stays blocked.
#[test]
fn pass_through_is_fenced_in_place() {
    let function = |source, attached| Function {
        source,
        attached,
        works_at: vec![0x5000.into()],
        ..Function::default()
    };
    for scenario in [locked(), halved()] {
        for others in [Others::Untranslated, Others::Blocked, Others::Aborted] {
            let mut scenario = scenario.clone();
            scenario.units[0].others = others;
            let read_only = Rights { read: true, write: false };
            scenario.functions.extend([
                function(0x18, Attached::PassThrough(3, Rights::ALL)),
                function(0x28, Attached::PassThrough(3, read_only)),
                function(0x38, Attached::Untranslated),
                function(0x48, Attached::Aborted),
            ]);
            in_place(&scenario, |machine, _, _| {
                let own = machine.ranges(MemoryKind::Capture)[0].start.get();
                let reach = |source, iova| reach(machine, Requester { source, pasid: None }, iova);
                assert_eq!((reach(0x18, 0x5000), reach(0x18, own)), (Some(0x5000), None));
                assert_eq!((reach(0x38, 0x5000), reach(0x38, own)), (Some(0x5000), None));
                assert_eq!((reach(0x48, 0x5000), reach(0x28, own)), (None, None));
                let other = (others == Others::Untranslated).then_some(0x5000);
                assert_eq!((reach(0x30, 0x5000), reach(0x30, own)), (other, None));
            });
        }
    }
}

/// The dead kernel's commands may wait in its buffer, or have stopped it; its log may be full; somebody may still write the tail.
#[test]
fn the_dead_kernels_buffer_is_used_whatever_state_it_is_in() {
    let states = [OldCommands::Off, OldCommands::Busy(3), OldCommands::Busy(40), OldCommands::Stopped];
    for commands in states {
        for events in [OldLog::Off, OldLog::Running, OldLog::Full] {
            let mut scenario = locked();
            (scenario.units[0].commands, scenario.units[0].events) = (commands, events);
            in_place(&scenario, |_, taken, _| {
                assert!(taken.report().hazards.count() == 2, "{:?}", dangers(taken));
            });
        }
    }
    for before_access in [20, 60, 200, 400, 600] {
        let mut scenario = locked();
        let intrusion = Intrusion { before_access, register: COMMAND_TAIL.offset, value: 0x40 };
        scenario.units[0].habits = scenario.units[0].habits.clone().with_intrusion(intrusion);
        in_place(&scenario, |_, _, _| {});
    }
}

/// The log in place tells of devices that do not answer; where there is none, nobody knows.
#[test]
fn a_device_that_does_not_answer_is_named_by_the_log_in_place() {
    for events in [OldLog::Off, OldLog::Running, OldLog::Full] {
        for (device_tlb, is_silent) in [(DeviceTlb::Answers, false), (DeviceTlb::Silent, true)] {
            let mut scenario = locked();
            scenario.units[0].events = events;
            scenario.functions[0].device_tlb = Some(device_tlb);
            in_place(&scenario, |_, taken, _| {
                let place = HazardPlace::Device(SourceId(DISK.source));
                let silent = (place, Danger::DeviceTlbSilent, Outcome::KeptInPlace);
                let expected = is_silent || events != OldLog::Running;
                assert_eq!(dangers(taken).contains(&silent), expected, "{events:?} {device_tlb:?}");
            });
        }
    }
}

/// Buffers and tables that are in no memory, or in ours, are not used: the unit is left as it was.
#[test]
fn what_lies_in_no_old_memory_is_not_used() {
    let refused = |register: Register, base: u64| {
        let mut scenario = locked();
        let junk = Junk { register: register.offset, reads: 0..u64::MAX, value: base };
        scenario.units[0].habits = scenario.units[0].habits.clone().with_junk(junk);
        let machine = scenario.machine();
        let (mut frames, clock) = (machine.frames(PLENTY), machine.clock());
        let failure = take_over(&scenario, &machine, &mut frames, &clock, &limits()).unwrap_err();
        machine.run(100);
        assert_eq!(violations(&machine), [], "{}", told(&machine));
        assert_eq!(reach(&machine, DISK, IOVA), Some(PAGE));
        assert_eq!(failure.in_force, InForce::Old);
        failure.reason
    };
    let length = 8 << 56;
    // Registers of a device, a hole, our memory, the end of memory, no length.
    for base in
        [length | 0xFEB0_0000, length | 0x8000_0000, length | 0x180_0000, 15 << 56 | 0x1FF_0000, 0x10_0000]
    {
        let locked = Reason::Unit(UnitError::Locked("CommandBufferBase"));
        assert_eq!(refused(COMMAND_BUFFER, base), locked, "{base:#x}");
    }
    // The second page of the table is ours.
    assert_eq!(refused(DEVICE_TABLE, 0xFF_F001), Reason::Unit(UnitError::Locked("DeviceTableBase")));
}

/// Where some of our memory is below 4 GiB, as a table of the dead kernel's is, our table lies there too, and moves.
#[test]
fn a_low_table_moves_to_low_frames_where_there_are_some() {
    let mut scenario = with(|unit| (unit.writes, unit.table_pages) = (Writes::Halves, 1));
    scenario.memory.retain(|(_, kind)| *kind != MemoryKind::Capture);
    for (capture, moves) in [(0x100_0000..0x104_0000, true), (0x1_0200_0000..0x1_0204_0000, false)] {
        let mut scenario = scenario.clone();
        scenario.memory.push((Range::from(capture), MemoryKind::Capture));
        scenario.memory.push((Range::from(0x1_0000_0000..0x1_0100_0000), MemoryKind::Capture));
        let machine = scenario.machine();
        let (mut frames, clock) = (machine.frames(PLENTY), machine.clock());
        let taken = take_over(&scenario, &machine, &mut frames, &clock, &limits()).unwrap();
        machine.run(100);
        assert_eq!(machine.violations(), [], "{}", told(&machine));
        let of_unit =
            dangers(&taken[0]).into_iter().filter(|(place, ..)| *place == HazardPlace::Unit).count();
        assert_eq!(of_unit == 0, moves);
        assert_eq!(taken[0].report().root != taken[0].report().found.root(), moves);
    }
}

/// Where our frames cannot stand for memory of others', as by default, the base is moved, and that is said.
#[test]
fn without_a_way_to_write_old_memory_a_base_moves_all_the_same() {
    let mut scenario = halved();
    scenario.units[0].writes = Writes::Whole;
    let machine = scenario.machine();
    let (frames, clock) = (machine.frames(PLENTY), machine.clock());
    let mut frames = OwnOnly(frames);
    let taken = take_over(&scenario, &machine, &mut frames, &clock, &limits()).unwrap();
    let said = dangers(&taken[0]);
    assert!(
        matches!(said[..], [(HazardPlace::Unit, Danger::BaseInHalves { .. }, Outcome::Duplicated)]),
        "{said:?}"
    );
    assert!(machine.ranges(MemoryKind::Capture)[0].contains(machine.root(0)));
    assert_eq!(machine.old_pages_changed(), []);
}

/// Frames that are nothing but our own.
pub(crate) struct OwnOnly(pub(crate) OwnFrames);

impl Frames for OwnOnly {
    fn allocate(&mut self) -> Option<PhysicalAddress> {
        self.0.allocate()
    }

    fn allocate_run(&mut self, count: usize) -> Option<PhysicalAddress> {
        self.0.allocate_run(count)
    }

    fn release(&mut self, frame: PhysicalAddress) {
        self.0.release(frame);
    }

    fn available(&self) -> usize {
        self.0.available()
    }

    fn table(&self, frame: PhysicalAddress) -> &Table {
        self.0.table(frame)
    }

    fn table_mut(&mut self, frame: PhysicalAddress) -> &mut Table {
        self.0.table_mut(frame)
    }

    fn load(&self, frame: PhysicalAddress, index: usize) -> u64 {
        self.0.load(frame, index)
    }

    fn store(&mut self, frame: PhysicalAddress, index: usize, entry: u64) {
        self.0.store(frame, index, entry);
    }

    fn publish(&mut self, frame: PhysicalAddress, entries: std::ops::Range<usize>) {
        self.0.publish(frame, entries);
    }
}
