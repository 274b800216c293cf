//! Takes over a modelled machine, and checks what every test must check afterwards.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests stop at the first surprise")]

use machine::{Frames, IoAddress, PAGE_SIZE, Permission, PhysicalAddress, Range, SourceId};
use model::habits::{Chore, Habit, Habits, Intrusion, Junk};
use model::random::Size;
use model::scenario::{Attached, Stage};
use model::{Machine, MemoryKind, Own, Requester, Scenario, Ticks};
use proptest::prelude::*;
use takeover::{Attachment, Failure, Limits, MapError};
use verdict::{Layout, Taken, Verdict};
use vtd::registers::{CCMD, FSTS, GSTS, IQA, IQH, IQT, RTADDR};

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
    let size = (1..4_usize, 0..6_usize, 1..9_usize, 0..7_usize);
    (any::<u64>(), size).prop_map(|(seed, (units, domains, functions, runs))| {
        Scenario::random(seed, Size { units, domains, functions, runs })
    })
}

/// Machines with some damage to their tables.
pub(crate) fn damaged() -> impl Strategy<Value = Scenario> {
    (plausible(), any::<u64>(), 1..10_usize).prop_map(|(scenario, seed, count)| scenario.corrupt(seed, count))
}

/// The same, with more damage done while the tables are read.
pub(crate) fn astray() -> impl Strategy<Value = Scenario> {
    let reads = prop_oneof![Just(20), Just(100), Just(400)];
    let stray = (any::<u64>(), 1..20_usize, reads);
    (damaged(), stray).prop_map(|(scenario, (seed, count, reads))| scenario.astray(seed, count, reads))
}

/// Habits of units with some slow chores, one or two that never end, and a register or two that lose writes.
pub(crate) fn stuck() -> impl Strategy<Value = Habits> {
    let habit = prop_oneof![2 => Just(Habit::Never), 1 => (0..50_u32).prop_map(Habit::After)];
    let chore = prop::sample::select(Chore::VTD.to_vec());
    let deaf = prop::sample::select(vec![RTADDR.offset, IQA.offset, IQT.offset, CCMD.offset]);
    let chores = prop::collection::vec((chore, habit), 0..4);
    (chores, prop::option::weighted(0.2, deaf)).prop_map(|(list, deaf)| {
        let habits = deaf.map_or(Habits::default(), |register| Habits::default().deaf_to(register));
        list.into_iter().fold(habits, |habits, (chore, habit)| habits.with(chore, habit))
    })
}

/// The same, and registers that return junk for a while. Registers that alone say what the unit can do and where its
/// tables are stay sound.
pub(crate) fn erratic() -> impl Strategy<Value = Habits> {
    let register =
        prop::sample::select([GSTS, FSTS, CCMD, IQH, IQT].map(|register| register.offset).to_vec());
    let value = prop_oneof![Just(0), Just(u64::MAX), any::<u64>()];
    let reads = (0..30_u64, 1..20_u64).prop_map(|(first, count)| first..first + count);
    let junk = (register, reads, value).prop_map(|(register, reads, value)| Junk { register, reads, value });
    (disturbed(), stuck(), prop::collection::vec(junk, 0..3))
        .prop_map(|(others, habits, junk)| others.onto(junk.into_iter().fold(habits, Habits::with_junk)))
}

/// What others do while a unit is taken over: devices that never answer the old kernel, and its processors.
#[derive(Clone, Debug)]
pub(crate) struct Others {
    time_outs: Vec<u64>,
    intrusions: Vec<Intrusion>,
}

impl Others {
    /// The same habits, and what others do.
    pub(crate) fn onto(&self, habits: Habits) -> Habits {
        let habits = self.time_outs.iter().fold(habits, |habits, steps| habits.with_time_out(*steps));
        self.intrusions.iter().fold(habits, |habits, intrusion| habits.with_intrusion(*intrusion))
    }
}

/// A few of either; the processors write the tail of the queue.
pub(crate) fn disturbed() -> impl Strategy<Value = Others> {
    let tail = (0..256_u32).prop_map(|slot| slot * 16);
    let intrusion = (0..400_u64, prop_oneof![4 => tail, 1 => any::<u32>()])
        .prop_map(|(before_access, value)| Intrusion { before_access, register: IQT.offset, value });
    let time_outs = prop::collection::vec(1..20_000_u64, 0..3);
    (time_outs, prop::collection::vec(intrusion, 0..3))
        .prop_map(|(time_outs, intrusions)| Others { time_outs, intrusions })
}

