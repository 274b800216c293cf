//! Random machines with AMD-Vi can be built and run, and are as plausible as they claim.

use machine::{IoAddress, Level, OldMemory, Permission, PhysicalAddress, Position};
use model::amdvi::Scenario;
use model::amdvi::damage::{Damage, Harm, Table, Victim};
use model::amdvi::scenario::{Attached, ExcludedDevices, Function, GuestTables, Mapping, Stage};
use model::random::Size;
use model::{Access, Answer, Direction, Machine, MemoryKind, Requester};

const SIZE: Size = Size { units: 3, domains: 5, functions: 8, runs: 6 };
const SEEDS: std::ops::Range<u64> = 0..200;

#[test]
fn a_machine_that_is_left_alone_answers_as_before() {
    for (seed, machine) in SEEDS.map(|seed| (seed, Scenario::random(seed, SIZE).machine())) {
        machine.run(300);
        assert_eq!((machine.violations(), machine.old_pages_changed()), (vec![], vec![]), "seed {seed}");
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

/// Machines on which all that entries say of tables is used.
fn heeding() -> impl Iterator<Item = Scenario> {
    SEEDS.map(|seed| {
        let mut scenario = Scenario::random(seed, SIZE);
        scenario.units.iter_mut().for_each(|unit| unit.guest_tables = GuestTables::Used);
        scenario
    })
}

/// The domains of a function: its own, and those of its processes, each with its requester.
fn domains(function: &Function) -> Vec<(Requester, usize)> {
    let source = function.source;
    let own = match function.attached {
        Attached::To(domain) => Some((Requester { source, pasid: None }, domain)),
        _ => None,
    };
    let processes = function.processes.iter();
    let processes =
        processes.map(|process| (Requester { source, pasid: Some(process.pasid) }, process.domain));
    own.into_iter().chain(processes).collect()
}

/// The memory at an offset of a mapping, and what is allowed, through the domain's host if it has one.
fn meant(scenario: &Scenario, domain: usize, mapping: &Mapping, offset: u64) -> Option<(u64, [bool; 2])> {
    let rights = |permission: Permission| [permission.reads(), permission.writes()];
    let memory = mapping.memory.get() + offset;
    // In guest tables, what can be written can be read.
    let guest = |permission: Permission| [true, permission.writes()];
    match scenario.domains[domain].stage {
        Stage::Host => Some((memory, rights(mapping.permission))),
        Stage::Guest => Some((memory, guest(mapping.permission))),
        Stage::Nested(host) => {
            let holds = |host: &&Mapping| host.level.entry_span(host.iova).contains(IoAddress::new(memory));
            let host = scenario.domains[host].mappings.iter().find(holds)?;
            let [read, write] = rights(host.permission);
            let [guest_read, guest_write] = guest(mapping.permission);
            let memory = host.memory.get() + IoAddress::new(memory).count_since(host.iova);
            Some((memory, [read && guest_read, write && guest_write]))
        }
    }
}

/// Each page of each domain, at both ends, is where the description says, and reads and writes are allowed as it says.
#[test]
fn every_mapping_of_a_scenario_is_in_force() {
    let mut seen = [0; 3];
    for scenario in heeding() {
        let machine = scenario.machine();
        for function in &scenario.functions {
            for (requester, domain) in domains(function) {
                let kind = match scenario.domains[domain].stage {
                    Stage::Host => 0,
                    Stage::Guest => 1,
                    Stage::Nested(_) => 2,
                };
                for mapping in &scenario.domains[domain].mappings {
                    check(&scenario, &machine, (function, requester), (domain, mapping));
                    seen[kind] += 1;
                }
            }
        }
    }
    assert!(seen.into_iter().all(|count| count > 100), "{seen:?}");
}

fn check(
    scenario: &Scenario,
    machine: &Machine,
    (function, requester): (&Function, Requester),
    (domain, mapping): (usize, &Mapping),
) {
    use model::amdvi::scenario::Excluded;
    let exclusion = scenario.units[function.unit]
        .exclusion
        .filter(|exclusion| exclusion.devices == ExcludedDevices::All || function.excluded == Excluded::Yes);
    for offset in [0, mapping.level.span() - 1] {
        let iova = mapping.iova.saturating_add(offset);
        let excluded = exclusion.is_some_and(|it| it.range.contains(PhysicalAddress::new(iova.get())));
        if excluded && requester.pasid.is_none() {
            continue;
        }
        let Some((memory, allowed)) = meant(scenario, domain, mapping, offset) else { continue };
        for (direction, allowed) in [Direction::Read, Direction::Write].into_iter().zip(allowed) {
            let answer = machine.answer(function.unit, requester.access(iova, direction));
            let fine = if allowed {
                answer == Answer::Memory(memory.into())
            } else {
                matches!(answer, Answer::Blocked(_))
            };
            let stage = scenario.domains[domain].stage;
            assert!(fine, "{answer} for {mapping:x?} of {stage:x?}, seed {}", scenario.seed);
        }
    }
}

#[test]
fn what_can_be_reached_is_what_answers_say() {
    for scenario in SEEDS.map(|seed| Scenario::random(seed, SIZE)).take(60) {
        let machine = scenario.machine();
        for unit in 0..scenario.units.len() {
            for reached in machine.reached(unit) {
                let access = |direction| Access {
                    source: reached.requester.source,
                    pasid: reached.requester.pasid,
                    iova: reached.iova,
                    direction,
                };
                for (direction, allowed) in
                    [(Direction::Read, reached.rights.read), (Direction::Write, reached.rights.write)]
                {
                    let answer = machine.answer(unit, access(direction));
                    let reaches = answer == Answer::Memory(reached.memory.start);
                    assert_eq!(reaches, allowed, "{answer}: {reached:x?}, seed {}", scenario.seed);
                }
            }
        }
    }
}

#[test]
fn no_plausible_machine_reaches_the_capture_kernel_unless_something_passes() {
    let passes = |scenario: &Scenario, function: &Function| match function.attached {
        Attached::PassThrough(_, rights) => rights.read || rights.write,
        Attached::Untranslated => true,
        Attached::To(_) => scenario.stage_of(function).0.is_none(),
        Attached::Aborted => false,
    };
    for scenario in SEEDS.map(|seed| Scenario::random(seed, SIZE)) {
        let machine = scenario.machine();
        machine.guard(Vec::new());
        for unit in 0..scenario.units.len() {
            // Where guest tables have PASID 0, requests without PASID do not pass.
            let some = scenario.functions_of(unit).any(|function| passes(&scenario, function));
            assert_eq!(machine.trespasses(unit).is_empty(), !some, "seed {}", scenario.seed);
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
    assert!(reaching * 4 > accesses.len() && reaching * 10 < accesses.len() * 9);
    assert!(accesses.iter().any(|answer| matches!(answer, Answer::Remapped(_))));
}

/// Each level's entries all name one table: 512^3 ways, three tables.
#[test]
fn tables_that_fan_out_are_searched_once_each() {
    let wide = |scenario: &Scenario| {
        scenario.domains.iter().any(|domain| domain.top >= Level::FOUR && domain.stage == Stage::Host)
    };
    let mut scenario = SEEDS.map(|seed| Scenario::random(seed, SIZE)).find(wide).unwrap();
    let some = |which| Victim::Some { table: Table::Paging, which, word: 0 };
    let spread = |which| Damage { victim: some(which), harm: Harm::Spread };
    scenario.damage = (0..20).map(spread).collect();
    let machine = scenario.machine();
    assert!(machine.reached(0).len() < 512 * 100);
}

#[test]
fn damage_that_is_aimed_hits_that_entry() {
    let mut hit = 0;
    for scenario in heeding() {
        let Some(domain) = scenario.domains.iter().position(|domain| !domain.mappings.is_empty()) else {
            continue;
        };
        let mapping = scenario.domains[domain].mappings[0];
        let users = scenario.functions.iter().filter(|function| function.attached == Attached::To(domain));
        for function in users.filter(|function| scenario.units[function.unit].exclusion.is_none()) {
            let access =
                Requester { source: function.source, pasid: None }.access(mapping.iova, Direction::Read);
            let answer = |victim, value| {
                let damage = vec![Damage { victim, harm: Harm::Overwrite(value) }];
                Scenario { damage, ..scenario.clone() }.machine().answer(function.unit, access)
            };
            let leaf = answer(Victim::Leaf { domain, iova: mapping.iova }, 0);
            let entry = answer(Victim::Entry { source: function.source, word: 0 }, 1);
            let both = matches!((leaf, entry), (Answer::Blocked(_), Answer::Blocked(_)));
            assert!(both, "{leaf} {entry}, seed {}, {:x?}", scenario.seed, scenario.domains[domain]);
            hit += 1;
        }
    }
    assert!(hit > 50, "{hit}");
}

#[test]
fn overwritten_words_are_in_old_memory_only() {
    let plain = Scenario::random(1, SIZE);
    let words = vec![(0x5000.into(), 7), (0x200_0000.into(), 7)];
    let machine = Scenario { words, ..plain }.machine();
    assert_eq!(machine.old_memory().read_u64(0x5000.into()), Ok(7));
    assert!(machine.old_pages_changed().is_empty());
    assert_eq!(machine.ranges(MemoryKind::Capture).len(), 1);
}
