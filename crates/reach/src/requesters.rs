//! Whose requests the tables speak for: root, context and PASID tables (3.4).

use machine::{ENTRIES, OldMemory, PAGE_SIZE};
use vtd::context::{ContextEntry, ScalableContextEntry, TranslationType};
use vtd::control::TableMode;
use vtd::paging::AddressWidth;
use vtd::pasid::{
    PASID_ENTRY_WORDS, PASID_TABLE_ENTRIES, PasidDirectoryEntry, PasidEntry, PasidTranslationType,
};
use vtd::root::ContextTablePointer;
use vtd::source::{Requester, SourceId};

use crate::budget::{Budget, Spent};
use crate::stage::Root;
use crate::{FirstStage, Obstacle, Privilege, Route, Tables, Unit};

/// What an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// All devices of the unit.
    Unit,
    /// Devices of a bus, from this one up to the end of its context table.
    Bus(SourceId),
    /// A device's PASIDs from this one on, 64 of them or those that a page of the directory speaks for.
    Pasids(Requester),
    /// One requester.
    Requester(Requester),
}

/// What is said of a requester.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Domain-id.
    pub domain: u16,
    /// The device may keep translations in a TLB of its own; what it then asks for is not checked (4.1).
    pub device_tlb: bool,
    /// How its requests are translated.
    pub route: Route,
}

/// Takes what is said of each place.
pub(crate) type Visit<'v> = dyn FnMut(Place, Result<Binding, Obstacle>) + 'v;

