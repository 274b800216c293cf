//! **accounted**: each old context, domain and hazard ends as *duplicated, folded, kept in place, fenced* or *blocked*, with
//! its reason, and what the report says is so.

use machine::{PhysicalAddress, Range, SourceId};
use model::walk::Reached;
use model::{Access, Answer, Machine, MemoryKind, Requester};
use takeover::hazard::{Danger, HazardPlace};
use takeover::report::ContextReport;
use takeover::{Outcome, Report};

use crate::{Verdict, ends, ensure};

/// How many requesters and leaves are checked one by one; damage can make very many of both.
const SAMPLE: usize = 60;

/// Checks that the report of a unit's takeover is true.
pub fn check(machine: &Machine, unit: usize, report: &Report) -> Verdict {
    sample(&machine.requesters_before(unit)).try_for_each(|requester| check_listed(report, requester))?;
    check_domains(report)?;
    check_device_tlbs(machine, unit, report)?;
    check_nothing_new(machine, unit)?;
    sample(&report.contexts.iter().collect::<Vec<_>>())
        .try_for_each(|context| check_context(machine, unit, report, context))
}

/// The device and PASID that a context is about.
pub fn requester(context: &ContextReport) -> Requester {
    Requester { source: context.source.0, pasid: context.pasid }
}

/// What became of one access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It gets the same answer.
    Same,
    /// It is blocked, and had reached the capture kernel's memory, or memory that the unit uses on.
    Fenced,
    /// It is blocked, and had reached something else.
    Lost,
    /// It reaches something else than before.
    Changed,
}

impl Fate {
    fn of((machine, in_use): (&Machine, &[Range<PhysicalAddress>]), before: Answer, now: Answer) -> Self {
        match (before, now) {
            _ if before == now => Self::Same,
            (Answer::Blocked(_), Answer::Blocked(_)) => Self::Same,
            (Answer::Memory(address), Answer::Blocked(_)) if is_captures(machine, address) => Self::Fenced,
            (Answer::Memory(address), Answer::Blocked(_))
                if in_use.iter().any(|memory| memory.contains(address)) =>
            {
                Self::Fenced
            }
            (_, Answer::Blocked(_)) => Self::Lost,
            _ => Self::Changed,
        }
    }

    /// Whether the context's outcome allows this fate for one access. A context that has a domain may be blocked in
    /// part only.
    fn is_allowed_by(self, context: &ContextReport) -> bool {
        let outcome = context.outcome;
        match self {
            Self::Same => outcome != Outcome::Blocked || context.domain.is_some(),
            Self::Fenced => matches!(outcome, Outcome::Fenced | Outcome::Blocked),
            Self::Lost => outcome == Outcome::Blocked,
            Self::Changed => false,
        }
    }
}

fn is_captures(machine: &Machine, address: PhysicalAddress) -> bool {
    machine.ranges(MemoryKind::Capture).iter().any(|own| own.contains(address))
}

/// Checks that the report lists a device that had a well-formed context, unless there were more contexts than the
/// limit.
fn check_listed(report: &Report, wanted: Requester) -> Verdict {
    let listed = report.contexts.iter().filter(|context| is_about(context, wanted)).count();
    let hazard = |danger: Danger| report.hazards.listed.iter().any(|hazard| hazard.danger == danger);
    let dangers = [Danger::TooManyContexts, Danger::OverBudget, Danger::PasidTooLarge];
    let excused = dangers.into_iter().any(hazard) || report.hazards.unlisted > 0;
    ensure(listed == 1 || (listed == 0 && excused), || format!("{wanted:?} is listed {listed} times"))
}

/// Whether a context is that of a requester. Where the guest tables of a device of AMD-Vi stay in place, its context is that of
/// all its PASIDs.
fn is_about(context: &ContextReport, wanted: Requester) -> bool {
    let whole = |entry: &takeover::AmdViEntry| entry.is_nested() && context.source.0 == wanted.source;
    match &context.entry {
        takeover::Entry::AmdVi(entry) if whole(entry) => true,
        _ => requester(context) == wanted,
    }
}

