//! Checks copied tables of level 1: most of the work of a takeover.

use machine::{ENTRIES, Frames, IoAddress, Level, OldMemory, PhysicalAddress, Range};
use vtd::stage::PageEntry;

use super::copier::Copier;
use super::survey::{Runs, Survey, survey};
use crate::hazard::Danger;

impl<M: OldMemory, F: Frames> Copier<'_, M, F> {
    /// Checks a copied table of level 1, which translates the addresses from `base`, and cuts out of the copy what is bad.
    /// Returns whether nothing is.
    pub(super) fn check_leaves(&mut self, copy: PhysicalAddress, base: IoAddress) -> bool {
        let found = self.survey(copy);
        self.domain.leaves += found.present;
        self.reserve_leaves(copy, base, found.present);
        !found.suspicious || self.cut_leaves(copy, base) == 0
    }

    /// Surveys a table of level 1 in a frame of ours.
    fn survey(&self, table: PhysicalAddress) -> Survey {
        let reserved = self.reserved.leaf_mask(Level::ONE);
        survey(self.frames.table(table), self.domain.stage, reserved, self.own_block)
    }

    /// Reserves the addresses that a table of level 1 in a frame of ours maps; `present` of its entries are present.
    fn reserve_leaves(&mut self, copy: PhysicalAddress, base: IoAddress, present: u64) {
        if present == ENTRIES as u64 {
            return self.domain.space.reserve(Level::ONE.table_span(base));
        }
        for run in Runs::of(self.frames.table(copy), self.domain.stage) {
            let at = |index| Level::ONE.address_at(base, index);
            self.domain.space.reserve(Range::new(at(run.start), at(run.end)));
        }
    }

    /// Clears the entries that have reserved bits or reach our memory; returns how many.
    fn cut_leaves(&mut self, copy: PhysicalAddress, base: IoAddress) -> u64 {
        let cut_before = self.domain.fenced;
        for index in 0..ENTRIES {
            let entry = self.entry(copy, index);
            if let Err(danger) = self.check_leaf(entry) {
                self.frames.table_mut(copy)[index] = self.domain.stage.blocked().bits;
                self.domain.leaves -= 1;
                self.domain.fenced += 1;
                let iova = Level::ONE.address_at(base, index);
                self.cut(Level::ONE.entry_span(iova), danger);
            }
        }
        self.domain.fenced - cut_before
    }

    fn check_leaf(&self, entry: PageEntry) -> Result<(), Danger> {
        let target = entry.target(Level::ONE);
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
