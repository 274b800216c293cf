//! Registers that never answer: the result for each one that a takeover waits for.
//!
//! The unit resembles QEMU's, but never finishes one chore.

use crate::common::{PLENTY, take_over};
use crate::step_by_step::scenario;
use model::Scenario;
use model::habits::{Chore, Habit};
use model::scenario::OldQueue;
use takeover::failure::InForce;
use verdict::{bounded, continuity, limits, told};
use vtd::control::TableMode;

/// A machine whose unit never finishes this chore.
fn without(chore: Chore, mode: TableMode, queue: OldQueue) -> Scenario {
    let mut scenario = scenario();
    let unit = &mut scenario.units[0];
    let scalable = mode == TableMode::SCALABLE;
    unit.traits.extended = unit.traits.extended.with_smts(scalable).with_ssts(scalable);
    (unit.mode, unit.queue) = (mode, queue);
    unit.habits = unit.habits.clone().with(chore, Habit::Never);
    scenario
}

/// The same without queued invalidation.
fn by_registers(chore: Chore) -> Scenario {
    let mut scenario = without(chore, TableMode::LEGACY, OldQueue::Off);
    scenario.units[0].traits.extended.set_qi(false);
    scenario
}

/// The same with a write buffer.
fn buffered(chore: Chore, mode: TableMode) -> Scenario {
    let mut scenario = without(chore, mode, OldQueue::Idle);
    scenario.units[0].traits.capability.set_rwbf(true);
    scenario
}

/// The result of a takeover: success, or the register to blame, the value that it should have shown, and the tables
/// in force. Also checks that the takeover ended in time and that no device noticed.
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

fn blamed(wait: &str, in_force: InForce) -> Result<(), (String, InForce)> {
    Err((wait.to_owned(), in_force))
}

#[test]
fn a_root_pointer_that_is_never_taken_leaves_it_open_which_is_in_force() {
    for mode in [TableMode::LEGACY, TableMode::SCALABLE] {
        let outcome = outcome(&without(Chore::TakeRoot, mode, OldQueue::Idle));
        assert_eq!(outcome, blamed("GSTS did not show RTPS", InForce::Unknown));
    }
}

#[test]
fn an_old_queue_that_cannot_be_turned_off_leaves_the_old_tables() {
    for mode in [TableMode::LEGACY, TableMode::SCALABLE] {
        let outcome = outcome(&without(Chore::SwitchQueue, mode, OldQueue::Idle));
        assert_eq!(outcome, blamed("GSTS did not show QIES clear", InForce::Old));
    }
}

/// Registers are no alternative: the unit takes no other command while this one is pending.
#[test]
fn a_queue_that_cannot_be_turned_on_leaves_the_old_tables() {
    for mode in [TableMode::LEGACY, TableMode::SCALABLE] {
        let outcome = outcome(&without(Chore::SwitchQueue, mode, OldQueue::Off));
        assert_eq!(outcome, blamed("GSTS did not show QIES", InForce::Old));
    }
}

/// In legacy mode, registers can replace the queue.
#[test]
fn a_queue_that_executes_nothing_is_done_without_where_that_is_possible() {
    for chore in [Chore::FetchDescriptor, Chore::FinishDescriptor] {
        let stuck = |mode| outcome(&without(chore, mode, OldQueue::Idle));
        assert_eq!(stuck(TableMode::LEGACY), Ok(()), "{chore:?}");
        let waited = blamed("invalidation wait did not show its status", InForce::Old);
        assert_eq!(stuck(TableMode::SCALABLE), waited, "{chore:?}");
    }
}

#[test]
fn an_old_queue_that_never_gets_to_its_end_is_replaced() {
    let mut scenario = without(Chore::FetchDescriptor, TableMode::LEGACY, OldQueue::Busy(3));
    assert_eq!(outcome(&scenario), Ok(()));
    scenario.units[0].habits = scenario.units[0].habits.clone().with(Chore::SwitchQueue, Habit::Never);
    assert_eq!(outcome(&scenario), blamed("GSTS did not show QIES clear", InForce::Old));
}

#[test]
fn a_write_buffer_that_is_never_empty_leaves_the_old_tables() {
    for mode in [TableMode::LEGACY, TableMode::SCALABLE] {
        let outcome = outcome(&buffered(Chore::FlushWriteBuffer, mode));
        assert_eq!(outcome, blamed("GSTS did not show WBFS clear", InForce::Old));
    }
}

#[test]
fn invalidations_by_register_that_are_never_done_leave_the_old_tables() {
    let contexts = outcome(&by_registers(Chore::ForgetContexts));
    assert_eq!(contexts, blamed("CCMD did not show ICC clear", InForce::Old));
    let translations = outcome(&by_registers(Chore::ForgetTranslations));
    assert_eq!(translations, blamed("IOTLB did not show IVT clear", InForce::Old));
}