/// Checks that the report names each device that may keep translations: it was told to invalidate them and did not, or it
/// was never told.
fn check_device_tlbs(machine: &Machine, unit: usize, report: &Report) -> Verdict {
    let keeps = |source: &u16| machine.keeps_on(unit, *source) || machine.keeps_untold(unit, *source);
    machine.device_tlbs(unit).into_iter().filter(keeps).try_for_each(|source| {
        let mut hazards = report.hazards.listed.iter();
        let told = hazards.any(|hazard| {
            hazard.place == HazardPlace::Device(SourceId(source)) && hazard.danger == Danger::DeviceTlbSilent
        });
        ensure(told || report.hazards.unlisted > 0, || {
            format!("nothing is said of the device-TLB of {}", SourceId(source))
        })
    })
}

/// Checks that every domain-id of a listed context is that of a listed domain. Several domains may have it: hardware
/// tells first-stage tables apart by PASID too (6.2.1).
fn check_domains(report: &Report) -> Verdict {
    report.contexts.iter().filter_map(|context| context.domain).try_for_each(|id| {
        let listed = report.domains.iter().filter(|domain| domain.id == id).count();
        ensure(listed > 0, || format!("domain {id:#x} is not listed"))
    })
}

/// Checks that devices reach nothing now that they did not reach before.
fn check_nothing_new(machine: &Machine, unit: usize) -> Verdict {
    accesses_to_some(&machine.reached(unit)).try_for_each(|access| {
        let (before, now) = (machine.answer_before(unit, access), machine.answer(unit, access));
        let nothing_new = matches!(now, Answer::Blocked(_)) || before == now;
        ensure(nothing_new, || format!("{access} was {before}, is {now}"))
    })
}

/// Checks that the context's outcome is what became of all that its device could reach, and that a hazard explains
/// any loss.
fn check_context(machine: &Machine, unit: usize, report: &Report, context: &ContextReport) -> Verdict {
    let explained = context.outcome == Outcome::Duplicated || is_explained(report, context);
    ensure(explained, || format!("{context:?} without a reason: {:?}", report.hazards.listed))?;
    let leaves = machine.reached_before(unit, requester(context));
    let in_use = in_use(machine, unit, report);
    accesses_to_some(&leaves).try_for_each(|access| check_access((machine, &in_use), unit, context, access))
}

/// The old kernel's memory that the unit goes on using, by its report.
fn in_use(machine: &Machine, unit: usize, report: &Report) -> Vec<Range<PhysicalAddress>> {
    let is_use = |danger: Danger| matches!(danger, Danger::TableInPlace { .. } | Danger::BuffersInPlace);
    let uses = report.hazards.listed.iter().any(|hazard| is_use(hazard.danger));
    if uses { machine.reusable(unit) } else { Vec::new() }
}

fn check_access(
    (machine, in_use): (&Machine, &[Range<PhysicalAddress>]),
    unit: usize,
    context: &ContextReport,
    access: Access,
) -> Verdict {
    let (before, now) = (machine.answer_before(unit, access), machine.answer(unit, access));
    // What passes whatever the tables say, passes a device that is blocked too.
    if machine.exclusion(unit).contains(PhysicalAddress::new(access.iova.get())) && before == now {
        return Ok(());
    }
    let fate = Fate::of((machine, in_use), before, now);
    let fine = fate.is_allowed_by(context) || matches!(before, Answer::Blocked(_));
    ensure(fine, || {
        format!("{access} was {before}, is {fate:?}, but {} is called {}", context.source, context.outcome)
    })
}

/// Whether some hazard names this device, its bus or its domain.
fn is_explained(report: &Report, context: &ContextReport) -> bool {
    let about = |place: HazardPlace| match place {
        HazardPlace::Unit => false,
        HazardPlace::Bus(bus) => bus == context.source.bus(),
        HazardPlace::Device(source) => source == context.source,
        HazardPlace::Domain { id, .. } => Some(id) == context.domain || id == context.entry.domain(),
    };
    report.hazards.unlisted > 0 || report.hazards.listed.iter().any(|hazard| about(hazard.place))
}

fn accesses_to_some(leaves: &[Reached]) -> impl Iterator<Item = Access> {
    sample(leaves).flat_map(|leaf| ends(&leaf))
}

/// Takes up to [`SAMPLE`] items of a list, evenly spread.
fn sample<T: Copy>(list: &[T]) -> impl Iterator<Item = T> + '_ {
    list.iter().copied().step_by(list.len().div_ceil(SAMPLE).max(1))
}
