//! Keeps tables in place, in the old kernel's memory; copies only those on the way to something that must be cut out.
//!
//! A kept table is checked on a copy that is then discarded: the table stays in the old kernel's memory, and hardware
//! reads its current content. The only protection against a later change is what protected the old kernel's memory:
//! no mapping gives a device the memory of page tables. A device in pass-through or with corrupt mappings does reach
//! it. A second check would only postpone the problem, so there is none. The alternative is to block the domain's devices;
//! the report lists which domains depend on kept tables.
//!
//! The copy of a table that is not as it must be becomes one of the domain's tables, in which the bad entries are
//! cleared; its good neighbours stay in place. So a bad entry costs one frame for each table above it. If there is no
//! frame for one of these tables, all that this table maps is blocked.
//!
//! New mappings avoid the addresses below kept tables while other addresses are free. After that, the tables on the
//! path are copied and checked again ([`Domain`](crate::domain::Domain)).

use machine::{ENTRIES, Frames, IoAddress, Level, OldMemory, PhysicalAddress, Range};
use paging::PageEntry;

use super::copier::{Branch, Copier};
use crate::hazard::{Danger, Outcome};
use crate::plan::Treatment;
use crate::table::copy_table;

impl<M: OldMemory, F: Frames> Copier<'_, M, F> {
    /// Turns an entry of a copied table, which names a table, into one that names the table in place, or a copy of it if something in it was cut out.
    pub(super) fn keep(&mut self, branch: Branch) -> Result<PageEntry, Danger> {
        let kept = self.keep_or_copy(branch)?;
        if kept.is_marked() {
            self.note_kept(branch.level.table_span(branch.iova));
        }
        Ok(kept)
    }

    /// The same for an entry of a table which may stay in place itself: nothing is noted yet of what is kept.
    pub(super) fn keep_or_copy(&mut self, branch: Branch) -> Result<PageEntry, Danger> {
        let Branch { entry, table, level, iova, .. } = branch;
        let copy = self.copies.find(table, level);
        if copy.is_some() || self.kept.find(table, level).is_some() {
            self.domain.space.reserve(level.table_span(iova));
            return Ok(copy.map_or(entry.marked(), |copy| entry.with_table(copy).unmarked()));
        }
        if self.lost.find(table, level).is_some() {
            return Err(Danger::OverBudget);
        }
        let leaves_above = self.domain.leaves;
        let look = self.look(table)?;
        if self.is_as_it_must_be(look, level, iova) {
            self.frames.release(look);
            self.remember_kept(table, level);
            return Ok(entry.marked());
        }
        let copy = self.adopt(look, table, level).inspect_err(|_| self.domain.leaves = leaves_above)?;
        self.note_kept_below(copy, level, iova);
        Ok(entry.with_table(copy).unmarked())
    }

    /// Checks a copied table, which translates the addresses from `base`, and all below it; cuts out of the copy what
    /// is bad. Returns whether nothing is.
    fn is_as_it_must_be(&mut self, copy: PhysicalAddress, level: Level, base: IoAddress) -> bool {
        match level.below() {
            None => self.check_leaves(copy, base),
            Some(_) => self.carry_over_entries(copy, level, base, Treatment::Keep { frames: 0 }),
        }
    }

    /// Remembers that a table stays in place. Tables of level 1 are too many to remember, and are checked once more where
    /// another entry names them.
    fn remember_kept(&mut self, table: PhysicalAddress, level: Level) {
        if level > Level::ONE {
            self.kept.remember(table, level, table);
        }
    }

    /// Makes a copy, from which something was cut out, one of the domain's tables; or gives its frame back, if there is
    /// none to spare.
    pub(super) fn adopt(
        &mut self,
        copy: PhysicalAddress,
        table: PhysicalAddress,
        level: Level,
    ) -> Result<PhysicalAddress, Danger> {
        // The frames of this copy and of those above it, which need to stay too, are taken already.
        if self.frames.available() < self.spare_for_cuts {
            self.frames.release(copy);
            self.lost.remember(table, level, table);
            return Err(Danger::OverBudget);
        }
        self.domain.tables += 1;
        self.frames.publish(copy, 0..ENTRIES);
        self.copies.remember(table, level, copy);
        Ok(copy)
    }

    /// Notes which tables below a copy stay in place.
    pub(super) fn note_kept_below(&mut self, copy: PhysicalAddress, level: Level, base: IoAddress) {
        for index in 0..ENTRIES {
            let entry = self.entry(copy, index);
            if entry.names_table(level) && entry.is_marked() {
                self.note_kept(level.entry_span(level.address_at(base, index)));
            }
        }
    }

    /// Notes that the tables for these addresses stay in place.
    pub(super) fn note_kept(&mut self, span: Range<IoAddress>) {
        self.domain.kept.reserve(span);
        self.note(span, Danger::OverBudget, Outcome::KeptInPlace);
    }

    /// Copies a table in order to check it; the caller releases the copy.
    pub(super) fn look(&mut self, table: PhysicalAddress) -> Result<PhysicalAddress, Danger> {
        *self.looks_left = self.looks_left.checked_sub(1).ok_or(Danger::OverBudget)?;
        copy_table(table, self.old, self.frames, self.own)
    }
}
