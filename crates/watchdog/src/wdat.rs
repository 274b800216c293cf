//! ACPI's table of watchdog actions, WDAT: says for each action which registers to read and write, so that one interpreter runs
//! the timers of many makers.
//!
//! The format is that of Microsoft's "Hardware Watchdog Timers Design Specification", section 5. Firmware wrote the table, and
//! the dead kernel could have changed it: each register is checked before it is touched, and of the actions only five are
//! run, none of which starts or stops a timer.

use arrayvec::ArrayVec;
use machine::{PhysicalAddress, Ports, Range, Registers};

use crate::register::{ADDRESS_SIZE, GenericAddress, Register};
use crate::timer::EXTENDED;

/// Most steps of one action.
const MOST_STEPS: usize = 8;
/// Most entries of a table that are looked at.
const MOST_ENTRIES: usize = 256;

// Offsets in the table.
const TIMER_PERIOD: usize = 48;
const MAX_COUNT: usize = 52;
const MIN_COUNT: usize = 56;
const FLAGS: usize = 60;
const ENTRIES: usize = 68;
const ENTRY_SIZE: usize = 24;

/// [`FLAGS`]: the timer exists.
const ENABLED: u8 = 1 << 0;

/// Actions that are run; the others are never looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Action {
    /// Starts the countdown over.
    Reset = 1,
    /// Gets the count that is left.
    GetPresentCount = 4,
    /// Gets the count from which it starts.
    GetCountdown = 5,
    /// Sets the count from which it starts.
    SetCountdown = 6,
    /// Tells whether the timer runs.
    IsRunning = 8,
}

/// What a step does with its register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Instruction {
    /// Compares the field with the step's value.
    ReadValue,
    ReadCountdown,
    WriteValue,
    WriteCountdown,
}

/// One access.
#[derive(Clone, Copy, Debug)]
struct Step<R> {
    instruction: Instruction,
    /// Whether a write keeps the register's other bits.
    preserve: bool,
    register: Register<R>,
    /// The field's lowest bit.
    shift: u8,
    value: u32,
    /// The field's bits, before they are shifted.
    mask: u32,
}

/// The steps of an action, in their order.
type Steps<R> = ArrayVec<Step<R>, MOST_STEPS>;

/// A timer that the table describes, and that runs.
#[derive(Debug)]
pub(crate) struct Wdat<R> {
    reset: Steps<R>,
    /// Empty if nobody can ask.
    get_countdown: Steps<R>,
    /// Empty if the count cannot be set.
    set_countdown: Steps<R>,
    counts: Counts,
}

/// What a timer can count.
#[derive(Clone, Copy, Debug)]
struct Counts {
    /// Milliseconds in a count, not 0.
    period: u32,
    max: u32,
    min: u32,
}

impl<R: Registers> Wdat<R> {
    /// Reads the table. `None` if it describes no timer that can be pinged, or one that does not run. If the table has no way
    /// to ask, `is_armed` decides.
    ///
    /// For Intel's TCO timer tables ask whether it is halted, which it is not before its first start either: its count is 0 then,
    /// and the first ping would start it.
    pub(crate) fn find(
        table: &[u8],
        is_armed: bool,
        ports: &mut impl Ports,
        mut map: impl FnMut(Range<PhysicalAddress>) -> Option<R>,
    ) -> Option<Self> {
        let counts = Counts::of(table)?;
        let mut steps = |action| steps(table, action, &mut map);
        let reset = steps(Action::Reset).filter(|steps| !steps.is_empty())?;
        let mut is_running = steps(Action::IsRunning)?;
        let mut get_present_count = steps(Action::GetPresentCount).unwrap_or_default();
        let get_countdown = steps(Action::GetCountdown).unwrap_or_default();
        let set_countdown = steps(Action::SetCountdown).unwrap_or_default();
        let found = Self { reset, get_countdown, set_countdown, counts };
        let runs = if is_running.is_empty() { is_armed } else { run(&mut is_running, 0, ports) != Some(0) };
        let counts = is_armed || run(&mut get_present_count, 0, ports) != Some(0);
        (runs && counts).then_some(found)
    }

