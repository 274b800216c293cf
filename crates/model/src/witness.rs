//! Watching devices: each access is compared with what it was told before the panic.

use crate::answer::{Access, Answer};
use machine::PhysicalAddress;
use std::fmt;

/// Whether an answer came from a unit's caches or from the tables alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temperature {
    /// From the caches as they were.
    Warm,
    /// From the tables, as if nothing were cached.
    Cold,
}

/// An access that a device made on its own, and what it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The step in which it happened.
    pub step: u64,
    /// The access.
    pub access: Access,
    /// The answer before the panic.
    pub before: Answer,
    /// The answer now, from the caches as they were.
    pub now: Answer,
}

/// Something that a takeover must not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// An access was answered otherwise than before the panic.
    Continuity {
        /// The access.
        access: Access,
        /// Who answered otherwise.
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
        /// Who let it.
        temperature: Temperature,
        /// Which memory.
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
            Self::Misuse(what) => write!(f, "misuse: {what}"),
        }
    }
}

/// A device that goes on as if nothing had happened.
#[derive(Clone, Debug)]
pub(crate) struct Engine {
    /// The unit that stands before it.
    pub(crate) unit: usize,
    /// What it does, over and over in any order, and what it was told before the panic.
    pub(crate) accesses: Vec<(Access, Answer)>,
}
