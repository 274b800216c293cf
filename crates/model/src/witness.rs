//! Watches devices: compares the answer to each access with the answer before the panic.

use crate::answer::{Access, Answer};
use machine::PhysicalAddress;
use std::fmt;

/// Whether an answer came from a unit's caches or from the tables alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temperature {
    /// From the caches in their current state.
    Warm,
    /// From the tables alone.
    Cold,
}

/// An access that a device made on its own, and its answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The step in which it happened.
    pub step: u64,
    /// The access.
    pub access: Access,
    /// The answer before the panic.
    pub before: Answer,
    /// The answer now, from the caches in their current state.
    pub now: Answer,
}

/// Something that a takeover must not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// An access got another answer than before the panic.
    Continuity {
        /// The access.
        access: Access,
        /// Whether the caches or the tables gave it.
        temperature: Temperature,
        /// The answer before the panic.
        before: Answer,
        /// The answer now.
        now: Answer,
    },
    /// An access reached memory of the capture kernel that is not meant for this device.
    Isolation {
        /// The access.
        access: Access,
        /// Whether the caches or the tables allowed it.
        temperature: Temperature,
        /// Which memory.
        address: PhysicalAddress,
    },
    /// After the swap, a unit still wrote a log of the old kernel's.
    Logged {
        /// Where.
        address: PhysicalAddress,
    },
    /// Software did something that the specification forbids.
    Misuse(&'static str),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Continuity { access, temperature, before, now } => {
                write!(f, "continuity: {access}, which was {before}, is {now} ({temperature:?})")
            }
            Self::Isolation { access, temperature, address } => {
                write!(f, "isolation: {access} reaches {address:#x} ({temperature:?})")
            }
            Self::Logged { address } => write!(f, "old memory: the unit logs to {address:#x}"),
            Self::Misuse(what) => write!(f, "misuse: {what}"),
        }
    }
}

/// A device that continues its work as if nothing had happened.
#[derive(Clone, Debug)]
pub(crate) struct Engine {
    /// The index of its unit.
    pub(crate) unit: usize,
    /// The accesses that it repeats in random order, and their answers before the panic.
    pub(crate) accesses: Vec<(Access, Answer)>,
}