    /// Sets the countdown to [`EXTENDED`], or as near as the timer can, unless it is longer; returns the result in
    /// milliseconds. `None` if it cannot be set.
    pub(crate) fn extend(&mut self, ports: &mut impl Ports) -> Option<u64> {
        let Counts { period, max, min } = self.counts;
        let wanted = (EXTENDED.as_millis() as u64 / u64::from(period)).max(min.into()).min(max.into());
        let present = run(&mut self.get_countdown, 0, ports).unwrap_or(0);
        if self.set_countdown.is_empty() || wanted == 0 {
            return None;
        }
        if u64::from(present) < wanted {
            run(&mut self.set_countdown, wanted as u32, ports);
        }
        Some(wanted.max(present.into()) * u64::from(period))
    }

    pub(crate) fn ping(&mut self, ports: &mut impl Ports) {
        run(&mut self.reset, 0, ports);
    }
}

impl Counts {
    /// What the table says; `None` if the timer is turned off or cannot count.
    fn of(table: &[u8]) -> Option<Self> {
        let number = |offset| field(table, offset).map(u32::from_le_bytes);
        let [flags] = field(table, FLAGS)?;
        let counts = Self { period: number(TIMER_PERIOD)?, max: number(MAX_COUNT)?, min: number(MIN_COUNT)? };
        (flags & ENABLED != 0 && counts.period != 0).then_some(counts)
    }
}

/// The steps of an action, none if the table does not have it. `None` if one of them cannot be done: then none is.
fn steps<R: Registers>(
    table: &[u8],
    action: Action,
    map: &mut impl FnMut(Range<PhysicalAddress>) -> Option<R>,
) -> Option<Steps<R>> {
    let entries = table.get(ENTRIES..)?.as_chunks::<ENTRY_SIZE>().0;
    let mut steps = Steps::new();
    for entry in entries.iter().take(MOST_ENTRIES).filter(|entry| entry[0] == action as u8) {
        steps.try_push(Step::decode(entry, &mut *map)?).ok()?;
    }
    Some(steps)
}

impl<R: Registers> Step<R> {
    fn decode(
        entry: &[u8; ENTRY_SIZE],
        map: impl FnOnce(Range<PhysicalAddress>) -> Option<R>,
    ) -> Option<Self> {
        const PRESERVE: u8 = 1 << 7;
        let [_, instruction, _, _, rest @ ..] = entry;
        let (place, numbers) = rest.split_first_chunk::<ADDRESS_SIZE>()?;
        let [v0, v1, v2, v3, m0, m1, m2, m3] = *numbers.first_chunk()?;
        let place = GenericAddress::decode(place);
        Some(Self {
            instruction: Instruction::of(instruction & !PRESERVE)?,
            preserve: instruction & PRESERVE != 0,
            shift: Some(place.bit_offset).filter(|&offset| u32::from(offset) < u32::BITS)?,
            register: place.register(map)?,
            value: u32::from_le_bytes([v0, v1, v2, v3]),
            mask: u32::from_le_bytes([m0, m1, m2, m3]),
        })
    }

    /// Does the step with `count` for a countdown; returns what a read found.
    fn run(&mut self, count: u32, ports: &mut impl Ports) -> Option<u32> {
        let field = |register: u32| register >> self.shift & self.mask;
        match self.instruction {
            Instruction::ReadValue => Some(u32::from(field(self.register.read(ports)) == self.value)),
            Instruction::ReadCountdown => Some(field(self.register.read(ports))),
            Instruction::WriteValue => self.write(self.value, ports),
            Instruction::WriteCountdown => self.write(count, ports),
        }
    }

    fn write(&mut self, value: u32, ports: &mut impl Ports) -> Option<u32> {
        let others = if self.preserve { self.register.read(ports) & !(self.mask << self.shift) } else { 0 };
        self.register.write(ports, others | (value & self.mask) << self.shift);
        None
    }
}

impl Instruction {
    fn of(code: u8) -> Option<Self> {
        [Self::ReadValue, Self::ReadCountdown, Self::WriteValue, Self::WriteCountdown]
            .get(usize::from(code))
            .copied()
    }
}

/// Does the steps in their order; returns what the last read found.
fn run<R: Registers>(steps: &mut Steps<R>, count: u32, ports: &mut impl Ports) -> Option<u32> {
    steps.iter_mut().filter_map(|step| step.run(count, ports)).last()
}

fn field<const N: usize>(table: &[u8], offset: usize) -> Option<[u8; N]> {
    table.get(offset..)?.first_chunk().copied()
}
