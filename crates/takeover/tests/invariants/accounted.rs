//! **accounted**: each old context, domain and hazard ends as *duplicated, folded, kept in place, fenced* or *blocked*, with
//! its reason, and what the report says is so.

use crate::common::{
    PLENTY, cases, damaged, of_each, plausible, stuck, take_over, take_over_all, with_habits, with_vtd,
};
use model::scenario::{Attached, Stage};
use model::{Machine, Scenario};
use proptest::prelude::*;
use takeover::failure::InForce;
use takeover::{Outcome, Report};
use verdict::accounted::{check, requester};
use verdict::{Taken, limits};

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn on_a_plausible_machine_all_is_duplicated_and_pass_through_is_fenced(scenario in with_vtd()) {
        let machine = scenario.machine();
        let clock = machine.clock();
        let taken = take_over_all(&machine, &mut machine.frames(PLENTY), &clock, &limits()).unwrap();
        check_all(&machine, &taken)?;
        for (unit, taken) in taken.iter().enumerate() {
            check_outcomes(&scenario, unit, taken.report())?;
        }
    }

    #[test]
    fn whatever_the_damage_the_report_is_true(scenario in damaged()) {
        let machine = scenario.machine();
        let clock = machine.clock();
        if let Ok(taken) = take_over_all(&machine, &mut machine.frames(PLENTY), &clock, &limits()) {
            check_all(&machine, &taken)?;
        }
    }

    #[test]
    fn however_few_the_frames_the_report_is_true(scenario in plausible(), budget in 0..120_usize) {
        let machine = scenario.machine();
        let clock = machine.clock();
        if let Ok(taken) = take_over_all(&machine, &mut machine.frames(budget), &clock, &limits()) {
            check_all(&machine, &taken)?;
        }
    }

    /// A failure says which tables the unit translates with, or that it does not know.
    #[test]
    fn whatever_is_stuck_a_failure_says_which_tables_are_in_force(scenario in plausible(), habits in stuck()) {
        let machine = with_habits(scenario, &habits).machine();
        let old = machine.root(0);
        let clock = machine.clock();
        let taken = take_over(&machine, &mut machine.frames(PLENTY), &clock, &limits());
        machine.run(200);
        let is_old = machine.root(0) == old;
        match taken.map(|taken| taken.report().root).map_err(|failure| failure.in_force) {
            // It stays where it is, if hardware takes no other.
            Ok(root) if root & !0xFFF == old.get() => prop_assert!(is_old),
            Ok(_) | Err(InForce::New) => prop_assert!(!is_old),
            Err(InForce::Old) => prop_assert!(is_old),
            Err(InForce::Unknown) => {}
        }
    }
}

fn check_all(machine: &Machine, taken: &[Taken]) -> Result<(), TestCaseError> {
    of_each(machine, |unit| check(machine, unit, taken[unit].report()))
}

/// Checks that every requester is listed: as fenced if it was in pass-through, as kept in place if it belongs to a
/// guest, otherwise as duplicated.
fn check_outcomes(scenario: &Scenario, unit: usize, report: &Report) -> Result<(), TestCaseError> {
    prop_assert_eq!(report.contexts.len(), scenario.requesters(unit).count());
    for (wanted, attached, _) in scenario.requesters(unit) {
        let found = report.contexts.iter().find(|context| requester(context) == wanted);
        let outcome = match attached {
            Attached::PassThrough(_) => Outcome::Fenced,
            Attached::To(domain) if is_nested(scenario, domain) => Outcome::KeptInPlace,
            Attached::To(_) => Outcome::Duplicated,
        };
        prop_assert_eq!(found.map(|context| context.outcome), Some(outcome), "{:?}", wanted);
    }
    Ok(())
}

/// Whether the first stage of a domain belongs to a guest; it then stays where it is.
fn is_nested(scenario: &Scenario, domain: usize) -> bool {
    matches!(scenario.domains[domain].stage, Stage::Nested(_))
}

/// A report that calls everything duplicated although something was fenced or blocked is found out.
#[test]
fn a_report_that_embellishes_is_found_out() {
    use model::damage::{Damage, Harm, Table, Victim};
    let some = |which| Victim::Some { table: Table::Paging, which, word: 0 };
    let into_capture = |which| Damage { victim: some(which), harm: Harm::PointAtForbidden(0) };
    let size = model::random::Size { units: 1, domains: 4, functions: 6, runs: 4 };
    let lies_found = (0..100).filter(|seed| {
        let mut scenario = model::Scenario::random(*seed, size);
        scenario.damage = (0..8).map(into_capture).collect();
        let machine = scenario.machine();
        let clock = machine.clock();
        let Ok(taken) = take_over(&machine, &mut machine.frames(PLENTY), &clock, &limits()) else {
            return false;
        };
        let mut report = taken.report().clone();
        report.contexts.iter_mut().for_each(|context| context.outcome = Outcome::Duplicated);
        check(&machine, 0, &report).is_err()
    });
    assert!(lies_found.count() > 10);
}
