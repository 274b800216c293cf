//! A table that units store to while readers hold references to it.

use machine::{ENTRIES, Table};
use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;

/// A table as its readers saw it, and as it is now.
///
/// Units' stores wait aside until somebody reads the whole table, who gets a version of it with them. So there are no more
/// versions than readers of the whole, and however often a unit stores to its log, the log costs no more than its entries.
#[derive(Debug)]
pub(crate) struct Versions {
    first: Version,
    /// What units have stored since the last version, by index.
    stored: RefCell<BTreeMap<usize, u64>>,
}

#[derive(Debug)]
struct Version {
    table: Box<Table>,
    next: OnceCell<Box<Version>>,
}

impl Version {
    fn new(table: Box<Table>) -> Self {
        Self { table, next: OnceCell::new() }
    }

    fn last(&self) -> &Self {
        let mut version = self;
        while let Some(next) = version.next.get() {
            version = next;
        }
        version
    }
}

impl Versions {
    /// A table of zeros.
    pub(crate) fn zeroed() -> Self {
        Self { first: Version::new(Box::new([0; ENTRIES])), stored: RefCell::default() }
    }

    /// Lets a unit store one entry.
    pub(crate) fn change(&self, index: usize, entry: u64) {
        self.stored.borrow_mut().insert(index, entry);
    }

    /// One entry as it is now.
    pub(crate) fn entry(&self, index: usize) -> u64 {
        let stored = self.stored.borrow().get(&index).copied();
        stored.unwrap_or_else(|| self.first.last().table[index])
    }

    /// The whole table as it is now, for a reader who may hold it while units store.
    pub(crate) fn latest(&self) -> &Table {
        let last = self.first.last();
        let stored = self.stored.take();
        if stored.is_empty() {
            return &last.table;
        }
        let mut table = last.table.clone();
        for (index, entry) in stored {
            table[index] = entry;
        }
        &last.next.get_or_init(|| Box::new(Version::new(table))).table
    }

    /// The table as it is now, to be changed by the processor; drops all older versions.
    pub(crate) fn latest_mut(&mut self) -> &mut Table {
        let stored = self.stored.take();
        if self.first.next.get().is_some() {
            self.first = Version::new(self.first.last().table.clone());
        }
        for (index, entry) in stored {
            self.first.table[index] = entry;
        }
        &mut self.first.table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_keeps_what_it_read_and_the_next_one_sees_the_stores() {
        let mut versions = Versions::zeroed();
        let before = versions.latest();
        versions.change(3, 7);
        assert_eq!(versions.entry(3), 7);
        let after = versions.latest();
        versions.change(3, 8);
        assert_eq!((before[3], after[3], versions.entry(3), versions.latest()[3]), (0, 7, 8, 8));
        versions.change(4, 9);
        versions.latest_mut()[5] = 1;
        assert_eq!([3, 4, 5].map(|index| versions.entry(index)), [8, 9, 1]);
    }

    #[test]
    fn stores_that_nobody_reads_as_a_whole_make_no_versions() {
        let versions = Versions::zeroed();
        for turn in 0..1_000_000 {
            versions.change(turn as usize % ENTRIES, turn);
            assert_eq!(versions.entry(turn as usize % ENTRIES), turn);
        }
        assert!(versions.first.next.get().is_none());
        assert_eq!(versions.stored.borrow().len(), ENTRIES);
    }
}
