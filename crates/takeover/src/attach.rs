//! Giving devices to drivers: a device's new domain inherits the old one, and new mappings go where nobody mapped.

use alloc::vec::Vec;

use machine::{Clock, Frames, OldMemory, PAGE_SIZE, Range, Registers};
use vtd::INTERRUPT_WINDOW;
use vtd::paging::Permission;
use vtd::source::SourceId;
use vtd::stage::ReservedBits;

use crate::Surroundings;
use crate::borrowed::Lender;
use crate::device_tlb::{DeviceTlb, forget_domain, of_source};
use crate::domain::{Domain, Unfit};
use crate::duplicate::Duplicate;
use crate::entry::{Entry, Slot};
use crate::failure::{AttachError, Failure, InForce, MapError};
use crate::found::Context;
use crate::growth::{OutOfMemory, filled, insert, push};
use crate::hazard::{Danger, Outcome, Place};
use crate::ids::DomainIds;
use crate::invalidate::{Invalidator, Scope};
use crate::judge::Abilities;
use crate::report::Report;
use crate::swap::Swapped;
use crate::tables::Tables;
use crate::twin::twin;
use crate::unit::{Unit, UnitError};

/// In both kinds of entries, bit 0 of the first word says that there is one.
const PRESENT: u64 = 1;
/// How many places are tried for a mapping that does not fit where its addresses are free.
const TRIES: usize = 16;

/// A device whose domain can be given mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The device.
    pub source: SourceId,
    /// Domain-id.
    pub id: u16,
    /// Whether the domain is the old kernel's.
    pub inherited: Inherited,
    domain: usize,
}

/// What a device's new domain took over from the old kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inherited {
    /// Domain-id, width, I/O addresses and translations.
    Tables,
    /// Domain-id, width and I/O addresses; the translations had to be blocked.
    Addresses,
    /// Nothing: the device had no valid context.
    Nothing,
}

/// A unit that was taken over.
#[derive(Debug)]
pub struct Takeover<'c, R, C> {
    unit: Unit<'c, R, C>,
    invalidator: Invalidator,
    tables: Tables,
    /// Devices that have or had a context, by source-id.
    contexts: Vec<Context>,
    domains: Vec<Domain>,
    ids: DomainIds,
    /// The capture kernel's memory.
    own: Vec<Range>,
    host_address_bits: u32,
    kept_free: Vec<Range>,
    /// Those that answer when they are told to forget.
    device_tlbs: Vec<DeviceTlb>,
    reserved_ranges: usize,
    report: Report,
}

impl<'c, R: Registers, C: Clock> Takeover<'c, R, C> {
    pub(crate) fn new(
        unit: Unit<'c, R, C>,
        copy: Duplicate,
        swapped: Swapped,
        device_tlbs: Vec<DeviceTlb>,
        surroundings: &Surroundings<'_>,
        reserved_ranges: usize,
    ) -> Result<Self, Failure> {
        let after = |error: OutOfMemory| Failure { reason: error.into(), in_force: InForce::New };
        let kept_free = kept_free(surroundings).map_err(after)?;
        let own = filled(Range::default(), surroundings.own.len()).map_err(after)?;
        let tables_duplicated = copy.tables_duplicated();
        let Duplicate { contexts, domains, hazards, tables, ids } = copy;
        let Swapped { found, root, invalidator } = swapped;
        let report =
            Report::new(found, root, &contexts, &domains, hazards, tables_duplicated).map_err(after)?;
        let mut takeover = Self {
            unit,
            invalidator,
            tables,
            contexts,
            domains,
            ids,
            own,
            host_address_bits: surroundings.host_address_bits,
            kept_free,
            device_tlbs,
            reserved_ranges,
            report,
        };
        takeover.own.copy_from_slice(surroundings.own);
        for domain in &mut takeover.domains {
            keep_free(&mut domain.space, &takeover.kept_free);
        }
        Ok(takeover)
    }

