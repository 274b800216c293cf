//! What an area holds of an earlier dead kernel that no host has collected yet: what the next dump would replace.

use core::fmt;

use machine::BlockDevice;

use crate::area::{Area, SealError, read_seal};
use crate::label::Label;
use crate::log::{LogError, LogRecord};
use crate::seal::{Seal, SealState};

/// What an area holds that no host has collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Nothing.
    Nothing,
    /// The dead kernel's log, of this many bytes; nothing of a dump.
    Log(u64),
    /// A dump, or a part of one, of this many bytes.
    Dump(u64),
    /// What the area does not tell: there may be a dump.
    Unknown(Untold),
}

/// Why an area does not tell what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untold {
    /// The seal cannot be read.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The log's record cannot be read, and there is no dump.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Log(_) => f.write_str("the log of a dead kernel"),
            Self::Dump(bytes) => write!(f, "a dump of {} KiB", bytes >> 10),
            Self::Unknown(why) => write!(f, "what may be a dump ({why})"),
        }
    }
}

impl<D: BlockDevice> Area<D> {
    /// Finds out what the area holds that no host has collected. [`begin`](Self::begin) gives it up.
    pub fn held(&mut self) -> Held {
        let (window, label) = self.parts();
        held_in(window, label).unwrap_or_else(Held::Unknown)
    }
}

fn held_in(area: &mut dyn BlockDevice, label: &Label) -> Result<Held, Untold> {
    let seal = read_seal(area, label)?;
    if seal.state == SealState::Empty || seal.collected != 0 {
        return Ok(Held::Nothing);
    }
    let log_len = |record: LogRecord| Held::Log(record.len);
    Ok(match seal.dump_len {
        0 => LogRecord::read_of(area, &seal)?.map_or(Held::Nothing, log_len),
        bytes => Held::Dump(bytes),
    })
}

impl Seal {
    /// Whether a dump is there, or a part of one.
    pub fn has_dump(&self) -> bool {
        self.state != SealState::Empty && self.dump_len > 0
    }
}
