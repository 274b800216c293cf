//! Domains that do not fit: runs of pages become larger pages, other tables stay where they are.
//!
//! A kept table is checked on a copy that is then discarded: the table stays in the old kernel's memory, and hardware
//! reads its current content. The only protection against a later change is what protected the old kernel's memory:
//! no mapping gives a device the memory of page tables. A device in pass-through or with corrupt mappings does reach
//! it. A second check would only postpone the problem, so there is none. The alternative is to block the domain's devices;
//! the report lists which domains depend on kept tables.
//!
//! New mappings avoid the addresses below kept tables while other addresses are free. After that, the tables on the
//! path are copied and checked again ([`Domain`](crate::domain::Domain)).

use machine::{ENTRIES, Frames, IoAddress, OldMemory, PhysicalAddress, Table};
use vtd::paging::Level;
use vtd::stage::{PageEntry, Stage};

use super::copier::Copier;
use crate::hazard::{Danger, Outcome};
use crate::mark::Mark;
use crate::tables::copy_table;

impl<M: OldMemory, F: Frames> Copier<'_, M, F> {
    /// Turns a well-formed entry that names a table of this level into its new form.
    pub(super) fn compact(
        &mut self,
        entry: PageEntry,
        level: Level,
        iova: IoAddress,
    ) -> Result<PageEntry, Danger> {
        if level == Level::ONE {
            return self.compact_leaves(entry, iova);
        }
        match self.copy(entry.table(), level, iova) {
            Ok(copy) => Ok(self.fold(entry, copy, level)),
            Err(Danger::OverBudget) => Ok(self.keep(entry, level, iova)),
            Err(danger) => Err(danger),
        }
    }

    /// Folds a table of level 1 into a larger page, keeps it, or copies it if something in it must be cut out.
    fn compact_leaves(&mut self, entry: PageEntry, iova: IoAddress) -> Result<PageEntry, Danger> {
        let look = self.look(entry.table())?;
        let found = self.survey(look);
        if found.suspicious {
            return self.adopt(look, iova).map(|copy| entry.with_table(copy).unmarked());
        }
        let page = self.folded(look, Level::ONE);
        self.domain.leaves += found.present;
        self.reserve_leaves(look, iova, found.present);
        self.frames.release(look);
        let span = Level::ONE.table_span(iova);
        let Some(page) = page else {
            self.domain.kept.reserve(span);
            self.note(span, Danger::OverBudget, Outcome::KeptInPlace);
            return Ok(entry.marked());
        };
        self.note(span, Danger::OverBudget, Outcome::Folded);
        Ok(page.restricted_by(entry))
    }

    /// Keeps a copy that was made for checking as one of the domain's tables.
    fn adopt(&mut self, look: PhysicalAddress, iova: IoAddress) -> Result<PhysicalAddress, Danger> {
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

    /// Keeps a table and all below it where they are. If something in them must be cut out, there are no frames to
    /// do so, and all of it is blocked, what is good in it included.
    pub(super) fn keep(&mut self, entry: PageEntry, level: Level, iova: IoAddress) -> PageEntry {
        let (span, leaves_above) = (level.table_span(iova), self.domain.leaves);
        if let Err(danger) = self.check_in_place(entry.table(), level, iova) {
            self.domain.leaves = leaves_above;
            self.domain.space.reserve(span);
            self.note(span, danger, Outcome::Blocked);
            return self.domain.stage.blocked();
        }
        self.domain.kept.reserve(span);
        self.note(span, Danger::OverBudget, Outcome::KeptInPlace);
        entry.marked()
    }

    /// Checks a table, which translates the addresses from `base`, and all below it, without keeping copies. Each
    /// well-formed table above level 1 is checked once, even if several entries name it.
    fn check_in_place(
        &mut self,
        table: PhysicalAddress,
        level: Level,
        base: IoAddress,
    ) -> Result<(), Danger> {
        if self.kept.find(table, level).is_some() {
            self.domain.space.reserve(level.table_span(base));
            return Ok(());
        }
        let look = self.look(table)?;
        let checked = match level.below() {
            None => self.check_leaves_in_place(look, base),
            Some(below) => self.check_entries_in_place(look, level, below, base),
        };
        self.frames.release(look);
        if level > Level::ONE && checked.is_ok() {
            self.kept.remember(table, level, table);
        }
        checked
    }

    fn check_leaves_in_place(&mut self, look: PhysicalAddress, base: IoAddress) -> Result<(), Danger> {
        let found = self.survey(look);
        self.domain.leaves += found.present;
        self.reserve_leaves(look, base, found.present);
        if !found.suspicious {
            return Ok(());
        }
        (0..ENTRIES).try_for_each(|index| self.check_leaf(self.entry(look, index)))
    }

    fn check_entries_in_place(
        &mut self,
        look: PhysicalAddress,
        level: Level,
        below: Level,
        base: IoAddress,
    ) -> Result<(), Danger> {
        for index in 0..ENTRIES {
            let entry = self.entry(look, index);
            let iova = level.address_at(base, index);
            let target = entry.target(level);
            match entry {
                _ if !entry.present() => {}
                _ if self.reserved.set_in(entry, level) != 0 => return Err(Danger::ReservedBits),
                _ if !entry.is_leaf(level) => self.check_in_place(entry.table(), below, iova)?,
                _ if self.own.touches(target) => {
                    return Err(Danger::ReachesOwnMemory(target.start));
                }
                _ => {
                    self.domain.leaves += 1;
                    self.domain.space.reserve(level.entry_span(iova));
                }
            }
        }
        Ok(())
    }

    /// Copies a table in order to check it; the caller releases the copy.
    pub(super) fn look(&mut self, table: PhysicalAddress) -> Result<PhysicalAddress, Danger> {
        *self.looks_left = self.looks_left.checked_sub(1).ok_or(Danger::OverBudget)?;
        copy_table(table, self.old, self.frames, self.own)
    }

    /// Returns the entry for a table of this level that was copied: a larger page if the copy is equivalent to one,
    /// which frees the copy's frame.
    fn fold(&mut self, entry: PageEntry, copy: PhysicalAddress, level: Level) -> PageEntry {
        let Some(page) = self.folded(copy, level) else { return entry.with_table(copy).unmarked() };
        self.copies.forget(entry.table(), level);
        self.frames.release(copy);
        self.domain.tables -= 1;
        page.restricted_by(entry)
    }

    /// The larger page that a table of this level is equivalent to, if the unit supports such pages.
    fn folded(&self, table: PhysicalAddress, level: Level) -> Option<PageEntry> {
        let above = Level::new(level.number() + 1).filter(|above| self.reserved.allow_leaf(*above))?;
        folded(self.frames.table(table), self.domain.stage, level, above)
    }
}