impl<M: OldMemory> Tables<'_, M> {
    /// Tells of every requester for whom there is an entry, by source-id and PASID, and of every place at which entries
    /// cannot be read or make requests fault.
    pub fn each_requester(&self, budget: &mut Budget, visit: &mut Visit<'_>) -> Result<(), Spent> {
        budget.take()?;
        let step = match self.unit.root.mode() {
            TableMode::LEGACY => 2,
            TableMode::SCALABLE => 1,
            other => {
                visit(Place::Unit, Err(Obstacle::Mode(other)));
                return Ok(());
            }
        };
        let root = match self.table(self.unit.root.address()) {
            Ok(root) => root,
            Err(obstacle) => {
                visit(Place::Unit, Err(obstacle));
                return Ok(());
            }
        };
        for word in (0..ENTRIES).step_by(step) {
            // A word of the root table speaks for half a bus; in legacy mode every other word does for a whole one.
            let first = SourceId((word * 128) as u16);
            let reserved = if step == 2 { root[word | 1] } else { 0 };
            self.each_of_table(ContextTablePointer::from_bits(root[word]), reserved, first, budget, visit)?;
        }
        Ok(())
    }

    /// The devices of one context table.
    fn each_of_table(
        &self,
        pointer: ContextTablePointer,
        reserved: u64,
        first: SourceId,
        budget: &mut Budget,
        visit: &mut Visit<'_>,
    ) -> Result<(), Spent> {
        if !pointer.present() {
            return Ok(());
        }
        if pointer.reserved_bits(self.unit.host_address_bits) != 0 || reserved != 0 {
            visit(Place::Bus(first), Err(Obstacle::ReservedBits));
            return Ok(());
        }
        budget.take()?;
        let table = match self.table(pointer.address()) {
            Ok(table) => table,
            Err(obstacle) => {
                visit(Place::Bus(first), Err(obstacle));
                return Ok(());
            }
        };
        match self.unit.root.mode() {
            TableMode::LEGACY => self.each_legacy(&table, first, visit),
            _ => return self.each_scalable(&table, first, budget, visit),
        }
        Ok(())
    }

    fn each_legacy(&self, table: &machine::Table, first: SourceId, visit: &mut Visit<'_>) {
        for (source, &[low, high]) in (first.0..=u16::MAX).zip(table.as_chunks().0) {
            let entry = ContextEntry::from_words(low, high);
            if entry.low.present() {
                let requester = Requester { source: SourceId(source), pasid: None };
                visit(Place::Requester(requester), legacy_binding(entry, self.unit));
            }
        }
    }

    fn each_scalable(
        &self,
        table: &machine::Table,
        first: SourceId,
        budget: &mut Budget,
        visit: &mut Visit<'_>,
    ) -> Result<(), Spent> {
        for (source, words) in (first.0..=u16::MAX).zip(table.as_chunks().0) {
            let context = ScalableContextEntry::from_words(*words);
            if !context.low.present() {
                continue;
            }
            let device = Device { source: SourceId(source), context };
            if context.reserved_bits(self.unit.host_address_bits) == [0; 4] {
                self.each_pasid(&device, budget, visit)?;
            } else {
                visit(device.without_pasid(), Err(Obstacle::ReservedBits));
            }
        }
        Ok(())
    }

    /// A device's requests without PASID, then those with each PASID, if it may use any. The PASID whose entry speaks for
    /// requests without one is not told a second time.
    fn each_pasid(&self, device: &Device, budget: &mut Budget, visit: &mut Visit<'_>) -> Result<(), Spent> {
        self.without_pasid(device, budget, visit)?;
        if !device.context.low.pasid_enabled() {
            return Ok(());
        }
        for page in 0..device.context.low.directory_entries().div_ceil(ENTRIES) {
            self.each_of_directory(device, page, budget, visit)?;
        }
        Ok(())
    }

    /// Requests without PASID are translated by the entry of the PASID that the context entry names (9.4).
    fn without_pasid(
        &self,
        device: &Device,
        budget: &mut Budget,
        visit: &mut Visit<'_>,
    ) -> Result<(), Spent> {
        let pasid = self.own_pasid(device);
        let directory_index = pasid as usize / PASID_TABLE_ENTRIES;
        budget.take()?;
        let binding = match self.pasid_entry(device, directory_index, pasid as usize % PASID_TABLE_ENTRIES) {
            Ok(entry) if entry.second.present() => {
                pasid_binding(entry, device, device.own_privilege(entry, self.unit), self.unit)
            }
            Ok(_) => Err(Obstacle::NoPasidEntry),
            Err(obstacle) => Err(obstacle),
        };
        visit(device.without_pasid(), binding);
        Ok(())
    }

    /// RID_PASID, on units that honour it.
    fn own_pasid(&self, device: &Device) -> u32 {
        if self.unit.extended.rps() { device.context.high.rid_pasid() } else { 0 }
    }

    fn pasid_entry(
        &self,
        device: &Device,
        directory_index: usize,
        index: usize,
    ) -> Result<PasidEntry, Obstacle> {
        if directory_index >= device.context.low.directory_entries() {
            return Err(Obstacle::NoPasidEntry);
        }
        let directory = self.table(device.directory_page(directory_index / ENTRIES))?;
        let pointer = PasidDirectoryEntry::from_bits(directory[directory_index % ENTRIES]);
        if !pointer.present() {
            return Err(Obstacle::NoPasidEntry);
        }
        let table = self.pasid_table(pointer)?;
        Ok(PasidEntry::from_words(table.as_chunks::<PASID_ENTRY_WORDS>().0[index]))
    }

    /// The PASIDs that one page of the directory speaks for.
    fn each_of_directory(
        &self,
        device: &Device,
        page: usize,
        budget: &mut Budget,
        visit: &mut Visit<'_>,
    ) -> Result<(), Spent> {
        budget.take()?;
        let directory = match self.table(device.directory_page(page)) {
            Ok(directory) => directory,
            Err(obstacle) => {
                visit(device.pasids(page * ENTRIES), Err(obstacle));
                return Ok(());
            }
        };
        let entries = device.context.low.directory_entries() - page * ENTRIES;
        for (index, word) in directory.iter().take(entries).enumerate() {
            let pointer = PasidDirectoryEntry::from_bits(*word);
            if pointer.present() {
                budget.take()?;
                self.each_of_pasid_table(device, page * ENTRIES + index, pointer, visit);
            }
        }
        Ok(())
    }

    fn each_of_pasid_table(
        &self,
        device: &Device,
        directory_index: usize,
        pointer: PasidDirectoryEntry,
        visit: &mut Visit<'_>,
    ) {
        let table = match self.pasid_table(pointer) {
            Ok(table) => table,
            Err(obstacle) => return visit(device.pasids(directory_index), Err(obstacle)),
        };
        let first = directory_index * PASID_TABLE_ENTRIES;
        for (pasid, words) in (first as u32..).zip(table.as_chunks().0) {
            let entry = PasidEntry::from_words(*words);
            if entry.second.present() && pasid != self.own_pasid(device) {
                let requester = Requester { source: device.source, pasid: Some(pasid) };
                visit(
                    Place::Requester(requester),
                    pasid_binding(entry, device, Ok(Privilege::User), self.unit),
                );
            }
        }
    }

    fn pasid_table(&self, pointer: PasidDirectoryEntry) -> Result<machine::Table, Obstacle> {
        if pointer.reserved_bits(self.unit.host_address_bits) != 0 {
            return Err(Obstacle::ReservedBits);
        }
        self.table(pointer.table())
    }
}

