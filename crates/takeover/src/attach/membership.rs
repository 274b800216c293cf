//! Chooses the domain of a device's requests: its old one, a twin of that, or a new one.

use machine::{Clock, Frames, Registers, SourceId};

use super::Takeover;
use crate::domain::Domain;
use crate::failure::AttachError;
use crate::found::Context;
use crate::hazard::{Danger, HazardPlace, Outcome};
use crate::twin::{own_root, twin};
use crate::vtd::device_tlb::of_source;
use crate::vtd::entry::{Entry, Slot};
use crate::vtd::invalidate::Scope;
use crate::vtd::judge::Abilities;
use crate::vtd::unit::UnitError;
use machine::growth::{OutOfMemory, insert, push};

/// Bit 0 of the first word is the present bit in both kinds of entries.
const PRESENT: u64 = 1;

impl<R: Registers, C: Clock> Takeover<'_, R, C> {
    /// The domain of a device's requests without PASID, if new mappings can be made in it.
    ///
    /// In nested translation, the I/O addresses belong to a guest, and so do the tables that translate them. Such a
    /// device gets a new domain: the guest's driver cannot have left anything that our driver could continue.
    pub(super) fn domain_of(&self, source: SourceId) -> Option<usize> {
        let mut contexts = of_source(&self.contexts, source);
        contexts.find_map(|context| context.domain.filter(|_| is_entry(context, source)))
    }

    /// Puts a source-id into a domain, unless the old kernel had it in another one.
    pub(super) fn join(
        &mut self,
        source: SourceId,
        domain: usize,
        frames: &mut impl Frames,
    ) -> Result<(), AttachError> {
        let old = self.domain_of(source);
        if let Some(other) = old.filter(|other| *other != domain) {
            self.tell_elsewhere(source, other);
            return Ok(());
        }
        let slot = self.tables.slot(source, self.unit.unit.extended_capability(), frames)?;
        if old.is_none() {
            self.unlink(slot, frames)?;
            self.remember(source, domain, slot)?;
        }
        self.contexts.iter_mut().filter(|context| is_entry(context, source)).for_each(|context| {
            context.slot = Some(slot);
        });
        self.link(domain, slot, frames)
    }

    /// Notes that a source-id stays in a domain of its own. That holds for a blocked domain too: its device would
    /// otherwise find what another device had mapped at the addresses of its own work.
    fn tell_elsewhere(&mut self, source: SourceId, domain: usize) {
        let Domain { id, root, .. } = self.domains[domain];
        let outcome = if root.is_some() { Outcome::Duplicated } else { Outcome::Blocked };
        self.report.hazards.note(HazardPlace::Device(source), Danger::AliasElsewhere(id), outcome);
    }

    /// Makes sure that only the device and its aliases use the device's domain, so that no other device reaches what
    /// its driver maps. If others use the domain too, the device gets a twin of it. Returns the device's domain.
    ///
    /// If a device is in a domain that was already given to a driver, it shares an alias with that driver's device:
    /// the unit cannot tell their requests apart, so both reach what is mapped for either.
    pub(super) fn separate(
        &mut self,
        domain: usize,
        source: SourceId,
        aliases: &[SourceId],
        frames: &mut impl Frames,
    ) -> Result<usize, AttachError> {
        let own = |context: &Context| {
            context.pasid.is_none() && (context.source == source || aliases.contains(&context.source))
        };
        let in_domain = |context: &&Context| context.domain == Some(domain);
        if self.domains[domain].given || self.contexts.iter().filter(in_domain).all(own) {
            if own_root(&mut self.domains[domain], frames)? {
                self.move_contexts(domain, domain, own, frames)?;
            }
            return Ok(domain);
        }
        let id = self.ids.take_unused().ok_or(AttachError::NoDomainId)?;
        let index = self.domains.len();
        let twin = twin(&self.domains[domain], id, frames)?;
        push(&mut self.domains, twin)?;
        self.move_contexts(domain, index, own, frames)?;
        Ok(index)
    }

    /// Moves entries from one domain to another that translates alike. Hardware may see each word of an entry before
    /// the others: any mix of old and new tables and ids gives the same answers.
    fn move_contexts(
        &mut self,
        from: usize,
        to: usize,
        moves: impl Fn(&Context) -> bool,
        frames: &mut impl Frames,
    ) -> Result<(), UnitError> {
        let link = self.domains[to].link();
        for context in self.contexts.iter_mut().filter(|context| context.domain == Some(from)) {
            if !moves(context) {
                continue;
            }
            context.domain = Some(to);
            let Some(slot) = context.slot else { continue };
            let entry = Entry::load(self.tables.mode, slot, frames);
            if let Some(link) = link.filter(|_| entry.is_present()) {
                entry.linked(link).store(slot, frames);
            }
        }
        self.unit.entries_changed(Scope::Everything, frames)
    }

    /// Makes an empty domain with the fewest levels that the unit supports.
    pub(super) fn create_domain(&mut self) -> Result<usize, AttachError> {
        let abilities = Abilities::of(&self.unit.unit, self.tables.mode);
        let layout = abilities.own_layout().ok_or(AttachError::NoWidth)?;
        let id = self.ids.take_unused().ok_or(AttachError::NoDomainId)?;
        let mut domain = Domain::empty(id, layout, abilities.architecture(), self.keep.reserved_ranges)?;
        self.keep.reserve_in(&mut domain.space);
        let index = self.domains.len();
        push(&mut self.domains, domain)?;
        Ok(index)
    }

    /// Remembers a device's domain until it is attached again.
    fn remember(&mut self, source: SourceId, domain: usize, slot: Slot) -> Result<(), OutOfMemory> {
        let entry = Entry::new(self.tables.mode);
        let at = self.contexts.partition_point(|context| context.source < source);
        let context = Context { source, pasid: None, entry, domain: Some(domain), tag: 0, slot: Some(slot) };
        insert(&mut self.contexts, at, context)
    }

    /// Makes the device's requests go through its domain's tables.
    fn link(&mut self, domain: usize, slot: Slot, frames: &mut impl Frames) -> Result<(), AttachError> {
        self.domains[domain].root_table(frames).ok_or(AttachError::OutOfFrames)?;
        let link = self.domains[domain].link().ok_or(AttachError::OutOfFrames)?;
        if frames.table(slot.table)[slot.word] & PRESENT != 0 {
            return Ok(());
        }
        Entry::new(self.tables.mode).linked(link).store(slot, frames);
        Ok(self.unit.entries_appeared(Scope::Everything, frames)?)
    }

    /// Blocks a present entry before another takes its place: hardware may read the words of an entry one by one
    /// (6.2.3.1).
    fn unlink(&mut self, slot: Slot, frames: &mut impl Frames) -> Result<(), UnitError> {
        if frames.table(slot.table)[slot.word] & PRESENT == 0 {
            return Ok(());
        }
        frames.store(slot.table, slot.word, 0);
        frames.publish(slot.table, slot.word..slot.word + 1);
        self.unit.entries_changed(Scope::Everything, frames)
    }
}

/// Whether a context is for a device's requests without PASID, and ours to change.
fn is_entry(context: &Context, source: SourceId) -> bool {
    context.source == source && context.pasid.is_none() && !context.entry.is_nested()
}