/// The same machine with these habits for its units.
pub(crate) fn with_habits(mut scenario: Scenario, habits: &Habits) -> Scenario {
    scenario.units.iter_mut().for_each(|unit| unit.habits.clone_from(habits));
    scenario
}

/// Takes over the machine's first unit. From then on its devices may not reach the capture kernel's memory.
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

/// Takes over all of the machine's units, which share the frames and the maps in place of pass-through. From then on no device may reach the capture
/// kernel's memory. Stops at the first unit that cannot be taken over.
pub(crate) fn take_over_all<'c>(
    scenario: &Scenario,
    machine: &Machine,
    frames: &mut impl Frames,
    clock: &'c Ticks,
    limits: &Limits,
) -> Result<Vec<Taken<'c>>, Failure> {
    let (mut taken, mut maps) = (Vec::<Taken<'c>>::new(), Vec::new());
    for unit in 0..scenario.units.len() {
        let layout = Layout { maps: maps.clone(), ..Layout::of(machine, unit) };
        let unit = verdict::take_over_knowing(&layout, (machine, unit), frames, clock, limits)?;
        maps.extend_from_slice(unit.identity_maps());
        taken.push(unit);
    }
    machine.guard(Vec::new());
    Ok(taken)
}

/// Applies a check to each unit of a machine.
pub(crate) fn of_each(scenario: &Scenario, check: impl Fn(usize) -> Verdict) -> Result<(), TestCaseError> {
    (0..scenario.units.len()).try_for_each(|unit| holds(check(unit)))
}

/// A buffer of the capture kernel, mapped for a device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Buffer {
    pub(crate) iova: Range<IoAddress>,
    pub(crate) memory: Range<PhysicalAddress>,
}

/// The capture kernel's memory that is not table frames: `pages` of it, `index` chosen so that buffers do not overlap.
pub(crate) fn buffer(machine: &Machine, index: u64, pages: u64) -> Range<PhysicalAddress> {
    let capture = machine.ranges(MemoryKind::Capture)[0];
    let free = capture.len() - capture.len() / 4;
    let start = capture.start.saturating_add(free + index * 16 * PAGE_SIZE);
    Range::new(start, start.saturating_add(pages * PAGE_SIZE))
}

/// Attaches a device, the first of `sharing`, and maps buffers for it, each of one to sixteen pages.
///
/// The others of `sharing` were in the same domain, and must not reach the buffers.
pub(crate) fn attach(
    machine: &Machine,
    taken: &mut Taken,
    frames: &mut impl Frames,
    sharing: &[Requester],
    pages: &[u64],
) -> Result<(Attachment, Vec<Buffer>), TestCaseError> {
    let memory: Vec<Range<PhysicalAddress>> =
        (0..).zip(pages).map(|(index, pages)| buffer(machine, index, *pages)).collect();
    machine.guard(memory.iter().map(|memory| Own { requester: sharing[0], memory: *memory }).collect());
    let device = taken.attach(SourceId(sharing[0].source), &[], frames)?;
    let mut map = |memory: &Range<PhysicalAddress>| {
        let start = taken.map(&device, *memory, Permission::ReadWrite, &machine.old_memory(), frames)?;
        Ok(Buffer { iova: Range::new(start, start.saturating_add(memory.len())), memory: *memory })
    };
    let buffers: Result<Vec<Buffer>, MapError> = memory.iter().map(&mut map).collect();
    Ok((device, buffers?))
}

/// A function by index, and its unit; if there is none, a function without a context behind the first unit.
pub(crate) fn function(scenario: &Scenario, index: usize) -> (usize, Requester) {
    const STRANGER: u16 = 0x00FF;
    let function = scenario.functions.get(index).map(|function| (function.unit, function.source));
    let (unit, source) = function.unwrap_or((0, STRANGER));
    (unit, Requester { source, pasid: None })
}

/// Whether a function's addresses belong to a guest. Given to a driver, it gets a new domain: the guest is as dead as
/// its host, so there is nothing to continue.
pub(crate) fn is_guests(scenario: &Scenario, requester: Requester) -> bool {
    let nested = |attached| match attached {
        Attached::To(domain) => matches!(scenario.domains[domain].stage, Stage::Nested(_)),
        Attached::PassThrough(_) => false,
    };
    let mut requesters = (0..scenario.units.len()).flat_map(|unit| scenario.requesters(unit));
    requesters.any(|(other, attached, _)| other == requester && nested(attached))
}

/// Converts a verdict into the result of a property test.
pub(crate) fn holds(verdict: Verdict) -> Result<(), TestCaseError> {
    verdict.map_err(TestCaseError::fail)
}
