//! What stays in place is for the unit alone: devices that are let pass do not reach it any more, and the unit writes no more of it than it
//! must.

use ::amdvi::control::{BufferBase, ExclusionBase};
use ::amdvi::registers::{COMMAND_BUFFER, CONTROL, EVENT_LOG, EXCLUSION_BASE, Register};
use machine::{PhysicalAddress, Range, Registers};
use model::amdvi::Scenario;
use model::amdvi::scenario::{Attached, Function, Lock, OldLog, UnitScenario};
use model::{Machine, Requester, Rights, Violation};
use takeover::Outcome;
use takeover::hazard::{Danger, HazardPlace};
use verdict::limits;

use crate::common::take_over;
use crate::in_place::{commands, halved, locked, table};
use crate::scarce::short;
use crate::story::{dangers, reach, scenario};

/// A device in pass-through.
const PASSING: Requester = Requester { source: 0x18, pasid: None };

fn passing(mut scenario: Scenario) -> Scenario {
    scenario.functions.push(Function {
        source: PASSING.source,
        attached: Attached::PassThrough(3, Rights::ALL),
        works_at: vec![0x5000.into()],
        ..Function::default()
    });
    scenario
}

/// Both ends of a range.
fn ends(range: Range<PhysicalAddress>) -> [u64; 2] {
    [range.start.get(), range.end.get() - 1]
}

/// What is beside it is reached as before, and a table of ours keeps nobody from the old one.
#[test]
fn a_device_in_pass_through_reaches_no_table_that_stays_in_force() {
    for (one, stays) in [(locked(), true), (halved(), true), (short(), true), (scenario(), false)] {
        let scenario = passing(one);
        let machine = scenario.machine();
        let (mut frames, clock) = (machine.frames(400), machine.clock());
        let (old, buffer) = (table(&machine), commands(&machine));
        let taken = take_over(&scenario, &machine, &mut frames, &clock, &limits()).unwrap();
        let reached = |at| reach(&machine, PASSING, at) == Some(at);
        assert_eq!(ends(old).map(reached), [!stays; 2], "{:?}", dangers(&taken[0]));
        let is_locked = scenario.units[0].lock == Lock::Locked;
        assert_eq!(ends(buffer).map(reached), [!is_locked; 2]);
        let around = [old.start.get() - 1, old.end.get()];
        assert!(around.into_iter().all(|at| reached(at) || is_locked && buffer.contains(at.into())));
        let said = dangers(&taken[0]);
        let is_named = said.iter().any(|(_, danger, outcome)| {
            (*danger, *outcome) == (Danger::ReachesMemoryInUse(old.start), Outcome::Fenced)
        });
        assert_eq!(is_named, stays, "{said:?}");
    }
}

/// The page to which completion waits store, while registers are locked.
#[test]
fn a_device_in_pass_through_reaches_no_page_where_waits_store() {
    let scenario = passing(locked());
    let machine = scenario.machine();
    let (mut frames, clock) = (machine.frames(400), machine.clock());
    let base = ExclusionBase::from_bits(machine.registers(0).read64(EXCLUSION_BASE.offset));
    let store = base.frame() << 12;
    assert_eq!(reach(&machine, PASSING, store), Some(store));
    let _taken = take_over(&scenario, &machine, &mut frames, &clock, &limits()).unwrap();
    assert_eq!(reach(&machine, PASSING, store), None);
}

/// The memory of a command buffer or a log.
fn ring(machine: &Machine, unit: usize, register: Register) -> Range<PhysicalAddress> {
    let base = BufferBase::from_bits(machine.registers(unit).read64(register.offset));
    Range::sized(base.address(), base.entries().unwrap() as u64 * 16).unwrap()
}

/// Units that share a device table share the map in place of pass-through: it leaves out what each of them uses on.
#[test]
fn a_device_in_pass_through_reaches_no_buffer_of_a_unit_that_shares_a_table() {
    let mut scenario = passing(locked());
    let second = UnitScenario { table_of: Some(0), ..scenario.units[0].clone() };
    scenario.units.push(second);
    let machine = scenario.machine();
    let (mut frames, clock) = (machine.frames(400), machine.clock());
    let rings = [0, 1].map(|unit| [COMMAND_BUFFER, EVENT_LOG].map(|register| ring(&machine, unit, register)));
    let _taken = take_over(&scenario, &machine, &mut frames, &clock, &limits()).unwrap();
    let reached = |ring: Range<PhysicalAddress>| reach(&machine, PASSING, ring.start.get()).is_some();
    assert_eq!(rings.map(|rings| rings.map(reached)), [[false; 2]; 2]);
}

/// The stores of the unit's own that went into the dead kernel's memory, but for its event log, which nobody can take from it.
fn logged_elsewhere(machine: &Machine) -> usize {
    let base = BufferBase::from_bits(machine.registers(0).read64(EVENT_LOG.offset));
    let events = Range::sized(base.address(), base.entries().unwrap() as u64 * 16).unwrap();
    let is_elsewhere = |violation: &Violation| match violation {
        Violation::Logged { address } => !events.contains(*address),
        _ => true,
    };
    machine.violations().iter().filter(|violation| is_elsewhere(violation)).count()
}

/// Where control does not take that, it is said.
#[test]
fn a_locked_unit_stops_the_logs_that_nobody_reads() {
    for is_deaf in [false, true] {
        let mut scenario = locked();
        scenario.units[0].logs = OldLog::Running;
        scenario.units[0].traits.feature = scenario.units[0].traits.feature.with_ppr(true).with_ga(true);
        if is_deaf {
            scenario.units[0].habits = scenario.units[0].habits.clone().deaf_to(CONTROL.offset);
        }
        let machine = scenario.machine();
        let (mut frames, clock) = (machine.frames(400), machine.clock());
        let taken = take_over(&scenario, &machine, &mut frames, &clock, &limits()).unwrap();
        machine.run(2000);
        let named = (HazardPlace::Unit, Danger::LogsInPlace, Outcome::KeptInPlace);
        assert_eq!(dangers(&taken[0]).contains(&named), is_deaf);
        assert_eq!(logged_elsewhere(&machine) > 0, is_deaf);
    }
}
