//! Units that never finish one chore, or whose registers answer nothing: the result for each.

use super::step_by_step::scenario;
use crate::common::{PLENTY, take_over};
use model::amdvi::Scenario;
use model::amdvi::scenario::{OldCommands, OldLog, UnitScenario};
use model::habits::{Chore, Habit, Junk};
use takeover::failure::InForce;
use verdict::{bounded, continuity, limits, told};

fn with(change: impl FnOnce(&mut UnitScenario)) -> Scenario {
    let mut scenario = scenario();
    change(&mut scenario.units[0]);
    scenario
}

/// A machine whose unit never finishes this chore.
fn without(chore: Chore) -> Scenario {
    with(|unit| unit.habits = unit.habits.clone().with(chore, Habit::Never))
}

/// The result of a takeover: success, or what it waited for in vain, and the tables in force. Also checks that the takeover
/// ended in time and that no device noticed.
fn outcome(scenario: &Scenario) -> Result<(), (String, InForce)> {
    let machine = scenario.machine();
    let clock = machine.clock();
    let taken = take_over(&machine, &mut machine.frames(PLENTY), &clock, &limits()).map(drop);
    assert_eq!(bounded::check(&machine, 0, PLENTY), Ok(()));
    machine.run(200);
    assert!(!continuity::is_broken(&machine), "{}", told(&machine));
    taken.map_err(|failure| {
        let said = failure.reason.to_string();
        (said.split(" within").next().unwrap_or_default().to_owned(), failure.in_force)
    })
}

fn blamed(wait: &str) -> Result<(), (String, InForce)> {
    Err((wait.to_owned(), InForce::Old))
}

#[test]
fn a_buffer_that_cannot_be_turned_off_leaves_the_old_tables() {
    assert_eq!(outcome(&without(Chore::StopCommands)), blamed("Status did not show CmdBufRun clear"));
}

#[test]
fn a_buffer_that_cannot_be_turned_on_leaves_the_old_tables() {
    assert_eq!(outcome(&without(Chore::StartCommands)), blamed("Status did not show CmdBufRun"));
}

#[test]
fn a_buffer_that_executes_nothing_leaves_the_old_tables() {
    for chore in [Chore::FetchDescriptor, Chore::FinishDescriptor] {
        let waited = blamed("completion wait did not show its store");
        assert_eq!(outcome(&without(chore)), waited, "{chore:?}");
    }
}

/// Whatever the old buffer was doing, it is replaced.
#[test]
fn an_old_buffer_that_never_gets_to_its_end_is_replaced() {
    for commands in [OldCommands::Off, OldCommands::Idle, OldCommands::Busy(3), OldCommands::Stopped] {
        assert_eq!(outcome(&with(|unit| unit.commands = commands)), Ok(()), "{commands:?}");
    }
}

#[test]
fn logs_that_are_full_or_busy_or_off_do_no_harm() {
    for log in [OldLog::Off, OldLog::Running, OldLog::Full] {
        assert_eq!(outcome(&with(|unit| unit.events = log)), Ok(()), "{log:?}");
    }
    assert_eq!(outcome(&with(|unit| unit.logs = OldLog::Running)), Ok(()));
}

#[test]
fn a_log_that_cannot_be_stopped_leaves_the_old_tables() {
    let mut scenario = without(Chore::SwitchLogs);
    scenario.units[0].logs = OldLog::Running;
    assert_eq!(outcome(&scenario), blamed("Status did not show logs stopped"));
}

/// All ones: nothing is behind the registers any more.
#[test]
fn a_unit_that_answers_nothing_is_left_alone() {
    let registers = [0x00, 0x08, 0x10, 0x18, 0x30, 0x2000, 0x2008, 0x2010, 0x2018, 0x2020];
    let dead = with(|unit| {
        for register in registers {
            let ones = Junk { register, reads: 0..u64::MAX, value: u64::MAX };
            unit.habits = unit.habits.clone().with_junk(ones);
        }
    });
    let (said, in_force) = outcome(&dead).unwrap_err();
    assert!(said.starts_with("there is no remapping unit"), "{said}");
    assert_eq!(in_force, InForce::Old);
}
