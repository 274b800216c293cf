//! The invariants, on machines made at random.

use proptest::prelude::*;
use verdict::{isolation, limits, told};

use takeover::hazard::Danger;

use crate::common::{PLENTY, Taken, cases, plausible, take_over};

/// Whether a unit may have been without a table for an instant.
fn may_be_between(taken: &Taken<'_>) -> bool {
    taken.report().hazards.listed.iter().any(|hazard| matches!(hazard.danger, Danger::BaseInHalves { .. }))
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn every_answer_stays_what_it_was_and_no_device_reaches_our_memory(scenario in plausible()) {
        let machine = scenario.machine();
        let (mut frames, clock) = (machine.frames(PLENTY), machine.clock());
        let taken = take_over(&scenario, &machine, &mut frames, &clock, &limits());
        prop_assert!(taken.is_ok(), "{:?}\n{}", taken.err(), told(&machine));
        prop_assume!(taken.is_ok_and(|taken| !taken.iter().any(may_be_between)));
        machine.run(100);
        prop_assert!(machine.violations().is_empty(), "{}", told(&machine));
        for unit in 0..scenario.units.len() {
            isolation::check(&machine, unit).map_err(TestCaseError::fail)?;
        }
        prop_assert!(machine.old_pages_changed().is_empty(), "{:x?}", machine.old_pages_changed());
    }
}
