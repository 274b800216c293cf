//! What a takeover says of itself: what it found, and what became of each part.
//!
//! The report is values only; it is for the caller to print or store.

use alloc::vec::Vec;
use core::fmt;
use core::mem::discriminant;

use machine::Range;
use vtd::context::TranslationType;
use vtd::control::{GlobalStatus, RootTableAddress, TableMode};
use vtd::fault::{FaultRecord, FaultStatus};
use vtd::paging::AddressWidth;
use vtd::pasid::PasidTranslationType;
use vtd::source::SourceId;

use crate::census::Context;
use crate::domain::Domain;
use crate::entry::Entry;
use crate::growth::{OutOfMemory, push};
use crate::unit::UnitError;

/// What became of a context, a domain or a part of one; later values are worse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The copy translates exactly as the original did.
    #[default]
    Duplicated,
    /// The same translations, in larger pages.
    Folded,
    /// The same translations, in the old kernel's checked tables.
    KeptInPlace,
    /// All but what would have reached the capture kernel's memory, or was malformed and faulted already.
    Fenced,
    /// Nothing is translated; requests fault.
    Blocked,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Duplicated => "duplicated",
            Self::Folded => "folded",
            Self::KeptInPlace => "kept in place",
            Self::Fenced => "fenced",
            Self::Blocked => "blocked",
        })
    }
}

/// What was wrong with, or dangerous in, what the old kernel left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Danger {
    /// Bits that must be zero are not: requests faulted already.
    #[error("reserved bits are set")]
    ReservedBits,
    /// The table at this address is not in the machine's memory.
    #[error("the table at {0:#x} is not in memory")]
    TableUnreadable(u64),
    /// The table at this address is in the capture kernel's memory.
    #[error("the table at {0:#x} is in the capture kernel's memory")]
    TableInOwnMemory(u64),
    /// A mapping reaches the capture kernel's memory at this address.
    #[error("maps the capture kernel's memory at {0:#x}")]
    ReachesOwnMemory(u64),
    /// A translation type that the unit does not have or that this code does not handle.
    #[error("translation type {} is not supported", .0.0)]
    UnsupportedType(TranslationType),
    /// A translation type of a PASID that the unit does not have or that this code does not handle.
    #[error("translation type {} of a PASID is not supported", .0.0)]
    UnsupportedPasidType(PasidTranslationType),
    /// PASIDs are in use that lie beyond the first page of the directory.
    #[error("PASIDs from 32768 up are in use")]
    PasidTooLarge,
    /// A width that the unit does not have.
    #[error("address width {} is not supported", .0.0)]
    UnsupportedWidth(AddressWidth),
    /// The unit has fewer domain-ids.
    #[error("domain-id {0:#x} is more than the unit has")]
    DomainIdTooLarge(u16),
    /// Two sets of tables had this domain-id; the later one got another.
    #[error("domain-id {0:#x} was in use for other tables")]
    DomainIdShared(u16),
    /// There are no frames left for a copy.
    #[error("no frames are left for a copy")]
    OverBudget,
    /// There are more contexts than [`Limits::contexts`](crate::Limits::contexts).
    #[error("more contexts than are looked at")]
    TooManyContexts,
}

/// Where a hazard was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The context table of a bus.
    Bus(u8),
    /// A context entry.
    Device(SourceId),
    /// These I/O addresses of the domain with this id.
    Domain {
        /// Domain-id, as it is now.
        id: u16,
        /// I/O addresses.
        iova: Range,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bus(bus) => write!(f, "bus {bus:02x}"),
            Self::Device(source) => write!(f, "device {source}"),
            Self::Domain { id, iova } => write!(f, "domain {id:#x}, {iova}"),
        }
    }
}

/// Something wrong or dangerous, and what was done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hazard {
    /// Where.
    pub place: Place,
    /// What.
    pub danger: Danger,
    /// What was done.
    pub outcome: Outcome,
}

impl Hazard {
    /// Takes in a hazard of the same kind that starts where this one ends; says whether it did.
    fn extend(&mut self, next: &Self) -> bool {
        let (Place::Domain { id, iova }, Place::Domain { id: next_id, iova: next_iova }) =
            (&mut self.place, next.place)
        else {
            return false;
        };
        let follows = *id == next_id && iova.end == next_iova.start && self.outcome == next.outcome;
        if !follows || discriminant(&self.danger) != discriminant(&next.danger) {
            return false;
        }
        iova.end = next_iova.end;
        true
    }
}

impl fmt::Display for Hazard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.place, self.danger, self.outcome)
    }
}

/// Hazards, up to a limit; the rest is counted.
#[derive(Clone, Debug, Default)]
pub struct Hazards {
    /// The first ones, in the order in which they were met.
    pub listed: Vec<Hazard>,
    /// How many more there were.
    pub unlisted: u64,
    limit: usize,
}

impl Hazards {
    pub(crate) fn new(limit: usize) -> Self {
        Self { listed: Vec::new(), unlisted: 0, limit }
    }

    /// Adds a hazard; neighbouring ones of a domain become one, of which the first danger is told.
    pub(crate) fn note(&mut self, place: Place, danger: Danger, outcome: Outcome) {
        let hazard = Hazard { place, danger, outcome };
        if self.listed.last_mut().is_some_and(|last| last.extend(&hazard)) {
            return;
        }
        if self.listed.len() >= self.limit || push(&mut self.listed, hazard).is_err() {
            self.unlisted += 1;
        }
    }

