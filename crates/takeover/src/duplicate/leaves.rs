//! Checks copied tables of level 1: most of the work of a takeover.

use machine::{ENTRIES, Frames, IoAddress, Level, OldMemory, PhysicalAddress, Range};
use paging::{PageEntry, Step};

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
        !found.suspicious || self.cut_leaves(copy, base)
    }

    /// Surveys a table of level 1 in a frame of ours.
    fn survey(&self, table: PhysicalAddress) -> Survey {
        survey(self.frames.table(table), self.domain.format, self.rules.unusual(), self.own_block)
    }

    /// Reserves the addresses that a table of level 1 in a frame of ours maps; `present` of its entries are present.
    fn reserve_leaves(&mut self, copy: PhysicalAddress, base: IoAddress, present: u64) {
        if present == ENTRIES as u64 {
            return self.domain.space.reserve(Level::ONE.table_span(base));
        }
        for run in Runs::of(self.frames.table(copy), self.domain.format) {
            let at = |index| Level::ONE.address_at(base, index);
            self.domain.space.reserve(Range::new(at(run.start), at(run.end)));
        }
    }

    /// Clears the entries that have reserved bits or reach our memory. Returns whether none was changed.
    fn cut_leaves(&mut self, copy: PhysicalAddress, base: IoAddress) -> bool {
        let mut same = true;
        for index in 0..ENTRIES {
            let entry = self.entry(copy, index);
            let kept = self.check_leaf(entry, index);
            same &= kept == Ok(entry);
            let kept = kept.unwrap_or_else(|danger| {
                self.domain.leaves -= 1;
                self.domain.fenced += 1;
                let iova = Level::ONE.address_at(base, index);
                self.cut(Level::ONE.entry_span(iova), danger);
                self.domain.format.blocked()
            });
            self.frames.table_mut(copy)[index] = kept.bits;
        }
        same
    }

    /// The new form of the leaf at `index` of its table: the same, unless its page is shared with other entries and some of that
    /// is ours. Hardware may use each of these entries for all of the page, so each gets a page of its own.
    fn check_leaf(&self, entry: PageEntry, index: usize) -> Result<PageEntry, Danger> {
        let page = match self.rules.step(entry, Level::ONE) {
            Step::Absent => return Ok(entry),
            Step::Malformed | Step::Table { .. } => return Err(Danger::ReservedBits),
            Step::Page(page) => page,
        };
        let part = page.part(Level::ONE, index);
        if !self.own.touches(page.memory()) {
            Ok(entry)
        } else if self.own.touches(part) {
            Err(Danger::ReachesOwnMemory(part.start))
        } else {
            Ok(entry.as_leaf_of(Level::ONE, Level::ONE, part.start))
        }
    }
}
