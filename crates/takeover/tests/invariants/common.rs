//! A takeover on a modelled machine, and what every test asks of it afterwards.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests stop at the first surprise")]

use machine::{Clock, Frames, OldMemory, PAGE_SIZE, Range, Registers};
use model::habits::{Chore, Habit, Habits};
use model::random::Size;
use model::{Kind, Machine, Own, Requester, Scenario, Ticks, UnitRegisters, Violation};
use proptest::prelude::*;
use std::time::Duration;
use takeover::failure::{InForce, Reason};
use takeover::{Attachment, Failure, Limits, MapError, Surroundings, Takeover, Unit};
use vtd::paging::Permission;
use vtd::source::SourceId;

/// Bytes of a unit's registers.
pub(crate) const REGISTERS: usize = 4096;

/// Frames that a takeover gets in most tests: more than any made-up machine needs.
pub(crate) const PLENTY: usize = 1500;

/// I/O addresses that are reserved on every machine here: an RMRR and a bridge window.
pub(crate) const KEPT_FREE: [Range; 2] =
    [Range::new(0x7F00_0000, 0x7F10_0000), Range::new(0xC000_0000, 0xFEC0_0000)];

/// How long one wait may take on the model, where each look at the clock takes 1 ms.
pub(crate) const DEADLINE: Duration = Duration::from_millis(300);

/// A takeover of a modelled machine.
pub(crate) type Taken<'c> = Takeover<'c, UnitRegisters, Ticks>;

/// As many cases as the environment says, or `few`.
pub(crate) fn cases(few: u32) -> ProptestConfig {
    let told = std::env::var_os("PROPTEST_CASES").is_some();
    let cases = if told { ProptestConfig::default().cases } else { few };
    ProptestConfig { cases, failure_persistence: None, max_shrink_time: 20_000, ..ProptestConfig::default() }
}

/// Machines as a kernel that worked left them.
pub(crate) fn plausible() -> impl Strategy<Value = Scenario> {
    (any::<u64>(), 0..6_usize, 1..9_usize, 0..7_usize).prop_map(|(seed, domains, functions, runs)| {
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

/// Limits that suit the machines here.
///
/// A model's look at a table costs a thousand times as much as a machine's.
pub(crate) fn limits() -> Limits {
    Limits { deadline: DEADLINE, looks: 1 << 11, ..Limits::default() }
}

/// What the capture kernel knows of a machine's memory.
pub(crate) struct Layout {
    memory: Vec<Range>,
    own: Vec<Range>,
    host_address_bits: u32,
}

impl Layout {
    pub(crate) fn of(machine: &Machine) -> Self {
        let (old, own) = (machine.ranges(Kind::Old), machine.ranges(Kind::Capture));
        let host_address_bits = machine.traits(0).host_address_bits;
        Self { memory: old.into_iter().chain(own.iter().copied()).collect(), own, host_address_bits }
    }

    pub(crate) fn surroundings(&self) -> Surroundings<'_> {
        Surroundings {
            host_address_bits: self.host_address_bits,
            memory: &self.memory,
            own: &self.own,
            kept_free: &KEPT_FREE,
        }
    }
}

/// Takes over the machine's unit through any ports: the machine's own, or some that have been tampered with.
pub(crate) fn take_over_through<'c, R: Registers, C: Clock>(
    machine: &Machine,
    registers: R,
    old: &impl OldMemory,
    frames: &mut impl Frames,
    clock: &'c C,
    limits: &Limits,
) -> Result<Takeover<'c, R, C>, Failure> {
    let layout = Layout::of(machine);
    let no_unit = |error| Failure { reason: Reason::Unit(error), in_force: InForce::Old };
    let unit = Unit::new(registers, REGISTERS, clock, limits.deadline).map_err(no_unit)?;
    takeover::take_over(unit, old, frames, &layout.surroundings(), limits)
}

/// Takes over the machine's unit. From then on its devices may not reach the capture kernel's memory.
pub(crate) fn take_over<'c>(
    machine: &Machine,
    frames: &mut impl Frames,
    clock: &'c Ticks,
    limits: &Limits,
) -> Result<Taken<'c>, Failure> {
    let taken =
        take_over_through(machine, machine.registers(0), &machine.old_memory(), frames, clock, limits)?;
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
    let device = taken.attach(SourceId(sharing[0].source), frames).expect("a device can be attached");
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

/// The violations as people read them.
pub(crate) fn told(machine: &Machine) -> String {
    let lines: Vec<String> = machine.violations().iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// Whether some access was answered otherwise than before the panic.
pub(crate) fn broke_continuity(machine: &Machine) -> bool {
    machine.violations().iter().any(|violation| matches!(violation, Violation::Continuity { .. }))
}

/// Whether some access reached memory of the capture kernel.
pub(crate) fn broke_isolation(machine: &Machine) -> bool {
    machine.violations().iter().any(|violation| matches!(violation, Violation::Isolation { .. }))
}

/// Whether software did something that the specification forbids.
pub(crate) fn misused(machine: &Machine) -> bool {
    machine.violations().iter().any(|violation| matches!(violation, Violation::Misuse(_)))
}
