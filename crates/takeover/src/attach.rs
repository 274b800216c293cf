//! Giving devices to drivers: a device's new domain inherits the old one, and new mappings go where nobody mapped.

mod mapping;
mod membership;

use alloc::vec::Vec;

use machine::{Clock, Frames, Range, Registers};
use vtd::source::SourceId;

use crate::Surroundings;
use crate::device_tlb::DeviceTlb;
use crate::domain::Domain;
use crate::duplicate::Duplicate;
use crate::failure::{AttachError, Failure, InForce};
use crate::found::Context;
use crate::growth::{OutOfMemory, collected};
use crate::hazard::Outcome;
use crate::ids::DomainIds;
use crate::invalidate::{Invalidator, Scope};
use crate::report::Report;
use crate::surroundings::INTERRUPTS;
use crate::swap::Swapped;
use crate::tables::Tables;
use crate::unit::{Unit, UnitError};

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
        let tables_duplicated = copy.tables_duplicated();
        let Duplicate { contexts, mut domains, hazards, tables, mut ids } = copy;
        // The unit has forgotten what it had cached under others (6.5.3): those of refused contexts are nobody's any more.
        ids.keep_only(domains.iter().map(|domain| domain.id));
        let Swapped { found, root, invalidator } = swapped;
        let after = |error: OutOfMemory| Failure { reason: error.into(), in_force: InForce::New };
        let report =
            Report::new(found, root, &contexts, &domains, hazards, tables_duplicated).map_err(after)?;
        let own = collected(surroundings.own.iter().copied()).map_err(after)?;
        let kept_free =
            collected(surroundings.kept_free.iter().copied().chain([INTERRUPTS])).map_err(after)?;
        for domain in &mut domains {
            keep_free(&mut domain.space, &kept_free);
        }
        Ok(Self {
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
        })
    }

    /// What was found and what became of it.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The unit.
    pub fn unit(&self) -> &Unit<'c, R, C> {
        &self.unit
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

fn keep_free(space: &mut iova::Space, ranges: &[Range]) {
    for range in ranges {
        space.reserve(*range);
    }
}
