//! Links entries of devices to tables of our own.

use alloc::vec::Vec;

use amdvi::command::Command;
use amdvi::device_table::{Cr3Entry, DeviceTableEntry};
use machine::{Clock, Frames, Registers, SourceId};
use paging::Format;

use crate::amdvi::command::CommandedUnit;
use crate::amdvi::entry::{self, Entry, Says, says};
use crate::amdvi::judge::Abilities;
use crate::command::{Scope, link_of};
use crate::domain::Domain;
use crate::duplicate::Duplicate;
use crate::entry::{Entry as AnyEntry, Link, Rights, Slot};
use crate::failure::AttachError;
use crate::found::{Context, Layout};
use crate::unit::UnitError;
use machine::growth::OutOfMemory;

impl<R: Registers, C: Clock> CommandedUnit<'_, R, C> {
    fn abilities(&self) -> Abilities {
        Abilities::of(&self.unit)
    }

    /// The tables of a new domain.
    pub(crate) fn own_layout(&self) -> Option<Layout> {
        self.abilities().own_layout()
    }

    /// The devices whose entries allow them a device-TLB, ascending.
    pub(crate) fn device_tlbs(&self, frames: &impl Frames) -> Result<Vec<SourceId>, OutOfMemory> {
        self.tables.device_tlbs(frames)
    }

    /// Makes the copied entries name the copied page tables, and publishes the tables above those.
    ///
    /// Devices in whose entries nothing is valid, and of which nothing is known, pass no longer: they get the map that replaces
    /// pass-through too, or they could reach our memory.
    pub(crate) fn link_all(&mut self, copy: &Duplicate, frames: &mut impl Frames) {
        let passing = copy.of_unlisted.and_then(|index| copy.domains.get(index)).and_then(Domain::link);
        for (_, slot) in self.tables.slots() {
            let found = entry::load(slot, frames);
            if says(found) == Says::Blocks && found.host.translation_valid() {
                entry::fill(self.tables.blocked(found), slot, frames);
            } else if says(found) == Says::NotValid {
                entry::fill(
                    passing.map_or(self.tables.blocked(found), |link| entry::linked(found, link)),
                    slot,
                    frames,
                );
            }
        }
        for context in &copy.contexts {
            self.fill(context, link_of(context, &copy.domains), frames);
        }
        self.tables.publish(frames);
    }

    /// Fills the entry of a context; without a link, the entry blocks.
    fn fill(&self, context: &Context, link: Option<Link>, frames: &mut impl Frames) {
        match (context.slot, context.entry) {
            (Some(slot), AnyEntry::AmdVi(Entry::Device(device))) => {
                let new = link.map_or(self.tables.blocked(device), |link| entry::linked(device, link));
                entry::fill(new, slot, frames);
            }
            (Some(slot), AnyEntry::AmdVi(Entry::Guest { .. })) => {
                slot.fill(&[link.map_or(0, |link| cr3_of(link).into_bits())], frames);
                let device = self.tables.slot_of(context.source).filter(|_| context.pasid.is_none());
                if let (Some(device), Some(link)) = (device, link) {
                    let old = entry::load(device, frames);
                    let guest = old.guest.with_domain(link.id);
                    entry::fill(DeviceTableEntry { guest, ..old }, device, frames);
                }
            }
            _ => {}
        }
    }

    /// The entry of a device as it is in our table, and its slot.
    pub(crate) fn entry_of(&self, source: SourceId, frames: &impl Frames) -> Option<(AnyEntry, Slot)> {
        let slot = self.tables.slot_of(source)?;
        Some((AnyEntry::AmdVi(Entry::Device(entry::load(slot, frames))), slot))
    }

    /// The slot of the entry for a device's requests without PASID, when tables of this format translate them.
    pub(crate) fn slot(
        &mut self,
        source: SourceId,
        format: Format,
        frames: &mut impl Frames,
    ) -> Result<Slot, AttachError> {
        let slot = self.tables.slot_of(source).ok_or(AttachError::NoEntry(source))?;
        if format == Format::AmdV1 {
            return Ok(slot);
        }
        let device = entry::load(slot, frames);
        // Its rights are those of all its PASIDs.
        if self.rights(source, frames) != Rights::ALL {
            return Err(AttachError::Restricted(source));
        }
        self.tables.guest_slot(device, frames).ok_or(AttachError::NoPlace)
    }

    /// What a device's entry lets it do of what its tables allow: all, if it names none, since it blocks then.
    pub(crate) fn rights(&self, source: SourceId, frames: &impl Frames) -> Rights {
        let device = self.tables.slot_of(source).map(|slot| entry::load(slot, frames));
        let device = device.filter(|device| self.tables.are_named_by(*device));
        device.map_or(Rights::ALL, |DeviceTableEntry { host, .. }| Rights {
            read: host.read(),
            write: host.write(),
        })
    }

    /// Makes the entry of a device allow all that its tables do.
    pub(crate) fn allow_all(&mut self, source: SourceId, frames: &mut impl Frames) -> Result<(), UnitError> {
        let Some(slot) = self.tables.slot_of(source) else { return Ok(()) };
        let host = entry::load(slot, frames).host.with_read(true).with_write(true);
        slot.store(&[host.into_bits()], frames);
        self.tables.pass_on(source, frames)?;
        self.forget(Scope::Device(source), frames)
    }

    /// Blocks the entry of a device before another takes its place. The word with V and TV comes first: what the other says must
    /// not be used with it any more.
    pub(crate) fn unlink(
        &mut self,
        source: SourceId,
        slot: Slot,
        frames: &mut impl Frames,
    ) -> Result<(), UnitError> {
        if !self.tables.is_of_device(slot) {
            slot.store(&[0], frames);
            return self.forget(Scope::Device(source), frames);
        }
        let found = entry::load(slot, frames);
        if says(found) == Says::Blocks {
            return Ok(());
        }
        let [host, guest, ..] = entry::blocked(found).words();
        slot.store(&[host], frames);
        Slot { word: slot.word + 1, ..slot }.store(&[guest], frames);
        self.tables.pass_on(source, frames)?;
        self.forget(Scope::Device(source), frames)
    }

    /// Makes the entry of a device, which blocks, name tables.
    pub(crate) fn link(
        &mut self,
        source: SourceId,
        slot: Slot,
        link: Link,
        frames: &mut impl Frames,
    ) -> Result<(), UnitError> {
        // The old kernel may have used the id, long ago.
        self.forget(Scope::Domain(link.id), frames)?;
        if self.tables.is_of_device(slot) {
            let found = entry::load(slot, frames);
            if self.tables.are_named_by(found) {
                // A table in place may not say so yet, if devices kept writing the entry.
                return self.catch_up(source, frames);
            }
            // A device that is blocked by tables that map nothing has no rights either: nothing of them is kept.
            entry::store(entry::linked(entry::blocked(found), link), slot, frames);
            self.tables.pass_on(source, frames)?;
        } else if Cr3Entry::from_bits(frames.load(slot.table, slot.word)).valid() {
            return Ok(());
        } else {
            slot.store(&[cr3_of(link).into_bits()], frames);
        }
        self.forget(Scope::Device(source), frames)
    }

    /// Makes a device table that stays in place say what ours says of a device, if it does not yet.
    fn catch_up(&mut self, source: SourceId, frames: &mut impl Frames) -> Result<(), UnitError> {
        if self.tables.in_place.is_none() {
            return Ok(());
        }
        self.tables.pass_on(source, frames)?;
        self.forget(Scope::Device(source), frames)
    }

    /// Makes the entry of a context name other tables, which translate alike.
    pub(crate) fn relink(
        &mut self,
        context: &Context,
        link: Link,
        frames: &mut impl Frames,
    ) -> Result<(), UnitError> {
        self.forget(Scope::Domain(link.id), frames)?;
        match context.slot {
            Some(slot) if self.tables.is_of_device(slot) => {
                let found = entry::load(slot, frames);
                if self.tables.are_named_by(found) {
                    entry::store(entry::linked(found, link), slot, frames);
                    self.tables.pass_on(context.source, frames)?;
                }
            }
            Some(slot) => {
                slot.store(&[cr3_of(link).into_bits()], frames);
                // The domain-id is in the entry that names the CR3 table.
                if let Some(device) = self.tables.slot_of(context.source) {
                    let guest = entry::load(device, frames).guest.with_domain(link.id);
                    Slot { word: device.word + 1, ..device }.store(&[guest.into_bits()], frames);
                    self.tables.pass_on(context.source, frames)?;
                }
            }
            None => {}
        }
        self.submit(&[Command::invalidate_device_table_entry(context.source)].into_iter(), frames)
    }
}

/// The CR3 entry that names these tables.
fn cr3_of(link: Link) -> Cr3Entry {
    Cr3Entry::new().with_valid(true).with_frame(link.root.pfn().get())
}