    /// What was found and what became of it.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The unit.
    pub fn unit(&self) -> &Unit<'c, R, C> {
        &self.unit
    }

    /// The unit, to read and clear faults.
    pub fn unit_mut(&mut self) -> &mut Unit<'c, R, C> {
        &mut self.unit
    }

    /// I/O addresses of a device's domain: what was mapped, and what is mapped now.
    pub fn addresses(&self, device: &Attachment) -> &iova::Space {
        &self.domains[device.domain].space
    }

    /// Gives a device to a driver.
    ///
    /// A device with an old context keeps its domain with all translations in force; if it shares that with others, it
    /// gets a twin of it under an unused id. Any other device gets a new, empty domain. A device whose domain had to
    /// be blocked keeps its addresses out of use, but not its translations.
    ///
    /// `aliases` are the other source-ids under which the device's requests come, the one nearest to the root last:
    /// bridges to conventional buses speak for the devices behind them (3.4.1). All get the same domain. That of the
    /// last alias that has one counts, since its source-id is what the unit sees.
    pub fn attach(
        &mut self,
        source: SourceId,
        aliases: &[SourceId],
        frames: &mut impl Frames,
    ) -> Result<Attachment, AttachError> {
        let sources = [source].into_iter().chain(aliases.iter().copied());
        let domain = match sources.clone().rev().find_map(|source| self.domain_of(source)) {
            Some(domain) => self.separate(domain, source, aliases, frames)?,
            None => self.create_domain()?,
        };
        self.domains[domain].given = true;
        for source in sources {
            self.join(source, domain, frames)?;
        }
        let Domain { id, tables, outcome, .. } = self.domains[domain];
        let inherited = match (tables, outcome) {
            (0, Outcome::Duplicated) => Inherited::Nothing,
            (0, _) => Inherited::Addresses,
            _ => Inherited::Tables,
        };
        Ok(Attachment { source, id, inherited, domain })
    }

    /// Maps `len` bytes from physical address `address` for a device and returns the I/O address.
    ///
    /// Both are multiples of the page size. The I/O address was never mapped by the old kernel in this domain, is no
    /// interrupt address and in no kept-free range. When this returns, the device can use it.
    ///
    /// Tables that were kept in place are read from `old` if the mapping goes into one: those on its path are copied.
    pub fn map(
        &mut self,
        device: &Attachment,
        address: u64,
        len: u64,
        permission: Permission,
        old: &impl OldMemory,
        frames: &mut impl Frames,
    ) -> Result<u64, MapError> {
        let target = whole_pages(address, len)?;
        let surroundings = Surroundings {
            host_address_bits: self.host_address_bits,
            own: &self.own,
            memory: &[],
            kept_free: &[],
            device_tlbs: &[],
        };
        let domain = &mut self.domains[device.domain];
        let reserved = ReservedBits::new(domain.stage, self.host_address_bits, self.unit.capability());
        let lender = Lender { old, surroundings, reserved };
        for _ in 0..TRIES {
            let start = domain.allocate(len).ok_or(MapError::NoAddress)?;
            let iova = Range::new(start, start + len);
            match domain.prepare(iova, permission, &lender, frames) {
                Ok(()) => {
                    domain.fill(iova, target.start, permission, frames);
                    self.make_visible(device, frames)?;
                    return Ok(start);
                }
                Err(unfit) => give_up(&mut domain.space, iova, unfit)?,
            }
        }
        Err(MapError::NoAddress)
    }

    /// Ends a mapping that [`map`](Self::map) made; when this returns, the device cannot reach the memory any more.
    pub fn unmap(
        &mut self,
        device: &Attachment,
        iova: Range,
        frames: &mut impl Frames,
    ) -> Result<(), MapError> {
        let domain = &mut self.domains[device.domain];
        if domain.space.allocated().binary_search(&iova).is_err() {
            return Err(MapError::NotMapped(iova));
        }
        domain.clear(iova, frames);
        self.unit.flush_write_buffer().map_err(UnitError::from)?;
        self.invalidator.forget(&mut self.unit, frames, Scope::Domain(device.id))?;
        let Self { unit, invalidator, contexts, device_tlbs, .. } = self;
        forget_domain(device_tlbs, contexts, device.domain, unit, invalidator, frames)?;
        self.domains[device.domain].space.release(iova).map_err(|error| MapError::NotMapped(error.0))
    }

    /// The domain of a device's requests without PASID, if new mappings can be made in it.
    ///
    /// The addresses of a nested translation are a guest's, in tables that are not ours: such a device gets a new
    /// domain. The guest's driver cannot have left anything that ours could go on with.
    fn domain_of(&self, source: SourceId) -> Option<usize> {
        let usable = |context: &&Context| context.pasid.is_none() && !context.entry.is_nested();
        of_source(&self.contexts, source).filter(usable).find_map(|context| context.domain)
    }

    /// Puts a source-id into a domain, unless it already works in another.
    fn join(&mut self, source: SourceId, domain: usize, frames: &mut impl Frames) -> Result<(), AttachError> {
        let slot = self.tables.slot(source, self.unit.extended_capability(), frames)?;
        match self.domain_of(source) {
            Some(other) if other == domain => {}
            Some(other) if self.domains[other].root.is_some() => {
                let danger = Danger::AliasElsewhere(self.domains[other].id);
                self.report.hazards.note(Place::Device(source), danger, Outcome::Duplicated);
                return Ok(());
            }
            _ => {
                self.unlink(slot, frames)?;
                self.remember(source, domain, slot)?;
            }
        }
        self.link(domain, slot, frames)
    }

    /// Sees to it that a device has its domain for itself and its aliases: what is mapped for its driver is for nobody
    /// else. If others use the domain too, the device gets a twin of it. Returns the domain that it has then.
    ///
    /// Whoever is in a domain that was given to a driver before has an alias in common with that driver's device: requests
    /// of both look alike to the unit, so they share what is mapped for either.
    fn separate(
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
            return Ok(domain);
        }
        let id = self.ids.take_unused().ok_or(AttachError::NoDomainId)?;
        let index = self.domains.len();
        let twin = twin(&self.domains[domain], id, frames)?;
        push(&mut self.domains, twin)?;
        self.move_contexts(domain, index, own, frames)?;
        Ok(index)
    }

    /// Makes entries that name one domain's tables name another's, which translate alike. Each word of an entry may be
    /// seen before the others are: old and new tables under old and new id all give the same answers.
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
            let entry = Entry::load(self.tables.mode, context.slot, frames);
            if let Some(link) = link.filter(|_| entry.is_present()) {
                entry.linked(link).store(context.slot, frames);
            }
        }
        self.unit.flush_write_buffer()?;
        self.invalidator.forget(&mut self.unit, frames, Scope::Everything)
    }

    /// Makes an empty domain, of the fewest levels that the unit supports.
    fn create_domain(&mut self) -> Result<usize, AttachError> {
        let abilities = Abilities::of(&self.unit, self.tables.mode);
        let stage = abilities.own_stage();
        let width = abilities.widths(stage).next().ok_or(AttachError::NoWidth)?;
        let top = width.top().ok_or(AttachError::NoWidth)?;
        let id = self.ids.take_unused().ok_or(AttachError::NoDomainId)?;
        let mut domain = Domain::empty(id, stage, width, top, self.unit.capability(), self.reserved_ranges)?;
        keep_free(&mut domain.space, &self.kept_free);
        let index = self.domains.len();
        push(&mut self.domains, domain)?;
        Ok(index)
    }

    /// Remembers a device's domain until it is attached again.
    fn remember(&mut self, source: SourceId, domain: usize, slot: Slot) -> Result<(), OutOfMemory> {
        let entry = Entry::new(self.tables.mode);
        let at = self.contexts.partition_point(|context| context.source < source);
        let context = Context { source, pasid: None, entry, domain: Some(domain), tag: 0, slot };
        insert(&mut self.contexts, at, context)
    }

    /// Sees to it that the device's requests go through its domain's tables.
    fn link(&mut self, domain: usize, slot: Slot, frames: &mut impl Frames) -> Result<(), AttachError> {
        self.domains[domain].root_table(frames).ok_or(AttachError::OutOfFrames)?;
        let link = self.domains[domain].link().ok_or(AttachError::OutOfFrames)?;
        if frames.table(slot.table)[slot.word] & PRESENT != 0 {
            return Ok(());
        }
        Entry::new(self.tables.mode).linked(link).store(slot, frames);
        Ok(self.entries_appeared(Scope::Everything, frames)?)
    }

    /// Blocks what an entry lets through, if there is one, before another takes its place: hardware may read the words
    /// of an entry one by one (6.2.3.1).
    fn unlink(&mut self, slot: Slot, frames: &mut impl Frames) -> Result<(), UnitError> {
        if frames.table(slot.table)[slot.word] & PRESENT == 0 {
            return Ok(());
        }
        frames.store(slot.table, slot.word, 0);
        frames.publish(slot.table, slot.word..slot.word + 1);
        self.unit.flush_write_buffer()?;
        self.invalidator.forget(&mut self.unit, frames, Scope::Everything)
    }

    /// After a mapping was made. Where the path to it was replaced by copies, hardware may still go the old way.
    fn make_visible(&mut self, device: &Attachment, frames: &mut impl Frames) -> Result<(), UnitError> {
        if core::mem::take(&mut self.domains[device.domain].relinked) {
            self.unit.flush_write_buffer()?;
            return self.invalidator.forget(&mut self.unit, frames, Scope::Domain(device.id));
        }
        self.entries_appeared(Scope::Domain(device.id), frames)
    }

    /// After entries became present: a unit in caching mode may hold that they are not (6.1), a unit that buffers
    /// writes may not see them yet (6.8). No other needs to be told.
    fn entries_appeared(&mut self, scope: Scope, frames: &mut impl Frames) -> Result<(), UnitError> {
        self.unit.flush_write_buffer()?;
        if self.unit.capability().cm() {
            self.invalidator.forget(&mut self.unit, frames, scope)?;
        }
        Ok(())
    }
}

