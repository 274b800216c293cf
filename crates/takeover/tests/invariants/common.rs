//! Takes over a modelled machine, and checks what every test must check afterwards.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests stop at the first surprise")]

use ::amdvi::registers::{
    COMMAND_BUFFER, COMMAND_HEAD, COMMAND_TAIL, DEVICE_TABLE, EVENT_HEAD, EVENT_LOG, EVENT_TAIL, STATUS,
};
use machine::{Frames, IoAddress, PAGE_SIZE, Permission, PhysicalAddress, Range, SourceId};
use model::habits::{Chore, Habit, Habits, Intrusion, Junk};
use model::random::Size;
use model::scenario::{Attached, Stage};
use model::{Machine, MemoryKind, Own, Requester, Scenario, Ticks, amdvi};
use proptest::prelude::*;

use takeover::{Attachment, Failure, Limits, MapError, UnitError};
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

/// A machine of either architecture, described.
#[derive(Clone, Debug)]
pub(crate) enum Described {
    Vtd(Scenario),
    AmdVi(amdvi::Scenario),
}

impl From<Scenario> for Described {
    fn from(scenario: Scenario) -> Self {
        Self::Vtd(scenario)
    }
}

impl From<amdvi::Scenario> for Described {
    fn from(scenario: amdvi::Scenario) -> Self {
        Self::AmdVi(scenario)
    }
}

impl Described {
    pub(crate) fn machine(&self) -> Machine {
        match self {
            Self::Vtd(scenario) => scenario.machine(),
            Self::AmdVi(scenario) => scenario.machine(),
        }
    }

    fn corrupt(self, seed: u64, count: usize) -> Self {
        match self {
            Self::Vtd(scenario) => scenario.corrupt(seed, count).into(),
            Self::AmdVi(scenario) => scenario.corrupt(seed, count).into(),
        }
    }

    fn astray(self, seed: u64, count: usize, reads: u64) -> Self {
        match self {
            Self::Vtd(scenario) => scenario.astray(seed, count, reads).into(),
            Self::AmdVi(scenario) => scenario.astray(seed, count, reads).into(),
        }
    }

    /// The same machine with entries of page tables that lead into the capture kernel's memory, each by numbers that choose one.
    pub(crate) fn with_leaks(mut self, chosen: &[(usize, usize)]) -> Self {
        use model::damage::{Damage, Harm, Table, Victim};
        let harm = Harm::PointAtForbidden(0);
        for &(which, word) in chosen {
            match &mut self {
                Self::Vtd(scenario) => {
                    let victim = Victim::Some { table: Table::Paging, which, word };
                    scenario.damage.push(Damage { victim, harm });
                }
                Self::AmdVi(scenario) => {
                    let victim =
                        amdvi::damage::Victim::Some { table: amdvi::damage::Table::Paging, which, word };
                    scenario.damage.push(amdvi::damage::Damage { victim, harm });
                }
            }
        }
        self
    }

    /// Unit and source-id of a function by index, if there are as many.
    fn function(&self, index: usize) -> Option<(usize, u16)> {
        match self {
            Self::Vtd(scenario) => {
                scenario.functions.get(index).map(|function| (function.unit, function.source))
            }
            Self::AmdVi(scenario) => {
                scenario.functions.get(index).map(|function| (function.unit, function.source))
            }
        }
    }
}

/// The largest machines here.
fn size() -> impl Strategy<Value = Size> {
    let size = (1..4_usize, 0..6_usize, 1..9_usize, 0..7_usize);
    size.prop_map(|(units, domains, functions, runs)| Size { units, domains, functions, runs })
}

/// Machines with VT-d as a kernel that worked left them.
pub(crate) fn with_vtd() -> impl Strategy<Value = Scenario> {
    (any::<u64>(), size()).prop_map(|(seed, size)| Scenario::random(seed, size))
}

/// Machines with AMD-Vi as a kernel that worked left them.
pub(crate) fn with_amdvi() -> impl Strategy<Value = amdvi::Scenario> {
    (any::<u64>(), size()).prop_map(|(seed, size)| amdvi::Scenario::random(seed, size))
}

/// Machines of either architecture as a kernel that worked left them.
pub(crate) fn plausible() -> impl Strategy<Value = Described> {
    prop_oneof![with_vtd().prop_map(Described::from), with_amdvi().prop_map(Described::from)]
}

