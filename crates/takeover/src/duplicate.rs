//! Copying page tables: each is copied into a frame of our own, checked there, and linked to the copies of those below.
//!
//! Within a domain a table that is used twice is copied once. Two domains never share a copy, even if the old kernel's
//! did: what is mapped later for a device of one must not appear in the other.
//!
//! A copy is exact, bit for bit but for addresses of tables, with these exceptions, each noted as a hazard: entries with
//! reserved bits (they faulted), tables that cannot be read or lie in our memory, and mappings that reach our memory. A
//! large page that only touches our memory is split, and only the part inside is cut out.

use alloc::vec::Vec;

use machine::{Clock, ENTRIES, Frames, OldMemory, PAGE_SIZE, Range, Registers, Table};
use vtd::capability::Capability;
use vtd::context::ContextEntry;
use vtd::paging::{AddressWidth, Level};
use vtd::second_stage::{ReservedBits, SecondStageEntry};

use crate::census::{self, Census, Context, Tables, blocked, copy_table, fill_context, load_context};
use crate::copies::Copies;
use crate::growth::{OutOfMemory, push};
use crate::ids::DomainIds;
use crate::plan::{Plan, Treatment};
use crate::report::{Danger, Hazards, Outcome, Place};
use crate::{Limits, Surroundings, Unit};

/// How many tables of blocked domains are read to learn which I/O addresses they map.
const OUTLINED_TABLES: u32 = 65536;

/// A second set of tables that translates as the old one does.
#[derive(Debug)]
pub struct Duplicate {
    /// Present context entries, by source-id.
    pub contexts: Vec<Context>,
    /// Domains, in the census's order.
    pub domains: Vec<Domain>,
    /// What was wrong.
    pub hazards: Hazards,
    pub(crate) tables: Tables,
    pub(crate) ids: DomainIds,
}

/// A domain and its own tables.
#[derive(Debug)]
pub struct Domain {
    /// Domain-id.
    pub id: u16,
    /// Width of the tables.
    pub width: AddressWidth,
    /// Level of the root table.
    pub top: Level,
    /// Root table; `None` while the domain is blocked.
    pub root: Option<u64>,
    /// I/O addresses: what the old kernel mapped is reserved.
    pub space: iova::Space,
    /// Page tables that were copied.
    pub tables: u64,
    /// Leaf entries that map something.
    pub leaves: u64,
    /// Leaf entries that were cut out.
    pub fenced: u64,
    /// What became of it.
    pub outcome: Outcome,
}

/// Copies the tables of each domain as the plan says and publishes the copies; the unit does not know of them yet.
pub fn duplicate<R: Registers, C: Clock>(
    unit: &Unit<'_, R, C>,
    census: Census,
    plan: &Plan,
    old: &impl OldMemory,
    frames: &mut impl Frames,
    surroundings: &Surroundings<'_>,
    limits: &Limits,
) -> Result<Duplicate, OutOfMemory> {
    let capability = unit.capability();
    let mut hazards = census.hazards;
    let mut domains = Vec::new();
    let mut outlined = OUTLINED_TABLES;
    for (found, treatment) in census.domains.iter().zip(&plan.treatments) {
        let mut copier = Copier {
            old,
            frames,
            surroundings,
            hazards: &mut hazards,
            own: hull(surroundings.own),
            reserved: ReservedBits::new(surroundings.host_address_bits, capability),
            spare: limits.spare_frames,
            copies: Copies::default(),
            domain: empty_domain(found, capability, limits)?,
        };
        match treatment {
            Treatment::Duplicate => copier.duplicate(found.root),
            Treatment::Block => copier.block(found.root, &mut outlined),
        }
        push(&mut domains, copier.domain)?;
    }
    let copy =
        Duplicate { contexts: census.contexts, domains, hazards, tables: census.tables, ids: census.ids };
    copy.link_contexts(frames);
    Ok(copy)
}

fn empty_domain(
    found: &census::Domain,
    capability: Capability,
    limits: &Limits,
) -> Result<Domain, OutOfMemory> {
    Ok(Domain {
        id: found.id,
        width: found.width,
        top: found.top,
        root: None,
        space: new_space(found.top, capability, limits.reserved_ranges)?,
        tables: 0,
        leaves: 0,
        fenced: 0,
        outcome: Outcome::Duplicated,
    })
}

