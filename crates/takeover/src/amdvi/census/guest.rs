//! CR3 tables of guests, in one to three levels: one entry for each PASID, which names guest tables (2.2.6.3).

use amdvi::device_table::{Cr3Entry, DeviceTableEntry};
use machine::{ENTRIES, Frames, OldMemory, PhysicalAddress, SourceId};

use super::Taker;
use crate::amdvi::entry::{self, Entry};
use crate::entry::{Entry as AnyEntry, Slot};
use crate::found::Context;
use crate::hazard::{Danger, HazardPlace, Outcome};
use crate::table::copy_table;
use machine::growth::OutOfMemory;

/// Most levels of CR3 tables: PASIDs have 20 bits.
const LEVELS: u8 = 3;
/// Bits of a PASID that one level translates.
const STRIDE: u32 = ENTRIES.ilog2();

/// Whose page tables the entries of a CR3 table name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Named {
    /// The old kernel's: nothing else translates their addresses.
    Kernels,
    /// A guest's: host tables translate their addresses, and confine them.
    Guests,
}

/// A CR3 table that is being copied.
#[derive(Clone, Copy)]
struct Place {
    source: SourceId,
    device: DeviceTableEntry,
    named: Named,
    /// Levels of tables below.
    below: u8,
    /// The first PASID.
    pasid: u32,
}

impl<M: OldMemory, F: Frames> Taker<'_, M, F> {
    /// Copies the CR3 tables that a device's entry names, and lists their entries. Its requests without PASID are those of
    /// PASID 0.
    pub(super) fn visit_guest(
        &mut self,
        source: SourceId,
        slot: Slot,
        device: DeviceTableEntry,
    ) -> Result<(), OutOfMemory> {
        let below = device.host.cr3_levels();
        if below >= LEVELS {
            return self.lose(source, slot, Danger::ReservedBits);
        }
        let contexts = self.roll.contexts.len();
        let place = Place { source, device, named: Named::Kernels, below, pasid: 0 };
        match self.copy_cr3(device.cr3_table(), place)? {
            Ok(table) => {
                entry::fill(device.with_cr3_table(table), slot, self.roll.frames);
                Ok(())
            }
            Err(danger) => {
                self.roll.contexts.truncate(contexts);
                self.lose(source, slot, danger)
            }
        }
    }

    /// The entry of a device with a CR3 table of our own, where its guest tables are nested and the CR3 table's address is physical
    /// (GCR3TRPMode is clear): the host made that table, and hardware reads it past the host tables. `None` if the device is
    /// blocked.
    ///
    /// A CR3 table that is in no memory, or in ours, is named no more: what goes through it is blocked, as it was. Without frames for a
    /// copy, the old one stays in use.
    pub(super) fn with_own_cr3(
        &mut self,
        source: SourceId,
        slot: Slot,
        device: DeviceTableEntry,
    ) -> Result<Option<DeviceTableEntry>, OutOfMemory> {
        let below = device.host.cr3_levels();
        if !Entry::Device(device).is_nested() || self.control.guest_cr3_address() || below >= LEVELS {
            return Ok(Some(device));
        }
        let place = Place { source, device, named: Named::Guests, below, pasid: 0 };
        let at = HazardPlace::Device(source);
        match self.copy_cr3(device.cr3_table(), place)? {
            Ok(table) => Ok(Some(device.with_cr3_table(table))),
            Err(danger @ Danger::OverBudget) => {
                self.roll.hazards.note(at, danger, Outcome::KeptInPlace);
                Ok(Some(device))
            }
            Err(danger) if device.host.guest_without_pasid() => {
                self.lose(source, slot, danger).map(|()| None)
            }
            Err(danger) => {
                self.roll.hazards.note(at, danger, Outcome::Blocked);
                Ok(Some(entry::without_guest(device)))
            }
        }
    }

    /// Copies a table and those below it.
    fn copy_cr3(
        &mut self,
        table: PhysicalAddress,
        place: Place,
    ) -> Result<Result<PhysicalAddress, Danger>, OutOfMemory> {
        if self.roll.frames.available() <= self.roll.limits.spare_frames {
            return Ok(Err(Danger::OverBudget));
        }
        let own = self.roll.surroundings.own_memory();
        let copy = match copy_table(table, self.roll.old, self.roll.frames, own) {
            Ok(copy) => copy,
            Err(danger) => return Ok(Err(danger)),
        };
        self.tables.remember_guest(copy)?;
        for index in 0..ENTRIES {
            let old = self.roll.frames.table(copy)[index];
            let new = self.visit_cr3(old, Slot { table: copy, word: index }, place)?;
            self.roll.frames.table_mut(copy)[index] = new;
        }
        Ok(Ok(copy))
    }

    /// Lists an entry, or copies the table that it names; returns what it becomes.
    fn visit_cr3(&mut self, old: u64, slot: Slot, place: Place) -> Result<u64, OutOfMemory> {
        let cr3 = Cr3Entry::from_bits(old);
        let pasid = place.pasid | (slot.word as u32) << (STRIDE * u32::from(place.below));
        if !cr3.valid() {
            return Ok(0);
        }
        if old & Cr3Entry::RESERVED != 0 {
            return Ok(self.cut(place.source, Danger::ReservedBits));
        }
        let Some(below) = place.below.checked_sub(1) else {
            if place.named == Named::Guests {
                return Ok(old);
            }
            let entry = AnyEntry::AmdVi(Entry::Guest { device: place.device, cr3 });
            let of_pasid = Some(pasid).filter(|pasid| *pasid != 0);
            let context = Context {
                source: place.source,
                pasid: of_pasid,
                entry,
                domain: None,
                tag: pasid,
                slot: Some(slot),
            };
            self.list(context)?;
            return Ok(self.roll.frames.table(slot.table)[slot.word]);
        };
        match self.copy_cr3(cr3.table(), Place { below, pasid, ..place })? {
            Ok(copy) => Ok(cr3.with_frame(copy.pfn().get()).into_bits()),
            Err(danger) => Ok(self.cut(place.source, danger)),
        }
    }

    /// Blocks the PASIDs of an entry.
    fn cut(&mut self, source: SourceId, danger: Danger) -> u64 {
        self.roll.hazards.note(HazardPlace::Device(source), danger, Outcome::Blocked);
        0
    }
}
