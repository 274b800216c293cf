//! Gives devices to drivers: a device's new domain inherits the old one, and new mappings use I/O addresses that the
//! old kernel did not map.

mod mapping;
mod membership;
mod rights;

use alloc::vec::Vec;

use machine::{Clock, Frames, INTERRUPT_WINDOW, IoAddress, PhysicalAddress, Range, Registers, SourceId};

use crate::command::Commanded;
use crate::domain::Domain;
use crate::duplicate::Duplicate;
use crate::failure::AttachError;
use crate::found::Context;
use crate::hazard::Hazards;
use crate::identity::IdentityMap;
use crate::ids::DomainIds;
use crate::own::OwnMemory;
use crate::patience::Patience;
use crate::report::Report;
use crate::sources::Sources;
use crate::surroundings::{DeviceTlb, Limits, Surroundings};
use machine::growth::{OutOfMemory, collected, push};

/// A device whose domain can be given mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The device.
    pub source: SourceId,
    /// Domain-id.
    pub id: u16,
    /// What the domain took over from the old kernel.
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
    unit: Commanded<'c, R, C>,
    /// Devices that have or had a context, by source-id.
    contexts: Vec<Context>,
    domains: Vec<Domain>,
    /// The domain of devices that are in no list of contexts, if there are any.
    of_unlisted: Option<usize>,
    ids: DomainIds,
    /// Devices whose old I/O addresses nobody knows.
    unknown: Sources,
    /// Maps that replace pass-through, made for this unit.
    maps: Vec<IdentityMap>,
    keep: Keep,
    /// Device-TLBs that confirm invalidations.
    device_tlbs: Vec<DeviceTlb>,
    report: Report,
    /// The dead kernel's memory that the unit uses on.
    in_use: Vec<Range<PhysicalAddress>>,
}

/// What a takeover keeps of its surroundings.
#[derive(Debug)]
pub(crate) struct Keep {
    /// The capture kernel's memory.
    own: Vec<Range<PhysicalAddress>>,
    /// I/O addresses that no driver gets.
    free: Vec<Range<IoAddress>>,
    host_address_bits: u32,
    /// The most separate ranges of I/O addresses that a domain remembers.
    reserved_ranges: usize,
}

impl Keep {
    /// Keeps what is needed of the surroundings; the unit does not translate the addresses `untranslated`.
    pub(crate) fn new(
        surroundings: &Surroundings<'_>,
        untranslated: [Range<IoAddress>; 2],
        limits: &Limits,
    ) -> Result<Self, OutOfMemory> {
        let unusable = untranslated.into_iter().filter(|range| !range.is_empty()).chain([INTERRUPT_WINDOW]);
        Ok(Self {
            own: collected(surroundings.own.iter().copied())?,
            free: collected(surroundings.kept_free.iter().copied().chain(unusable))?,
            host_address_bits: surroundings.host_address_bits,
            reserved_ranges: limits.reserved_ranges,
        })
    }

    fn own_memory(&self) -> OwnMemory<'_> {
        OwnMemory(&self.own)
    }

    /// Reserves the I/O addresses that no driver gets.
    fn reserve_in(&self, space: &mut iova::Space) {
        self.free.iter().for_each(|range| space.reserve(*range));
    }
}

/// The new tables of a unit, and the device-TLBs that confirmed their invalidation.
pub(crate) struct Replaced {
    /// The tables now in force.
    pub(crate) copy: Duplicate,
    /// Device-TLBs that confirm invalidations.
    pub(crate) device_tlbs: Vec<DeviceTlb>,
    pub(crate) keep: Keep,
    pub(crate) report: Report,
    /// The dead kernel's memory that the unit uses on.
    pub(crate) in_use: Vec<Range<PhysicalAddress>>,
}

impl<'c, R: Registers, C: Clock> Takeover<'c, R, C> {
    pub(crate) fn new(unit: Commanded<'c, R, C>, replaced: Replaced) -> Self {
        let Replaced { copy, device_tlbs, keep, report, in_use } = replaced;
        let Duplicate { contexts, mut domains, of_unlisted, mut ids, unknown, maps, .. } = copy;
        // The unit's caches hold nothing under other ids (6.5.3), so the ids of refused contexts are free.
        ids.keep_only(domains.iter().map(|domain| domain.id).chain(unit.fence()));
        for domain in &mut domains {
            keep.reserve_in(&mut domain.space);
        }
        Self { unit, contexts, domains, of_unlisted, ids, unknown, maps, keep, device_tlbs, report, in_use }
    }

