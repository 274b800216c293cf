//! Lists the PASIDs that a device's PASID directory and PASID tables name, in scalable mode (3.4.3).

use machine::{ENTRIES, OldMemory, PAGE_SIZE, PhysicalAddress, Requester, SourceId};
use vtd::context::ScalableContextEntry;
use vtd::pasid::{PASID_ENTRY_WORDS, PASID_TABLE_ENTRIES, PasidDirectoryEntry, PasidEntry};

use super::binding::of_pasid;
use super::{Unit, VtdRegisters};
use crate::budget::{Budget, Spent};
use crate::subject::{Subject, Visit};
use crate::{Obstacle, Privilege};

/// A device in scalable mode.
pub(crate) struct Device {
    pub(crate) source: SourceId,
    pub(crate) context: ScalableContextEntry,
}

impl Device {
    pub(crate) fn without_pasid(&self) -> Subject {
        Subject::Requester(Requester { source: self.source, pasid: None })
    }

    /// The PASIDs that this directory entry covers, by the first of them.
    fn pasids(&self, directory_index: usize) -> Subject {
        let pasid = Some((directory_index * PASID_TABLE_ENTRIES) as u32);
        Subject::Pasids(Requester { source: self.source, pasid })
    }

    /// The privilege of requests without PASID (9.4).
    fn own_privilege(&self, entry: PasidEntry, registers: VtdRegisters) -> Result<Privilege, Obstacle> {
        let privileged = registers.extended.rprivs() && self.context.high.rid_privileged();
        match (privileged, entry.first.supervisor(), entry.first.write_protect()) {
            (false, ..) => Ok(Privilege::User),
            (true, false, _) => Err(Obstacle::Supervisor),
            (true, true, false) => Ok(Privilege::Supervisor),
            (true, true, true) => Ok(Privilege::BoundSupervisor),
        }
    }

    fn directory_page(&self, page: usize) -> PhysicalAddress {
        self.context.low.directory().saturating_add(page as u64 * PAGE_SIZE)
    }
}

impl<M: OldMemory> Unit<'_, M> {
    /// Reports a device's requests without PASID, then those with each PASID, if it may use any. Does not report the
    /// PASID of the entry for requests without PASID a second time.
    pub(crate) fn each_pasid(
        &self,
        device: &Device,
        budget: &mut Budget,
        visit: &mut Visit<'_>,
    ) -> Result<(), Spent> {
        self.without_pasid(device, budget, visit)?;
        if !device.context.low.pasid_enabled() {
            return Ok(());
        }
        for page in 0..device.context.low.directory_entries().div_ceil(ENTRIES) {
            self.each_of_directory(device, page, budget, visit)?;
        }
        Ok(())
    }

    /// Reads the entry for requests without PASID: that of the PASID which the context entry names (9.4).
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
                of_pasid(entry, &device.context, device.own_privilege(entry, self.registers), self)
            }
            Ok(_) => Err(Obstacle::NoPasidEntry),
            Err(obstacle) => Err(obstacle),
        };
        visit(device.without_pasid(), binding);
        Ok(())
    }

    /// RID_PASID, on units that support it.
    fn own_pasid(&self, device: &Device) -> u32 {
        if self.registers.extended.rps() { device.context.high.rid_pasid() } else { 0 }
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
        let directory = self.tables.table(device.directory_page(directory_index / ENTRIES))?;
        let pointer = PasidDirectoryEntry::from_bits(directory[directory_index % ENTRIES]);
        if !pointer.present() {
            return Err(Obstacle::NoPasidEntry);
        }
        let table = self.pasid_table(pointer)?;
        Ok(PasidEntry::from_words(table.as_chunks::<PASID_ENTRY_WORDS>().0[index]))
    }

    /// Reports the PASIDs that one page of the directory covers.
    fn each_of_directory(
        &self,
        device: &Device,
        page: usize,
        budget: &mut Budget,
        visit: &mut Visit<'_>,
    ) -> Result<(), Spent> {
        budget.take()?;
        let directory = match self.tables.table(device.directory_page(page)) {
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
                    Subject::Requester(requester),
                    of_pasid(entry, &device.context, Ok(Privilege::User), self),
                );
            }
        }
    }

    fn pasid_table(&self, pointer: PasidDirectoryEntry) -> Result<machine::Table, Obstacle> {
        if pointer.reserved_bits(self.host_address_bits()) != 0 {
            return Err(Obstacle::ReservedBits);
        }
        self.tables.table(pointer.table())
    }
}
