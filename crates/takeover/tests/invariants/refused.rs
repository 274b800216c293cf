//! A takeover that fails gives back the frames that the unit was not told of: the next unit may use them, and so may the
//! next attempt. Nothing that a device does goes through them (**continuity**).

use std::cell::RefCell;
use std::collections::BTreeSet;

use crate::common::{Described, astray, cases, erratic, plausible, with_habits};
use crate::witnesses::TamperedRegisters;
use amdvi::registers::{COMMAND_BUFFER, DEVICE_TABLE};
use machine::{ENTRIES, Frames};
use model::Architecture;
use proptest::prelude::*;
use takeover::Limits;
use takeover::failure::InForce;
use verdict::continuity::is_broken;
use verdict::{limits, take_over_through, told};
use vtd::registers::{IQA, RTADDR};

/// Frames for all tables of a small machine.
const ENOUGH: usize = 300;
/// The registers that a unit is told of its tables by, and of its queue; how many frames the queue takes, with those of the status
/// of its waits, and of a log.
const fn told_by(architecture: Architecture) -> (usize, usize, usize) {
    match architecture {
        Architecture::Vtd => (RTADDR.offset, IQA.offset, 2),
        Architecture::AmdVi => (DEVICE_TABLE.offset, COMMAND_BUFFER.offset, 5),
    }
}

/// Takes over the first unit; returns how many frames are missing if that fails, and how many may be. `is_sound` says that
/// the old tables stay what they are.
fn missing(
    (scenario, is_sound): (&Described, bool),
    budget: usize,
    limits: &Limits,
) -> Result<Option<(usize, usize)>, TestCaseError> {
    let machine = scenario.machine();
    let (mut frames, clock, written) =
        (machine.frames(budget), machine.clock(), RefCell::new(BTreeSet::new()));
    let budget = frames.available();
    let tamper = |offset, value| {
        written.borrow_mut().insert(offset);
        vec![value]
    };
    let registers = TamperedRegisters { inner: machine.registers(0), tamper };
    let taken =
        take_over_through((&machine, 0), registers, &machine.old_memory(), &mut frames, &clock, limits);
    let Err(failure) = taken else { return Ok(None) };
    let missing = budget - frames.available();
    // Whatever comes next fills the frames with something else.
    while let Some(frame) = frames.allocate() {
        (0..ENTRIES).for_each(|index| frames.store(frame, index, 0x1234_5000 + index as u64));
        frames.publish(frame, 0..ENTRIES);
    }
    machine.run(100);
    // New tables that were made with few frames may block devices: that is for `scarce` to judge.
    let is_short = failure.in_force == InForce::New && budget < ENOUGH;
    prop_assert!(!is_sound || is_short || !is_broken(&machine), "{failure:?} {}", told(&machine));
    let wrote = |offset| written.borrow().contains(&offset);
    let (tables, queue, frames_of_queue) = told_by(machine.architecture(0));
    let may_be = match (wrote(tables), wrote(queue)) {
        (true, _) => budget,
        (false, true) => frames_of_queue,
        (false, false) => 0,
    };
    Ok(Some((missing, may_be)))
}

proptest! {
    #![proptest_config(cases(120))]

    #[test]
    fn frames_that_the_unit_was_not_told_of_come_back(
        (scenario, is_sound) in prop_oneof![(plausible(), Just(true)), (astray(), Just(false))],
        habits in erratic(),
        budget in prop_oneof![0..12_usize, Just(ENOUGH)],
    ) {
        let limits = Limits { spare_frames: 0, ..limits() };
        if let Some((missing, may_be)) = missing((&with_habits(scenario, &habits), is_sound), budget, &limits)? {
            prop_assert!(missing <= may_be, "{missing} are missing");
        }
    }
}
