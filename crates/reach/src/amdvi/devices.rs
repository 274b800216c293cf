//! Lists the devices of a device table (2.2.2).

use amdvi::control::DeviceTableBase;
use amdvi::device_table::{DeviceTableEntry, ENTRY_BYTES, ENTRY_WORDS};
use machine::{OldMemory, PAGE_SIZE, Requester, SourceId};

use super::Unit;
use crate::budget::{Budget, Spent};
use crate::subject::{Subject, Visit};
use crate::{Binding, Route, Stages};

/// How many entries a page of the table has.
const ENTRIES_OF_PAGE: usize = PAGE_SIZE as usize / ENTRY_BYTES;
/// How many source-ids there are.
const SOURCES: usize = 1 << 16;

/// Devices without a valid entry: their requests pass untranslated.
const UNTRANSLATED: Binding =
    Binding { domain: 0, device_tlb: false, route: Route::unrestricted(Stages::PassThrough) };

/// Consecutive source-ids, by number: from the first up to the one after the last.
#[derive(Clone, Copy)]
struct Run {
    start: usize,
    end: usize,
}

impl Run {
    const NONE: Self = Self { start: 0, end: 0 };

    /// What they are called; `None` if there are none.
    fn subject(self) -> Option<Subject> {
        let last = self.end.checked_sub(1).filter(|last| *last >= self.start)?;
        Some(Subject::Devices { first: SourceId(self.start as u16), last: SourceId(last as u16) })
    }
}

impl<M: OldMemory> Unit<'_, M> {
    /// Reports every requester that something passes for, by source-id and PASID, and every place where entries cannot be
    /// read or make requests fault.
    pub(crate) fn each_requester(&self, budget: &mut Budget, visit: &mut Visit<'_>) -> Result<(), Spent> {
        let segments = self.registers.control.segments();
        let size = SOURCES / segments;
        let mut untranslated = Run::NONE;
        for (segment, base) in self.registers.device_tables.iter().take(segments).enumerate() {
            self.each_of_segment(*base, segment * size, size, &mut untranslated, budget, visit)?;
        }
        tell(untranslated, visit);
        Ok(())
    }

    /// Reports the devices of one segment, which begins with the source-id `start` and is for `size` of them. Devices that the
    /// table has no entries for pass untranslated.
    fn each_of_segment(
        &self,
        base: DeviceTableBase,
        start: usize,
        size: usize,
        untranslated: &mut Run,
        budget: &mut Budget,
        visit: &mut Visit<'_>,
    ) -> Result<(), Spent> {
        let listed = base.entries().min(size);
        for page in 0..listed / ENTRIES_OF_PAGE {
            budget.take()?;
            let first = start + page * ENTRIES_OF_PAGE;
            match self.tables.table(base.table().start.saturating_add(page as u64 * PAGE_SIZE)) {
                Ok(table) => self.each_of_page(&table, first, untranslated, budget, visit)?,
                Err(obstacle) => {
                    tell(core::mem::replace(untranslated, Run::NONE), visit);
                    let unread = Run { start: first, end: first + ENTRIES_OF_PAGE };
                    unread.subject().into_iter().for_each(|devices| visit(devices, Err(obstacle)));
                }
            }
        }
        prolong(untranslated, Run { start: start + listed, end: start + size }, visit);
        Ok(())
    }

    fn each_of_page(
        &self,
        table: &machine::Table,
        first: usize,
        untranslated: &mut Run,
        budget: &mut Budget,
        visit: &mut Visit<'_>,
    ) -> Result<(), Spent> {
        for (number, words) in (first..).zip(table.as_chunks::<ENTRY_WORDS>().0) {
            let entry = DeviceTableEntry::from_words(*words);
            if !entry.host.valid() {
                prolong(untranslated, Run { start: number, end: number + 1 }, visit);
                continue;
            }
            tell(core::mem::replace(untranslated, Run::NONE), visit);
            self.each_of_device(SourceId(number as u16), entry, budget, visit)?;
        }
        Ok(())
    }

    /// Whether an entry names guest tables that the unit uses. Where GTEn is clear, it takes no notice of them.
    fn has_guest(&self, entry: DeviceTableEntry) -> bool {
        entry.host.guest_valid() && self.registers.control.guest_translation()
    }

    /// Reports what a valid entry says of a device.
    fn each_of_device(
        &self,
        source: SourceId,
        entry: DeviceTableEntry,
        budget: &mut Budget,
        visit: &mut Visit<'_>,
    ) -> Result<(), Spent> {
        let without_pasid = Subject::Requester(Requester { source, pasid: None });
        match self.host(entry) {
            Err(obstacle) => visit(without_pasid, Err(obstacle)),
            Ok(None) => {}
            Ok(Some(binding)) if self.has_guest(entry) && binding.route.stages != Stages::Blocked => {
                self.each_pasid(source, entry, binding, budget, visit)?;
            }
            Ok(Some(binding)) => visit(without_pasid, Ok(binding)),
        }
        Ok(())
    }
}

/// Adds devices that pass untranslated to those before them; reports these if others are between.
fn prolong(run: &mut Run, by: Run, visit: &mut Visit<'_>) {
    if by.start < by.end {
        if run.end == by.start && run.start < run.end {
            run.end = by.end;
        } else {
            tell(core::mem::replace(run, by), visit);
        }
    }
}

/// Reports devices that pass untranslated.
fn tell(run: Run, visit: &mut Visit<'_>) {
    run.subject().into_iter().for_each(|devices| visit(devices, Ok(UNTRANSLATED)));
}
