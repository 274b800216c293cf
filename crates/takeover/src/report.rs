//! The report of a takeover: what it found, and what became of each part.
//!
//! The report is plain values; the caller prints or stores it.

use alloc::vec::Vec;

use machine::SourceId;

use crate::command::Swapped;
use crate::domain::Domain;
use crate::duplicate::Duplicate;
use crate::entry::Entry;
use crate::found::Context;
use crate::hazard::{Hazards, Outcome};
use crate::{amdvi, vtd};
use machine::growth::{OutOfMemory, collected};

/// The state in which a unit was found.
#[derive(Clone, Debug)]
pub enum Found {
    /// A VT-d unit.
    Vtd(vtd::found::Found),
    /// An AMD-Vi unit.
    AmdVi(amdvi::found::Found),
}

impl Found {
    /// The register that named the old tables: RTADDR, or the device table base address.
    pub fn root(&self) -> u64 {
        match self {
            Self::Vtd(found) => found.root.into_bits(),
            Self::AmdVi(found) => found.device_table.into_bits(),
        }
    }

    /// The old kernel's queue of commands.
    pub fn queue(&self) -> OldQueue {
        match self {
            Self::Vtd(found) => found.queue,
            Self::AmdVi(found) => found.queue,
        }
    }
}

/// The state of the old kernel's queue of commands when the takeover turned it off: VT-d's
/// invalidation queue, or AMD-Vi's command buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldQueue {
    /// It was not on.
    Off,
    /// It had executed all that was in it.
    Drained,
    /// It had stopped, or did not finish in time. If head and tail are equal, the unit had fetched everything, and did not
    /// report that it was done with it.
    Stuck {
        /// Its head at the end, in bytes.
        head: u64,
        /// Its tail at the end, in bytes.
        tail: u64,
    },
}

/// A present entry of the old kernel, which said how requests are translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContextReport {
    /// The device whose requests it translates.
    pub source: SourceId,
    /// The PASID of these requests; `None` for requests without PASID.
    pub pasid: Option<u32>,
    /// The entry as it was found.
    pub entry: Entry,
    /// Its domain-id now; `None` if it was not carried over.
    pub domain: Option<u16>,
    /// What became of it.
    pub outcome: Outcome,
}

impl ContextReport {
    fn new(context: &Context, domains: &[Domain]) -> Self {
        let domain = context.domain.and_then(|index| domains.get(index));
        // An entry that blocks is all that is needed where nothing is mapped.
        let in_force = |domain: &&Domain| context.slot.is_some() || domain.maps_nothing();
        let carried = domain.filter(|domain| domain.root.is_some()).filter(in_force);
        // In nested translation, only the second stage is ours.
        let least = if context.entry.is_nested() { Outcome::KeptInPlace } else { Outcome::Duplicated };
        Self {
            source: context.source,
            pasid: context.pasid,
            entry: context.entry,
            domain: carried.map(|domain| domain.id),
            outcome: carried.map_or(Outcome::Blocked, |domain| domain.outcome.max(least)),
        }
    }
}

/// One domain of the old kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DomainReport {
    /// Domain-id, as it is now.
    pub id: u16,
    /// Bits of an address that its tables translate.
    pub address_bits: u32,
    /// Page tables that were copied.
    pub tables: u64,
    /// Leaf entries in them that map something, after fencing.
    pub leaves: u64,
    /// Leaf entries that were cut out.
    pub fenced: u64,
    /// What became of it.
    pub outcome: Outcome,
}

impl DomainReport {
    fn new(domain: &Domain) -> Self {
        let Domain { id, top, tables, leaves, fenced, outcome, .. } = *domain;
        Self { id, address_bits: top.width(), tables, leaves, fenced, outcome }
    }
}

/// What was found and what became of it. A unit that shares its device table with one before has no contexts and domains here.
#[derive(Clone, Debug)]
pub struct Report {
    /// The state in which the unit was found.
    pub found: Found,
    /// The register that names the tables now in force: RTADDR, or the device table base address.
    pub root: u64,
    /// Every present entry, by source-id.
    pub contexts: Vec<ContextReport>,
    /// Every domain.
    pub domains: Vec<DomainReport>,
    /// Everything wrong or dangerous.
    pub hazards: Hazards,
    /// Tables of all kinds that were copied: page tables, and those above them.
    pub tables_duplicated: u64,
}

impl Report {
    /// Makes the report of a takeover with this copy, for which `upper_tables` were copied besides page tables, and moves the
    /// hazards into it.
    pub(crate) fn new(
        swapped: Swapped,
        upper_tables: u64,
        copy: &mut Duplicate,
    ) -> Result<Self, OutOfMemory> {
        let contexts = copy.contexts.iter().map(|context| ContextReport::new(context, &copy.domains));
        Ok(Self {
            found: swapped.found,
            root: swapped.root,
            contexts: collected(contexts)?,
            domains: collected(copy.domains.iter().map(DomainReport::new))?,
            hazards: core::mem::take(&mut copy.hazards),
            tables_duplicated: upper_tables + copy.page_tables(),
        })
    }

    /// Makes the report of a takeover that uses the tables of another unit, whose report tells of contexts and domains.
    pub(crate) fn of_sharing(swapped: Swapped, hazards: Hazards) -> Self {
        let (found, root) = (swapped.found, swapped.root);
        Self { found, root, contexts: Vec::new(), domains: Vec::new(), hazards, tables_duplicated: 0 }
    }

    /// Contexts that were carried over.
    pub fn contexts_accepted(&self) -> u64 {
        self.contexts.iter().filter(|context| context.domain.is_some()).count() as u64
    }

    /// Leaf entries that map something.
    pub fn leaf_mappings(&self) -> u64 {
        self.domains.iter().map(|domain| domain.leaves).sum()
    }

    /// Domains whose ids and I/O addresses are reserved.
    pub fn domains_reserved(&self) -> u64 {
        self.domains.len() as u64
    }

    /// How many contexts and domains ended this way.
    pub fn ended(&self, outcome: Outcome) -> (u64, u64) {
        let contexts = self.contexts.iter().filter(|context| context.outcome == outcome).count();
        let domains = self.domains.iter().filter(|domain| domain.outcome == outcome).count();
        (contexts as u64, domains as u64)
    }
}
