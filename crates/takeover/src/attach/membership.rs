//! Chooses the domain of a device's requests: its old one, a twin of that, or a new one.

use machine::{Clock, Frames, Registers, SourceId};

use super::Takeover;
use crate::command::Scope;
use crate::device_tlb::{forget_all_of, of_source};
use crate::domain::Domain;
use crate::entry::Slot;
use crate::failure::AttachError;
use crate::found::Context;
use crate::hazard::{Danger, HazardPlace, Outcome};
use crate::patience::Awaited;
use crate::twin::{own_root, twin};
use crate::unit::UnitError;
use machine::growth::{OutOfMemory, insert, push};

impl<R: Registers, C: Clock> Takeover<'_, R, C> {
    /// The domain of a device's requests without PASID, if new mappings can be made in it.
    ///
    /// In nested translation, the I/O addresses belong to a guest, and so do the tables that translate them. Such a
    /// device gets a new domain: the guest's driver cannot have left anything that our driver could continue.
    pub(super) fn domain_of(&self, source: SourceId) -> Option<usize> {
        let mut contexts = of_source(&self.contexts, source);
        contexts.find_map(|context| context.domain.filter(|_| is_entry(context, source)))
    }

    /// Lists the entry of a device in whose domain devices are that are in no list.
    pub(super) fn list_unlisted(
        &mut self,
        source: SourceId,
        frames: &impl Frames,
    ) -> Result<(), OutOfMemory> {
        let Some(domain) = self.of_unlisted else { return Ok(()) };
        let id = self.domains.get(domain).map(|domain| domain.id);
        let found = self.unit.entry_of(source, frames);
        let found = found.filter(|(entry, _)| Some(entry.domain()) == id);
        match found {
            Some((entry, slot)) if of_source(&self.contexts, source).next().is_none() => {
                self.insert(Context {
                    source,
                    pasid: None,
                    entry,
                    domain: Some(domain),
                    tag: 0,
                    slot: Some(slot),
                })
            }
            _ => Ok(()),
        }
    }

    /// Adds a context at its place.
    fn insert(&mut self, context: Context) -> Result<(), OutOfMemory> {
        let at = self.contexts.partition_point(|other| other.source < context.source);
        insert(&mut self.contexts, at, context)
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
        let slot = self.unit.slot(source, self.domains[domain].format, frames)?;
        if old.is_none() {
            self.unit.unlink(source, slot, frames)?;
            self.forget_in_device(source, frames)?;
            self.remember(source, domain, slot)?;
        }
        self.contexts.iter_mut().filter(|context| is_entry(context, source)).for_each(|context| {
            context.slot = Some(slot);
        });
        self.link(source, domain, slot, frames)
    }

    /// Has a device that leaves its guest's tables drop what it keeps of them itself, if it answers: otherwise its driver may get
    /// addresses under which it keeps something else, and what it does there is blocked.
    fn forget_in_device(&mut self, source: SourceId, frames: &mut impl Frames) -> Result<(), UnitError> {
        let Some(tlb) = self.device_tlbs.iter().find(|tlb| tlb.source == source) else { return Ok(()) };
        match forget_all_of(*tlb, Awaited::Answering, &self.contexts, &mut self.unit, frames) {
            Err(UnitError::DeviceSilent | UnitError::DeviceUnheard) => {
                let place = HazardPlace::Device(source);
                self.report.hazards.note(place, Danger::DeviceTlbSilent, Outcome::KeptInPlace);
                Ok(())
            }
            told => told,
        }
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
        let is_alone = !self.domains[domain].has_unlisted && self.contexts.iter().filter(in_domain).all(own);
        if self.domains[domain].given || is_alone {
            if own_root(&mut self.domains[domain], frames)? {
                self.move_contexts(source, domain, domain, own, frames)?;
            }
            return Ok(domain);
        }
        let id = self.ids.take_unused().ok_or(AttachError::NoDomainId)?;
        let index = self.domains.len();
        let twin = twin(&self.domains[domain], id, frames)?;
        push(&mut self.domains, twin)?;
        self.move_contexts(source, domain, index, own, frames)?;
        Ok(index)
    }

    /// Moves entries of a device and its aliases from one domain to another that translates alike.
    fn move_contexts(
        &mut self,
        source: SourceId,
        from: usize,
        to: usize,
        moves: impl Fn(&Context) -> bool,
        frames: &mut impl Frames,
    ) -> Result<(), UnitError> {
        let link = self.domains[to].link();
        let in_domain = |context: &&mut Context| context.domain == Some(from) && moves(context);
        for context in self.contexts.iter_mut().filter(in_domain) {
            context.domain = Some(to);
            if let Some(link) = link {
                self.unit.relink(context, link, frames)?;
            }
        }
        self.unit.entries_changed(Scope::Device(source), frames)
    }

    /// Makes an empty domain with the fewest levels that the unit supports.
    pub(super) fn create_domain(&mut self) -> Result<usize, AttachError> {
        let layout = self.unit.own_layout().ok_or(AttachError::NoWidth)?;
        let id = self.ids.take_unused().ok_or(AttachError::NoDomainId)?;
        let mut domain = Domain::empty(id, layout, self.unit.architecture(), self.keep.reserved_ranges)?;
        self.keep.reserve_in(&mut domain.space);
        let index = self.domains.len();
        push(&mut self.domains, domain)?;
        Ok(index)
    }

    /// Remembers a device's domain until it is attached again.
    fn remember(&mut self, source: SourceId, domain: usize, slot: Slot) -> Result<(), OutOfMemory> {
        let entry = self.unit.new_entry();
        self.insert(Context { source, pasid: None, entry, domain: Some(domain), tag: 0, slot: Some(slot) })
    }

    /// Makes the device's requests go through its domain's tables.
    fn link(
        &mut self,
        source: SourceId,
        domain: usize,
        slot: Slot,
        frames: &mut impl Frames,
    ) -> Result<(), AttachError> {
        self.domains[domain].root_table(frames).ok_or(AttachError::OutOfFrames)?;
        let link = self.domains[domain].link().ok_or(AttachError::OutOfFrames)?;
        Ok(self.unit.link(source, slot, link, frames)?)
    }
}

/// Whether a context is for a device's requests without PASID, and ours to change.
fn is_entry(context: &Context, source: SourceId) -> bool {
    context.source == source && context.pasid.is_none() && !context.entry.is_of_guest()
}