/// Machines with some damage to their tables.
pub(crate) fn damaged() -> impl Strategy<Value = Described> {
    (plausible(), any::<u64>(), 1..10_usize).prop_map(|(scenario, seed, count)| scenario.corrupt(seed, count))
}

/// The same, with more damage done while the tables are read.
pub(crate) fn astray() -> impl Strategy<Value = Described> {
    let reads = prop_oneof![Just(20), Just(100), Just(400)];
    let stray = (any::<u64>(), 1..20_usize, reads);
    (damaged(), stray).prop_map(|(scenario, (seed, count, reads))| scenario.astray(seed, count, reads))
}

/// Habits of units of either architecture.
#[derive(Clone, Debug)]
pub(crate) struct HabitsOfBoth {
    pub(crate) vtd: Habits,
    pub(crate) amdvi: Habits,
}

fn both(
    vtd: impl Strategy<Value = Habits>,
    amdvi: impl Strategy<Value = Habits>,
) -> impl Strategy<Value = HabitsOfBoth> {
    (vtd, amdvi).prop_map(|(vtd, amdvi)| HabitsOfBoth { vtd, amdvi })
}

/// Habits of units with some slow chores, one or two that never end, and a register or two that lose writes.
pub(crate) fn stuck() -> impl Strategy<Value = HabitsOfBoth> {
    both(stuck_vtd(), stuck_amdvi())
}

fn stuck_vtd() -> impl Strategy<Value = Habits> {
    let deaf = [RTADDR, IQA, IQT, CCMD].map(|register| register.offset);
    stuck_at(&Chore::VTD, &deaf)
}

fn stuck_amdvi() -> impl Strategy<Value = Habits> {
    let deaf = [DEVICE_TABLE, COMMAND_BUFFER, COMMAND_TAIL, EVENT_LOG].map(|register| register.offset);
    stuck_at(&Chore::AMDVI, &deaf)
}

fn stuck_at(chores: &[Chore], deaf: &[usize]) -> impl Strategy<Value = Habits> + use<> {
    let habit = prop_oneof![2 => Just(Habit::Never), 1 => (0..50_u32).prop_map(Habit::After)];
    let chore = prop::sample::select(chores.to_vec());
    let deaf = prop::sample::select(deaf.to_vec());
    let chores = prop::collection::vec((chore, habit), 0..4);
    (chores, prop::option::weighted(0.2, deaf)).prop_map(|(list, deaf)| {
        let habits = deaf.map_or(Habits::default(), |register| Habits::default().deaf_to(register));
        list.into_iter().fold(habits, |habits, (chore, habit)| habits.with(chore, habit))
    })
}

/// The same, and registers that return junk for a while. Registers that alone say what the unit can do and where its
/// tables are stay sound.
pub(crate) fn erratic() -> impl Strategy<Value = HabitsOfBoth> {
    let vtd = [GSTS, FSTS, CCMD, IQH, IQT].map(|register| register.offset);
    let amdvi = [STATUS, COMMAND_HEAD, COMMAND_TAIL, EVENT_HEAD, EVENT_TAIL].map(|register| register.offset);
    both(
        lying(stuck_vtd(), vtd.to_vec(), IQT.offset),
        lying(stuck_amdvi(), amdvi.to_vec(), COMMAND_TAIL.offset),
    )
}

