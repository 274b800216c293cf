//! The trail of a walk: the tables that it went through, and the bits that hardware sets in their entries.

use crate::answer::Direction;
use crate::memory::Memory;
use crate::reached::Rights;
use machine::{Level, PhysicalAddress};

/// A table that a walk has reached, and what all entries on the way to it allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Table {
    pub(crate) address: PhysicalAddress,
    pub(crate) level: Level,
    pub(crate) rights: Rights,
}

/// The trail of a walk. An obstacle is what an architecture says if hardware cannot set a bit.
#[derive(Clone, Debug)]
pub(crate) struct Trail<Obstacle> {
    /// The tables of the last stage, from the first.
    pub(crate) tables: Vec<Table>,
    /// Bits to set in entries of all stages.
    pub(crate) marks: Vec<Mark<Obstacle>>,
}

/// Bits that hardware sets in an entry: accessed, extended accessed, dirty (VT-d 3.6.2, 3.7.2; AMD-Vi 2.2.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark<Obstacle> {
    /// Where the entry is.
    pub(crate) at: PhysicalAddress,
    /// Missing bits that any use sets.
    pub(crate) for_use: u64,
    /// Missing bits that a write sets.
    pub(crate) for_write: u64,
    /// Why the request is blocked if hardware cannot set any.
    pub(crate) obstacle: Option<Obstacle>,
}

impl Table {
    /// Where its entry of this index is.
    pub(crate) fn slot(self, index: usize) -> PhysicalAddress {
        self.address.saturating_add(index as u64 * 8)
    }
}

impl<Obstacle> Mark<Obstacle> {
    /// The bits to set for a read or a write.
    fn due(&self, direction: Direction) -> u64 {
        match direction {
            Direction::Read => self.for_use,
            Direction::Write => self.for_use | self.for_write,
        }
    }
}

impl<Obstacle> Default for Trail<Obstacle> {
    fn default() -> Self {
        Self { tables: Vec::new(), marks: Vec::new() }
    }
}

impl<Obstacle: Copy> Trail<Obstacle> {
    /// Adds a mark if any bit is missing.
    pub(crate) fn mark(&mut self, mark: Mark<Obstacle>) {
        if mark.due(Direction::Write) != 0 {
            self.marks.push(mark);
        }
    }

    /// Adds the marks of another stage's walk.
    pub(crate) fn take_marks(&mut self, mut other: Self) {
        self.marks.append(&mut other.marks);
    }

    /// Checks that hardware can set all bits that it has to set.
    pub(crate) fn check(&self, direction: Direction) -> Result<(), Obstacle> {
        let stuck = self.marks.iter().filter(|mark| mark.due(direction) != 0).find_map(|mark| mark.obstacle);
        stuck.map_or(Ok(()), Err)
    }

    /// Sets the bits in the entries, as hardware does.
    pub(crate) fn note(&self, memory: &mut Memory, direction: Direction) {
        for mark in &self.marks {
            let due = mark.due(direction);
            if let Some(word) = memory.read(mark.at).filter(|word| word & due != due) {
                memory.write_by_unit(mark.at, word | due);
            }
        }
    }
}
