//! Habits: how a unit misbehaves. Tests program them, one chore at a time.

use fastrand::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Something that a unit does on command and then reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Chore {
    /// Takes the root table pointer (GCMD.SRTP → GSTS.RTPS).
    TakeRoot,
    /// Flushes the write buffer (GCMD.WBF → GSTS.WBFS).
    FlushWriteBuffer,
    /// Turns queued invalidation on or off (GCMD.QIE → GSTS.QIES).
    SwitchQueue,
    /// Turns translation on or off (GCMD.TE → GSTS.TES).
    SwitchTranslation,
    /// Any other global command.
    SwitchOther,
    /// Invalidates contexts on the register's command (CCMD.ICC).
    ForgetContexts,
    /// Invalidates translations on the register's command (IOTLB.IVT).
    ForgetTranslations,
    /// Fetches a descriptor (IQH), or a command (CmdHeadPtr).
    FetchDescriptor,
    /// Executes a fetched descriptor or command (what a wait writes).
    FinishDescriptor,
    /// Starts to fetch commands (CmdBufEn → CmdBufRun).
    StartCommands,
    /// Stops to fetch commands (CmdBufEn → CmdBufRun).
    StopCommands,
    /// Starts or stops the event log (EventLogEn → EventLogRun).
    SwitchEvents,
    /// Starts or stops the logs of page requests and guest interrupts (PPRLogEn → PprLogRun, GALogEn → GALogRun).
    SwitchLogs,
}

impl Chore {
    /// The chores of VT-d's units.
    pub const VTD: [Self; 9] = [
        Self::TakeRoot,
        Self::FlushWriteBuffer,
        Self::SwitchQueue,
        Self::SwitchTranslation,
        Self::SwitchOther,
        Self::ForgetContexts,
        Self::ForgetTranslations,
        Self::FetchDescriptor,
        Self::FinishDescriptor,
    ];

    /// The chores of AMD-Vi's units.
    pub const AMDVI: [Self; 6] = [
        Self::FetchDescriptor,
        Self::FinishDescriptor,
        Self::StartCommands,
        Self::StopCommands,
        Self::SwitchEvents,
        Self::SwitchLogs,
    ];
}

/// How a unit does a chore.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Habit {
    /// After this many steps of the machine.
    After(u32),
    /// Never: the status bit is stuck.
    Never,
}

/// How many steps a chore still takes; `None` if it never ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Countdown(pub(crate) Option<u32>);

impl Countdown {
    pub(crate) fn tick(&mut self) {
        self.0 = self.0.map(|left| left.saturating_sub(1));
    }

    pub(crate) fn is_over(self) -> bool {
        self.0 == Some(0)
    }
}

/// A value that a register returns for a while, whatever it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Junk {
    /// The register's offset.
    pub register: usize,
    /// Which reads of it return the value, counted from zero after the panic.
    pub reads: Range<u64>,
    /// The value.
    pub value: u64,
}

/// A write to a register by somebody else: a processor of the old kernel that was not stopped, or not yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intrusion {
    /// It happens just before this access of the capture kernel to the unit, counted from zero.
    pub before_access: u64,
    /// The register's offset.
    pub register: usize,
    /// What is written.
    pub value: u32,
}

/// A unit's habits. Chores without a habit take up to three steps, at random.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Habits {
    chores: BTreeMap<Chore, Habit>,
    junk: Vec<Junk>,
    intrusions: Vec<Intrusion>,
    time_outs: BTreeSet<u64>,
    deaf: BTreeSet<usize>,
    caching: Caching,
}

/// When a unit of AMD-Vi evicts what it cached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Caching {
    /// Now and then.
    #[default]
    Evicting,
    /// Only when a cache is full.
    Hoarding,
}

impl Habits {
    /// Adds a habit.
    pub fn with(mut self, chore: Chore, habit: Habit) -> Self {
        self.chores.insert(chore, habit);
        self
    }

    /// Adds a register that returns junk for a while.
    pub fn with_junk(mut self, junk: Junk) -> Self {
        self.junk.push(junk);
        self
    }

    /// Adds a write to a register by somebody else.
    pub fn with_intrusion(mut self, intrusion: Intrusion) -> Self {
        self.intrusions.push(intrusion);
        self
    }

    /// Lets the unit give up, after this many steps, on an invalidation that the old kernel sent to a device (ITE). The unit
    /// keeps count of it whatever becomes of the queue that it came from.
    pub fn with_time_out(mut self, steps: u64) -> Self {
        self.time_outs.insert(steps);
        self
    }

    /// Adds a register, by its offset, that loses writes.
    pub fn deaf_to(mut self, register: usize) -> Self {
        self.deaf.insert(register);
        self
    }

    /// Lets a unit of AMD-Vi keep what it cached as long as it can.
    pub fn hoarding(mut self) -> Self {
        self.caching = Caching::Hoarding;
        self
    }

    /// Whether the unit evicts something in this step.
    pub(crate) fn evicts(&self, rng: &mut Rng) -> bool {
        self.caching == Caching::Evicting && rng.u8(..) < 16
    }

    /// How long a chore takes that starts now.
    pub(crate) fn countdown(&self, chore: Chore, rng: &mut Rng) -> Countdown {
        Countdown(match self.chores.get(&chore) {
            None => Some(rng.u32(0..=3) + 1),
            Some(Habit::After(steps)) => Some(steps.saturating_add(1)),
            Some(Habit::Never) => None,
        })
    }

    /// What this read of a register that holds `value` returns.
    pub(crate) fn seen(&self, register: usize, read: u64, value: u64) -> u64 {
        let junk = self.junk.iter().find(|junk| junk.register == register && junk.reads.contains(&read));
        junk.map_or(value, |junk| junk.value)
    }

    /// What somebody else writes just before this access of the capture kernel.
    pub(crate) fn intrusions(&self, access: u64) -> Vec<Intrusion> {
        self.intrusions.iter().filter(|intrusion| intrusion.before_access == access).copied().collect()
    }

    /// Whether the unit gives up on a device in this step.
    pub(crate) fn times_out(&self, step: u64) -> bool {
        self.time_outs.contains(&step)
    }

    /// Whether a register loses writes.
    pub(crate) fn loses(&self, register: usize) -> bool {
        self.deaf.contains(&register)
    }
}
