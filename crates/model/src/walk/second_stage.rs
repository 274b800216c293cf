//! Second-stage tables: from an I/O virtual address to a page of 4 KiB, 2 MiB or 1 GiB (3.7).

use super::{Page, Rights, Table, Walker};
use vtd::fault::FaultReason;
use vtd::paging::Level;
use vtd::second_stage::SecondStageEntry;

/// What one second-stage entry says.
pub(super) enum Step {
    /// It names the next table.
    Down(Table),
    /// It maps a page.
    Leaf { address: u64, rights: Rights },
}

impl Walker<'_> {
    /// Walks from `table` to the page of `iova`, showing every table on the way to `visit`.
    pub(crate) fn second_stage(
        &self,
        mut table: Table,
        iova: u64,
        mut visit: impl FnMut(Table),
    ) -> Result<Page, FaultReason> {
        loop {
            visit(table);
            let index = table.level.index(iova);
            match self.step(table, index)? {
                Step::Down(next) => table = next,
                Step::Leaf { address, rights } => {
                    let level = table.level;
                    return Ok(Page { iova: iova & !(level.span() - 1), address, level, rights });
                }
            }
        }
    }

    /// Reads one entry. What is not present still leads to a page, one that allows nothing.
    pub(super) fn step(&self, table: Table, index: usize) -> Result<Step, FaultReason> {
        let word =
            self.memory.read(table.address + index as u64 * 8).ok_or(FaultReason::PAGING_UNREADABLE)?;
        let entry = SecondStageEntry(word);
        let rights = table.rights.and(Rights { read: entry.readable(), write: entry.writable() });
        if !entry.present() {
            return Ok(Step::Leaf { address: 0, rights });
        }
        if self.traits.reserved().set_in(entry, table.level) != 0 {
            return Err(FaultReason::PAGING_RESERVED);
        }
        Ok(match below(entry, table.level) {
            Some(level) => Step::Down(Table { address: entry.address(), level, rights }),
            None => Step::Leaf { address: entry.address(), rights },
        })
    }
}

/// The level that a present entry leads down to; `None` if it is a leaf.
fn below(entry: SecondStageEntry, level: Level) -> Option<Level> {
    if entry.is_leaf(level) { None } else { level.below() }
}
