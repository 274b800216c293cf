//! The summary of the dump that was made.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use dumpfile::{Format, Lack};
use kdump::Statistics;
use vmcore::{Counts, Unknown};

use crate::Bytes;

/// A dump that was made.
#[derive(Debug)]
pub struct MadeDump {
    /// Its file.
    pub out: PathBuf,
    /// Release of the kernel that died.
    pub release: String,
    /// How many pages there were, and how many were left out for which reason.
    pub counts: Counts,
    /// How many pages were written, and how.
    pub written: Statistics,
    /// What the dump lacks, because the input lacks it.
    pub lacks: Vec<MadeLack>,
    /// Why pages were kept that should have been left out.
    pub kept_more: Vec<KeptMore>,
    /// How long it took to choose pages.
    pub choosing: Duration,
    /// How long it took altogether.
    pub took: Duration,
}

impl MadeDump {
    /// Whether it has all that was to be kept.
    pub fn is_complete(&self) -> bool {
        self.lacks.is_empty()
    }

    /// Memory that was dumped in a second, in MB.
    pub fn rate(&self) -> u128 {
        let bytes = u128::from(self.written.done) * kdump::BLOCK as u128;
        bytes / self.took.as_micros().max(1)
    }
}

/// What a dump lacks that was made of another. Its text says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MadeLack {
    /// What the input, which has this format, lacked before.
    Input(Lack, Format),
    /// Pages that could not be read.
    Unread {
        /// How many.
        pages: u64,
    },
}

impl MadeLack {
    /// What a dump lacks because its memory could not be read.
    pub(super) fn unread(statistics: Statistics) -> Option<Self> {
        (statistics.missing > 0).then_some(Self::Unread { pages: statistics.missing })
    }
}

impl fmt::Display for MadeLack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (lack, format) = match *self {
            Self::Input(lack, format) => (lack, format),
            Self::Unread { pages } => return write!(f, "{pages} pages could not be read"),
        };
        let input = match format {
            Format::Elf => "core",
            Format::Kdump => "dump",
        };
        match lack {
            Lack::Bytes(bytes) => write!(f, "the {input} was cut short by {}", Bytes(bytes)),
            Lack::Records => write!(f, "the flattened {input} was cut short, or is damaged"),
            Lack::Unfinished => write!(f, "the {input} that it is made of is partial"),
            Lack::Notes(count) => write!(f, "{count} of the {input}'s notes are damaged"),
            Lack::Headers(count) => write!(f, "{count} entries of the {input}'s header make no sense"),
            Lack::Unlisted(pages) => write!(f, "the {input} has {pages} pages that its list of memory lacks"),
        }
    }
}

/// Why a dump has pages that should have been left out. Its text says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeptMore {
    /// VMCOREINFO does not say something that tells them from others.
    Unknown(Unknown),
    /// What describes them could not be read.
    Undescribed {
        /// How many pages that are.
        pages: u64,
    },
}

impl fmt::Display for KeptMore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(unknown) => unknown.fmt(f),
            Self::Undescribed { pages } => write!(f, "what describes {pages} pages could not be read"),
        }
    }
}
