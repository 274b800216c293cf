//! What a unit translates: which devices, in which domains, through how many tables.
//!
//! Root and context tables are copied into own frames and checked there; these copies become the new tables. Of the page
//! tables only the upper levels are read here, to count what a copy would take: the check that decides is made on the copy
//! ([`duplicate`](crate::duplicate)).

use alloc::vec::Vec;

use machine::{Clock, Frames, OldMemory, PAGE_SIZE, Range, Registers};
use vtd::capability::{Capability, ExtendedCapability};
use vtd::context::{ContextEntry, ContextLow, TranslationType};
use vtd::control::TableMode;
use vtd::paging::{AddressWidth, Level};
use vtd::root::ContextTablePointer;
use vtd::second_stage::SecondStageEntry;
use vtd::source::SourceId;

use crate::copies::Copies;
use crate::growth::{OutOfMemory, insert, push};
use crate::identity::Identity;
use crate::ids::DomainIds;
use crate::report::{Danger, Hazards, Outcome, Place, Reason};
use crate::{Limits, Surroundings, Unit};

/// How many domains whose id was taken get another; devices of more are blocked.
const RENAMED_DOMAINS: usize = 64;

/// How often as many tables as there are frames are counted, over all domains. Those that come after are taken for too large.
const COUNTING_ROUNDS: u64 = 4;

/// What a unit translates.
#[derive(Debug)]
pub struct Census {
    /// Present context entries, by source-id.
    pub contexts: Vec<Context>,
    /// Domains, in the order in which their first device was met.
    pub domains: Vec<Domain>,
    /// What was wrong so far.
    pub hazards: Hazards,
    pub(crate) tables: Tables,
    pub(crate) ids: DomainIds,
}

/// Copies of the root table and the context tables, in own frames.
#[derive(Debug)]
pub(crate) struct Tables {
    pub(crate) root: u64,
    pub(crate) buses: Vec<Bus>,
}

/// The context table of one bus.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bus {
    pub(crate) number: u8,
    pub(crate) table: u64,
}

/// A present context entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// Whose.
    pub source: SourceId,
    /// The entry as it was found.
    pub entry: ContextEntry,
    /// Index of its domain in [`Census::domains`]; `None` if it is refused.
    pub domain: Option<usize>,
}

/// How the devices of a domain reach memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Translation {
    /// Through the tables under the root table at this address.
    Tables(u64),
    /// Their addresses are physical: pass-through.
    Identity,
}

/// One translation under one domain-id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Domain {
    /// Domain-id; another than the old kernel's if that was in use for another translation.
    pub id: u16,
    /// The old translation.
    pub translation: Translation,
    /// Width of the tables.
    pub width: AddressWidth,
    /// Level of the root table.
    pub top: Level,
    /// Tables that a copy takes: counted until there are more than frames.
    pub tables: u64,
}

/// Takes the census of a unit. Nothing is changed but own frames.
pub fn take<R: Registers, C: Clock>(
    unit: &Unit<'_, R, C>,
    old: &impl OldMemory,
    frames: &mut impl Frames,
    surroundings: &Surroundings<'_>,
    limits: &Limits,
) -> Result<Census, Reason> {
    check_mode(unit)?;
    let root = copy_root(unit.root_table().address(), old, frames, surroundings)?;
    let mut taker = Taker {
        old,
        frames,
        surroundings,
        limits,
        tables: Tables { root, buses: Vec::new() },
        contexts: Vec::new(),
        hazards: Hazards::new(limits.hazards),
    };
    let (domains, ids) = taker.take(Abilities::of(unit))?;
    Ok(Census { contexts: taker.contexts, domains, hazards: taker.hazards, tables: taker.tables, ids })
}

fn check_mode<R: Registers, C: Clock>(unit: &Unit<'_, R, C>) -> Result<(), Reason> {
    if !unit.status().tes() {
        return Err(Reason::TranslationOff);
    }
    match unit.root_table().mode() {
        TableMode::LEGACY => Ok(()),
        mode => Err(Reason::Mode(mode)),
    }
}