    /// How many there were; neighbouring ones count as one.
    pub fn count(&self) -> u64 {
        self.listed.len() as u64 + self.unlisted
    }
}

/// One present entry of the old kernel that said how requests are translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContextReport {
    /// Whose requests.
    pub source: SourceId,
    /// Those with this PASID; `None` for those without.
    pub pasid: Option<u32>,
    /// The entry as it was found.
    pub entry: Entry,
    /// Its domain-id now; `None` if it is not carried over.
    pub domain: Option<u16>,
    /// What became of it.
    pub outcome: Outcome,
}

impl ContextReport {
    fn new(context: &Context, domains: &[Domain]) -> Self {
        let domain = context.domain.and_then(|index| domains.get(index));
        let carried = domain.filter(|domain| domain.root.is_some());
        Self {
            source: context.source,
            pasid: context.pasid,
            entry: context.entry,
            domain: carried.map(|domain| domain.id),
            outcome: carried.map_or(Outcome::Blocked, |domain| domain.outcome),
        }
    }
}

/// One domain of the old kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DomainReport {
    /// Domain-id, as it is now.
    pub id: u16,
    /// Width of its tables.
    pub width: AddressWidth,
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
        let Domain { id, width, tables, leaves, fenced, outcome, .. } = *domain;
        Self { id, width, tables, leaves, fenced, outcome }
    }
}

/// The state in which a unit was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Global status.
    pub status: GlobalStatus,
    /// The old root table.
    pub root: RootTableAddress,
    /// Fault status: errors of the old queue, and faults that the old kernel had not handled.
    pub faults: FaultStatus,
    /// The first faults recorded until the takeover was done: they are evidence, and were cleared.
    pub fault_records: Vec<FaultRecord>,
    /// The old invalidation queue.
    pub queue: OldQueue,
}

/// What was found and what became of it.
#[derive(Clone, Debug)]
pub struct Report {
    /// The state in which the unit was found.
    pub found: Found,
    /// The root table now in force.
    pub root: RootTableAddress,
    /// Every present context entry, by source-id.
    pub contexts: Vec<ContextReport>,
    /// Every domain.
    pub domains: Vec<DomainReport>,
    /// Everything wrong or dangerous.
    pub hazards: Hazards,
    /// Tables of all kinds that were copied: root, context and page tables.
    pub tables_duplicated: u64,
}

impl Report {
    pub(crate) fn new(
        found: Found,
        root: RootTableAddress,
        contexts: &[Context],
        domains: &[Domain],
        hazards: Hazards,
        tables_duplicated: u64,
    ) -> Result<Self, OutOfMemory> {
        let mut report =
            Self { found, root, contexts: Vec::new(), domains: Vec::new(), hazards, tables_duplicated };
        for context in contexts {
            push(&mut report.contexts, ContextReport::new(context, domains))?;
        }
        for domain in domains {
            push(&mut report.domains, DomainReport::new(domain))?;
        }
        Ok(report)
    }

    /// Contexts that were carried over.
    pub fn contexts_accepted(&self) -> u64 {
        self.contexts.iter().filter(|context| context.domain.is_some()).count() as u64
    }

    /// Leaf entries that map something.
    pub fn leaf_mappings(&self) -> u64 {
        self.domains.iter().map(|domain| domain.leaves).sum()
    }

    /// Domains whose ids and I/O addresses are kept out of use.
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

/// In which state the old kernel's invalidation queue was when it was turned off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldQueue {
    /// It was not on.
    Off,
    /// It had done all its work.
    Drained,
    /// It had stopped, or did not finish in time.
    Stuck {
        /// IQH at the end.
        head: u64,
        /// IQT at the end.
        tail: u64,
    },
}

/// Which tables a unit translates with after a takeover failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InForce {
    /// The old kernel's: nothing was changed that devices can notice.
    Old,
    /// The copies, which translate alike, but the caches may still hold what was fenced.
    New,
    /// The unit did not say.
    Unknown,
}

/// Why a unit was not taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Translation is off: there is nothing to inherit.
    #[error("translation is off")]
    TranslationOff,
    /// The tables are of a mode that is not handled.
    #[error("translation table mode {} is not handled", .0.0)]
    Mode(TableMode),
    /// The root table is not in the machine's memory.
    #[error("the root table at {0:#x} is not in memory")]
    RootUnreadable(u64),
    /// The root table is in the capture kernel's memory.
    #[error("the root table at {0:#x} is in the capture kernel's memory")]
    RootInOwnMemory(u64),
    /// There are not enough frames for root and context tables, or for the queue.
    #[error("no frames are left")]
    OutOfFrames,
    /// There is not enough memory for the lists.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
    /// A register did not answer, or held something else than was written.
    #[error(transparent)]
    Unit(#[from] UnitError),
}

/// A unit was not taken over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} ({})", self.in_force_words())]
pub struct Failure {
    /// Why.
    pub reason: Reason,
    /// Which tables the unit now translates with.
    pub in_force: InForce,
}

impl Failure {
    fn in_force_words(&self) -> &'static str {
        match self.in_force {
            InForce::Old => "the old tables are in force",
            InForce::New => "the new tables are in force",
            InForce::Unknown => "which tables are in force is not known",
        }
    }
}

impl From<Reason> for Failure {
    fn from(reason: Reason) -> Self {
        Self { reason, in_force: InForce::Old }
    }
}

impl From<OutOfMemory> for Failure {
    fn from(reason: OutOfMemory) -> Self {
        Reason::from(reason).into()
    }
}
