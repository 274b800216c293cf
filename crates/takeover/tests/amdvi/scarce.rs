//! Machines of many units, which share a device table, and reservations in which no device table fits.

use std::collections::BTreeSet;

use ::amdvi::control::{Control, DeviceTableBase};
use ::amdvi::registers::{CONTROL, DEVICE_TABLE, device_table_segment};
use machine::{Frames, Permission, PhysicalAddress, Range, Registers, SourceId};
use model::amdvi::Scenario;
use model::amdvi::scenario::{Attached, DeviceTlb, Domain, Function, GuestTables, Lock, Power, UnitScenario};
use model::habits::{Chore, Habit, Junk};
use model::{Answer, Direction, Machine, MemoryKind, Own, OwnFrames, Requester, Violation};
use proptest::prelude::*;
use takeover::failure::{InForce, Reason};
use takeover::hazard::{Danger, HazardPlace, Obstacle};
use takeover::{AttachError, Outcome};
use verdict::{isolation, limits, told};

use crate::common::{PLENTY, Taken, cases, changed_nothing, plausible, servers, take_over, take_over_one};
use crate::in_place::{OwnOnly, locked, table, violations};
use crate::story::{DISK, IOVA, PAGE, dangers, reach, scenario, with};

/// Pages of a device table with an entry for each device that there can be: most machines have one of that size.
const WHOLE: u64 = 512;
/// The frames in the quarter of 16 MiB that is for tables.
const QUARTER: usize = 1024;

/// The function behind a unit.
fn source(unit: usize) -> u16 {
    (unit as u16) << 12 | DISK.source
}

/// A server of so many units like this one, of one segment, for which Linux has one device table. Behind each unit is a function with a
/// domain of its own.
fn server(one: &Scenario, units: usize) -> Scenario {
    let table_of = |unit| (unit > 0).then_some(0);
    let unit = |unit| UnitScenario { table_of: table_of(unit), table_pages: WHOLE, ..one.units[0].clone() };
    let domain = |unit| Domain { id: 7 + unit as u16, ..one.domains[0].clone() };
    let function = |unit| Function {
        unit,
        source: source(unit),
        attached: Attached::To(unit),
        ..one.functions[0].clone()
    };
    Scenario {
        units: (0..units).map(unit).collect(),
        domains: (0..units).map(domain).collect(),
        functions: (0..units).map(function).collect(),
        ..one.clone()
    }
}

/// The same machine with so many frames that some are side by side, in whatever order they are handed out.
fn roomy(mut scenario: Scenario) -> Scenario {
    scenario.memory[1] = (Range::from(0x100_0000..0x500_0000), MemoryKind::Capture);
    scenario
}

/// A machine whose device table is as long as any, and that has too few frames for another.
pub(crate) fn short() -> Scenario {
    with(|unit| unit.table_pages = WHOLE)
}

/// Where the function behind a unit gets with an address.
fn reached(machine: &Machine, unit: usize, iova: u64) -> Option<u64> {
    let access = Requester { source: source(unit), pasid: None }.access(iova, Direction::Write);
    match machine.answer(unit, access) {
        Answer::Memory(address) => Some(address.get()),
        _ => None,
    }
}

/// The memory of a unit's device table, or of its segments.
fn segments(machine: &Machine, unit: usize) -> Vec<Range<PhysicalAddress>> {
    let registers = machine.registers(unit);
    let control = Control::from_bits(registers.read64(CONTROL.offset));
    let register = |number| device_table_segment(number).unwrap_or(DEVICE_TABLE);
    let base = |number| DeviceTableBase::from_bits(registers.read64(register(number).offset));
    (0..control.segments()).map(|number| base(number).table()).collect()
}

fn check(machine: &Machine, units: usize) {
    machine.run(300);
    assert_eq!(violations(machine), [], "{}", told(machine));
    (0..units).for_each(|unit| isolation::check(machine, unit).unwrap());
}

