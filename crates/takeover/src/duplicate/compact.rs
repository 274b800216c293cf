//! Domains that do not fit: runs of pages become larger pages, other tables of level 1 stay where they are
//! ([`keep`](super::keep)).

use machine::{Frames, Level, OldMemory, PhysicalAddress, Table};
use paging::{Format, PageEntry, Step};

use super::copier::{Branch, Copier};
use crate::hazard::{Danger, Outcome};

impl<M: OldMemory, F: Frames> Copier<'_, M, F> {
    /// Turns a well-formed entry that names a table into its new form.
    pub(super) fn compact(&mut self, branch: Branch) -> Result<PageEntry, Danger> {
        let Branch { table, level, iova, .. } = branch;
        if level == Level::ONE {
            return self.compact_leaves(branch);
        }
        match self.copy(table, level, iova) {
            Ok(copy) => Ok(self.fold(branch, copy)),
            Err(Danger::OverBudget) => self.keep(branch),
            Err(danger) => Err(danger),
        }
    }

    /// Folds a table of level 1 into a larger page, keeps it, or copies it if something in it must be cut out.
    fn compact_leaves(&mut self, branch: Branch) -> Result<PageEntry, Danger> {
        let Branch { entry, table, iova, .. } = branch;
        let look = self.look(table)?;
        if !self.check_leaves(look, iova) {
            return self.adopt(look, table, Level::ONE).map(|copy| entry.with_table(copy).unmarked());
        }
        let page = self.folded(look, branch);
        self.frames.release(look);
        let Some(page) = page else {
            self.note_kept(Level::ONE.table_span(iova));
            return Ok(entry.marked());
        };
        self.note(Level::ONE.table_span(iova), Danger::OverBudget, Outcome::Folded);
        Ok(page.restricted_by(entry))
    }

    /// Returns the entry for a table that was copied: a larger page if the copy is equivalent to one, which frees the copy's
    /// frame.
    fn fold(&mut self, branch: Branch, copy: PhysicalAddress) -> PageEntry {
        let Branch { entry, table, level, .. } = branch;
        let Some(page) = self.folded(copy, branch) else { return entry.with_table(copy).unmarked() };
        self.copies.forget(table, level);
        self.frames.release(copy);
        self.domain.tables -= 1;
        page.restricted_by(entry)
    }

    /// The larger page that the copy of a table is equivalent to, if the unit supports such pages, and if such a page is what the
    /// entry above covers: no level is skipped.
    fn folded(&self, copy: PhysicalAddress, branch: Branch) -> Option<PageEntry> {
        let Branch { above, level, .. } = branch;
        let is_next = above.below() == Some(level);
        Some(above).filter(|above| is_next && self.rules.allow_leaf(*above))?;
        folded(self.frames.table(copy), self.domain.format, level, above)
    }
}

/// The page of level `above` that a table of `level` is equivalent to: all its entries are pages that follow each
/// other and agree in rights, memory type and ignored bits.
///
/// Accessed and dirty bits may differ: nobody reads them any more. The large page has each of these bits that one of
/// the entries had, since hardware may be unable to set more (3.10).
fn folded(table: &Table, format: Format, level: Level, above: Level) -> Option<PageEntry> {
    let first = format.entry(table[0]);
    let Step::Page(start) = first.step(level) else { return None };
    let start = Some(start).filter(|page| !page.is_shared(level))?.memory().start;
    if !start.is_aligned(above.span()) {
        return None;
    }
    let (base, used, mut all) = (first.unused().bits, format.used(), 0);
    for (index, word) in table.iter().enumerate() {
        if word & !used != base.wrapping_add(index as u64 * level.span()) {
            return None;
        }
        all |= word;
    }
    let page = first.used_like(format.entry(all));
    Some(page.as_leaf_of(level, above, start).unmarked())
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
        let fold = |format, level, above, first| folded(&run(level, first), format, level, above);
        let small = fold(Format::SecondStage, Level::ONE, Level::TWO, 0x4020_0003);
        assert_eq!(small, Some(Format::SecondStage.entry(0x4020_0083)));
        let large = fold(Format::SecondStage, Level::TWO, Level::THREE, 0x4000_0083);
        assert_eq!(large, Some(Format::SecondStage.entry(0x4000_0083)));
        let typed = fold(Format::FirstStage, Level::ONE, Level::TWO, 0x20_00E7);
        assert_eq!(typed, Some(Format::FirstStage.entry(0x20_10E7)));
        assert_eq!(fold(Format::FirstStage, Level::TWO, Level::THREE, 0x4020_0087), None);
        assert_eq!(fold(Format::FirstStage, Level::TWO, Level::THREE, 0x4000_0007), None);
    }

    #[test]
    fn pages_that_differ_in_more_than_use_are_not_folded() {
        for (bit, folds) in
            [(1 << 1, false), (1 << 2, false), (1 << 4, false), (1 << 63, false), (1 << 5, true)]
        {
            let mut table = run(Level::ONE, 0x20_0007);
            table[300] ^= bit;
            let page = folded(&table, Format::FirstStage, Level::ONE, Level::TWO);
            assert_eq!(page.is_some(), folds, "{bit:#x}");
        }
    }

    #[test]
    fn a_folded_page_counts_as_used_where_one_of_its_parts_was() {
        let mut table = run(Level::ONE, 0x20_0003);
        table[7] |= 1 << 9;
        assert_eq!(
            folded(&table, Format::SecondStage, Level::ONE, Level::TWO).map(|page| page.bits),
            Some(0x20_0283)
        );
    }
}
