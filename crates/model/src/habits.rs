//! How a unit misbehaves: programmable, one chore at a time.

use fastrand::Rng;
use std::collections::BTreeMap;

/// Something a unit does on command and then reports.
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
    /// Fetches a descriptor (IQH).
    FetchDescriptor,
    /// Executes a fetched descriptor (the status that a wait writes).
    FinishDescriptor,
}

impl Chore {
    /// All of them.
    pub const ALL: [Self; 9] = [
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
}

/// How a chore is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Habit {
    /// After so many steps of the machine.
    After(u32),
    /// Never: the status bit is stuck.
    Never,
}

/// A unit's habits. Chores that are not named take up to three steps, at random.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Habits(BTreeMap<Chore, Habit>);

impl Habits {
    /// These habits, and this one.
    pub fn with(mut self, chore: Chore, habit: Habit) -> Self {
        self.0.insert(chore, habit);
        self
    }

    /// Whether some chore is never done.
    pub fn is_stuck(&self) -> bool {
        self.0.values().any(|habit| *habit == Habit::Never)
    }

    /// How many steps a chore that starts now takes; `None` if it is never done.
    pub(crate) fn steps(&self, chore: Chore, rng: &mut Rng) -> Option<u32> {
        match self.0.get(&chore) {
            None => Some(rng.u32(0..=3)),
            Some(Habit::After(steps)) => Some(*steps),
            Some(Habit::Never) => None,
        }
    }
}