fn copy_root(
    address: u64,
    old: &impl OldMemory,
    frames: &mut impl Frames,
    surroundings: &Surroundings<'_>,
) -> Result<u64, Reason> {
    copy_table(address, old, frames, surroundings).map_err(|danger| match danger {
        Danger::TableInOwnMemory(address) => Reason::RootInOwnMemory(address),
        Danger::TableUnreadable(address) => Reason::RootUnreadable(address),
        _ => Reason::OutOfFrames,
    })
}

/// Copies an old table into a frame of our own, unless it lies where no table of the old kernel can.
pub(crate) fn copy_table(
    address: u64,
    old: &impl OldMemory,
    frames: &mut impl Frames,
    surroundings: &Surroundings<'_>,
) -> Result<u64, Danger> {
    if surroundings.touches_own(Range::new(address, address.saturating_add(PAGE_SIZE))) {
        return Err(Danger::TableInOwnMemory(address));
    }
    let frame = frames.allocate().ok_or(Danger::OverBudget)?;
    if old.read_table(address, frames.table_mut(frame)).is_err() {
        frames.release(frame);
        return Err(Danger::TableUnreadable(address));
    }
    Ok(frame)
}

impl Tables {
    /// How many tables: the root table and the context tables.
    pub(crate) fn count(&self) -> u64 {
        1 + self.buses.len() as u64
    }

    /// The context table of a bus, if it has one.
    pub(crate) fn bus(&self, number: u8) -> Option<u64> {
        let index = self.buses.binary_search_by_key(&number, |bus| bus.number).ok()?;
        self.buses.get(index).map(|bus| bus.table)
    }
}

/// Walks root and context tables, in own copies, from bus 0 to bus 255.
struct Taker<'a, M, F> {
    old: &'a M,
    frames: &'a mut F,
    surroundings: &'a Surroundings<'a>,
    limits: &'a Limits,
    tables: Tables,
    contexts: Vec<Context>,
    hazards: Hazards,
}

impl<M: OldMemory, F: Frames> Taker<'_, M, F> {
    fn take(&mut self, abilities: Abilities) -> Result<(Vec<Domain>, DomainIds), OutOfMemory> {
        let mut domains = Domains::new(abilities.capability)?;
        for number in 0..=u8::MAX {
            self.visit_bus(number, &mut domains.ids)?;
        }
        for index in 0..self.contexts.len() {
            self.sort_in(index, abilities, &mut domains)?;
        }
        let mut left = self.frames.available() as u64 * COUNTING_ROUNDS;
        for domain in &mut domains.list {
            domain.tables = self.count(domain, abilities.capability, left);
            left = left.saturating_sub(domain.tables);
        }
        Ok((domains.list, domains.ids))
    }

    /// Copies the context table of a bus, lists its contexts, and makes the copied root entry point to the copy.
    fn visit_bus(&mut self, number: u8, ids: &mut DomainIds) -> Result<(), OutOfMemory> {
        let word = usize::from(number) * 2;
        let old = ContextTablePointer::from_bits(self.frames.table(self.tables.root)[word]);
        let mut new = ContextTablePointer::new();
        match self.copy_context_table(old) {
            Ok(Some(table)) => {
                push(&mut self.tables.buses, Bus { number, table })?;
                self.visit_contexts(Bus { number, table }, ids)?;
                new = ContextTablePointer::to(table);
            }
            Ok(None) => {}
            Err(danger) => self.hazards.note(Place::Bus(number), danger, Outcome::Blocked),
        }
        let root = self.frames.table_mut(self.tables.root);
        root[word] = new.into_bits();
        root[word + 1] = 0;
        Ok(())
    }

    fn copy_context_table(&mut self, old: ContextTablePointer) -> Result<Option<u64>, Danger> {
        if !old.present() {
            return Ok(None);
        }
        if old.reserved_bits(self.surroundings.host_address_bits) != 0 {
            return Err(Danger::ReservedBits);
        }
        copy_table(old.address(), self.old, self.frames, self.surroundings).map(Some)
    }

    /// Lists the present contexts of a bus and leaves just them in the copy.
    fn visit_contexts(&mut self, bus: Bus, ids: &mut DomainIds) -> Result<(), OutOfMemory> {
        for devfn in 0..=u8::MAX {
            let source = SourceId::new(bus.number, devfn);
            let entry = load_context(self.frames, bus.table, devfn);
            if entry.low.present() && self.list(source, entry)? {
                ids.mark(entry.high.domain());
            } else {
                fill_context(self.frames, bus.table, devfn, blocked(entry));
            }
        }
        Ok(())
    }

    /// Lists a present context; says whether there was room.
    fn list(&mut self, source: SourceId, entry: ContextEntry) -> Result<bool, OutOfMemory> {
        if self.contexts.len() >= self.limits.contexts {
            self.hazards.note(Place::Device(source), Danger::TooManyContexts, Outcome::Blocked);
            return Ok(false);
        }
        push(&mut self.contexts, Context { source, entry, domain: None })?;
        Ok(true)
    }

    /// Puts a listed context into its domain, or refuses it.
    fn sort_in(
        &mut self,
        index: usize,
        abilities: Abilities,
        domains: &mut Domains,
    ) -> Result<(), OutOfMemory> {
        let Context { source, entry, .. } = self.contexts[index];
        let domain = match abilities.judge(entry, self.surroundings.host_address_bits) {
            Ok(domain) => domains.enter(domain, source, &mut self.hazards)?,
            Err(danger) => {
                self.hazards.note(Place::Device(source), danger, Outcome::Blocked);
                None
            }
        };
        self.contexts[index].domain = domain;
        Ok(())
    }

    /// Counts the tables of a domain, up to one more than `limit` or than there are frames.
    fn count(&mut self, domain: &Domain, capability: Capability, limit: u64) -> u64 {
        let limit = limit.min(self.frames.available() as u64);
        match domain.translation {
            Translation::Identity => Identity::new(self.surroundings, capability).count(domain.top, limit),
            Translation::Tables(root) => {
                let (old, frames, surroundings) = (self.old, &mut *self.frames, self.surroundings);
                let mut counter =
                    Counter { old, frames, surroundings, seen: Copies::default(), count: 0, limit };
                counter.visit(root, domain.top);
                counter.count
            }
        }
    }
}

