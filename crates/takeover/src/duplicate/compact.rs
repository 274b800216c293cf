//! Domains that do not fit: runs of pages become larger pages, other tables of level 1 stay where they are
//! ([`keep`](super::keep)).

use machine::{Frames, IoAddress, Level, OldMemory, PhysicalAddress, Table};
use vtd::stage::{PageEntry, Stage};

use super::copier::Copier;
use crate::hazard::{Danger, Outcome};
use crate::mark::Mark;

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
            Err(Danger::OverBudget) => self.keep(entry, level, iova),
            Err(danger) => Err(danger),
        }
    }

    /// Folds a table of level 1 into a larger page, keeps it, or copies it if something in it must be cut out.
    fn compact_leaves(&mut self, entry: PageEntry, iova: IoAddress) -> Result<PageEntry, Danger> {
        let look = self.look(entry.table())?;
        if !self.check_leaves(look, iova) {
            return self.adopt(look, entry.table(), Level::ONE).map(|copy| entry.with_table(copy).unmarked());
        }
        let page = self.folded(look, Level::ONE);
        self.frames.release(look);
        let Some(page) = page else {
            self.note_kept(Level::ONE.table_span(iova));
            return Ok(entry.marked());
        };
        self.note(Level::ONE.table_span(iova), Danger::OverBudget, Outcome::Folded);
        Ok(page.restricted_by(entry))
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
