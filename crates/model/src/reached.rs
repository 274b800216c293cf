//! What a requester can reach, as the tables of either architecture say.

use crate::answer::{Direction, Requester};
use machine::{IoAddress, PhysicalAddress, Range};

/// A range of memory that a requester reaches through one leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// The requester.
    pub requester: Requester,
    /// An I/O virtual address that leads there; others may lead there too.
    pub iova: IoAddress,
    /// The memory.
    pub memory: Range<PhysicalAddress>,
    /// What the requester may do there.
    pub rights: Rights,
}

/// What a translation allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rights {
    /// Reads pass.
    pub read: bool,
    /// Writes pass.
    pub write: bool,
}

impl Rights {
    /// Reads and writes.
    pub const ALL: Self = Self { read: true, write: true };
    /// Neither.
    pub const NONE: Self = Self { read: false, write: false };

    pub(crate) fn and(self, other: Self) -> Self {
        Self { read: self.read && other.read, write: self.write && other.write }
    }

    /// Whether anything passes.
    pub(crate) fn any(self) -> bool {
        self.read || self.write
    }

    pub(crate) fn allow(self, direction: Direction) -> bool {
        match direction {
            Direction::Read => self.read,
            Direction::Write => self.write,
        }
    }
}
