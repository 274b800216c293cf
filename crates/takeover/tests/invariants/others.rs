//! Others disturb a unit while it is taken over: a device leaves an invalidation of the old kernel unanswered until the unit
//! gives up (ITE), and a processor of the old kernel writes the queue's tail. Neither may cost more than the command that
//! they disturbed.

use crate::common::{PLENTY, attach, cases, disturbed, of_each, take_over, take_over_all, with_vtd};
use crate::step_by_step::scenario;
use model::habits::{Habits, Intrusion};
use model::scenario::OldQueue;
use model::{Requester, Scenario};
use proptest::prelude::*;
use takeover::hazard::{Danger, HazardPlace};
use verdict::{accounted, continuity, isolation, limits, told};
use vtd::control::TableMode;
use vtd::registers::IQT;

/// 00:1f.2 of the scenario.
const DISK: Requester = Requester { source: 0x00FA, pasid: None };

/// A machine of one unit with these habits.
fn machine_with(mode: TableMode, queue: OldQueue, habits: Habits) -> model::Machine {
    let mut scenario = scenario();
    let unit = &mut scenario.units[0];
    let scalable = mode == TableMode::SCALABLE;
    unit.traits.extended = unit.traits.extended.with_smts(scalable).with_ssts(scalable);
    (unit.mode, unit.queue, unit.habits) = (mode, queue, habits);
    scenario.machine()
}

/// Takes it over, and gives the disk to a driver; returns how often the queue was found disturbed.
fn take_over_and_check(machine: &model::Machine) -> Result<u32, String> {
    let (mut frames, clock) = (machine.frames(PLENTY), machine.clock());
    let mut taken =
        take_over(machine, &mut frames, &clock, &limits()).map_err(|failure| failure.to_string())?;
    attach(machine, &mut taken, &mut frames, &[DISK], &[1]).map_err(|error| error.to_string())?;
    machine.run(200);
    continuity::check(machine, 0)?;
    isolation::check(machine, 0)?;
    Ok(taken.report().hazards.listed.iter().map(disturbances).sum())
}

fn disturbances(hazard: &takeover::hazard::Hazard) -> u32 {
    match (hazard.place, hazard.danger) {
        (HazardPlace::Unit, Danger::QueueDisturbed(times)) => times,
        _ => 0,
    }
}

/// At whatever step the unit gives a device up, its abort of our wait is no end of the takeover.
#[test]
fn a_device_of_the_old_kernel_that_is_given_up_ends_nothing() {
    for mode in [TableMode::LEGACY, TableMode::SCALABLE] {
        for steps in (1..4000).step_by(37) {
            let habits = Habits::default().with_time_out(steps).with_time_out(steps + 20);
            let queue = if steps % 2 == 0 { OldQueue::Idle } else { OldQueue::Busy(2) };
            let result = take_over_and_check(&machine_with(mode, queue, habits));
            assert_eq!(result, Ok(0), "{mode:?}, step {steps}");
        }
    }
}

/// Before whichever access another processor writes the tail, and whatever it writes.
#[test]
fn a_tail_that_another_processor_writes_is_noticed_and_ends_nothing() {
    let mut noticed = 0;
    for mode in [TableMode::LEGACY, TableMode::SCALABLE] {
        for before_access in 0..120 {
            let value = [0x20, 0x40, 0x7C0, 0xFF0, 0x7_FFF0][before_access as usize % 5];
            let intrusion = Intrusion { before_access, register: IQT.offset, value };
            let machine = machine_with(mode, OldQueue::Idle, Habits::default().with_intrusion(intrusion));
            match take_over_and_check(&machine) {
                Ok(times) => noticed += times,
                Err(wrong) => panic!("{mode:?}, access {before_access}: {wrong}\n{}", told(&machine)),
            }
        }
    }
    assert!(noticed > 20, "{noticed}");
}

proptest! {
    #![proptest_config(cases(30))]

    #[test]
    fn whatever_others_do_to_the_queue_the_units_are_taken_over(
        mut scenario in with_vtd(), others in disturbed(IQT.offset),
    ) {
        for unit in scenario.units.iter_mut().filter(|unit| unit.queue != OldQueue::Off) {
            unit.habits = others.onto(unit.habits.clone());
        }
        check_all(&scenario)?;
    }
}

fn check_all(scenario: &Scenario) -> Result<(), TestCaseError> {
    let machine = scenario.machine();
    let (mut frames, clock) = (machine.frames(PLENTY), machine.clock());
    let taken = take_over_all(&machine, &mut frames, &clock, &limits());
    let taken = taken.map_err(|failure| TestCaseError::fail(failure.to_string()))?;
    machine.run(200);
    of_each(&machine, |unit| {
        isolation::check(&machine, unit)?;
        accounted::check(&machine, unit, taken[unit].report())
    })
}