/// The I/O addresses that tables of this level and the unit can translate. Address zero is never used: drivers and
/// devices take it for none.
pub(crate) fn new_space(
    top: Level,
    capability: Capability,
    reserved_ranges: usize,
) -> Result<iova::Space, OutOfMemory> {
    let bits = top.width().min(capability.guest_address_bits());
    let end = 1u64.checked_shl(bits).unwrap_or(u64::MAX);
    iova::Space::new(Range::new(PAGE_SIZE, end), reserved_ranges).map_err(|_| OutOfMemory)
}

/// The smallest range that holds all of them.
fn hull(ranges: &[Range]) -> Range {
    let start = ranges.iter().map(|range| range.start).min().unwrap_or(0);
    let end = ranges.iter().map(|range| range.end).max().unwrap_or(0);
    Range::new(start & !(PAGE_SIZE - 1), end)
}

impl Duplicate {
    /// How many tables of all kinds were copied.
    pub fn tables_duplicated(&self) -> u64 {
        self.tables.count() + self.domains.iter().map(|domain| domain.tables).sum::<u64>()
    }

    /// Makes the copied context entries point to the copied page tables, and publishes root and context tables.
    fn link_contexts(&self, frames: &mut impl Frames) {
        for context in &self.contexts {
            let Some(table) = self.tables.bus(context.source.bus()) else { continue };
            let domain = context.domain.and_then(|index| self.domains.get(index));
            let entry = load_context(frames, table, context.source.devfn());
            fill_context(frames, table, context.source.devfn(), linked(entry, domain));
        }
        for bus in &self.tables.buses {
            frames.publish(bus.table, 0..ENTRIES);
        }
        frames.publish(self.tables.root, 0..ENTRIES);
    }
}

/// The old entry with the tables and the id of its domain; type, width and ignored bits stay.
fn linked(old: ContextEntry, domain: Option<&Domain>) -> ContextEntry {
    match domain.and_then(|domain| Some((domain.root?, domain.id))) {
        Some((root, id)) => {
            ContextEntry { low: old.low.with_frame(root >> 12), high: old.high.with_domain(id) }
        }
        None => blocked(old),
    }
}

/// Copies the tables of one domain.
struct Copier<'a, M, F> {
    old: &'a M,
    frames: &'a mut F,
    surroundings: &'a Surroundings<'a>,
    hazards: &'a mut Hazards,
    /// The smallest range around the capture kernel's memory.
    own: Range,
    reserved: ReservedBits,
    spare: usize,
    copies: Copies,
    domain: Domain,
}

