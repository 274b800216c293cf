//! The mistakes that Holdover makes on request, so that each witness is seen to object.

use clap::ValueEnum;
use serde::Serialize;

/// A deliberate fault in the capture kernel, compiled into the image for tests only: a witness must notice it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mutation {
    /// One leaf table is not duplicated: its copy stays empty.
    SkipTable,
    /// A driver is given an I/O address that the old kernel uses.
    ReuseIova,
    /// Translation is off for a moment.
    ClearTe,
    /// One byte of the dump is wrong.
    FlipByte,
    /// A device gets a way into the capture kernel's memory.
    OpenOwn,
    /// The capture kernel hangs in the middle of the dump: only a watchdog can notice.
    Hang,
    /// The capture kernel leaves watchdogs as they are, so that they bite.
    NoPings,
    /// A remapping unit lets the capture kernel wait longer than watchdogs do.
    SlowUnit,
    /// A machine check is followed by another at the last instant of its handler.
    SecondMachineCheck,
    /// The capture kernel panics in the middle of the dump.
    Panic,
    /// The capture kernel reads where nothing is, in the middle of the dump.
    PageFault,
    /// The capture kernel finds no memory for what it discovers.
    FailDiscover,
    /// The capture kernel finds no memory for the takeover, and does not know how far that came.
    FailTakeOver,
    /// The capture kernel panics in the middle of the takeover, when the units have their new tables.
    PanicTakingOver,
    /// AMD's unit refuses the requests of a device that it translated.
    BlockEntry,
    /// AMD's unit is not told to forget what it knows of the dead kernel's tables.
    SkipInvalidation,
}

impl Mutation {
    /// Its name on the capture kernel's command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::SkipTable => "skip-table",
            Self::ReuseIova => "reuse-iova",
            Self::ClearTe => "clear-te",
            Self::FlipByte => "flip-byte",
            Self::OpenOwn => "open-own",
            Self::Hang => "hang",
            Self::NoPings => "no-pings",
            Self::SlowUnit => "slow-unit",
            Self::SecondMachineCheck => "second-machine-check",
            Self::Panic => "panic",
            Self::PageFault => "page-fault",
            Self::FailDiscover => "fail-discover",
            Self::FailTakeOver => "fail-take-over",
            Self::PanicTakingOver => "panic-taking-over",
            Self::BlockEntry => "block-entry",
            Self::SkipInvalidation => "skip-invalidation",
        }
    }
}
