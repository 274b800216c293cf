//! Domains that are too large to copy: which I/O addresses to keep out of use.

use machine::{ENTRIES, Frames, OldMemory, Range};
use vtd::paging::Level;
use vtd::stage::PageEntry;

use super::copier::Copier;
use crate::hazard::{Danger, Outcome};

impl<M: OldMemory, F: Frames> Copier<'_, M, F> {
    /// Copies nothing, but keeps the mapped I/O addresses out of use.
    pub(super) fn block(&mut self, root: u64) {
        self.outline(root, self.domain.top, 0);
        self.note(self.whole(), Danger::OverBudget, Outcome::Blocked);
    }

    /// Reserves what a table maps, to the nearest 2 MiB, or all it could map when too many tables were read.
    fn outline(&mut self, table: u64, level: Level, base: u64) {
        let copy = match level.below() {
            Some(_) => self.look(table),
            None => Err(Danger::OverBudget),
        };
        let Ok(copy) = copy else {
            return self.domain.space.reserve(Range::new(base, base + (1 << level.width())));
        };
        for index in 0..ENTRIES {
            let entry = self.entry(copy, index);
            self.outline_entry(entry, level, base + index as u64 * level.span());
        }
        self.frames.release(copy);
    }

    fn outline_entry(&mut self, entry: PageEntry, level: Level, iova: u64) {
        match level.below() {
            _ if !entry.present() => {}
            Some(below) if !entry.is_leaf(level) => self.outline(entry.table(), below, iova),
            _ => self.domain.space.reserve(Range::new(iova, iova + level.span())),
        }
    }
}
