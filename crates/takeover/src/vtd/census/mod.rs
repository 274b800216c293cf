//! Takes the census of a unit: which devices it translates for, in which domains, through how many tables.
//!
//! Root, context and PASID tables are copied into frames of our own and checked there; these copies become the new
//! tables. The census reads only the upper levels of the page tables, to count the tables that a copy needs. The
//! decisive check is made on the copy (`duplicate`).

mod count;
mod domains;
mod idle;
mod legacy;
mod scalable;

use alloc::vec::Vec;

use machine::{ENTRIES, Frames, OldMemory, PhysicalAddress, Registers, SourceId};
use vtd::control::{RootTableAddress, TableMode};
use vtd::root::ContextTablePointer;

use crate::failure::Reason;
use crate::found::{Context, Demand, OldDomain, Translation};
use crate::hazard::{Danger, HazardPlace, Hazards, Outcome};
use crate::ids::DomainIds;
use crate::resources::Resources;
use crate::sources::Sources;
use crate::surroundings::{Limits, Surroundings};
use crate::table::{copy_table, new_table};
use crate::vtd::judge::Abilities;
use crate::vtd::mode::Mode;
use crate::vtd::tables::Tables;
use crate::vtd::unit::Unit;
use domains::Domains;
use machine::growth::{OutOfMemory, collected, push};

/// What a unit translates.
#[derive(Debug)]
pub struct Census {
    /// RTADDR as the old kernel left it.
    pub(crate) old_root: RootTableAddress,
    pub(crate) abilities: Abilities,
    /// Present entries, by source-id.
    pub(crate) contexts: Vec<Context>,
    /// Domains, in the order in which their first device was met.
    pub(crate) domains: Vec<OldDomain>,
    /// Hazards found so far.
    pub(crate) hazards: Hazards,
    pub(crate) tables: Tables,
    pub(crate) ids: DomainIds,
    /// Devices whose requests without PASID were translated, nobody knows how: they were not looked at.
    pub(crate) unknown: Sources,
}

/// Takes the census of a unit. It writes only to frames of our own.
pub fn take<R: Registers, C, M: OldMemory, F: Frames>(
    unit: &Unit<'_, R, C>,
    resources: &mut Resources<'_, M, F>,
) -> Result<Census, Reason> {
    let Resources { old, ref mut frames, surroundings, limits } = *resources;
    if !unit.status().tes() {
        return Err(Reason::TranslationOff);
    }
    let old_root = unit.root_table();
    let mode = Mode::of(unit).ok_or(Reason::Mode(old_root.mode()))?;
    let root = match old_root.mode() {
        // No request passes, whatever is in memory: the tables that say the same are empty.
        TableMode::ABORT_DMA => new_table(*frames).ok_or(Reason::OutOfFrames)?,
        _ => copy_table(old_root.address(), old, *frames, surroundings.own_memory()).map_err(root_lost)?,
    };
    let abilities = Abilities::of(unit, mode);
    let mut taker = Taker {
        old,
        frames: *frames,
        surroundings,
        limits,
        abilities,
        tables: Tables::new(mode, root),
        contexts: Vec::new(),
        domains: Domains::new(abilities.capability.domains())?,
        hazards: Hazards::new(limits.hazards),
        unknown: Sources::default(),
        economy: Economy::new(limits),
    };
    taker.visit_root()?;
    taker.visit_context_tables()?;
    taker.sort_contexts()?;
    taker.note_demand();
    taker.count_tables();
    let Taker { contexts, domains, hazards, tables, unknown, .. } = taker;
    let Domains { list: domains, ids, .. } = domains;
    Ok(Census { old_root, abilities, contexts, domains, hazards, tables, ids, unknown })
}

/// Why a takeover is refused when the root table cannot be copied.
fn root_lost(danger: Danger) -> Reason {
    match danger {
        Danger::TableInOwnMemory(address) => Reason::RootInOwnMemory(address),
        Danger::TableUnreadable(address) => Reason::RootUnreadable(address),
        _ => Reason::OutOfFrames,
    }
}

/// Walks the copies of root and context tables in the order of source-ids.
struct Taker<'a, M, F> {
    old: &'a M,
    frames: &'a mut F,
    surroundings: &'a Surroundings<'a>,
    limits: &'a Limits,
    abilities: Abilities,
    tables: Tables,
    contexts: Vec<Context>,
    domains: Domains,
    hazards: Hazards,
    unknown: Sources,
    economy: Economy,
}

/// How the census saves frames.
#[derive(Clone, Copy, Debug)]
struct Economy {
    /// How many frames each copy leaves.
    leaves: usize,
    /// Whether PASID tables of devices that work for nobody are given back.
    frugal: bool,
    /// How many frames are promised to the domains of devices that have their PASID tables.
    promised: usize,
}

impl Economy {
    fn new(limits: &Limits) -> Self {
        Self { leaves: limits.spare_frames, frugal: false, promised: 0 }
    }
}

/// When a device's tables are copied: those of wanted devices come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Wanted,
    Others,
}