/// What a unit can do, as far as its context entries depend on it.
#[derive(Clone, Copy)]
struct Abilities {
    capability: Capability,
    extended: ExtendedCapability,
}

impl Abilities {
    fn of<R: Registers, C: Clock>(unit: &Unit<'_, R, C>) -> Self {
        Self { capability: unit.capability(), extended: unit.extended_capability() }
    }

    /// The domain that a present entry puts its device into, if hardware accepts the entry (9.3).
    fn judge(self, entry: ContextEntry, host_address_bits: u32) -> Result<Domain, Danger> {
        if entry.reserved_bits(host_address_bits) != (0, 0) {
            return Err(Danger::ReservedBits);
        }
        let id = entry.high.domain();
        if u32::from(id) >= self.capability.domains() {
            return Err(Danger::DomainIdTooLarge(id));
        }
        let translation = self.translation(entry)?;
        let width = entry.high.width();
        let top = width.top().filter(|_| self.capability.supports(width));
        let top = top.ok_or(Danger::UnsupportedWidth(width))?;
        Ok(Domain { id, translation, width, top, tables: 0 })
    }

    fn translation(self, entry: ContextEntry) -> Result<Translation, Danger> {
        match entry.low.translation() {
            TranslationType::TRANSLATED => Ok(Translation::Tables(entry.table())),
            TranslationType::DEVICE_TLB if self.extended.dt() => Ok(Translation::Tables(entry.table())),
            TranslationType::PASS_THROUGH if self.extended.pt() => Ok(Translation::Identity),
            other => Err(Danger::UnsupportedType(other)),
        }
    }
}

/// What is left of an entry that blocks its device: whether that is worth a fault record.
pub(crate) fn blocked(entry: ContextEntry) -> ContextEntry {
    let low = ContextLow::new().with_fault_disabled(entry.low.fault_disabled());
    ContextEntry { low, ..ContextEntry::default() }
}

/// Reads an entry of a copied context table.
pub(crate) fn load_context(frames: &impl Frames, table: u64, devfn: u8) -> ContextEntry {
    let word = usize::from(devfn) * 2;
    let words = frames.table(table);
    ContextEntry::from_words(words[word], words[word + 1])
}

