//! A takeover on a modelled machine, and what every test asks of it afterwards.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests stop at the first surprise")]

use machine::{Frames, PAGE_SIZE, Range};
use model::habits::{Chore, Habit, Habits};
use model::random::Size;
use model::{Kind, Machine, Own, Requester, Scenario, Ticks};
use proptest::prelude::*;
use takeover::{Attachment, Failure, Limits, MapError};
use verdict::{Taken, Verdict};
use vtd::paging::Permission;
use vtd::source::SourceId;

/// Frames that a takeover gets in most tests: more than any made-up machine needs.
pub(crate) const PLENTY: usize = 1500;

/// As many cases as the environment says, or `few`.
pub(crate) fn cases(few: u32) -> ProptestConfig {
    let told = std::env::var_os("PROPTEST_CASES").is_some();
    let cases = if told { ProptestConfig::default().cases } else { few };
    ProptestConfig { cases, failure_persistence: None, max_shrink_time: 20_000, ..ProptestConfig::default() }
}

/// Machines as a kernel that worked left them.
pub(crate) fn plausible() -> impl Strategy<Value = Scenario> {
    let size = (0..6_usize, 1..9_usize, 0..7_usize);
    (any::<u64>(), size).prop_map(|(seed, (domains, functions, runs))| {
        Scenario::random(seed, Size { units: 1, domains, functions, runs })
    })
}

/// Machines with some damage to their tables.
pub(crate) fn damaged() -> impl Strategy<Value = Scenario> {
    (plausible(), any::<u64>(), 1..10_usize).prop_map(|(scenario, seed, count)| scenario.corrupt(seed, count))
}

/// Units of which some chores are slow and one or two are never done.
pub(crate) fn stuck() -> impl Strategy<Value = Habits> {
    let habit = prop_oneof![2 => Just(Habit::Never), 1 => (0..50_u32).prop_map(Habit::After)];
    let chore = prop::sample::select(Chore::ALL.to_vec());
    prop::collection::vec((chore, habit), 0..4).prop_map(|list| {
        list.into_iter().fold(Habits::default(), |habits, (chore, habit)| habits.with(chore, habit))
    })
}

/// The same machine whose units behave so.
pub(crate) fn with_habits(mut scenario: Scenario, habits: &Habits) -> Scenario {
    scenario.units.iter_mut().for_each(|unit| unit.habits.clone_from(habits));
    scenario
}

/// Takes over the machine's unit. From then on its devices may not reach the capture kernel's memory.
pub(crate) fn take_over<'c>(
    machine: &Machine,
    frames: &mut impl Frames,
    clock: &'c Ticks,
    limits: &Limits,
) -> Result<Taken<'c>, Failure> {
    let taken = verdict::take_over(machine, 0, frames, clock, limits)?;
    machine.guard(Vec::new());
    Ok(taken)
}

/// A buffer of the capture kernel, mapped for a device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Buffer {
    pub(crate) iova: Range,
    pub(crate) memory: Range,
}

/// The capture kernel's memory that is not table frames: `pages` of it, `index` chosen so that buffers do not overlap.
pub(crate) fn buffer(machine: &Machine, index: u64, pages: u64) -> Range {
    let capture = machine.ranges(Kind::Capture)[0];
    let start = capture.end - capture.len() / 4 + index * 16 * PAGE_SIZE;
    Range::new(start, start + pages * PAGE_SIZE)
}

/// Attaches a device and maps buffers for it, each of one to sixteen pages.
///
/// All of `sharing` use the same domain and may reach the buffers too: their requests cannot be told apart by
/// tables that they share.
pub(crate) fn attach(
    machine: &Machine,
    taken: &mut Taken,
    frames: &mut impl Frames,
    sharing: &[Requester],
    pages: &[u64],
) -> Result<(Attachment, Vec<Buffer>), MapError> {
    let memory: Vec<Range> = (0..).zip(pages).map(|(index, pages)| buffer(machine, index, *pages)).collect();
    let own = |memory: &Range| {
        sharing.iter().map(|requester| Own { requester: *requester, memory: *memory }).collect::<Vec<_>>()
    };
    machine.guard(memory.iter().flat_map(own).collect());
    let device = taken.attach(SourceId(sharing[0].source), &[], frames).expect("a device can be attached");
    let mut map = |memory: &Range| {
        let start = taken.map(&device, memory.start, memory.len(), Permission::ReadWrite, frames)?;
        Ok(Buffer { iova: Range::new(start, start + memory.len()), memory: *memory })
    };
    let buffers: Result<Vec<Buffer>, MapError> = memory.iter().map(&mut map).collect();
    Ok((device, buffers?))
}

/// A function by index, followed by those that use its domain; a function without a context if there is none.
pub(crate) fn sharing(scenario: &Scenario, machine: &Machine, index: usize) -> Vec<Requester> {
    const STRANGER: u16 = 0x00FF;
    let source = scenario.functions.get(index).map_or(STRANGER, |function| function.source);
    machine.sharing_before(0, Requester { source, pasid: None })
}

/// A verdict as a property test wants it.
pub(crate) fn holds(verdict: Verdict) -> Result<(), TestCaseError> {
    verdict.map_err(TestCaseError::fail)
}
