//! The trail of a walk: the tables that it went through, and the bits that hardware sets in their entries.

use super::Table;
use crate::answer::Direction;
use machine::PhysicalAddress;
use vtd::fault::FaultReason;

/// The trail of a walk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trail {
    /// The tables of the last stage, from the first.
    pub(crate) tables: Vec<Table>,
    /// Bits to set in entries of all stages.
    pub(crate) marks: Vec<Mark>,
}

/// Bits that hardware sets in an entry: accessed, extended accessed, dirty (3.6.2, 3.7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Where the entry is.
    pub(crate) at: PhysicalAddress,
    /// Missing bits that any use sets.
    pub(crate) for_use: u64,
    /// Missing bits that a write sets.
    pub(crate) for_write: u64,
    /// The fault if hardware cannot set any.
    pub(crate) obstacle: Option<FaultReason>,
}

impl Mark {
    /// The bits to set for a read or a write.
    pub(crate) fn due(&self, direction: Direction) -> u64 {
        match direction {
            Direction::Read => self.for_use,
            Direction::Write => self.for_use | self.for_write,
        }
    }
}

impl Trail {
    /// Adds a mark if any bit is missing.
    pub(super) fn mark(&mut self, mark: Mark) {
        if mark.due(Direction::Write) != 0 {
            self.marks.push(mark);
        }
    }

    /// Adds the marks of another stage's walk.
    pub(crate) fn take_marks(&mut self, mut other: Self) {
        self.marks.append(&mut other.marks);
    }

    /// Checks that hardware can set all bits that it has to set.
    pub(crate) fn check(&self, direction: Direction) -> Result<(), FaultReason> {
        let stuck = self.marks.iter().filter(|mark| mark.due(direction) != 0).find_map(|mark| mark.obstacle);
        stuck.map_or(Ok(()), Err)
    }
}