impl<M: OldMemory, F: Frames> Copier<'_, M, F> {
    fn duplicate(&mut self, root: u64) {
        match self.copy(root, self.domain.top, 0) {
            Ok(frame) => self.domain.root = Some(frame),
            Err(danger) => self.cut(self.whole(), danger, Outcome::Blocked),
        }
    }

    /// Copies nothing, but keeps the mapped I/O addresses out of use.
    fn block(&mut self, root: u64, tables_left: &mut u32) {
        self.outline(root, self.domain.top, 0, tables_left);
        self.note(self.whole(), Danger::OverBudget, Outcome::Blocked);
    }

    /// All I/O addresses of the domain.
    fn whole(&self) -> Range {
        Range::new(0, 1 << self.domain.top.width())
    }

    /// Copies a table, which translates the addresses from `base`, and all below it; returns the copy.
    fn copy(&mut self, table: u64, level: Level, base: u64) -> Result<u64, Danger> {
        if let Some(copy) = self.copies.find(table, level) {
            // Not walked again: tables that share all they can would take exponential time. Reserving too much is safe.
            self.domain.space.reserve(Range::new(base, base + (1 << level.width())));
            return Ok(copy);
        }
        self.check_budget()?;
        let copy = copy_table(table, self.old, self.frames, self.surroundings)?;
        self.domain.tables += 1;
        match level.below() {
            None => self.check_leaves(copy, base),
            Some(below) => self.copy_below(copy, level, below, base),
        }
        self.frames.publish(copy, 0..ENTRIES);
        self.copies.remember(table, level, copy);
        Ok(copy)
    }

    fn check_budget(&self) -> Result<(), Danger> {
        if self.frames.available() > self.spare { Ok(()) } else { Err(Danger::OverBudget) }
    }

    /// Replaces each entry of a copied table by one that points to a copy.
    fn copy_below(&mut self, copy: u64, level: Level, below: Level, base: u64) {
        for index in 0..ENTRIES {
            let entry = SecondStageEntry(self.frames.table(copy)[index]);
            if entry.present() {
                let iova = base + index as u64 * level.span();
                let kept = self.carry_over(entry, level, below, iova);
                self.frames.table_mut(copy)[index] = kept.0;
            }
        }
    }

    /// What a present entry above level 1 becomes.
    fn carry_over(
        &mut self,
        entry: SecondStageEntry,
        level: Level,
        below: Level,
        iova: u64,
    ) -> SecondStageEntry {
        let kept = if self.reserved.set_in(entry, level) != 0 {
            Err(Danger::ReservedBits)
        } else if entry.is_leaf(level) {
            self.carry_large(entry, level, iova)
        } else {
            self.copy(entry.address(), below, iova).map(|copy| entry.with_address(copy))
        };
        kept.unwrap_or_else(|danger| {
            self.cut(Range::new(iova, iova + level.span()), danger, Outcome::Fenced);
            SecondStageEntry::BLOCKED
        })
    }

    /// What a well-formed leaf above level 1 becomes.
    fn carry_large(
        &mut self,
        leaf: SecondStageEntry,
        level: Level,
        iova: u64,
    ) -> Result<SecondStageEntry, Danger> {
        let target = Range::new(leaf.address(), leaf.address() + level.span());
        if self.surroundings.inside_own(target) {
            self.domain.fenced += 1;
            return Err(Danger::ReachesOwnMemory(target.start));
        }
        match level.below() {
            Some(below) if self.surroundings.touches_own(target) => self.split(leaf, below, iova),
            _ => {
                self.domain.leaves += 1;
                self.domain.space.reserve(Range::new(iova, iova + level.span()));
                Ok(leaf)
            }
        }
    }

    /// Maps what a large leaf maps by a table of smaller ones, without what reaches our memory.
    fn split(&mut self, leaf: SecondStageEntry, level: Level, iova: u64) -> Result<SecondStageEntry, Danger> {
        self.check_budget()?;
        let table = self.frames.allocate().ok_or(Danger::OverBudget)?;
        for (index, slot) in self.frames.table_mut(table).iter_mut().enumerate() {
            *slot = leaf.as_leaf_of(level).with_address(leaf.address() + index as u64 * level.span()).0;
        }
        match level.below() {
            None => self.check_leaves(table, iova),
            Some(below) => self.copy_below(table, level, below, iova),
        }
        self.frames.publish(table, 0..ENTRIES);
        Ok(SecondStageEntry::table(table))
    }

    /// Checks a copied table of level 1, which translates the addresses from `base`.
    fn check_leaves(&mut self, copy: u64, base: u64) {
        let found = survey(self.frames.table(copy), self.reserved.leaf_mask(Level::ONE), self.own);
        self.domain.leaves += found.present;
        self.reserve_leaves(copy, base, found.present);
        if found.suspicious {
            self.cut_leaves(copy, base);
        }
    }

    fn reserve_leaves(&mut self, copy: u64, base: u64, present: u64) {
        if present == ENTRIES as u64 {
            return self.domain.space.reserve(Range::new(base, base + Level::TWO.span()));
        }
        for run in Runs::of(self.frames.table(copy)) {
            self.domain.space.reserve(Range::new(base + run.start * PAGE_SIZE, base + run.end * PAGE_SIZE));
        }
    }

    /// Clears the entries that have reserved bits or reach our memory.
    fn cut_leaves(&mut self, copy: u64, base: u64) {
        for index in 0..ENTRIES {
            let entry = SecondStageEntry(self.frames.table(copy)[index]);
            if let Err(danger) = self.check_leaf(entry) {
                self.frames.table_mut(copy)[index] = SecondStageEntry::BLOCKED.0;
                self.domain.leaves -= 1;
                self.domain.fenced += 1;
                let iova = base + index as u64 * PAGE_SIZE;
                self.cut(Range::new(iova, iova + PAGE_SIZE), danger, Outcome::Fenced);
            }
        }
    }

    fn check_leaf(&self, entry: SecondStageEntry) -> Result<(), Danger> {
        let target = Range::new(entry.address(), entry.address() + PAGE_SIZE);
        if !entry.present() {
            Ok(())
        } else if self.reserved.set_in(entry, Level::ONE) != 0 {
            Err(Danger::ReservedBits)
        } else if self.surroundings.touches_own(target) {
            Err(Danger::ReachesOwnMemory(target.start))
        } else {
            Ok(())
        }
    }

    /// Notes that these I/O addresses are not translated any more; they stay reserved.
    fn cut(&mut self, iova: Range, danger: Danger, outcome: Outcome) {
        self.domain.space.reserve(iova);
        self.note(iova, danger, outcome);
    }

    fn note(&mut self, iova: Range, danger: Danger, outcome: Outcome) {
        let outcome = if danger == Danger::OverBudget { Outcome::Blocked } else { outcome };
        self.domain.outcome = self.domain.outcome.max(outcome);
        self.hazards.note(Place::Domain { id: self.domain.id, iova }, danger, outcome);
    }

    /// Reserves what a table maps, to the nearest 2 MiB, or all it could map when too many tables were read.
    fn outline(&mut self, table: u64, level: Level, base: u64, tables_left: &mut u32) {
        let copy = match level.below() {
            Some(_) if *tables_left > 0 => copy_table(table, self.old, self.frames, self.surroundings),
            _ => Err(Danger::OverBudget),
        };
        let Ok(copy) = copy else {
            return self.domain.space.reserve(Range::new(base, base + (1 << level.width())));
        };
        *tables_left -= 1;
        for index in 0..ENTRIES {
            let entry = SecondStageEntry(self.frames.table(copy)[index]);
            self.outline_entry(entry, level, base + index as u64 * level.span(), tables_left);
        }
        self.frames.release(copy);
    }

    fn outline_entry(&mut self, entry: SecondStageEntry, level: Level, iova: u64, tables_left: &mut u32) {
        match level.below() {
            _ if !entry.present() => {}
            Some(below) if !entry.is_leaf(level) => self.outline(entry.address(), below, iova, tables_left),
            _ => self.domain.space.reserve(Range::new(iova, iova + level.span())),
        }
    }
}