/// A device in scalable mode.
struct Device {
    source: SourceId,
    context: ScalableContextEntry,
}

impl Device {
    fn without_pasid(&self) -> Place {
        Place::Requester(Requester { source: self.source, pasid: None })
    }

    /// The PASIDs from the first that this directory entry speaks for.
    fn pasids(&self, directory_index: usize) -> Place {
        let pasid = Some((directory_index * PASID_TABLE_ENTRIES) as u32);
        Place::Pasids(Requester { source: self.source, pasid })
    }

    /// As whom requests without PASID are made (9.4).
    fn own_privilege(&self, entry: PasidEntry, unit: Unit) -> Result<Privilege, Obstacle> {
        let privileged = unit.extended.rprivs() && self.context.high.rid_privileged();
        match (privileged, entry.first.supervisor(), entry.first.write_protect()) {
            (false, ..) => Ok(Privilege::User),
            (true, false, _) => Err(Obstacle::Supervisor),
            (true, true, false) => Ok(Privilege::Supervisor),
            (true, true, true) => Ok(Privilege::BoundSupervisor),
        }
    }

    fn directory_page(&self, page: usize) -> u64 {
        self.context.low.directory().wrapping_add(page as u64 * PAGE_SIZE)
    }
}

fn legacy_binding(entry: ContextEntry, unit: Unit) -> Result<Binding, Obstacle> {
    if entry.reserved_bits(unit.host_address_bits) != (0, 0) {
        return Err(Obstacle::ReservedBits);
    }
    let tables = || second_stage(entry.table(), entry.high.width(), unit).map(Route::SecondStage);
    let (device_tlb, route) = match entry.low.translation() {
        TranslationType::TRANSLATED => (false, tables()?),
        TranslationType::DEVICE_TLB if unit.extended.dt() => (true, tables()?),
        TranslationType::PASS_THROUGH if unit.extended.pt() => (false, Route::PassThrough),
        other => return Err(Obstacle::Type(other.0)),
    };
    Ok(Binding { domain: entry.high.domain(), device_tlb, route })
}

/// `privilege` counts only for the first stage.
fn pasid_binding(
    entry: PasidEntry,
    device: &Device,
    privilege: Result<Privilege, Obstacle>,
    unit: Unit,
) -> Result<Binding, Obstacle> {
    if entry.has_reserved_bits(unit.host_address_bits) {
        return Err(Obstacle::ReservedBits);
    }
    let second = || second_stage(entry.second_stage_table(), entry.second.width(), unit);
    let first = || Ok(FirstStage { root: first_stage(entry, unit)?, privilege: privilege? });
    let extended = unit.extended;
    let route = match entry.second.translation() {
        PasidTranslationType::FIRST_STAGE if extended.fsts() => Route::FirstStage(first()?),
        PasidTranslationType::SECOND_STAGE if extended.ssts() => Route::SecondStage(second()?),
        PasidTranslationType::NESTED if extended.nest() => {
            Route::Nested { first: first()?, second: second()? }
        }
        PasidTranslationType::PASS_THROUGH if extended.pt() => Route::PassThrough,
        other => return Err(Obstacle::Type(other.0)),
    };
    Ok(Binding { domain: entry.domain.domain(), device_tlb: device.context.low.device_tlb(), route })
}

fn second_stage(address: u64, width: AddressWidth, unit: Unit) -> Result<Root, Obstacle> {
    let top = width.top().filter(|_| unit.capability.supports(width));
    Ok(Root { address, top: top.ok_or(Obstacle::Width(width.0))? })
}

fn first_stage(entry: PasidEntry, unit: Unit) -> Result<Root, Obstacle> {
    let mode = entry.first.mode();
    let top = mode.width().top().filter(|top| top.number() < 5 || unit.capability.fs5lp());
    Ok(Root { address: entry.first_stage_table(), top: top.ok_or(Obstacle::Width(mode.0))? })
}
