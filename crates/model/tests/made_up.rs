//! Machines made up at random can be built, run, and are as plausible as they claim.

use model::damage::{Damage, Harm, Victim};
use model::random::Size;
use model::scenario::Attached;
use model::{Answer, Kind, Scenario};
use std::collections::BTreeSet;

const SIZE: Size = Size { units: 3, domains: 5, functions: 8, runs: 6 };
const SEEDS: std::ops::Range<u64> = 0..200;

#[test]
fn a_machine_that_is_left_alone_answers_as_before() {
    for machine in SEEDS.map(|seed| Scenario::random(seed, SIZE).machine()) {
        machine.run(300);
        assert_eq!((machine.violations(), machine.old_pages_changed()), (vec![], vec![]));
    }
}

/// What its devices are told may depend on what is cached: damage can give two domains one id.
#[test]
fn a_damaged_machine_that_is_left_alone_keeps_its_memory() {
    for machine in SEEDS.map(|seed| Scenario::random(seed, SIZE).corrupt(seed, 8).machine()) {
        machine.run(300);
        assert_eq!(machine.old_pages_changed(), []);
    }
}

#[test]
fn every_mapping_of_a_scenario_is_in_force() {
    for scenario in SEEDS.map(|seed| Scenario::random(seed, SIZE)) {
        let machine = scenario.machine();
        for unit in 0..scenario.units.len() {
            let reached: BTreeSet<u64> =
                machine.reached(unit).iter().map(|reached| reached.memory.start).collect();
            for (_, attached, _) in scenario.requesters(unit) {
                let Attached::To(domain) = attached else { continue };
                let mut mappings = scenario.domains[domain].mappings.iter();
                assert!(mappings.all(|mapping| reached.contains(&mapping.memory)));
            }
        }
    }
}

#[test]
fn no_plausible_machine_reaches_the_capture_kernel_unless_it_passes_all() {
    for scenario in SEEDS.map(|seed| Scenario::random(seed, SIZE)) {
        let machine = scenario.machine();
        machine.guard(Vec::new());
        for unit in 0..scenario.units.len() {
            let mut requesters = scenario.requesters(unit);
            let passes = requesters.any(|(_, attached, _)| matches!(attached, Attached::PassThrough(_)));
            assert_eq!(machine.trespasses(unit).is_empty(), !passes);
        }
    }
}

#[test]
fn devices_have_something_to_do() {
    let accesses: Vec<_> = SEEDS
        .flat_map(|seed| Scenario::random(seed, SIZE).machine().accesses())
        .map(|(_, answer)| answer)
        .collect();
    let reaching = accesses.iter().filter(|answer| matches!(answer, Answer::Memory(_))).count();
    assert!(
        reaching * 4 > accesses.len() && reaching * 10 < accesses.len() * 9,
        "{reaching} of {}",
        accesses.len()
    );
}

/// Each level's entries all name one table: 512^3 ways, three tables.
#[test]
fn tables_that_fan_out_are_searched_once_each() {
    let mut scenarios = SEEDS.map(|seed| Scenario::random(seed, SIZE));
    let mut scenario = scenarios.find(|scenario| !scenario.domains.is_empty()).unwrap();
    let spread = |which| Damage { table: Victim::Paging, which, word: 0, harm: Harm::Spread };
    scenario.damage = (0..20).map(spread).collect();
    let machine = scenario.machine();
    assert!(machine.reached(0).len() < 512 * 100);
    assert!(machine.ranges(Kind::Capture).len() == 1);
}
