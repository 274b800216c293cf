//! The memory of the crashing kernel: how it is paged, where the crash reservation is, and what is done with the rest.

use clap::ValueEnum;
use serde::Serialize;

/// Levels of the processor's page tables in the crashing kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
pub(crate) enum Paging {
    /// 48-bit virtual addresses.
    #[value(name = "4")]
    FourLevel,
    /// 57-bit virtual addresses.
    #[value(name = "5")]
    FiveLevel,
}

impl Paging {
    /// How many.
    pub(crate) fn levels(self) -> u8 {
        match self {
            Self::FourLevel => 4,
            Self::FiveLevel => 5,
        }
    }
}

/// Where the crash reservation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Reservation {
    /// Below 4 GiB.
    Low,
    /// Above 4 GiB, with a second one below for devices that reach no further.
    High,
    /// Above 4 GiB, and nothing below.
    OnlyHigh,
}

/// What the crashing Linux has done with its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum MemoryUse {
    /// Next to nothing.
    Idle,
    /// Pages of every kind that a dump may leave out are in use: huge, cached, poisoned, offline, given back by a balloon.
    EveryKind,
}