/// What a look at a table of level 1 shows.
struct Survey {
    present: u64,
    suspicious: bool,
}

/// Looks at each entry once, without branches: almost all tables are full or empty, and nothing in them is wrong.
fn survey(table: &Table, reserved: u64, own: Range) -> Survey {
    let (mut present, mut suspicious) = (0, false);
    for entry in table.iter().map(|word| SecondStageEntry(*word)) {
        let wrong = (entry.0 & reserved != 0) | own.contains(entry.address());
        present += u64::from(entry.present());
        suspicious |= entry.present() & wrong;
    }
    Survey { present, suspicious }
}

/// Runs of present entries in a table of level 1, as ranges of indices.
struct Runs<'a> {
    table: &'a Table,
    next: usize,
}

impl<'a> Runs<'a> {
    fn of(table: &'a Table) -> Self {
        Self { table, next: 0 }
    }

    /// The first index from `self.next` on at which an entry is as wanted.
    fn first_index(&self, wanted: fn(SecondStageEntry) -> bool) -> Option<usize> {
        let rest = self.table.get(self.next..)?;
        rest.iter().position(|word| wanted(SecondStageEntry(*word))).map(|offset| self.next + offset)
    }
}

impl Iterator for Runs<'_> {
    type Item = Range;

    fn next(&mut self) -> Option<Range> {
        self.next = self.first_index(SecondStageEntry::present)?;
        let start = self.next;
        self.next = self.first_index(|entry| !entry.present()).unwrap_or(ENTRIES);
        Some(Range::new(start as u64, self.next as u64))
    }
}