/// Fills an entry of a copied context table that no hardware uses yet.
pub(crate) fn fill_context(frames: &mut impl Frames, table: u64, devfn: u8, entry: ContextEntry) {
    let word = usize::from(devfn) * 2;
    let words = frames.table_mut(table);
    words[word] = entry.low.into_bits();
    words[word + 1] = entry.high.into_bits();
}

/// The domains met so far. All ids of the old kernel are marked before the first is entered.
struct Domains {
    ids: DomainIds,
    list: Vec<Domain>,
    /// Old domain-id and index in the list; ascending.
    by_id: Vec<(u16, usize)>,
    /// The same for domains whose id was taken by another translation.
    renamed: Vec<(u16, usize)>,
}

impl Domains {
    fn new(capability: Capability) -> Result<Self, OutOfMemory> {
        let ids = DomainIds::new(capability.domains())?;
        Ok(Self { ids, list: Vec::new(), by_id: Vec::new(), renamed: Vec::new() })
    }

    /// Finds or makes the domain with this id and this translation.
    fn enter(
        &mut self,
        domain: Domain,
        source: SourceId,
        hazards: &mut Hazards,
    ) -> Result<Option<usize>, OutOfMemory> {
        match self.by_id.binary_search_by_key(&domain.id, |known| known.0) {
            Ok(at) if self.is(self.by_id[at].1, &domain) => Ok(Some(self.by_id[at].1)),
            Ok(_) => self.enter_renamed(domain, source, hazards),
            Err(at) => {
                insert(&mut self.by_id, at, (domain.id, self.list.len()))?;
                self.append(domain).map(Some)
            }
        }
    }

    /// Cached translations are told apart by domain-id alone (6.2), so two translations under one id would be mixed up: the
    /// later one gets an id that nobody uses.
    fn enter_renamed(
        &mut self,
        domain: Domain,
        source: SourceId,
        hazards: &mut Hazards,
    ) -> Result<Option<usize>, OutOfMemory> {
        let shared = Danger::DomainIdShared(domain.id);
        if let Some(known) =
            self.renamed.iter().find(|known| known.0 == domain.id && self.is(known.1, &domain))
        {
            return Ok(Some(known.1));
        }
        let unused = if self.renamed.len() < RENAMED_DOMAINS { self.ids.take_unused() } else { None };
        let Some(id) = unused else {
            hazards.note(Place::Device(source), shared, Outcome::Blocked);
            return Ok(None);
        };
        hazards.note(Place::Device(source), shared, Outcome::Duplicated);
        push(&mut self.renamed, (domain.id, self.list.len()))?;
        self.append(Domain { id, ..domain }).map(Some)
    }

    fn append(&mut self, domain: Domain) -> Result<usize, OutOfMemory> {
        push(&mut self.list, domain)?;
        Ok(self.list.len() - 1)
    }

    fn is(&self, index: usize, domain: &Domain) -> bool {
        let known = &self.list[index];
        known.translation == domain.translation && known.width == domain.width
    }
}

/// Counts the tables of one domain by reading all but the lowest level.
struct Counter<'a, M, F> {
    old: &'a M,
    frames: &'a mut F,
    surroundings: &'a Surroundings<'a>,
    seen: Copies,
    count: u64,
    limit: u64,
}

impl<M: OldMemory, F: Frames> Counter<'_, M, F> {
    /// Counts the table at `address` and those below it, each once, until there are more than the limit.
    fn visit(&mut self, address: u64, level: Level) {
        if self.count > self.limit || self.seen.find(address, level).is_some() {
            return;
        }
        self.count += 1;
        self.seen.remember(address, level, 0);
        let Some(below) = level.below() else { return };
        // A table that cannot be read is met again, and reported, when it should be copied.
        if let Ok(copy) = copy_table(address, self.old, self.frames, self.surroundings) {
            self.visit_entries(copy, level, below);
            self.frames.release(copy);
        }
    }

    fn visit_entries(&mut self, copy: u64, level: Level, below: Level) {
        for index in 0..machine::ENTRIES {
            let entry = SecondStageEntry(self.frames.table(copy)[index]);
            if entry.present() && !entry.is_leaf(level) {
                self.visit(entry.address(), below);
            }
        }
    }
}
