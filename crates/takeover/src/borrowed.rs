//! Tables that a domain uses but does not own: kept in place in the old kernel's memory, or shared with a twin.
//!
//! A bit that hardware ignores marks the entries that name such tables. Nobody writes these tables: a new mapping
//! below one copies the tables on its path, and marks the entries of the copies in turn. So a twin costs the copy of
//! one table. A mapping in one of two domains that share tables is in tables of its own, which the other domain does
//! not reach.

use machine::{ENTRIES, Frames, Level, OldMemory, PhysicalAddress};
use paging::{Format, PageEntry, Rules, Step};

use crate::hazard::Danger;
use crate::own::OwnMemory;
use crate::table::{copy_table, page_at};

/// What is needed to copy a borrowed table.
pub(crate) struct Lender<'a, M> {
    pub(crate) old: &'a M,
    pub(crate) own: OwnMemory<'a>,
    pub(crate) format: Format,
    pub(crate) rules: Rules,
}

impl<M: OldMemory> Lender<'_, M> {
    /// Copies a table of this level that a marked entry names, and marks the copy's entries. Tables in our own
    /// memory are shared; all others were kept in place.
    pub(crate) fn copy(
        &self,
        table: PhysicalAddress,
        level: Level,
        frames: &mut impl Frames,
    ) -> Result<PhysicalAddress, Danger> {
        if self.own.touches(page_at(table)) {
            copy_shared(self.format, table, level, frames).ok_or(Danger::OverBudget)
        } else {
            self.copy_kept(table, level, frames)
        }
    }

    /// Copies a kept table and checks the copy: the table was well-formed when it was kept, but may have changed
    /// since.
    fn copy_kept(
        &self,
        table: PhysicalAddress,
        level: Level,
        frames: &mut impl Frames,
    ) -> Result<PhysicalAddress, Danger> {
        let copy = copy_table(table, self.old, frames, self.own)?;
        for index in 0..ENTRIES {
            let found = self.format.entry(frames.table(copy)[index]);
            match self.carry_over(found, level) {
                Ok(carried) => frames.table_mut(copy)[index] = carried.bits,
                Err(danger) => {
                    frames.release(copy);
                    return Err(danger);
                }
            }
        }
        frames.publish(copy, 0..ENTRIES);
        Ok(copy)
    }

    /// Turns an entry of such a copy into its new form.
    fn carry_over(&self, found: PageEntry, level: Level) -> Result<PageEntry, Danger> {
        match self.rules.step(found, level) {
            Step::Malformed => Err(Danger::ReservedBits),
            Step::Page(page) if self.own.touches(page.memory()) => {
                Err(Danger::ReachesOwnMemory(page.memory().start))
            }
            Step::Absent | Step::Page(_) => Ok(found),
            Step::Table { table, .. } if self.own.touches(page_at(table)) => {
                Err(Danger::TableInOwnMemory(table))
            }
            Step::Table { .. } => Ok(found.marked()),
        }
    }
}

/// Copies a root table of our own; the copy and the original then share all tables below.
pub(crate) fn share(
    format: Format,
    root: PhysicalAddress,
    top: Level,
    frames: &mut impl Frames,
) -> Option<PhysicalAddress> {
    let copy = copy_shared(format, root, top, frames)?;
    for index in 0..ENTRIES {
        let entry = format.entry(frames.load(root, index));
        if entry.names_table(top) {
            frames.store(root, index, entry.marked().bits);
        }
    }
    frames.publish(root, 0..ENTRIES);
    Some(copy)
}

/// Copies a table of our own, which hardware may be walking, and marks the copy's entries.
pub(crate) fn copy_shared(
    format: Format,
    table: PhysicalAddress,
    level: Level,
    frames: &mut impl Frames,
) -> Option<PhysicalAddress> {
    let copy = frames.allocate()?;
    for index in 0..ENTRIES {
        let entry = format.entry(frames.load(table, index));
        let entry = if entry.names_table(level) { entry.marked() } else { entry };
        frames.table_mut(copy)[index] = entry.bits;
    }
    frames.publish(copy, 0..ENTRIES);
    Some(copy)
}
