//! The destination of a dump, and a dump that is being written to it.
//!
//! ```text
//! Destination::begin → OpenDump: log, write, flush (which saves what was written so far) → OpenDump::seal
//! ```
//!
//! A new kind of destination is a module of its own and a variant of each of the two enums, which say the same of it: how it begins,
//! where its blocks are, and how it is sealed.

use machine::{BlockDevice, BlockError};
use uuid::Uuid;

use crate::{Area, Completeness, Dump, Held, LeftOut, LogWriter, Seal};

/// A place that a dump may be written to. Nothing was written yet.
pub enum Destination<D> {
    /// A labelled area of a disk or a partition.
    Area(Area<D>),
}

/// A dump that is being written: a device whose offset 0 is the dump's first byte. What was written is safe, and can be found
/// after a reset, once it was flushed.
#[must_use = "a dump counts only when it is sealed"]
pub enum OpenDump<D> {
    /// In a labelled area.
    Area(Dump<D>),
}

impl<D: BlockDevice> Destination<D> {
    /// The UUID by which a host finds what was written there.
    pub fn uuid(&self) -> Uuid {
        match self {
            Self::Area(area) => area.label().uuid,
        }
    }

    /// What is there that no host has collected. [`begin`](Self::begin) gives it up.
    pub fn held(&mut self) -> Held {
        match self {
            Self::Area(area) => area.held(),
        }
    }

    /// Gives up what is [`held`](Self::held) there, and begins a new one.
    pub fn begin(self) -> Result<OpenDump<D>, BlockError> {
        match self {
            Self::Area(area) => area.begin().map(OpenDump::Area),
        }
    }
}

impl<D: BlockDevice> OpenDump<D> {
    /// Ends the dump, of which the first `dump_len` bytes count; returns its seal, which says what may be missing.
    pub fn seal(self, completeness: Completeness, dump_len: u64) -> Result<Seal, BlockError> {
        match self {
            Self::Area(dump) => dump.seal(completeness, dump_len),
        }
    }

    /// Has the final seal say which pages are not in the dump.
    pub fn leave_out(&mut self, left_out: LeftOut) {
        match self {
            Self::Area(dump) => dump.leave_out(left_out),
        }
    }

    /// Begins the dead kernel's log, of which `len` bytes follow: see [`Dump::log`].
    pub fn log(&mut self, len: u64) -> LogWriter<'_, D> {
        match self {
            Self::Area(dump) => dump.log(len),
        }
    }

    /// The device that the dump is on.
    pub fn device(&self) -> &D {
        match self {
            Self::Area(dump) => dump.device(),
        }
    }
}

impl<D: BlockDevice> BlockDevice for OpenDump<D> {
    fn size(&self) -> u64 {
        match self {
            Self::Area(dump) => dump.size(),
        }
    }

    fn block_size(&self) -> u32 {
        match self {
            Self::Area(dump) => dump.block_size(),
        }
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), BlockError> {
        match self {
            Self::Area(dump) => dump.read(offset, into),
        }
    }

    fn write(&mut self, offset: u64, from: &[u8]) -> Result<(), BlockError> {
        match self {
            Self::Area(dump) => dump.write(offset, from),
        }
    }

    fn flush(&mut self) -> Result<(), BlockError> {
        match self {
            Self::Area(dump) => dump.flush(),
        }
    }
}