impl<M: OldMemory, F: Frames> Taker<'_, M, F> {
    /// Copies all context tables, those of wanted devices first, and makes the copied root table point to the copies.
    fn visit_root(&mut self) -> Result<(), OutOfMemory> {
        let mode = self.tables.mode;
        for turn in [Turn::Wanted, Turn::Others] {
            for word in mode.root_words() {
                if self.turn_of_table(word) == turn {
                    self.visit_root_entry(word)?;
                }
            }
        }
        Ok(())
    }

    fn visit_root_entry(&mut self, word: usize) -> Result<(), OutOfMemory> {
        let new = match self.copy_context_table(word) {
            Ok(Some(table)) => {
                self.tables.remember_context_table(word, table)?;
                ContextTablePointer::to(table)
            }
            Ok(None) => ContextTablePointer::new(),
            Err(danger) => {
                self.lose_context_table(word, danger)?;
                ContextTablePointer::new()
            }
        };
        let root = self.frames.table_mut(self.tables.root);
        root[word] = new.into_bits();
        if let Some(reserved) = self.tables.mode.reserved_root_word(word) {
            root[reserved] = 0;
        }
        Ok(())
    }

    /// When the context table is copied that this word of the root table names.
    fn turn_of_table(&self, root_word: usize) -> Turn {
        let mut wanted = self.surroundings.wanted.iter();
        let is_wanted = wanted.any(|source| self.tables.mode.root_word(*source) == root_word);
        if is_wanted { Turn::Wanted } else { Turn::Others }
    }

    /// When a device's tables are copied.
    fn turn_of(&self, source: SourceId) -> Turn {
        if self.surroundings.wanted.contains(&source) { Turn::Wanted } else { Turn::Others }
    }

    /// Blocks all devices of a context table.
    fn lose_context_table(&mut self, root_word: usize, danger: Danger) -> Result<(), OutOfMemory> {
        self.hazards.note(HazardPlace::Bus((root_word / 2) as u8), danger, Outcome::Blocked);
        let mode = self.tables.mode;
        let words = (0..ENTRIES).step_by(mode.context_words());
        let overlooked = words.filter(|_| danger == Danger::OverBudget);
        overlooked.map(|word| mode.source(root_word, word)).try_for_each(|source| self.unknown.insert(source))
    }

    fn copy_context_table(&mut self, root_word: usize) -> Result<Option<PhysicalAddress>, Danger> {
        let root = self.frames.table(self.tables.root);
        let old = ContextTablePointer::from_bits(root[root_word]);
        let reserved = self.tables.mode.reserved_root_word(root_word).map_or(0, |word| root[word]);
        if !old.present() {
            return Ok(None);
        }
        if reserved != 0 || old.reserved_bits(self.surroundings.host_address_bits) != 0 {
            return Err(Danger::ReservedBits);
        }
        self.copy(old.address()).map(Some)
    }

    /// Lists the present entries of all context tables, by source-id, and copies what these name.
    fn visit_context_tables(&mut self) -> Result<(), OutOfMemory> {
        let tables = collected(self.tables.context_tables())?;
        match self.tables.mode {
            Mode::Legacy => {
                tables.iter().try_for_each(|(root_word, table)| self.visit_legacy(*root_word, *table))?;
            }
            Mode::Scalable => self.visit_scalable(&tables)?,
        }
        self.contexts.sort_unstable_by_key(|context| (context.source, context.tag));
        Ok(())
    }

    /// Notes which domains have devices whose entries are in force, and which of these devices are wanted.
    fn note_demand(&mut self) {
        for context in self.contexts.iter().filter(|context| context.slot.is_some()) {
            let Some(domain) = context.domain else { continue };
            let wanted = self.surroundings.wanted.contains(&context.source);
            let demand = if wanted { Demand::Wanted } else { Demand::Used };
            let known = &mut self.domains.list[domain].demand;
            *known = demand.min(*known);
        }
    }

    /// Copies a table, if enough frames are left after that.
    fn copy(&mut self, table: PhysicalAddress) -> Result<PhysicalAddress, Danger> {
        if self.frames.available() <= self.economy.leaves {
            return Err(Danger::OverBudget);
        }
        copy_table(table, self.old, self.frames, self.surroundings.own_memory())
    }

    /// Lists a present entry, if there is room; otherwise its copy blocks.
    fn list(&mut self, context: Context) -> Result<(), OutOfMemory> {
        self.domains.ids.mark(context.entry.domain());
        if self.contexts.len() < self.limits.contexts {
            return push(&mut self.contexts, context);
        }
        self.hazards.note(HazardPlace::Device(context.source), Danger::TooManyContexts, Outcome::Blocked);
        if let Some(slot) = context.slot {
            context.entry.blocked().fill(slot, self.frames);
        }
        self.unknown.insert(context.source)
    }

    /// Puts all listed contexts into their domains, or refuses them.
    ///
    /// Pass-through contexts come last. Pass-through may share its domain-id with first-stage tables (6.2.3.1), of
    /// which each process can have a set. It becomes second-stage tables, which must not share their id, so
    /// pass-through is what gets another id.
    fn sort_contexts(&mut self) -> Result<(), OutOfMemory> {
        let mut pass_through = Vec::new();
        for index in 0..self.contexts.len() {
            let Context { source, entry, .. } = self.contexts[index];
            match self.abilities.judge(entry, self.surroundings.host_address_bits) {
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
}