/// The same habits, with registers that return junk, and others who write the tail of the queue or command buffer.
fn lying(
    habits: impl Strategy<Value = Habits>,
    registers: Vec<usize>,
    tail: usize,
) -> impl Strategy<Value = Habits> {
    let register = prop::sample::select(registers);
    let value = prop_oneof![Just(0), Just(u64::MAX), any::<u64>()];
    let reads = (0..30_u64, 1..20_u64).prop_map(|(first, count)| first..first + count);
    let junk = (register, reads, value).prop_map(|(register, reads, value)| Junk { register, reads, value });
    (disturbed(tail), habits, prop::collection::vec(junk, 0..3))
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

/// A few of either; the processors write the tail of the queue, whose register is `tail`.
pub(crate) fn disturbed(register: usize) -> impl Strategy<Value = Others> {
    let tail = (0..256_u32).prop_map(|slot| slot * 16);
    let intrusion = (0..400_u64, prop_oneof![4 => tail, 1 => any::<u32>()])
        .prop_map(move |(before_access, value)| Intrusion { before_access, register, value });
    let time_outs = prop::collection::vec(1..20_000_u64, 0..3);
    (time_outs, prop::collection::vec(intrusion, 0..3))
        .prop_map(|(time_outs, intrusions)| Others { time_outs, intrusions })
}

/// The same machine with these habits for its units.
pub(crate) fn with_habits(mut scenario: Described, habits: &HabitsOfBoth) -> Described {
    match &mut scenario {
        Described::Vtd(scenario) => {
            scenario.units.iter_mut().for_each(|unit| unit.habits.clone_from(&habits.vtd));
        }
        Described::AmdVi(scenario) => {
            scenario.units.iter_mut().for_each(|unit| unit.habits.clone_from(&habits.amdvi));
        }
    }
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
    machine: &Machine,
    frames: &mut impl Frames,
    clock: &'c Ticks,
    limits: &Limits,
) -> Result<Vec<Taken<'c>>, Failure> {
    let (mut taken, mut maps) = (Vec::<Taken<'c>>::new(), Vec::new());
    for unit in 0..machine.units() {
        let mut layout = Layout { maps: maps.clone(), ..Layout::of(machine, unit) };
        layout.know(SourceId(STRANGER));
        let unit = verdict::take_over_knowing(&layout, (machine, unit), frames, clock, limits)?;
        maps.extend_from_slice(unit.identity_maps());
        taken.push(unit);
    }
    machine.guard(Vec::new());
    Ok(taken)
}

/// Applies a check to each unit of a machine.
pub(crate) fn of_each(machine: &Machine, check: impl Fn(usize) -> Verdict) -> Result<(), TestCaseError> {
    (0..machine.units()).try_for_each(|unit| holds(check(unit)))
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

/// A function that the old kernel knew nothing of. The smallest device tables of AMD-Vi have entries for this id and those below.
const STRANGER: u16 = 0x007F;

/// A function by index, and its unit; if there is none, a function without a context behind the first unit.
pub(crate) fn function(scenario: &Described, index: usize) -> (usize, Requester) {
    let (unit, source) = scenario.function(index).unwrap_or((0, STRANGER));
    (unit, Requester { source, pasid: None })
}

/// Whether a function's addresses belong to a guest. Given to a driver, it gets a new domain: the guest is as dead as
/// its host, so there is nothing to continue.
pub(crate) fn is_guests(scenario: &Described, requester: Requester) -> bool {
    let scenario = match scenario {
        Described::Vtd(scenario) => scenario,
        Described::AmdVi(scenario) => return is_guests_of_amdvi(scenario, requester),
    };
    let nested = |attached| match attached {
        Attached::To(domain) => matches!(scenario.domains[domain].stage, Stage::Nested(_)),
        Attached::PassThrough(_) => false,
    };
    let mut requesters = (0..scenario.units.len()).flat_map(|unit| scenario.requesters(unit));
    requesters.any(|(other, attached, _)| other == requester && nested(attached))
}

/// Whether guest tables of a device of AMD-Vi stay in place, because host tables translate all their addresses or will do so.
fn is_guests_of_amdvi(scenario: &amdvi::Scenario, requester: Requester) -> bool {
    use amdvi::scenario::{Attached, Stage};
    let function = scenario.functions.iter().find(|function| function.source == requester.source);
    function.is_some_and(|function| match (function.attached, scenario.stage_of(function)) {
        (Attached::Untranslated | Attached::Aborted, _) | (_, (Some(Stage::Guest), _)) => false,
        (_, (Some(Stage::Nested(_)), _)) => true,
        (_, (_, has_processes)) => has_processes,
    })
}

/// Converts a verdict into the result of a property test.
pub(crate) fn holds(verdict: Verdict) -> Result<(), TestCaseError> {
    verdict.map_err(TestCaseError::fail)
}

/// Checks that a mapping could be taken away. Where devices fault faster than the log can be emptied, nobody knows whether a device-TLB
/// has dropped it: then it must be said, nobody may use the memory any more, and there is nothing else to check.
pub(crate) fn unmapped(result: Result<(), MapError>) -> Result<(), TestCaseError> {
    match result {
        Err(MapError::Unit(UnitError::DeviceUnheard)) => Err(TestCaseError::reject("the log was full")),
        other => {
            prop_assert_eq!(other, Ok(()));
            Ok(())
        }
    }
}
