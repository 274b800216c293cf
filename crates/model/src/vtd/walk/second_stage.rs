//! Second-stage tables: from an I/O virtual address to a page of 4 KiB, 2 MiB or 1 GiB (3.7).

use super::{Mark, Page, Rights, Table, Trail, Walker};
use machine::{IoAddress, Level, PhysicalAddress};
use paging::Format;
use vtd::fault::FaultReason;
use vtd::second_stage::SecondStageEntry;

/// A and D (9.8), which hardware sets if SSADE is set.
const ACCESSED: u64 = 1 << 8;
const DIRTY: u64 = 1 << 9;

/// Second-stage tables, and the fields of their PASID entry that matter for a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SecondStage {
    pub(crate) root: Table,
    pub(crate) marks: Marks,
}

/// Whether hardware sets accessed and dirty bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Marks {
    Off,
    /// SSADE.
    On,
    /// SSADE is set, but page walks do not snoop the processor's caches, so hardware cannot set the bits (3.10).
    Impossible,
}

/// SSS.5: hardware cannot set a bit that it has to set (7.1.3).
const MARK_WITHOUT_SNOOP: FaultReason = FaultReason(0x7C);

/// What one paging entry says.
pub(super) enum Step {
    /// It names the next table.
    Down(Table),
    /// It maps a page; `noted` as in [`Page`].
    Leaf { address: PhysicalAddress, rights: Rights, noted: bool },
}

impl SecondStage {
    fn mark(&self, entry: SecondStageEntry, level: Level, at: PhysicalAddress) -> Mark {
        let obstacle = (self.marks == Marks::Impossible).then_some(MARK_WITHOUT_SNOOP);
        let wanted = if self.marks == Marks::Off { 0 } else { !entry.0 };
        let dirty = if entry.is_leaf(level) { DIRTY } else { 0 };
        Mark { at, for_use: wanted & ACCESSED, for_write: wanted & dirty, obstacle }
    }
}

impl Walker<'_> {
    /// Walks from `table` to the page of `iova`.
    pub(crate) fn second_stage(
        &self,
        second: SecondStage,
        mut table: Table,
        iova: IoAddress,
        trail: &mut Trail,
    ) -> Result<Page, FaultReason> {
        loop {
            trail.tables.push(table);
            match self.second_step(second, table, table.level.index(iova), trail)? {
                Step::Down(next) => table = next,
                Step::Leaf { address, rights, noted } => {
                    return Ok(Page { iova, address, level: table.level, rights, noted }.aligned());
                }
            }
        }
    }

    /// Reads one entry. An entry that is not present leads to a page that allows nothing.
    pub(super) fn second_step(
        &self,
        second: SecondStage,
        table: Table,
        index: usize,
        trail: &mut Trail,
    ) -> Result<Step, FaultReason> {
        let at = table.address.saturating_add(index as u64 * 8);
        let entry = SecondStageEntry(self.memory.read(at).ok_or(FaultReason::PAGING_UNREADABLE)?);
        let rights = table.rights.and(Rights { read: entry.readable(), write: entry.writable() });
        if !entry.present() {
            return Ok(Step::Leaf { address: PhysicalAddress::default(), rights, noted: true });
        }
        if self.traits.rules().set_in(Format::SecondStage.entry(entry.0), table.level) != 0 {
            return Err(FaultReason::PAGING_RESERVED);
        }
        let mark = second.mark(entry, table.level, at);
        trail.mark(mark);
        Ok(match table.level.below().filter(|_| !entry.is_leaf(table.level)) {
            Some(level) => Step::Down(Table { address: entry.address(), level, rights }),
            None => Step::Leaf { address: entry.address(), rights, noted: mark.for_write == 0 },
        })
    }
}
