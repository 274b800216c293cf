//! **accounted**: each old context, domain and hazard ends as *duplicated, folded, kept in place, fenced* or *blocked*, with
//! its reason, and what the report says is so.

use crate::common::{PLENTY, cases, damaged, limits, plausible, take_over};
use model::scenario::Attached;
use model::walk::Reached;
use model::{Access, Answer, Direction, Kind, Machine, Requester};
use proptest::prelude::*;
use takeover::hazard::{Danger, Place};
use takeover::report::ContextReport;
use takeover::{Outcome, Report};

/// How many requesters and leaves are looked at one by one; damage can make very many of both.
const SAMPLE: usize = 60;

/// Up to [`SAMPLE`] of a list, evenly.
fn sample<T: Copy>(list: &[T]) -> impl Iterator<Item = T> + '_ {
    list.iter().copied().step_by(list.len().div_ceil(SAMPLE).max(1))
}

/// Both ends of a leaf, read and written.
fn accesses(leaf: &Reached) -> impl Iterator<Item = Access> {
    let (requester, ends) = (leaf.requester, [leaf.iova, leaf.iova + leaf.memory.len() - 1]);
    let both = [Direction::Read, Direction::Write];
    ends.into_iter().flat_map(move |iova| both.map(|direction| requester.access(iova, direction)))
}

/// Whose requests a context is about.
fn of(context: &ContextReport) -> Requester {
    Requester { source: context.source.0, pasid: context.pasid }
}

/// What became of one access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The answer is the same.
    Same,
    /// It is blocked, and had reached the capture kernel's memory.
    Fenced,
    /// It is blocked, and had reached something else.
    Lost,
    /// It reaches something else than before.
    Changed,
}

fn fate(machine: &Machine, access: Access) -> Fate {
    let capture = machine.ranges(Kind::Capture);
    match (machine.answer_before(0, access), machine.answer(0, access)) {
        (before, now) if before == now => Fate::Same,
        (Answer::Blocked(_), Answer::Blocked(_)) => Fate::Same,
        (Answer::Memory(address), Answer::Blocked(_)) if capture.iter().any(|own| own.contains(address)) => {
            Fate::Fenced
        }
        (_, Answer::Blocked(_)) => Fate::Lost,
        _ => Fate::Changed,
    }
}

/// Which fates an outcome allows.
fn allows(outcome: Outcome, fate: Fate) -> bool {
    match fate {
        Fate::Same => outcome != Outcome::Blocked,
        Fate::Fenced => matches!(outcome, Outcome::Fenced | Outcome::Blocked),
        Fate::Lost => outcome == Outcome::Blocked,
        Fate::Changed => false,
    }
}

/// Whether some hazard tells of this device, its bus or its domain.
fn is_explained(report: &Report, context: &ContextReport) -> bool {
    let about = |place: Place| match place {
        Place::Bus(bus) => bus == context.source.bus(),
        Place::Device(source) => source == context.source,
        Place::Domain { id, .. } => Some(id) == context.domain || id == context.entry.domain(),
    };
    report.hazards.unlisted > 0 || report.hazards.listed.iter().any(|hazard| about(hazard.place))
}

/// The context's outcome is what became of all that its device could reach, and has a reason if anything was lost.
fn check_context(machine: &Machine, report: &Report, context: &ContextReport) -> Result<(), TestCaseError> {
    prop_assert!(
        context.outcome == Outcome::Duplicated || is_explained(report, context),
        "{context:?} without a reason: {:?}",
        report.hazards.listed
    );
    let leaves = machine.reached_before(0, of(context));
    for access in sample(&leaves).flat_map(|leaf| accesses(&leaf).collect::<Vec<_>>()) {
        let before = machine.answer_before(0, access);
        let fate = fate(machine, access);
        let fine = allows(context.outcome, fate) || matches!(before, Answer::Blocked(_));
        prop_assert!(
            fine,
            "{access} was {before}, is {fate:?}, but {} is called {}",
            context.source,
            context.outcome
        );
    }
    Ok(())
}

