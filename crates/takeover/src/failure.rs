//! Why a unit was not taken over, and which tables it translates with then.

use vtd::control::TableMode;

use crate::growth::OutOfMemory;
use crate::unit::UnitError;

/// Which tables a unit translates with after a takeover failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InForce {
    /// The old kernel's: nothing was changed that devices can notice.
    Old,
    /// The copies, which translate alike, but the caches may still hold what was fenced.
    New,
    /// The unit did not say.
    Unknown,
}

/// Why a unit was not taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Translation is off: there is nothing to inherit.
    #[error("translation is off")]
    TranslationOff,
    /// The tables are of a mode that is not handled.
    #[error("translation table mode {} is not handled", .0.0)]
    Mode(TableMode),
    /// The root table is not in the machine's memory.
    #[error("the root table at {0:#x} is not in memory")]
    RootUnreadable(u64),
    /// The root table is in the capture kernel's memory.
    #[error("the root table at {0:#x} is in the capture kernel's memory")]
    RootInOwnMemory(u64),
    /// There are not enough frames for root and context tables, or for the queue.
    #[error("no frames are left")]
    OutOfFrames,
    /// There is not enough memory for the lists.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
    /// A register did not answer, or held something else than was written.
    #[error(transparent)]
    Unit(#[from] UnitError),
}

/// A unit was not taken over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} ({})", self.in_force_words())]
pub struct Failure {
    /// Why.
    pub reason: Reason,
    /// Which tables the unit now translates with.
    pub in_force: InForce,
}

impl Failure {
    fn in_force_words(&self) -> &'static str {
        match self.in_force {
            InForce::Old => "the old tables are in force",
            InForce::New => "the new tables are in force",
            InForce::Unknown => "which tables are in force is not known",
        }
    }
}

impl From<Reason> for Failure {
    fn from(reason: Reason) -> Self {
        Self { reason, in_force: InForce::Old }
    }
}

impl From<OutOfMemory> for Failure {
    fn from(reason: OutOfMemory) -> Self {
        Reason::from(reason).into()
    }
}
