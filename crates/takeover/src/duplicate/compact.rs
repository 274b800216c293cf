//! Domains that do not fit: runs of pages become larger ones, other tables stay where they are.
//!
//! A table that is kept is checked, but it stays in the old kernel's memory, where a device that runs wild could
//! change it later. That is the price of not cutting its devices off, and the report says so. New mappings never go
//! below a kept table: all its addresses are reserved.

use machine::{ENTRIES, Frames, OldMemory, PAGE_SIZE, Range, Table};
use vtd::paging::Level;
use vtd::second_stage::SecondStageEntry;

use super::copier::Copier;
use super::leaves::survey;
use crate::hazard::{Danger, Outcome};
use crate::tables::copy_table;

impl<M: OldMemory, F: Frames> Copier<'_, M, F> {
    /// What a well-formed entry that names a table of this level becomes.
    pub(super) fn compact(
        &mut self,
        entry: SecondStageEntry,
        level: Level,
        iova: u64,
    ) -> Result<SecondStageEntry, Danger> {
        if level == Level::ONE {
            return self.compact_leaves(entry, iova);
        }
        match self.copy(entry.address(), level, iova) {
            Ok(copy) => Ok(entry.with_address(copy).unmarked()),
            Err(Danger::OverBudget) => self.keep(entry, level, iova),
            Err(danger) => Err(danger),
        }
    }

    /// Folds a table of level 1 into a larger page, keeps it, or copies it if something in it must be cut out.
    fn compact_leaves(&mut self, entry: SecondStageEntry, iova: u64) -> Result<SecondStageEntry, Danger> {
        let look = self.look(entry.address())?;
        let found = survey(self.frames.table(look), self.reserved.leaf_mask(Level::ONE), self.own);
        if found.suspicious {
            return self.adopt(look, iova).map(|copy| entry.with_address(copy).unmarked());
        }
        let page = if self.reserved.allow_leaf(Level::TWO) { folded(self.frames.table(look)) } else { None };
        self.frames.release(look);
        self.domain.leaves += found.present;
        let span = Range::new(iova, iova + Level::TWO.span());
        self.domain.space.reserve(span);
        let Some(page) = page else {
            self.note(span, Danger::OverBudget, Outcome::KeptInPlace);
            return Ok(entry.marked());
        };
        self.note(span, Danger::OverBudget, Outcome::Folded);
        Ok(page.restricted_by(entry))
    }

    /// Makes a copy that was only looked at part of the domain's tables.
    fn adopt(&mut self, look: u64, iova: u64) -> Result<u64, Danger> {
        // The frame is taken already.
        if self.frames.available() < self.spare {
            self.frames.release(look);
            return Err(Danger::OverBudget);
        }
        self.domain.tables += 1;
        self.check_leaves(look, iova);
        self.frames.publish(look, 0..ENTRIES);
        Ok(look)
    }

    /// Leaves a table and all below it where they are, if nothing in them must be cut out.
    fn keep(&mut self, entry: SecondStageEntry, level: Level, iova: u64) -> Result<SecondStageEntry, Danger> {
        self.check_in_place(entry.address(), level)?;
        let span = Range::new(iova, iova + (1 << level.width()));
        self.domain.space.reserve(span);
        self.note(span, Danger::OverBudget, Outcome::KeptInPlace);
        Ok(entry.marked())
    }

    /// Checks a table, and all below it, without copying it for good. Each is checked once, those of level 1 but
    /// for sharing.
    fn check_in_place(&mut self, table: u64, level: Level) -> Result<(), Danger> {
        if self.kept.find(table, level).is_some() {
            return Ok(());
        }
        let look = self.look(table)?;
        let checked = match level.below() {
            None => self.check_leaves_in_place(look),
            Some(below) => self.check_entries_in_place(look, level, below),
        };
        self.frames.release(look);
        if level > Level::ONE {
            self.kept.remember(table, level, table);
        }
        checked
    }

    fn check_leaves_in_place(&mut self, look: u64) -> Result<(), Danger> {
        let found = survey(self.frames.table(look), self.reserved.leaf_mask(Level::ONE), self.own);
        self.domain.leaves += found.present;
        if !found.suspicious {
            return Ok(());
        }
        self.frames.table(look).iter().try_for_each(|word| self.check_leaf(SecondStageEntry(*word)))
    }

    fn check_entries_in_place(&mut self, look: u64, level: Level, below: Level) -> Result<(), Danger> {
        for index in 0..ENTRIES {
            let entry = SecondStageEntry(self.frames.table(look)[index]);
            let target = Range::new(entry.address(), entry.address() + level.span());
            match entry {
                _ if !entry.present() => {}
                _ if self.reserved.set_in(entry, level) != 0 => return Err(Danger::ReservedBits),
                _ if !entry.is_leaf(level) => self.check_in_place(entry.address(), below)?,
                _ if self.surroundings.touches_own(target) => {
                    return Err(Danger::ReachesOwnMemory(target.start));
                }
                _ => self.domain.leaves += 1,
            }
        }
        Ok(())
    }

    /// Copies a table to look at it; the copy is to be released.
    pub(super) fn look(&mut self, table: u64) -> Result<u64, Danger> {
        *self.looks_left = self.looks_left.checked_sub(1).ok_or(Danger::OverBudget)?;
        copy_table(table, self.old, self.frames, self.surroundings)
    }
}

/// The large page that a table of level 1 amounts to, if its pages follow each other and allow the same.
fn folded(table: &Table) -> Option<SecondStageEntry> {
    let first = SecondStageEntry(table[0]);
    let aligned = first.address().is_multiple_of(Level::TWO.span());
    let follows = |(index, word): (usize, &u64)| *word == first.0.wrapping_add(index as u64 * PAGE_SIZE);
    let folds = first.present() && aligned && table.iter().enumerate().all(follows);
    folds.then_some(first.as_leaf_of(Level::TWO).unmarked())
}