#[test]
fn eight_units_of_one_segment_fit_into_the_smallest_reservation() {
    let scenario = roomy(server(&scenario(), 8));
    let machine = scenario.machine();
    let (mut frames, clock) = (machine.frames(usize::MAX), machine.clock());
    let before = frames.available();
    let taken = take_over(&scenario, &machine, &mut frames, &clock, &limits()).unwrap();
    let used = before - frames.available();
    assert!(used <= QUARTER - limits().spare_frames, "{used} frames");
    check(&machine, 8);
    assert_eq!(machine.old_pages_changed(), []);
    let roots = taken.iter().map(|taken| taken.report().root).collect::<BTreeSet<u64>>();
    assert_eq!(roots.len(), 1, "one table of ours");
    let contexts = taken.iter().map(|taken| taken.report().contexts_accepted()).collect::<Vec<_>>();
    assert_eq!(contexts, [8, 0, 0, 0, 0, 0, 0, 0], "each is told once");
}

/// What is changed for one unit stays for the others, whether the table is ours or is changed where it is.
#[test]
fn drivers_behind_units_that_share_a_table_get_memory_of_their_own() {
    for one in [scenario(), locked(), short()] {
        let scenario =
            if one.units[0].table_pages == WHOLE { server(&one, 3) } else { roomy(server(&one, 3)) };
        let mut scenario = Scenario { domains: scenario.domains[..2].to_vec(), ..scenario };
        // Two units' functions are in one domain.
        scenario.functions[2].attached = Attached::To(1);
        let machine = scenario.machine();
        let budget = if scenario.units[0].lock == Lock::Open && one.units[0].table_pages == WHOLE {
            400
        } else {
            usize::MAX
        };
        let (mut frames, clock) = (machine.frames(budget), machine.clock());
        let mut taken = take_over(&scenario, &machine, &mut frames, &clock, &limits()).unwrap();
        give_to_drivers(&machine, &mut taken, &mut frames);
        check(&machine, 3);
    }
}

