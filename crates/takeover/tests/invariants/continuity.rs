//! **continuity**: for every accepted (source-id, IOVA), the hardware's answer at every instant of the takeover, cold or
//! warm cache, is the answer it gave before the panic.
//!
//! The model compares the answers between every two steps of the takeover; here is also compared, once it is done, what
//! no device happened to ask for.

use crate::common::{
    PLENTY, attach, broke_continuity, cases, limits, plausible, sharing, stuck, take_over, told, with_habits,
};
use model::{Access, Answer, Direction, Kind, Machine};
use proptest::prelude::*;

/// Both ends of every leaf that any requester reached before, read and written.
fn reached_accesses(machine: &Machine) -> impl Iterator<Item = Access> {
    let both = [Direction::Read, Direction::Write];
    let leaves =
        machine.requesters_before(0).into_iter().flat_map(|requester| machine.reached_before(0, requester));
    leaves.flat_map(move |leaf| {
        let ends = [leaf.iova, leaf.iova + leaf.memory.len() - 1];
        ends.into_iter().flat_map(move |iova| both.map(|direction| leaf.requester.access(iova, direction)))
    })
}

/// In pass-through a device reached the capture kernel's memory too; that is nothing to continue.
fn is_captures(machine: &Machine, answer: Answer) -> bool {
    let Answer::Memory(address) = answer else { return false };
    machine.ranges(Kind::Capture).iter().any(|own| own.contains(address))
}

fn check(machine: &Machine) -> Result<(), TestCaseError> {
    prop_assert!(machine.violations().is_empty(), "{}", told(machine));
    for access in reached_accesses(machine) {
        let (before, now) = (machine.answer_before(0, access), machine.answer(0, access));
        prop_assert!(before == now || is_captures(machine, before), "{access} was {before}, is {now}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn every_answer_stays_what_it_was(scenario in plausible(), pages in prop::collection::vec(1..17_u64, 0..5), pick in 0..9_usize) {
        let machine = scenario.machine();
        let (mut frames, clock) = (machine.frames(PLENTY), machine.clock());
        let taken = take_over(&machine, &mut frames, &clock, &limits());
        prop_assert!(taken.is_ok(), "{:?}", taken.err());
        machine.run(100);
        check(&machine)?;

        let mapped = attach(&machine, &mut taken?, &mut frames, &sharing(&scenario, &machine, pick), &pages);
        prop_assert!(mapped.is_ok(), "{:?}", mapped.err());
        machine.run(100);
        check(&machine)?;
    }

    /// Whether it works or not, with commands that are late or never done.
    #[test]
    fn a_takeover_that_fails_leaves_the_answers_too(scenario in plausible(), habits in stuck()) {
        let machine = with_habits(scenario, &habits).machine();
        let (mut frames, clock) = (machine.frames(PLENTY), machine.clock());
        let taken = take_over(&machine, &mut frames, &clock, &limits());
        machine.run(100);
        prop_assert!(!broke_continuity(&machine), "{:?}\n{}", taken.err(), told(&machine));
    }
}
