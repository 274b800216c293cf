//! Lists the requesters that a device table of AMD's has entries for (AMD-Vi, 2.2.2).

use amdvi::control::DeviceTableBase;
use amdvi::device_table::DeviceTableEntry;
use machine::{ENTRIES, OldMemory, PAGE_SIZE, Requester, SourceId};

use crate::budget::{Budget, Spent};
use crate::piece::Rights;
use crate::stage::Root;
use crate::subject::{Subject, Visit};
use crate::{AmdViSetup, Binding, Obstacle, Route, Tables};

/// Entries of a page of the device table.
const ENTRIES_OF_PAGE: usize = ENTRIES / amdvi::device_table::ENTRY_WORDS;

impl<M: OldMemory> Tables<'_, M> {
    /// Reports every requester whose entry lets requests pass, in all segments of the device table. Devices for which it has no entry
    /// pass untranslated, and are not reported.
    pub(crate) fn each_of_device_table(
        &self,
        unit: &AmdViSetup,
        budget: &mut Budget,
        visit: &mut Visit<'_>,
    ) -> Result<(), Spent> {
        let segments = unit.segments.clamp(1, unit.device_table.len());
        let ids_of_segment = (1 << 16) / segments;
        for (segment, base) in unit.device_table.iter().take(segments).enumerate() {
            let first = segment * ids_of_segment;
            self.each_of_segment(*base, first..first + ids_of_segment, budget, visit)?;
        }
        Ok(())
    }

    fn each_of_segment(
        &self,
        base: DeviceTableBase,
        ids: core::ops::Range<usize>,
        budget: &mut Budget,
        visit: &mut Visit<'_>,
    ) -> Result<(), Spent> {
        let table = base.table();
        let pages = (table.start.get()..table.end.get()).step_by(PAGE_SIZE as usize);
        for (first, page) in ids.step_by(ENTRIES_OF_PAGE).zip(pages) {
            let first = SourceId(first as u16);
            budget.take()?;
            match self.table(page.into()) {
                Ok(page) => each_of_page(&page, first, visit),
                Err(obstacle) => visit(Subject::Bus(first), Err(obstacle)),
            }
        }
        Ok(())
    }
}

fn each_of_page(page: &machine::Table, first: SourceId, visit: &mut Visit<'_>) {
    for (source, words) in (first.0..=u16::MAX).zip(page.as_chunks().0) {
        let requester = Requester { source: SourceId(source), pasid: None };
        if let Some(binding) = binding(DeviceTableEntry::from_words(*words)).transpose() {
            visit(Subject::Requester(requester), binding);
        }
    }
}

/// What an entry says of requests; `None` if it blocks them all. The table is in `amdvi::device_table`.
fn binding(entry: DeviceTableEntry) -> Result<Option<Binding>, Obstacle> {
    let DeviceTableEntry { host, guest, .. } = entry;
    if !host.valid() {
        let route = Route::PassThrough(Rights::ALL);
        return Ok(Some(Binding { domain: 0, device_tlb: false, route }));
    }
    let [low, high, ..] = entry.reserved_bits();
    if low != 0 || high != 0 {
        return Err(Obstacle::ReservedBits);
    }
    let rights = Rights { read: host.read(), write: host.write(), user: true };
    if !host.translation_valid() {
        return Ok(None);
    }
    if host.guest_valid() {
        return Err(Obstacle::GuestTables);
    }
    let route = match (host.mode().0, host.mode().top()) {
        _ if rights.is_none() => return Ok(None),
        (0, _) => Route::PassThrough(rights),
        (_, Some(top)) => Route::Host { root: Root { address: entry.table(), top }, rights },
        (mode, None) => return Err(Obstacle::Width(mode)),
    };
    Ok(Some(Binding { domain: guest.domain(), device_tlb: guest.device_tlb(), route }))
}
