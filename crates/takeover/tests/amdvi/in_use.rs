//! What stays in place is for the unit alone: devices that are let pass do not reach it any more, and the unit writes no more of it than it
//! must.

use ::amdvi::control::BufferBase;
use ::amdvi::registers::{CONTROL, EVENT_LOG};
use machine::{PhysicalAddress, Range, Registers};
use model::amdvi::Scenario;
use model::amdvi::scenario::{Attached, Function, Lock, OldLog};
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
