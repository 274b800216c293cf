//! Checking copied tables of level 1: most of the work of a takeover.

use machine::{ENTRIES, Frames, OldMemory, PAGE_SIZE, Range};
use vtd::paging::Level;
use vtd::stage::PageEntry;

use super::copier::Copier;
use super::survey::{Runs, Survey, survey};
use crate::hazard::Danger;

impl<M: OldMemory, F: Frames> Copier<'_, M, F> {
    /// Checks a copied table of level 1, which translates the addresses from `base`.
    pub(super) fn check_leaves(&mut self, copy: u64, base: u64) {
        let found = self.survey(copy);
        self.domain.leaves += found.present;
        self.reserve_leaves(copy, base, found.present);
        if found.suspicious {
            self.cut_leaves(copy, base);
        }
    }

    /// Looks at a table of level 1 in a frame of ours.
    pub(super) fn survey(&self, table: u64) -> Survey {
        let reserved = self.reserved.leaf_mask(Level::ONE);
        survey(self.frames.table(table), self.domain.stage, reserved, self.own_block)
    }

    /// Reserves what a table of level 1 in a frame of ours maps, of which so many entries are present.
    pub(super) fn reserve_leaves(&mut self, copy: u64, base: u64, present: u64) {
        if present == ENTRIES as u64 {
            return self.domain.space.reserve(Range::new(base, base + Level::TWO.span()));
        }
        for run in Runs::of(self.frames.table(copy), self.domain.stage) {
            self.domain.space.reserve(Range::new(base + run.start * PAGE_SIZE, base + run.end * PAGE_SIZE));
        }
    }

    /// Clears the entries that have reserved bits or reach our memory.
    fn cut_leaves(&mut self, copy: u64, base: u64) {
        for index in 0..ENTRIES {
            let entry = self.entry(copy, index);
            if let Err(danger) = self.check_leaf(entry) {
                self.frames.table_mut(copy)[index] = self.domain.stage.blocked().bits;
                self.domain.leaves -= 1;
                self.domain.fenced += 1;
                let iova = base + index as u64 * PAGE_SIZE;
                self.cut(Range::new(iova, iova + PAGE_SIZE), danger);
            }
        }
    }

    pub(super) fn check_leaf(&self, entry: PageEntry) -> Result<(), Danger> {
        let target = Range::new(entry.table(), entry.table() + PAGE_SIZE);
        if !entry.present() {
            Ok(())
        } else if self.reserved.set_in(entry, Level::ONE) != 0 {
            Err(Danger::ReservedBits)
        } else if self.own.touches(target) {
            Err(Danger::ReachesOwnMemory(target.start))
        } else {
            Ok(())
        }
    }
}
