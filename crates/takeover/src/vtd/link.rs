//! Links entries of devices to tables of our own.

use alloc::vec::Vec;

use machine::{Clock, Frames, Registers, SourceId};
use paging::{Architecture, Format};

use crate::command::{Scope, link_of};
use crate::duplicate::Duplicate;
use crate::entry::{self, Link, Slot};
use crate::failure::{AttachError, Reason};
use crate::found::{Context, Layout};
use crate::unit::UnitError;
use crate::vtd::command::CommandedUnit;
use crate::vtd::entry::Entry;
use crate::vtd::judge::Abilities;
use crate::vtd::swap;
use machine::growth::OutOfMemory;

/// Bit 0 of the first word is the present bit in both kinds of entries.
const PRESENT: u64 = 1;

impl<R: Registers, C: Clock> CommandedUnit<'_, R, C> {
    fn abilities(&self) -> Abilities {
        Abilities::of(&self.unit, self.tables.mode)
    }

    /// What the unit's tables may look like.
    pub(crate) fn architecture(&self) -> Architecture {
        self.abilities().architecture()
    }

    /// The tables of a new domain: the fewest levels that the unit supports.
    pub(crate) fn own_layout(&self) -> Option<Layout> {
        self.abilities().own_layout()
    }

    /// Takes the frames of the queue that the swap starts.
    pub(crate) fn take_queue(&mut self, frames: &mut impl Frames) -> Result<(), Reason> {
        self.spare_queue = swap::own_queue(&self.unit, frames)?;
        Ok(())
    }

    /// The devices whose entries allow them a device-TLB, ascending; none if the unit has no such invalidations.
    pub(crate) fn device_tlbs(&self, frames: &impl Frames) -> Result<Vec<SourceId>, OutOfMemory> {
        if self.unit.extended_capability().dt() { self.tables.device_tlbs(frames) } else { Ok(Vec::new()) }
    }

    /// Makes the copied entries name the copied page tables, and publishes the tables above those.
    pub(crate) fn link_all(&mut self, copy: &Duplicate, frames: &mut impl Frames) {
        for context in &copy.contexts {
            let (Some(slot), entry::Entry::Vtd(entry)) = (context.slot, context.entry) else { continue };
            let entry = match link_of(context, &copy.domains) {
                Some(link) => entry.linked(link),
                None => entry.blocked(),
            };
            entry.fill(slot, frames);
        }
        self.tables.publish(frames);
    }

    /// The slot of the entry for a device's requests without PASID.
    pub(crate) fn slot(
        &mut self,
        source: SourceId,
        _: Format,
        frames: &mut impl Frames,
    ) -> Result<Slot, AttachError> {
        self.tables.slot(source, self.unit.extended_capability(), frames)
    }

    /// Blocks a present entry before another takes its place: hardware may read the words of an entry one by one
    /// (6.2.3.1).
    pub(crate) fn unlink(
        &mut self,
        _: SourceId,
        slot: Slot,
        frames: &mut impl Frames,
    ) -> Result<(), UnitError> {
        if frames.table(slot.table)[slot.word] & PRESENT == 0 {
            return Ok(());
        }
        frames.store(slot.table, slot.word, 0);
        frames.publish(slot.table, slot.word..slot.word + 1);
        self.entries_changed(Scope::Everything, frames)
    }

    /// Makes an entry that is not present name tables.
    pub(crate) fn link(
        &mut self,
        _: SourceId,
        slot: Slot,
        link: Link,
        frames: &mut impl Frames,
    ) -> Result<(), UnitError> {
        if frames.table(slot.table)[slot.word] & PRESENT != 0 {
            return Ok(());
        }
        Entry::new(self.tables.mode).linked(link).store(slot, frames);
        self.entries_appeared(Scope::Everything, frames)
    }

    /// Makes the entry of a context name other tables, which translate alike.
    #[expect(clippy::unnecessary_wraps, reason = "with AMD-Vi it may fail")]
    pub(crate) fn relink(
        &mut self,
        context: &Context,
        link: Link,
        frames: &mut impl Frames,
    ) -> Result<(), UnitError> {
        let Some(slot) = context.slot else { return Ok(()) };
        let entry = Entry::load(self.tables.mode, slot, frames);
        if entry.is_present() {
            entry.linked(link).store(slot, frames);
        }
        Ok(())
    }
}
