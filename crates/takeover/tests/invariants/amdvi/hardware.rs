//! What only units of AMD-Vi do: registers that are locked, or take 64 bits in two halves; commands that some do not have; logs that
//! the unit writes to memory; interrupts that go through tables.

use super::step_by_step::scenario;
use crate::common::{PLENTY, cases, holds, take_over, take_over_all, with_amdvi};
use machine::Range;
use model::amdvi::Scenario;
use model::amdvi::scenario::{Attached, Lock, OldLog, Stage, TablePlace, UnitScenario, Writes};
use model::{Answer, Machine, MemoryKind, Violation};
use proptest::prelude::*;
use takeover::Outcome;
use takeover::failure::InForce;
use takeover::hazard::Danger;
use verdict::accounted::requester;
use verdict::{continuity, isolation, limits, misused, told};

fn with(change: impl FnOnce(&mut UnitScenario)) -> Scenario {
    let mut scenario = scenario();
    change(&mut scenario.units[0]);
    scenario
}

/// Where secure nested paging locks the bases, writes to them are lost, and a takeover must not believe otherwise: the tables in
/// force are said to be those that are, and devices go on.
#[test]
fn where_bases_are_locked_the_report_says_what_is_in_force() {
    let machine = with(|unit| unit.lock = Lock::Locked).machine();
    let (old, clock) = (machine.root(0), machine.clock());
    let taken = take_over(&machine, &mut machine.frames(PLENTY), &clock, &limits());
    machine.run(200);
    assert!(!continuity::is_broken(&machine) && !misused(&machine), "{}", told(&machine));
    assert_eq!(machine.root(0), old);
    if let Err(failure) = taken {
        assert_eq!(failure.in_force, InForce::Old);
    }
}

/// A machine whose old device table is above 4 GiB, before a unit that takes the base in two halves.
fn torn(writes: Writes, table_place: TablePlace) -> (Machine, bool) {
    let mut scenario = with(|unit| (unit.writes, unit.table_place) = (writes, table_place));
    scenario.memory.push((Range::from(0x1_0000_0000..0x1_0100_0000), MemoryKind::Old));
    let machine = scenario.machine();
    let clock = machine.clock();
    let taken = take_over(&machine, &mut machine.frames(PLENTY), &clock, &limits());
    let warned =
        taken.is_err_and(|failure| failure.in_force == InForce::Old) || is_warned(&machine, &scenario);
    (machine, warned)
}

/// Whether a takeover of the same machine says that the base may have been torn.
fn is_warned(machine: &Machine, scenario: &Scenario) -> bool {
    let (again, clock) = (scenario.machine(), machine.clock());
    let taken = take_over(&again, &mut again.frames(PLENTY), &clock, &limits());
    taken.is_ok_and(|taken| {
        let mut hazards = taken.report().hazards.listed.iter();
        hazards.any(|hazard| matches!(hazard.danger, Danger::BaseInHalves { .. }))
    })
}

/// Nobody knows from outside how a unit takes a base: one that moves across 4 GiB is told of, or not moved.
#[test]
fn a_base_that_moves_across_4_gib_is_told_of() {
    let (machine, warned) = torn(Writes::Halves, TablePlace::High);
    assert!(warned);
    assert!(continuity::is_broken(&machine), "this is what the warning is about");
    for (writes, place) in [
        (Writes::Whole, TablePlace::High),
        (Writes::Whole, TablePlace::Low),
        (Writes::Halves, TablePlace::Low),
    ] {
        let (machine, _) = torn(writes, place);
        assert!(!continuity::is_broken(&machine), "{writes:?} {place:?}: {}", told(&machine));
    }
}

#[test]
fn a_unit_without_the_command_that_forgets_everything_forgets_all_the_same() {
    let machine = with(|unit| unit.traits.feature.set_ia(false)).machine();
    let clock = machine.clock();
    take_over(&machine, &mut machine.frames(PLENTY), &clock, &limits()).unwrap();
    machine.run(200);
    assert_eq!(told(&machine), "");
    assert_eq!(isolation::check(&machine, 0), Ok(()));
}

/// Page requests and guest interrupts are logged no more, and events in memory of our own.
#[test]
fn no_log_is_written_to_old_memory_after_the_takeover() {
    let machine = with(|unit| (unit.logs, unit.events) = (OldLog::Running, OldLog::Running)).machine();
    let clock = machine.clock();
    take_over(&machine, &mut machine.frames(PLENTY), &clock, &limits()).unwrap();
    machine.run(500);
    assert!(!machine.violations().iter().any(|violation| matches!(violation, Violation::Logged { .. })));
    assert_eq!(machine.old_pages_changed(), []);
}

proptest! {
    #![proptest_config(cases(60))]

    /// Every device of the old kernel's is listed, as what it was.
    #[test]
    fn on_a_plausible_machine_all_is_duplicated_and_pass_through_is_fenced(scenario in with_amdvi()) {
        let machine = scenario.machine();
        let clock = machine.clock();
        let taken = take_over_all(&machine, &mut machine.frames(PLENTY), &clock, &limits()).unwrap();
        for function in &scenario.functions {
            let report = taken[function.unit].report();
            let own = report.contexts.iter().find(|context| {
                (context.source.0, context.pasid) == (function.source, None)
            });
            let found = own.map(|context| context.outcome);
            let guests = !function.processes.is_empty();
            let expected = match function.attached {
                Attached::Untranslated => Some(Outcome::Fenced),
                Attached::PassThrough(_, rights) if rights.read || rights.write => Some(Outcome::Fenced),
                Attached::To(domain) => Some(match scenario.domains[domain].stage {
                    Stage::Host if guests => Outcome::KeptInPlace,
                    Stage::Host | Stage::Guest => Outcome::Duplicated,
                    Stage::Nested(_) => Outcome::KeptInPlace,
                }),
                Attached::PassThrough(..) | Attached::Aborted => None,
            };
            if let Some(expected) = expected {
                let source = function.source;
                prop_assert_eq!(found, Some(expected), "{:x} {:?}", source, function.attached);
            }
        }
        for (unit, taken) in taken.iter().enumerate() {
            let listed: Vec<_> = taken.report().contexts.iter().map(requester).collect();
            let twice = listed.iter().filter(|one| listed.iter().filter(|other| other == one).count() > 1);
            prop_assert_eq!(twice.count(), 0);
            holds(verdict::accounted::check(&machine, unit, taken.report()))?;
        }
    }

    /// What becomes of interrupts is as it was, entry by entry.
    #[test]
    fn interrupts_are_left_as_they_were(scenario in with_amdvi()) {
        let machine = scenario.machine();
        let clock = machine.clock();
        let _ = take_over_all(&machine, &mut machine.frames(PLENTY), &clock, &limits());
        machine.run(50);
        for (access, before) in machine.accesses() {
            if matches!(before, Answer::Interrupt | Answer::Remapped(_)) {
                let unit = scenario.functions.iter().find(|it| it.source == access.source).map_or(0, |it| it.unit);
                prop_assert_eq!(machine.answer(unit, access), before);
            }
        }
    }
}
