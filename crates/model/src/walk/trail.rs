//! What a walk leaves behind: which tables it came through, and what hardware notes in the entries that it used.

use super::Table;
use crate::answer::Direction;
use machine::PhysicalAddress;
use vtd::fault::FaultReason;

/// The way of a walk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trail {
    /// The tables of the last stage, from the first.
    pub(crate) tables: Vec<Table>,
    /// What is to be noted in entries, of all stages.
    pub(crate) marks: Vec<Mark>,
}

/// Bits that hardware sets in an entry: accessed, extended accessed, dirty (3.6.2, 3.7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Where the entry is.
    pub(crate) at: PhysicalAddress,
    /// Bits that are missing for a use of any kind.
    pub(crate) for_use: u64,
    /// Bits that are missing for a write.
    pub(crate) for_write: u64,
    /// Why hardware cannot set any, if so.
    pub(crate) obstacle: Option<FaultReason>,
}

impl Mark {
    /// The bits to be set when memory is read or written.
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

    /// Takes in the marks of another stage's walk.
    pub(crate) fn take_marks(&mut self, mut other: Self) {
        self.marks.append(&mut other.marks);
    }

    /// Whether all can be noted that is to be.
    pub(crate) fn check(&self, direction: Direction) -> Result<(), FaultReason> {
        let stuck = self.marks.iter().filter(|mark| mark.due(direction) != 0).find_map(|mark| mark.obstacle);
        stuck.map_or(Ok(()), Err)
    }
}
