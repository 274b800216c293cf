//! How a unit misbehaves: programmable, one chore at a time.

use fastrand::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

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

/// What a register reads as for a while, whatever it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Junk {
    /// The register's offset.
    pub register: usize,
    /// Which reads of it, counted from zero after the panic.
    pub reads: Range<u64>,
    /// What is read instead.
    pub value: u64,
}

/// A unit's habits. Chores that are not named take up to three steps, at random.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Habits {
    chores: BTreeMap<Chore, Habit>,
    junk: Vec<Junk>,
    deaf: BTreeSet<usize>,
}

impl Habits {
    /// These habits, and this one.
    pub fn with(mut self, chore: Chore, habit: Habit) -> Self {
        self.chores.insert(chore, habit);
        self
    }

    /// These habits, and a register that reads as junk for a while.
    pub fn with_junk(mut self, junk: Junk) -> Self {
        self.junk.push(junk);
        self
    }

    /// These habits, and a register, by its offset, whose writes are lost.
    pub fn deaf_to(mut self, register: usize) -> Self {
        self.deaf.insert(register);
        self
    }

    /// How many steps a chore that starts now takes; `None` if it is never done.
    pub(crate) fn steps(&self, chore: Chore, rng: &mut Rng) -> Option<u32> {
        match self.chores.get(&chore) {
            None => Some(rng.u32(0..=3)),
            Some(Habit::After(steps)) => Some(*steps),
            Some(Habit::Never) => None,
        }
    }

    /// What a register that holds `value` reads as this time.
    pub(crate) fn seen(&self, register: usize, read: u64, value: u64) -> u64 {
        let junk = self.junk.iter().find(|junk| junk.register == register && junk.reads.contains(&read));
        junk.map_or(value, |junk| junk.value)
    }

    /// Whether writes to a register are lost.
    pub(crate) fn loses(&self, register: usize) -> bool {
        self.deaf.contains(&register)
    }
}
