//! What only units of AMD-Vi do: registers that are locked, or take 64 bits in two halves; commands that some do not have; logs that
//! the unit writes to memory; interrupts that go through tables.

use super::step_by_step::scenario;
use crate::common::{
    Described, PLENTY, attach, cases, function, holds, is_guests, of_each, take_over, take_over_all,
    with_amdvi,
};
use machine::{PhysicalAddress, Range};
use model::amdvi::Scenario;
use model::amdvi::scenario::{Attached, Lock, OldLog, Stage, TablePlace, UnitScenario, Writes};
use model::{Answer, Machine, MemoryKind, Violation};
use proptest::prelude::*;
use takeover::Outcome;
use takeover::hazard::{Danger, Obstacle};
use verdict::accounted::requester;
use verdict::{Taken, bounded, continuity, isolation, limits, told};

fn with(change: impl FnOnce(&mut UnitScenario)) -> Scenario {
    let mut scenario = scenario();
    change(&mut scenario.units[0]);
    scenario
}

/// Why the table of before is still in force, if it is.
fn obstacle(taken: &Taken<'_>) -> Option<Obstacle> {
    taken.report().hazards.listed.iter().find_map(|hazard| match hazard.danger {
        Danger::TableInPlace { why, .. } => Some(why),
        _ => None,
    })
}

/// Nobody knows from outside how a unit takes a base: one does not move across 4 GiB, and all others do move.
#[test]
fn a_base_does_not_move_across_4_gib() {
    for (writes, place) in [
        (Writes::Halves, TablePlace::High),
        (Writes::Whole, TablePlace::High),
        (Writes::Whole, TablePlace::Low),
        (Writes::Halves, TablePlace::Low),
    ] {
        let mut scenario = with(|unit| (unit.writes, unit.table_place) = (writes, place));
        scenario.memory.push((Range::from(0x1_0000_0000..0x1_0100_0000), MemoryKind::Old));
        let machine = scenario.machine();
        let clock = machine.clock();
        let taken = take_over(&machine, &mut machine.frames(PLENTY), &clock, &limits()).unwrap();
        machine.run(200);
        assert!(!continuity::is_broken(&machine), "{writes:?} {place:?}: {}", told(&machine));
        let is_in_place = matches!(obstacle(&taken), Some(Obstacle::Halves { .. }));
        assert_eq!(is_in_place, place == TablePlace::High);
    }
}

/// Machines whose units do not take another device table: their registers are locked, or the base would move across 4 GiB.
fn in_place() -> impl Strategy<Value = Scenario> {
    (with_amdvi(), any::<bool>()).prop_map(|(mut scenario, locked)| {
        scenario.memory.push((Range::from(0x1_0000_0000..0x1_0100_0000), MemoryKind::Old));
        for unit in &mut scenario.units {
            unit.table_place = TablePlace::High;
            if locked {
                unit.lock = Lock::Locked;
                unit.traits.feature.set_snp(true);
            }
        }
        scenario
    })
}

/// Where the table of before stays in force, and buffers with it, continuity, isolation, disjointness, bounded and accounted hold as
/// they do elsewhere, as long as no device writes to it. Old memory is changed there alone.
fn check_in_place(scenario: Scenario, pick: usize, pages: &[u64]) -> Result<(), TestCaseError> {
    let machine = scenario.machine();
    let reused: Vec<_> = (0..machine.units()).flat_map(|unit| machine.reusable(unit)).collect();
    let (mut frames, clock) = (machine.frames(PLENTY), machine.clock());
    let mut taken = take_over_all(&machine, &mut frames, &clock, &limits())
        .map_err(|failure| TestCaseError::fail(failure.to_string()))?;
    machine.run(100);
    let described = Described::from(scenario);
    let check = |machine: &Machine, is_attached: bool| {
        // Who is let pass reaches no memory that the unit uses on, whatever it had to do there.
        let is_allowed = |violation: &Violation| match violation {
            Violation::Logged { .. } => true,
            Violation::Continuity { before: Answer::Memory(at), now: Answer::Blocked(_), .. } => {
                reused.iter().any(|memory| memory.contains(*at))
            }
            _ => false,
        };
        let others = machine.violations().into_iter().filter(|violation| !is_allowed(violation)).count();
        prop_assert_eq!(others, 0, "{}", told(machine));
        of_each(machine, |unit| isolation::check(machine, unit))?;
        if !is_attached {
            of_each(machine, |unit| bounded::check(machine, unit, PLENTY))?;
        }
        let is_elsewhere = |page: &PhysicalAddress| !reused.iter().any(|memory| memory.contains(*page));
        let elsewhere: Vec<_> = machine.old_pages_changed().into_iter().filter(is_elsewhere).collect();
        prop_assert_eq!(elsewhere, []);
        Ok(())
    };
    check(&machine, false)?;
    for (unit, taken) in taken.iter().enumerate() {
        prop_assert!(obstacle(taken).is_some());
        holds(verdict::accounted::check(&machine, unit, taken.report()))?;
    }
    let (unit, device) = function(&described, pick);
    if is_guests(&described, device) {
        return Ok(());
    }
    let sharing = machine.sharing_before(unit, device);
    attach(&machine, &mut taken[unit], &mut frames, &sharing, pages)?;
    machine.run(100);
    check(&machine, true)
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

    #[test]
    fn where_the_table_stays_in_place_all_invariants_hold_but_one(
        scenario in in_place(), pick in 0..9_usize, pages in prop::collection::vec(1..17_u64, 0..4),
    ) {
        check_in_place(scenario, pick, &pages)?;
    }

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
            let (stage, guests) = scenario.stage_of(function);
            let expected = match function.attached {
                Attached::Untranslated => Some(Outcome::Fenced),
                Attached::PassThrough(_, rights) if rights.read || rights.write => Some(Outcome::Fenced),
                Attached::To(_) => Some(match stage {
                    Some(Stage::Host) if guests => Outcome::KeptInPlace,
                    Some(Stage::Host | Stage::Guest) => Outcome::Duplicated,
                    Some(Stage::Nested(_)) => Outcome::KeptInPlace,
                    None => Outcome::Fenced,
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
