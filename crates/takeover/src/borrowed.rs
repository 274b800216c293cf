//! Tables that a domain uses but does not own: kept in place in the old kernel's memory, or shared with a twin.
//!
//! A bit that hardware ignores marks the entries that name such tables. Nobody writes these tables: a new mapping
//! below one copies the tables on its path, and marks the entries of the copies in turn. So a twin costs the copy of
//! one table. A mapping in one of two domains that share tables is in tables of its own, which the other domain does
//! not reach.

use machine::{ENTRIES, Frames, Level, OldMemory, PAGE_SIZE, PhysicalAddress, Range};
use vtd::stage::{PageEntry, ReservedBits, Stage};

use crate::hazard::Danger;
use crate::mark::Mark;
use crate::own::OwnMemory;
use crate::tables::copy_table;

/// What is needed to copy a borrowed table.
pub(crate) struct Lender<'a, M> {
    pub(crate) old: &'a M,
    pub(crate) own: OwnMemory<'a>,
    pub(crate) reserved: ReservedBits,
}

impl<M: OldMemory> Lender<'_, M> {
    /// Copies the table of this level that a marked entry names, and marks the copy's entries. Tables in our own
    /// memory are shared; all others were kept in place.
    pub(crate) fn copy(
        &self,
        entry: PageEntry,
        level: Level,
        frames: &mut impl Frames,
    ) -> Result<PhysicalAddress, Danger> {
        let table = entry.table();
        if self.own.touches(page_at(table)) {
            copy_shared(entry.stage, table, level, frames).ok_or(Danger::OverBudget)
        } else {
            self.copy_kept(entry, level, frames)
        }
    }

    /// Copies a kept table and checks the copy: the table was well-formed when it was kept, but may have changed
    /// since.
    fn copy_kept(
        &self,
        entry: PageEntry,
        level: Level,
        frames: &mut impl Frames,
    ) -> Result<PhysicalAddress, Danger> {
        let copy = copy_table(entry.table(), self.old, frames, self.own)?;
        for index in 0..ENTRIES {
            let found = entry.stage.entry(frames.table(copy)[index]);
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
        let (table, page) = (page_at(found.table()), found.target(level));
        if !found.present() {
            Ok(found)
        } else if self.reserved.set_in(found, level) != 0 {
            Err(Danger::ReservedBits)
        } else if found.is_leaf(level) {
            if self.own.touches(page) { Err(Danger::ReachesOwnMemory(page.start)) } else { Ok(found) }
        } else if self.own.touches(table) {
            Err(Danger::TableInOwnMemory(table.start))
        } else {
            Ok(found.marked())
        }
    }
}

/// Copies a root table of our own; the copy and the original then share all tables below.
pub(crate) fn share(
    stage: Stage,
    root: PhysicalAddress,
    top: Level,
    frames: &mut impl Frames,
) -> Option<PhysicalAddress> {
    let copy = copy_shared(stage, root, top, frames)?;
    for index in 0..ENTRIES {
        let entry = stage.entry(frames.load(root, index));
        if entry.names_table(top) {
            frames.store(root, index, entry.marked().bits);
        }
    }
    frames.publish(root, 0..ENTRIES);
    Some(copy)
}

/// Copies a table of our own, which hardware may be walking, and marks the copy's entries.
pub(crate) fn copy_shared(
    stage: Stage,
    table: PhysicalAddress,
    level: Level,
    frames: &mut impl Frames,
) -> Option<PhysicalAddress> {
    let copy = frames.allocate()?;
    for index in 0..ENTRIES {
        let entry = stage.entry(frames.load(table, index));
        let entry = if entry.names_table(level) { entry.marked() } else { entry };
        frames.table_mut(copy)[index] = entry.bits;
    }
    frames.publish(copy, 0..ENTRIES);
    Some(copy)
}

/// The memory of the table at `address`.
fn page_at(address: PhysicalAddress) -> Range<PhysicalAddress> {
    Range::new(address, address.saturating_add(PAGE_SIZE))
}