/// A device that had a context that made sense is listed, or was one of more than are looked at.
fn check_listed(report: &Report, requester: Requester) -> Result<(), TestCaseError> {
    let listed = report.contexts.iter().filter(|context| of(context) == requester).count();
    let hazard = |danger| report.hazards.listed.iter().any(|hazard| hazard.danger == danger);
    let excused =
        hazard(Danger::TooManyContexts) || hazard(Danger::OverBudget) || report.hazards.unlisted > 0;
    prop_assert!(listed == 1 || (listed == 0 && excused), "{requester:?} is listed {listed} times");
    Ok(())
}

/// Every domain-id of a listed context is that of a domain that is listed once.
fn check_domains(report: &Report) -> Result<(), TestCaseError> {
    for id in report.contexts.iter().filter_map(|context| context.domain) {
        let listed = report.domains.iter().filter(|domain| domain.id == id).count();
        prop_assert_eq!(listed, 1, "domain {:#x}", id);
    }
    Ok(())
}

fn check(machine: &Machine, report: &Report) -> Result<(), TestCaseError> {
    for requester in sample(&machine.requesters_before(0)) {
        check_listed(report, requester)?;
    }
    check_domains(report)?;
    check_nothing_new(machine)?;
    sample(&report.contexts.iter().collect::<Vec<_>>())
        .try_for_each(|context| check_context(machine, report, context))
}

/// Whatever a device reaches now it reached before.
fn check_nothing_new(machine: &Machine) -> Result<(), TestCaseError> {
    let leaves = machine.reached(0);
    for access in sample(&leaves).flat_map(|leaf| accesses(&leaf).collect::<Vec<_>>()) {
        let (before, now) = (machine.answer_before(0, access), machine.answer(0, access));
        prop_assert!(matches!(now, Answer::Blocked(_)) || before == now, "{access} was {before}, is {now}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn on_a_plausible_machine_all_is_duplicated_and_pass_through_is_fenced(scenario in plausible()) {
        let machine = scenario.machine();
        let clock = machine.clock();
        let taken = take_over(&machine, &mut machine.frames(PLENTY), &clock, &limits()).unwrap();
        let report = taken.report();
        check(&machine, report)?;
        prop_assert_eq!(report.contexts.len(), scenario.requesters(0).count());
        for (requester, attached, _) in scenario.requesters(0) {
            let found = report.contexts.iter().find(|context| of(context) == requester);
            let passes = matches!(attached, Attached::PassThrough(_));
            let wanted = if passes { Outcome::Fenced } else { Outcome::Duplicated };
            prop_assert_eq!(found.map(|context| context.outcome), Some(wanted), "{:?}", requester);
        }
    }

    #[test]
    fn whatever_the_damage_the_report_is_true(scenario in damaged()) {
        let machine = scenario.machine();
        let clock = machine.clock();
        if let Ok(taken) = take_over(&machine, &mut machine.frames(PLENTY), &clock, &limits()) {
            check(&machine, taken.report())?;
        }
    }

    #[test]
    fn however_few_the_frames_the_report_is_true(scenario in plausible(), budget in 0..120_usize) {
        let machine = scenario.machine();
        let clock = machine.clock();
        if let Ok(taken) = take_over(&machine, &mut machine.frames(budget), &clock, &limits()) {
            check(&machine, taken.report())?;
        }
    }
}

/// A report that calls everything duplicated although something was fenced or blocked is found out.
#[test]
fn a_report_that_embellishes_is_found_out() {
    use model::damage::{Damage, Harm, Victim};
    let into_capture =
        |which| Damage { table: Victim::Paging, which, word: 0, harm: Harm::PointAtForbidden(0) };
    let size = model::random::Size { units: 1, domains: 4, functions: 6, runs: 4 };
    let lies_found = (0..40).filter(|seed| {
        let mut scenario = model::Scenario::random(*seed, size);
        scenario.damage = (0..8).map(into_capture).collect();
        let machine = scenario.machine();
        let clock = machine.clock();
        let Ok(taken) = take_over(&machine, &mut machine.frames(PLENTY), &clock, &limits()) else {
            return false;
        };
        let mut report = taken.report().clone();
        report.contexts.iter_mut().for_each(|context| context.outcome = Outcome::Duplicated);
        check(&machine, &report).is_err()
    });
    assert!(lies_found.count() > 10);
}
