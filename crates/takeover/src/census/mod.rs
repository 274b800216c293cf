//! Takes the census of a unit: which devices it translates for, in which domains, through how many tables.
//!
//! The tables above the page tables are each architecture's own: they are copied into frames of our own and checked there, and
//! these copies become the new tables (`vtd::census`, `amdvi::census`). What their entries say is listed here, and put into
//! domains. The census reads only the upper levels of the page tables, to count the tables that a copy needs. The decisive check
//! is made on the copy (`duplicate`).

mod count;
mod domains;
mod idle;

use alloc::vec::Vec;

use machine::{Frames, OldMemory, Registers};
use paging::Architecture;

use crate::entry::Entry;
use crate::failure::Reason;
use crate::found::{Context, Demand, OldDomain, Translation};
use crate::hazard::{Danger, HazardPlace, Hazards, Outcome};
use crate::ids::DomainIds;
use crate::resources::Resources;
use crate::sources::Sources;
use crate::surroundings::{Limits, Surroundings};
use crate::unit::Unit;
use crate::{amdvi, vtd};
use domains::Domains;
use machine::growth::{OutOfMemory, push};

/// What a unit translates.
#[derive(Debug)]
pub struct Census {
    /// The unit's architecture, and what it can do.
    pub(crate) architecture: Architecture,
    /// Present entries, by source-id.
    pub(crate) contexts: Vec<Context>,
    /// Domains, in the order in which their first device was met.
    pub(crate) domains: Vec<OldDomain>,
    /// The domain of devices that are in no list of contexts, if there are any: they passed untranslated.
    pub(crate) of_unlisted: Option<usize>,
    /// Hazards found so far.
    pub(crate) hazards: Hazards,
    pub(crate) ids: DomainIds,
    /// Devices whose requests without PASID were translated, nobody knows how: they were not looked at.
    pub(crate) unknown: Sources,
}

/// Takes the census of a unit. It writes only to frames of our own.
pub fn take<R: Registers, C, M: OldMemory, F: Frames>(
    unit: &Unit<'_, R, C>,
    resources: &mut Resources<'_, M, F>,
) -> Result<Census, Reason> {
    match unit {
        Unit::Vtd(unit) => vtd::census::take(unit, resources).map(|(census, _)| census),
        Unit::AmdVi(unit) => {
            let mut hazards = Hazards::new(resources.limits.hazards);
            let tables = amdvi::census::device_table::copy(unit, resources, &mut hazards)?;
            amdvi::census::take(unit, (tables, hazards), resources).map(|(census, _)| census)
        }
    }
}

/// Why a takeover is refused when the root table cannot be copied.
pub(crate) fn root_lost(danger: Danger) -> Reason {
    match danger {
        Danger::TableInOwnMemory(address) => Reason::RootInOwnMemory(address),
        Danger::TableUnreadable(address) => Reason::RootUnreadable(address),
        _ => Reason::OutOfFrames,
    }
}

/// What a census has listed so far, and what it works with.
pub(crate) struct Roll<'a, M, F> {
    pub(crate) old: &'a M,
    pub(crate) frames: &'a mut F,
    pub(crate) surroundings: &'a Surroundings<'a>,
    pub(crate) limits: &'a Limits,
    pub(crate) architecture: Architecture,
    pub(crate) contexts: Vec<Context>,
    pub(crate) domains: Domains,
    pub(crate) hazards: Hazards,
    pub(crate) unknown: Sources,
}

impl<'a, M: OldMemory, F: Frames> Roll<'a, M, F> {
    /// An empty list for a unit that has `ids` domain-ids.
    pub(crate) fn new(
        resources: &'a mut Resources<'_, M, F>,
        architecture: Architecture,
        ids: u32,
    ) -> Result<Self, OutOfMemory> {
        let Resources { old, ref mut frames, surroundings, limits } = *resources;
        Ok(Self {
            old,
            frames: *frames,
            surroundings,
            limits,
            architecture,
            contexts: Vec::new(),
            domains: Domains::new(ids)?,
            hazards: Hazards::new(limits.hazards),
            unknown: Sources::default(),
        })
    }

    /// Lists a present entry, if there is room; returns whether there is.
    pub(crate) fn list(&mut self, context: Context) -> Result<bool, OutOfMemory> {
        self.domains.ids.mark(context.entry.domain());
        if self.contexts.len() < self.limits.contexts {
            push(&mut self.contexts, context)?;
            return Ok(true);
        }
        self.hazards.note(HazardPlace::Device(context.source), Danger::TooManyContexts, Outcome::Blocked);
        self.unknown.insert(context.source)?;
        Ok(false)
    }

    /// Puts all listed contexts into their domains, or refuses them: `judge` says which domain an entry names, if hardware
    /// accepts it.
    ///
    /// Pass-through contexts come last. Pass-through may share its domain-id with first-stage tables (VT-d, 6.2.3.1), of
    /// which each process can have a set. It becomes second-stage tables, which must not share their id, so
    /// pass-through is what gets another id.
    pub(crate) fn sort_contexts(
        &mut self,
        judge: impl Fn(Entry) -> Result<OldDomain, Danger>,
    ) -> Result<(), OutOfMemory> {
        let mut pass_through = Vec::new();
        for index in 0..self.contexts.len() {
            let Context { source, entry, .. } = self.contexts[index];
            match judge(entry) {
                Ok(found) if found.translation == Translation::Identity => {
                    push(&mut pass_through, (index, found))?;
                }
                Ok(found) => self.enter(index, found)?,
                Err(danger) => self.hazards.note(HazardPlace::Device(source), danger, Outcome::Blocked),
            }
        }
        pass_through.into_iter().try_for_each(|(index, found)| self.enter(index, found))
    }

    /// Puts a context into its domain.
    fn enter(&mut self, index: usize, found: OldDomain) -> Result<(), OutOfMemory> {
        let context = &mut self.contexts[index];
        let place = HazardPlace::Device(context.source);
        context.domain = self.domains.enter(found, context.tag, place, &mut self.hazards)?;
        if context.domain.is_none() {
            self.unknown.insert(context.source)?;
        }
        if context.domain.is_some() && context.entry.is_nested() {
            self.hazards.note(place, Danger::GuestTables, Outcome::KeptInPlace);
        }
        Ok(())
    }

    /// Counts the tables of all domains, and ends the census.
    pub(crate) fn close(mut self, of_unlisted: Option<usize>) -> Census {
        self.note_demand(of_unlisted);
        self.count_tables();
        let Self { architecture, contexts, domains, hazards, unknown, .. } = self;
        let Domains { list: domains, ids, .. } = domains;
        Census { architecture, contexts, domains, of_unlisted, hazards, ids, unknown }
    }

    /// Notes which domains have devices whose entries are in force, and which of these devices are wanted.
    fn note_demand(&mut self, of_unlisted: Option<usize>) {
        for context in self.contexts.iter().filter(|context| context.slot.is_some()) {
            let Some(domain) = context.domain else { continue };
            let wanted = self.surroundings.wanted.contains(&context.source);
            let demand = if wanted { Demand::Wanted } else { Demand::Used };
            let known = &mut self.domains.list[domain].demand;
            *known = demand.min(*known);
        }
        if let Some(domain) = of_unlisted.and_then(|index| self.domains.list.get_mut(index)) {
            domain.demand = domain.demand.min(Demand::Used);
        }
    }
}