/// Attaches the function behind each unit, and checks that it alone reaches its buffer, and what it reached before.
fn give_to_drivers(machine: &Machine, taken: &mut [Taken<'_>], frames: &mut OwnFrames) {
    let end = machine.ranges(MemoryKind::Capture)[0].end.get();
    let buffer = |unit: usize| Range::from(end - 0x1000 * (unit as u64 + 1)..end - 0x1000 * unit as u64);
    let own = |unit| Own { requester: Requester { source: source(unit), pasid: None }, memory: buffer(unit) };
    machine.guard((0..taken.len()).map(own).collect());
    for (unit, taken) in taken.iter_mut().enumerate() {
        let device = taken.attach(SourceId(source(unit)), &[], frames).unwrap();
        let old = machine.old_memory();
        let iova = taken.map(&device, buffer(unit), Permission::ReadWrite, &old, frames).unwrap();
        assert_eq!(reached(machine, unit, iova.get()), Some(buffer(unit).start.get()), "unit {unit}");
        assert_eq!(reached(machine, unit, IOVA), Some(PAGE), "unit {unit}");
        taken.unmap(&device, Range::new(iova, iova.saturating_add(0x1000)), frames).unwrap();
        assert_eq!(reached(machine, unit, iova.get()), None, "unit {unit}");
    }
    machine.guard(Vec::new());
}

/// One that executes no commands keeps the old table; those before and after it are taken over.
#[test]
fn a_unit_that_fails_is_alone_in_that() {
    for broken in 0..3 {
        let mut scenario = roomy(server(&scenario(), 3));
        let habits = scenario.units[broken].habits.clone();
        scenario.units[broken].habits = habits.with(Chore::FetchDescriptor, Habit::Never);
        let machine = scenario.machine();
        let (mut frames, clock) = (machine.frames(usize::MAX), machine.clock());
        let mut taken = Vec::<Taken<'_>>::new();
        for unit in 0..3 {
            let one = take_over_one(&scenario, (&machine, unit), &mut frames, &clock, &limits(), &taken);
            match one {
                Ok(one) => taken.push(one),
                Err(failure) => assert_eq!((unit, failure.in_force), (broken, InForce::Old), "{failure}"),
            }
        }
        assert_eq!(taken.len(), 2);
        machine.run(300);
        assert_eq!(violations(&machine), [], "{}", told(&machine));
        for unit in (0..3).filter(|unit| *unit != broken) {
            isolation::check(&machine, unit).unwrap();
        }
    }
}

/// One whose translation is off is left off.
#[test]
fn a_unit_that_does_not_translate_shares_no_table() {
    let mut scenario = roomy(server(&scenario(), 2));
    scenario.units[1].power = Power::Off;
    let machine = scenario.machine();
    let (mut frames, clock) = (machine.frames(usize::MAX), machine.clock());
    let first = take_over_one(&scenario, (&machine, 0), &mut frames, &clock, &limits(), &[]).unwrap();
    let second = take_over_one(&scenario, (&machine, 1), &mut frames, &clock, &limits(), &[first]);
    let failure = second.map(|_| ()).unwrap_err();
    assert_eq!((failure.reason, failure.in_force), (Reason::TranslationOff, InForce::Old));
    assert!(!Control::from_bits(machine.registers(1).read64(CONTROL.offset)).enabled());
}

/// A unit asks the devices that are behind it; others would not answer it.
#[test]
fn a_device_is_asked_by_its_own_unit() {
    let mut scenario = roomy(server(&scenario(), 2));
    scenario.functions[1].device_tlb = Some(DeviceTlb::Silent);
    let machine = scenario.machine();
    let (mut frames, clock) = (machine.frames(usize::MAX), machine.clock());
    let taken = take_over(&scenario, &machine, &mut frames, &clock, &limits()).unwrap();
    let silent = (HazardPlace::Device(SourceId(source(1))), Danger::DeviceTlbSilent, Outcome::KeptInPlace);
    assert_eq!((dangers(&taken[0]), dangers(&taken[1])), (vec![], vec![silent]));
}

/// Fewer levels of tables.
#[test]
fn a_unit_that_knows_other_modes_shares_no_table() {
    let mut scenario = roomy(server(&scenario(), 2));
    scenario.units[1].traits.feature = scenario.units[1].traits.feature.with_hats(0);
    shares_no_table(scenario);
}

/// GTEn of one of them is clear: what it takes no notice of counts for the other.
#[test]
fn a_unit_that_ignores_guest_tables_shares_none_with_one_that_uses_them() {
    let mut scenario = roomy(server(&scenario(), 2));
    scenario.units.iter_mut().for_each(|unit| unit.traits.feature.set_gt(true));
    scenario.units[0].guest_tables = GuestTables::Ignored;
    shares_no_table(scenario);
}

/// The second unit gets a table of its own as long as the old one is as it was.
fn shares_no_table(mut scenario: Scenario) {
    let machine = scenario.machine();
    let (mut frames, clock) = (machine.frames(usize::MAX), machine.clock());
    let taken = take_over(&scenario, &machine, &mut frames, &clock, &limits()).unwrap();
    assert_ne!(taken[0].report().root, taken[1].report().root);
    check(&machine, 2);

    scenario.units.iter_mut().for_each(|unit| unit.lock = Lock::Locked);
    let machine = scenario.machine();
    let (mut frames, clock) = (machine.frames(usize::MAX), machine.clock());
    let failure = take_over(&scenario, &machine, &mut frames, &clock, &limits()).unwrap_err();
    assert_eq!((failure.reason, failure.in_force), (Reason::OtherModes, InForce::Unknown));
}

/// A page of the table is copied if something in it is known or used: here that of the disk, and that of the stranger.
#[test]
fn a_device_table_that_finds_no_room_stays_where_it_is() {
    let scenario = short();
    let machine = scenario.machine();
    let (mut frames, clock) = (machine.frames(400), machine.clock());
    let before = frames.available();
    let old = table(&machine);
    let mut taken = take_over(&scenario, &machine, &mut frames, &clock, &limits()).unwrap();
    let in_place = Danger::TableInPlace { table: old.start, why: Obstacle::NoRun { pages: 512 } };
    assert_eq!(dangers(&taken[0]), [(HazardPlace::Unit, in_place, Outcome::KeptInPlace)]);
    assert!(before - frames.available() < 20);
    assert_eq!((table(&machine), reach(&machine, DISK, IOVA)), (old, Some(PAGE)));
    check(&machine, 1);
    let changed = machine.old_pages_changed();
    assert!(!changed.is_empty() && changed.iter().all(|page| old.contains(*page)), "{changed:x?}");
    let refused = taken[0].attach(SourceId(0x5000), &[], &mut frames).unwrap_err();
    assert_eq!(refused, AttachError::NoEntry(SourceId(0x5000)), "a page of which nothing was known");
}

/// Then nothing but the old table is left.
#[test]
fn a_table_that_neither_moves_nor_stays_is_left_as_it_was() {
    let scenario = short();
    let machine = scenario.machine();
    let (frames, clock) = (machine.frames(400), machine.clock());
    let failure = take_over(&scenario, &machine, &mut OwnOnly(frames), &clock, &limits()).unwrap_err();
    assert_eq!((failure.reason, failure.in_force), (Reason::DeviceTable { pages: 512 }, InForce::Old));
    machine.run(100);
    assert_eq!((violations(&machine), machine.old_pages_changed()), (vec![], vec![]));
    let machine = scenario.machine();
    let (mut frames, clock) = (machine.frames(6), machine.clock());
    let failure = take_over(&scenario, &machine, &mut frames, &clock, &limits()).unwrap_err();
    assert_eq!(failure.in_force, InForce::Old);
    assert_eq!(reach(&machine, DISK, IOVA), Some(PAGE));
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn units_that_share_a_table_change_no_answer(scenario in servers()) {
        let machine = scenario.machine();
        let (mut frames, clock) = (machine.frames(PLENTY), machine.clock());
        let taken = take_over(&scenario, &machine, &mut frames, &clock, &limits());
        prop_assert!(taken.is_ok(), "{:?}\n{}", taken.err(), told(&machine));
        changed_nothing(&scenario, &machine)?;
    }

    /// What does not fit is blocked, and no more: nothing else changes, and none of it reaches our memory.
    #[test]
    fn few_frames_cost_translations_and_never_isolation(
        scenario in prop_oneof![plausible(), servers()],
        pages in prop_oneof![Just(2), Just(64_u64)],
        budget in 5..90_usize,
        spare_frames in prop_oneof![Just(0), Just(12_usize)],
    ) {
        let mut scenario = scenario;
        scenario.units.iter_mut().for_each(|unit| unit.table_pages = unit.table_pages.max(pages));
        let machine = scenario.machine();
        let (mut frames, clock) = (machine.frames(budget), machine.clock());
        let limits = takeover::Limits { spare_frames, ..limits() };
        let mut taken = Vec::<Taken<'_>>::new();
        let tables: Vec<_> = (0..scenario.units.len()).flat_map(|unit| segments(&machine, unit)).collect();
        for unit in 0..scenario.units.len() {
            match take_over_one(&scenario, (&machine, unit), &mut frames, &clock, &limits, &taken) {
                Ok(one) => {
                    isolation::check(&machine, unit).map_err(TestCaseError::fail)?;
                    taken.push(one);
                }
                Err(failure) => prop_assert_eq!(failure.in_force, InForce::Old, "{}", failure),
            }
        }
        machine.run(100);
        let is_loss = |violation: &Violation| {
            matches!(violation, Violation::Continuity { now: Answer::Blocked(_), .. } | Violation::Logged { .. })
        };
        let wrong: Vec<_> = machine.violations().into_iter().filter(|violation| !is_loss(violation)).collect();
        prop_assert!(wrong.is_empty(), "{}", told(&machine));
        let in_place = |page| tables.iter().any(|table| table.contains(page));
        let changed = machine.old_pages_changed();
        prop_assert!(changed.iter().all(|page| in_place(*page)), "{changed:x?}");
    }
}

/// A segment that says it is longer than its share of the devices: what is beyond is no device's.
#[test]
fn what_a_segment_has_beyond_its_share_costs_nothing() {
    let mut scenario = with(|unit| unit.segments = 3);
    scenario.units[0].traits.feature = scenario.units[0].traits.feature.with_device_table_segments(3);
    // 64 pages are in old memory, and those beyond are ours.
    let base = DeviceTableBase::new().with_size(65).with_frame(0xFC0);
    let junk = Junk { register: DEVICE_TABLE.offset, reads: 0..1, value: base.into_bits() };
    scenario.units[0].habits = scenario.units[0].habits.clone().with_junk(junk);
    let machine = scenario.machine();
    let (mut frames, clock) = (machine.frames(3000), machine.clock());
    let taken = take_over(&scenario, &machine, &mut frames, &clock, &limits());
    assert!(taken.is_ok(), "{:?}", taken.err());
}
