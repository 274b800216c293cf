//! Reserves the I/O addresses of domains that are too large to copy.

use machine::{ENTRIES, Frames, IoAddress, Level, OldMemory, PhysicalAddress};
use paging::{PageEntry, Step};

use super::copier::Copier;
use crate::hazard::{Danger, Outcome};

impl<M: OldMemory, F: Frames> Copier<'_, M, F> {
    /// Copies nothing, but reserves the mapped I/O addresses.
    pub(super) fn block(&mut self, root: PhysicalAddress) {
        self.outline(root, self.domain.top, IoAddress::new(0));
        self.note(self.whole(), Danger::OverBudget, Outcome::Blocked);
    }

    /// Reserves what a table maps, to the nearest 2 MiB, or all that it could map once too many tables were read.
    fn outline(&mut self, table: PhysicalAddress, level: Level, base: IoAddress) {
        let copy = match level.below() {
            Some(_) => self.look(table),
            None => Err(Danger::OverBudget),
        };
        let Ok(copy) = copy else {
            return self.domain.space.reserve(level.table_span(base));
        };
        for index in 0..ENTRIES {
            let entry = self.entry(copy, index);
            self.outline_entry(entry, level, level.address_at(base, index));
        }
        self.frames.release(copy);
    }

    fn outline_entry(&mut self, entry: PageEntry, level: Level, iova: IoAddress) {
        match entry.step(level) {
            Step::Absent => {}
            Step::Table { table, level: below } => self.outline(table, below, iova),
            Step::Page(_) | Step::Malformed => self.domain.space.reserve(level.entry_span(iova)),
        }
    }
}
