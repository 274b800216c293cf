//! **bounded**: every wait has a deadline, every walk has a limit, memory stays within the budget.

use crate::common::{PLENTY, cases, damaged, holds, plausible, stuck, take_over, with_habits};
use model::damage::{Damage, Harm, Table, Victim};
use model::random::Size;
use model::{Meddling, Scenario};
use proptest::prelude::*;
use verdict::bounded::check;
use verdict::limits;

fn meddling() -> impl Strategy<Value = Vec<Meddling>> {
    let one = (1..200_u64, 0..0x480_0000_u64, any::<u64>());
    let one =
        one.prop_map(|(before_read, address, value)| Meddling { before_read, address: address & !7, value });
    prop::collection::vec(one, 0..20)
}

proptest! {
    #![proptest_config(cases(80))]

    #[test]
    fn a_takeover_ends_in_time_whatever_is_stuck(scenario in plausible(), habits in stuck(), budget in 0..300_usize) {
        let machine = with_habits(scenario, &habits).machine();
        let _ = take_over(&machine, &mut machine.frames(budget), &machine.clock(), &limits());
        holds(check(&machine, 0, budget))?;
    }

    #[test]
    fn a_takeover_ends_in_time_whatever_the_damage(
        scenario in damaged(),
        meddling in meddling(),
        budget in 0..PLENTY,
    ) {
        let machine = Scenario { meddling, ..scenario }.machine();
        let _ = take_over(&machine, &mut machine.frames(budget), &machine.clock(), &limits());
        holds(check(&machine, 0, budget))?;
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
