//! **continuity**: for every accepted (source-id, IOVA), the hardware's answer at every instant of the takeover, cold or
//! warm cache, is the answer it gave before the panic.

use crate::common::{
    PLENTY, attach, cases, erratic, function, is_guests, of_each, plausible, take_over_all, with_habits,
};
use proptest::prelude::*;
use verdict::continuity::{check, is_broken};
use verdict::{limits, told};

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn every_answer_stays_what_it_was(scenario in plausible(), pages in prop::collection::vec(1..17_u64, 0..5), pick in 0..9_usize) {
        let machine = scenario.machine();
        let (mut frames, clock) = (machine.frames(PLENTY), machine.clock());
        let taken = take_over_all(&machine, &mut frames, &clock, &limits());
        prop_assert!(taken.is_ok(), "{:?}", taken.err());
        machine.run(100);
        of_each(&machine, |unit| check(&machine, unit))?;

        let (unit, device) = function(&scenario, pick);
        if is_guests(&scenario, device) {
            return Ok(());
        }
        let sharing = machine.sharing_before(unit, device);
        let mapped = attach(&machine, &mut taken?[unit], &mut frames, &sharing, &pages);
        // A device that may not do both gets no buffer, which is no failure.
        mapped?;
        machine.run(100);
        of_each(&machine, |unit| check(&machine, unit))?;
    }

    /// Whether it works or not, with commands that are late or never done, and registers that lie.
    #[test]
    fn a_takeover_that_fails_leaves_the_answers_too(scenario in plausible(), habits in erratic()) {
        let scenario = with_habits(scenario, &habits);
        let machine = scenario.machine();
        let (mut frames, clock) = (machine.frames(PLENTY), machine.clock());
        let taken = take_over_all(&machine, &mut frames, &clock, &limits());
        machine.run(100);
        prop_assert!(!is_broken(&machine), "{:?}\n{}", taken.err(), told(&machine));
    }
}
