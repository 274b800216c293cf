//! The next step of a walk below an entry.

use machine::{ENTRIES, Level, PhysicalAddress, Range};

/// What hardware does when a walk has come to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It stops: the entry is not present.
    Absent,
    /// It goes on with a table.
    ///
    /// The table translates the addresses from the first that the entry covers, as many as a table of its level does. Where
    /// levels were skipped the entry covers more: requests to the others fault.
    Table {
        /// The table.
        table: PhysicalAddress,
        /// Its level, below that of the entry's table.
        level: Level,
    },
    /// It has arrived.
    Page(Page),
    /// It stops with a fault: reserved bits are set, or the level is not possible.
    Malformed,
}

impl Step {
    pub(crate) const fn below(table: PhysicalAddress, level: Level) -> Self {
        match level.below() {
            Some(level) => Self::Table { table, level },
            None => Self::Malformed,
        }
    }
}

/// A page that an entry maps.
///
/// Usually it is as large as what the entry covers. In AMD-Vi's version 1 it may be larger: then the entries that cover it are
/// alike, and hardware may use any of them for all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    start: PhysicalAddress,
    shift: u32,
}

impl Page {
    /// The page of `2^shift` bytes around `address`.
    pub(crate) const fn around(address: PhysicalAddress, shift: u32) -> Self {
        Self { start: address.align_down(1 << shift), shift }
    }

    /// Whether it is larger than what one entry of a table of this level covers.
    pub const fn is_shared(self, level: Level) -> bool {
        self.shift > level.shift()
    }

    /// All of its memory.
    pub const fn memory(self) -> Range<PhysicalAddress> {
        Range::new(self.start, self.start.saturating_add(1 << self.shift))
    }

    /// The part of its memory that the entry at `index` of a table of this level maps.
    pub const fn part(self, level: Level, index: usize) -> Range<PhysicalAddress> {
        let offset = ((index % ENTRIES) as u64) << level.shift() & ((1 << self.shift) - 1);
        let start = self.start.saturating_add(offset);
        Range::new(start, start.saturating_add(level.span()))
    }
}
