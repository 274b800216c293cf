//! **bounded**: every wait has a deadline, every walk has a limit, memory stays within the budget.

use crate::common::{
    Described, PLENTY, astray, cases, erratic, of_each, plausible, take_over, take_over_all, with_habits,
};
use model::damage::{Damage, Harm, Table, Victim};
use model::random::Size;
use model::{Machine, Scenario};
use proptest::prelude::*;
use verdict::bounded::{check, check_damaged};
use verdict::{Verdict, limits};

fn check_all(
    scenario: &Described,
    budget: usize,
    check: fn(&Machine, usize, usize) -> Verdict,
) -> Result<(), TestCaseError> {
    let machine = scenario.machine();
    let _ = take_over_all(&machine, &mut machine.frames(budget), &machine.clock(), &limits());
    of_each(&machine, |unit| check(&machine, unit, budget))
}

proptest! {
    #![proptest_config(cases(80))]

    #[test]
    fn a_takeover_ends_in_time_whatever_is_stuck(scenario in plausible(), habits in erratic(), budget in 0..300_usize) {
        check_all(&with_habits(scenario, &habits), budget, check)?;
    }

    #[test]
    fn a_takeover_ends_in_time_whatever_the_damage(scenario in astray(), budget in 0..PLENTY) {
        check_all(&scenario, budget, check_damaged)?;
    }
}

/// All entries of each of five levels name one table: 512^5 ways down.
#[test]
fn a_fan_out_built_to_explode_is_copied_once() {
    let mut found =
        (0..1000).map(|seed| Scenario::random(seed, Size { units: 1, domains: 1, functions: 2, runs: 2 }));
    let five_levels = |scenario: &Scenario| {
        let widest = scenario.domains.iter().any(|domain| domain.width.0 == 3 && !domain.mappings.is_empty());
        widest && !scenario.functions.is_empty()
    };
    let scenario = found.find(five_levels).unwrap();
    let some = |which| Victim::Some { table: Table::Paging, which, word: 0 };
    let spread = |which| Damage { victim: some(which), harm: Harm::Spread };
    let machine = Scenario { damage: (0..20).map(spread).collect(), ..scenario }.machine();
    let clock = machine.clock();
    let taken = take_over(&machine, &mut machine.frames(PLENTY), &clock, &limits()).unwrap();
    assert!(taken.report().tables_duplicated < 30);
    assert!(machine.steps() < 100_000, "{} steps", machine.steps());
}