    /// Whether a unit was found with the tables that those of this takeover replaced.
    pub(crate) fn replaced_tables_of(&self, unit: &Commanded<'c, R, C>) -> bool {
        self.unit.replaced_tables_of(unit)
    }

    /// The unit that was taken over.
    pub(crate) fn unit(&self) -> &Commanded<'c, R, C> {
        &self.unit
    }

    /// What this takeover made, for another unit that uses the same tables. Whatever is changed for a device of either stays out of the
    /// other's sight: no device is behind both, and none writes to page tables that it shares.
    pub(crate) fn lend(&self, limits: &Limits) -> Result<Duplicate, OutOfMemory> {
        let mut domains = Vec::new();
        self.domains.iter().try_for_each(|domain| push(&mut domains, domain.lent()?))?;
        Ok(Duplicate {
            contexts: collected(self.contexts.iter().copied())?,
            domains,
            hazards: Hazards::new(limits.hazards),
            of_unlisted: self.of_unlisted,
            ids: self.ids.lent()?,
            unknown: self.unknown.lent()?,
            maps: Vec::new(),
        })
    }

    /// What the takeover found, and what became of each part.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// What is left of [`Limits::patience`]: give it to the takeover of the next unit, so that all of them together wait no
    /// longer than one may.
    pub fn patience(&self) -> Patience {
        self.unit.patience()
    }

    /// The dead kernel's memory that the unit uses on where it is, for the [`Surroundings`] of the units after it.
    pub fn in_use(&self) -> &[Range<PhysicalAddress>] {
        &self.in_use
    }

    /// The maps that this takeover made in place of pass-through, for the [`Surroundings`] of the units after it.
    pub fn identity_maps(&self) -> &[IdentityMap] {
        &self.maps
    }

    /// I/O addresses of a device's domain: what the old kernel mapped, and what is mapped now.
    pub fn addresses(&self, device: &Attachment) -> &iova::Space {
        &self.domains[device.domain].space
    }

    /// Gives a device to a driver.
    ///
    /// A device with an old context keeps its domain with all translations in force. If other devices share that
    /// domain, the device gets a twin of it under an unused domain-id. Any other device gets a new, empty domain. If
    /// the device's domain had to be blocked, its old I/O addresses stay reserved, but its translations are gone.
    ///
    /// A device that the old kernel let only read, or only write, may do both with what is mapped for its driver, and no more than before
    /// with what the old kernel mapped.
    ///
    /// `aliases` are the other source-ids under which the device's requests arrive, the one nearest to the root last:
    /// a bridge to a conventional bus replaces the source-ids of the devices behind it (3.4.1). All of them get the
    /// same domain: that of the last alias that has one, since the unit sees that source-id. A source-id that the
    /// old kernel had in another domain stays there, even if that had to be blocked, and the report notes a hazard: the
    /// driver's mappings are not for the requests that arrive under it.
    pub fn attach(
        &mut self,
        source: SourceId,
        aliases: &[SourceId],
        frames: &mut impl Frames,
    ) -> Result<Attachment, AttachError> {
        let sources = [source].into_iter().chain(aliases.iter().copied());
        if let Some(unknown) = sources.clone().find(|source| self.unknown.contains(*source)) {
            return Err(AttachError::AddressesUnknown(unknown));
        }
        sources.clone().try_for_each(|source| self.list_unlisted(source, frames))?;
        let domain = match sources.clone().rev().find_map(|source| self.domain_of(source)) {
            Some(domain) => self.separate(domain, source, aliases, frames)?,
            None => self.create_domain()?,
        };
        self.lift_restriction(source, domain, frames)?;
        self.domains[domain].given = true;
        for source in sources {
            self.join(source, domain, frames)?;
        }
        self.unit.note_disturbances(&mut self.report.hazards);
        let Domain { id, inherited, .. } = self.domains[domain];
        Ok(Attachment { source, id, inherited, domain })
    }
}
