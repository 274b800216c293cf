//! Checking copied tables of level 1: most of the work of a takeover.

use machine::{ENTRIES, Frames, OldMemory, PAGE_SIZE, Range, Table};
use vtd::paging::Level;
use vtd::second_stage::SecondStageEntry;

use super::copier::Copier;
use crate::report::{Danger, Outcome};

impl<M: OldMemory, F: Frames> Copier<'_, M, F> {
    /// Checks a copied table of level 1, which translates the addresses from `base`.
    pub(super) fn check_leaves(&mut self, copy: u64, base: u64) {
        let found = survey(self.frames.table(copy), self.reserved.leaf_mask(Level::ONE), self.own);
        self.domain.leaves += found.present;
        self.reserve_leaves(copy, base, found.present);
        if found.suspicious {
            self.cut_leaves(copy, base);
        }
    }

    fn reserve_leaves(&mut self, copy: u64, base: u64, present: u64) {
        if present == ENTRIES as u64 {
            return self.domain.space.reserve(Range::new(base, base + Level::TWO.span()));
        }
        for run in Runs::of(self.frames.table(copy)) {
            self.domain.space.reserve(Range::new(base + run.start * PAGE_SIZE, base + run.end * PAGE_SIZE));
        }
    }

    /// Clears the entries that have reserved bits or reach our memory.
    fn cut_leaves(&mut self, copy: u64, base: u64) {
        for index in 0..ENTRIES {
            let entry = SecondStageEntry(self.frames.table(copy)[index]);
            if let Err(danger) = self.check_leaf(entry) {
                self.frames.table_mut(copy)[index] = SecondStageEntry::BLOCKED.0;
                self.domain.leaves -= 1;
                self.domain.fenced += 1;
                let iova = base + index as u64 * PAGE_SIZE;
                self.cut(Range::new(iova, iova + PAGE_SIZE), danger, Outcome::Fenced);
            }
        }
    }

    fn check_leaf(&self, entry: SecondStageEntry) -> Result<(), Danger> {
        let target = Range::new(entry.address(), entry.address() + PAGE_SIZE);
        if !entry.present() {
            Ok(())
        } else if self.reserved.set_in(entry, Level::ONE) != 0 {
            Err(Danger::ReservedBits)
        } else if self.surroundings.touches_own(target) {
            Err(Danger::ReachesOwnMemory(target.start))
        } else {
            Ok(())
        }
    }
}

/// What a look at a table of level 1 shows.
struct Survey {
    present: u64,
    suspicious: bool,
}

/// Looks at each entry once, without branches: almost all tables are full or empty, and nothing in them is wrong.
fn survey(table: &Table, reserved: u64, own: Range) -> Survey {
    let (mut present, mut suspicious) = (0, false);
    for entry in table.iter().map(|word| SecondStageEntry(*word)) {
        let wrong = (entry.0 & reserved != 0) | own.contains(entry.address());
        present += u64::from(entry.present());
        suspicious |= entry.present() & wrong;
    }
    Survey { present, suspicious }
}

/// Runs of present entries in a table of level 1, as ranges of indices.
struct Runs<'a> {
    table: &'a Table,
    next: usize,
}

impl<'a> Runs<'a> {
    fn of(table: &'a Table) -> Self {
        Self { table, next: 0 }
    }

    /// The first index from `self.next` on at which an entry is as wanted.
    fn first_index(&self, wanted: fn(SecondStageEntry) -> bool) -> Option<usize> {
        let rest = self.table.get(self.next..)?;
        rest.iter().position(|word| wanted(SecondStageEntry(*word))).map(|offset| self.next + offset)
    }
}

impl Iterator for Runs<'_> {
    type Item = Range;

    fn next(&mut self) -> Option<Range> {
        self.next = self.first_index(SecondStageEntry::present)?;
        let start = self.next;
        self.next = self.first_index(|entry| !entry.present()).unwrap_or(ENTRIES);
        Some(Range::new(start as u64, self.next as u64))
    }
}
