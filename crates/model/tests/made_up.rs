//! Random machines can be built and run, and are as plausible as they claim.

use machine::{IoAddress, OldMemory, Permission, PhysicalAddress, Position};
use model::damage::{Damage, Harm, Table, Victim};
use model::random::{RESERVED_MEMORY, Size};
use model::scenario::{Attached, Mapping, Stage};
use model::{Answer, Direction, MemoryKind, Requester, Scenario};
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

/// The answers to its devices may depend on the caches: damage can give two domains one id.
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
            let reached: BTreeSet<PhysicalAddress> =
                machine.reached(unit).iter().map(|reached| reached.memory.start).collect();
            for (_, attached, _) in scenario.requesters(unit) {
                let Attached::To(domain) = attached else { continue };
                for mapping in &scenario.domains[domain].mappings {
                    let memory = host_memory(&scenario, domain, mapping);
                    let is_reached = memory.is_none_or(|address| reached.contains(&address));
                    assert!(
                        is_reached,
                        "{mapping:x?} of {:x?}, seed {}",
                        scenario.domains[domain].stage, scenario.seed
                    );
                }
            }
        }
    }
}

/// The memory of a mapping, through the domain's host if it has one; `None` if the two together allow nothing.
fn host_memory(scenario: &Scenario, domain: usize, mapping: &Mapping) -> Option<PhysicalAddress> {
    let Stage::Nested(host) = scenario.domains[domain].stage else { return Some(mapping.memory) };
    let guest = IoAddress::new(mapping.memory.get());
    let holds = |host: &&Mapping| host.level.entry_span(host.iova).contains(guest);
    let host = scenario.domains[host].mappings.iter().find(holds)?;
    let allows = match (host.permission, mapping.permission) {
        (Permission::Write, guest) => guest != Permission::Read,
        _ => true,
    };
    allows.then_some(host.memory.saturating_add(guest.count_since(host.iova)))
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
    let some = |which| Victim::Some { table: Table::Paging, which, word: 0 };
    let spread = |which| Damage { victim: some(which), harm: Harm::Spread };
    scenario.damage = (0..20).map(spread).collect();
    let machine = scenario.machine();
    assert!(machine.reached(0).len() < 512 * 100);
    assert!(machine.ranges(MemoryKind::Capture).len() == 1);
}

/// Aimed damage hits the entry that translates for one device or maps one address, whatever else there is.
#[test]
fn damage_that_is_aimed_hits_that_entry() {
    let maps_nothing = |scenario: &Scenario| scenario.domains.iter().all(|domain| domain.mappings.is_empty());
    for scenario in SEEDS.map(|seed| Scenario::random(seed, SIZE)).filter(|scenario| !maps_nothing(scenario))
    {
        let domain = scenario.domains.iter().position(|domain| !domain.mappings.is_empty()).unwrap();
        let mapping = scenario.domains[domain].mappings[0];
        let users = scenario.functions.iter().filter(|function| function.attached == Attached::To(domain));
        for function in users {
            let access =
                Requester { source: function.source, pasid: None }.access(mapping.iova, Direction::Read);
            let answer = |victim| {
                let damage = vec![Damage { victim, harm: Harm::Overwrite(0) }];
                let machine = Scenario { damage, ..scenario.clone() }.machine();
                machine.answer(function.unit, access)
            };
            let leaf = answer(Victim::Leaf { domain, iova: mapping.iova });
            let context = answer(Victim::Context(function.source));
            assert!(matches!((leaf, context), (Answer::Blocked(_), Answer::Blocked(_))), "{leaf} {context}");
        }
    }
}

#[test]
fn overwritten_words_are_in_old_memory_only() {
    let plain = Scenario::random(1, SIZE);
    let words = vec![(0x5000.into(), 7), (0x200_0000.into(), 7)];
    let machine = Scenario { words, ..plain }.machine();
    assert_eq!(machine.old_memory().read_u64(0x5000.into()), Ok(7));
    assert!(machine.old_pages_changed().is_empty());
}

#[test]
fn what_devices_do_is_kept_when_somebody_asks() {
    let machine = Scenario::random(3, SIZE).machine();
    machine.run(10);
    assert!(machine.deliveries().is_empty());
    machine.watch_deliveries();
    machine.run(10);
    let deliveries = machine.deliveries();
    assert_eq!((deliveries.len(), deliveries[0].step), (20, 11));
    assert!(deliveries.iter().all(|delivery| delivery.before == delivery.now));
}

/// Some domains map memory of the firmware's as it is, and devices work there.
#[test]
fn firmware_has_its_memory_mapped() {
    let works_there = |seed| {
        let accesses = Scenario::random(seed, SIZE).machine().accesses();
        accesses.into_iter().any(|(access, answer)| {
            let address = PhysicalAddress::new(access.iova.get());
            RESERVED_MEMORY.contains(address) && answer == Answer::Memory(address)
        })
    };
    assert!(SEEDS.filter(|seed| works_there(*seed)).count() > 10);
}