/// Gives addresses back after they turned out not to fit, and keeps the culprits from being tried again.
fn give_up(space: &mut iova::Space, iova: Range, unfit: Unfit) -> Result<(), MapError> {
    space.release(iova).map_err(|error| MapError::NotMapped(error.0))?;
    match unfit {
        Unfit::Occupied(range) => {
            space.reserve(range);
            Ok(())
        }
        Unfit::OutOfFrames => Err(MapError::OutOfFrames),
    }
}

fn whole_pages(address: u64, len: u64) -> Result<Range, MapError> {
    let range = Range::sized(address, len).ok_or(MapError::NotPages(Range::new(address, u64::MAX)))?;
    let aligned = address.is_multiple_of(PAGE_SIZE) && len.is_multiple_of(PAGE_SIZE);
    if range.is_empty() || !aligned || range.end > 1 << 52 {
        Err(MapError::NotPages(range))
    } else {
        Ok(range)
    }
}

fn kept_free(surroundings: &Surroundings<'_>) -> Result<Vec<Range>, OutOfMemory> {
    let mut ranges = Vec::new();
    let (first, last) = INTERRUPT_WINDOW;
    for range in surroundings.kept_free.iter().chain([&Range::new(first, last + 1)]) {
        push(&mut ranges, *range)?;
    }
    Ok(ranges)
}

fn keep_free(space: &mut iova::Space, ranges: &[Range]) {
    for range in ranges {
        space.reserve(*range);
    }
}