/// The page of level `above` that a table of `level` is equivalent to: all its entries are pages that follow each
/// other and agree in rights, memory type and ignored bits.
///
/// Accessed and dirty bits may differ: nobody reads them any more. The large page has each of these bits that one of
/// the entries had, since hardware may be unable to set more (3.10).
fn folded(table: &Table, stage: Stage, level: Level, above: Level) -> Option<PageEntry> {
    let first = stage.entry(table[0]);
    let aligned = first.page(level).is_aligned(above.span());
    if !first.present() || !first.is_leaf(level) || !aligned {
        return None;
    }
    let mut page = first;
    for (index, word) in table.iter().enumerate() {
        let (entry, offset) = (stage.entry(*word), index as u64 * level.span());
        if entry.unused().bits != first.unused().bits.wrapping_add(offset) {
            return None;
        }
        page = page.used_like(entry);
    }
    Some(page.as_leaf_of(level, above, first.page(level)).unmarked())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table of this level whose pages follow each other.
    fn run(level: Level, first: u64) -> Table {
        core::array::from_fn(|index| first + index as u64 * level.span())
    }

    #[test]
    fn pages_that_follow_each_other_are_one() {
        let fold = |stage, level, above, first| folded(&run(level, first), stage, level, above);
        let small = fold(Stage::Second, Level::ONE, Level::TWO, 0x4020_0003);
        assert_eq!(small, Some(Stage::Second.entry(0x4020_0083)));
        let large = fold(Stage::Second, Level::TWO, Level::THREE, 0x4000_0083);
        assert_eq!(large, Some(Stage::Second.entry(0x4000_0083)));
        let typed = fold(Stage::First, Level::ONE, Level::TWO, 0x20_00E7);
        assert_eq!(typed, Some(Stage::First.entry(0x20_10E7)));
        assert_eq!(fold(Stage::First, Level::TWO, Level::THREE, 0x4020_0087), None);
        assert_eq!(fold(Stage::First, Level::TWO, Level::THREE, 0x4000_0007), None);
    }

    #[test]
    fn pages_that_differ_in_more_than_use_are_not_folded() {
        for (bit, folds) in
            [(1 << 1, false), (1 << 2, false), (1 << 4, false), (1 << 63, false), (1 << 5, true)]
        {
            let mut table = run(Level::ONE, 0x20_0007);
            table[300] ^= bit;
            let page = folded(&table, Stage::First, Level::ONE, Level::TWO);
            assert_eq!(page.is_some(), folds, "{bit:#x}");
        }
    }

    #[test]
    fn a_folded_page_counts_as_used_where_one_of_its_parts_was() {
        let mut table = run(Level::ONE, 0x20_0003);
        table[7] |= 1 << 9;
        assert_eq!(
            folded(&table, Stage::Second, Level::ONE, Level::TWO).map(|page| page.bits),
            Some(0x20_0283)
        );
    }
}
