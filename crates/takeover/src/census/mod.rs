//! What a unit translates: which devices, in which domains, through how many tables.
//!
//! Root, context and PASID tables are copied into own frames and checked there; these copies become the new tables.
//! Of the page tables only the upper levels are read here, to count what a copy would take: the check that decides
//! is made on the copy ([`duplicate`](crate::duplicate)).

mod count;
mod domains;
mod legacy;
mod scalable;

use alloc::vec::Vec;

use machine::{Clock, Frames, OldMemory, Registers};
use vtd::paging::{AddressWidth, Level};
use vtd::root::ContextTablePointer;
use vtd::source::SourceId;

use crate::entry::{Abilities, Entry, Slot};
use crate::failure::Reason;
use crate::growth::{OutOfMemory, push};
use crate::hazard::{Danger, Hazards, Outcome, Place};
use crate::ids::DomainIds;
use crate::mode::Mode;
use crate::tables::{Tables, copy_table};
use crate::{Limits, Surroundings, Unit};
use domains::Domains;

/// What a unit translates.
#[derive(Debug)]
pub struct Census {
    /// What is translated for whom, by source-id.
    pub contexts: Vec<Context>,
    /// Domains, in the order in which their first device was met.
    pub domains: Vec<Domain>,
    /// What was wrong so far.
    pub hazards: Hazards,
    pub(crate) tables: Tables,
    pub(crate) ids: DomainIds,
}

/// A present entry that says how requests of a device are translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// Whose requests.
    pub source: SourceId,
    /// Those with this PASID; `None` for those without.
    pub pasid: Option<u32>,
    /// The entry as it was found.
    pub entry: Entry,
    /// Index of its domain in [`Census::domains`]; `None` if it is refused.
    pub domain: Option<usize>,
    /// Where its copy is.
    pub(crate) slot: Slot,
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
    /// Those of them above level 1.
    pub upper_tables: u64,
}

/// Takes the census of a unit. Nothing is changed but own frames.
pub fn take<R: Registers, C: Clock>(
    unit: &Unit<'_, R, C>,
    old: &impl OldMemory,
    frames: &mut impl Frames,
    surroundings: &Surroundings<'_>,
    limits: &Limits,
) -> Result<Census, Reason> {
    let mode = check_mode(unit)?;
    let root = copy_root(unit.root_table().address(), old, frames, surroundings)?;
    let abilities = Abilities::of(unit);
    let mut taker = Taker {
        old,
        frames,
        surroundings,
        limits,
        abilities,
        tables: Tables::new(mode, root),
        contexts: Vec::new(),
        domains: Domains::new(abilities.capability.domains())?,
        hazards: Hazards::new(limits.hazards),
    };
    taker.visit_root()?;
    taker.sort_contexts()?;
    taker.count_tables();
    let Taker { contexts, domains, hazards, tables, .. } = taker;
    Ok(Census { contexts, domains: domains.list, hazards, tables, ids: domains.ids })
}

fn check_mode<R: Registers, C: Clock>(unit: &Unit<'_, R, C>) -> Result<Mode, Reason> {
    if !unit.status().tes() {
        return Err(Reason::TranslationOff);
    }
    let mode = unit.root_table().mode();
    Mode::of(mode).ok_or(Reason::Mode(mode))
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

/// Walks root and context tables, in own copies, in the order of source-ids.
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
}

impl<M: OldMemory, F: Frames> Taker<'_, M, F> {
    /// Copies all context tables and makes the copied root table point to the copies.
    fn visit_root(&mut self) -> Result<(), OutOfMemory> {
        for word in self.tables.mode.root_words() {
            let new = match self.copy_context_table(word) {
                Ok(Some(table)) => {
                    self.tables.remember_context_table(word, table)?;
                    self.visit_context_table(word, table)?;
                    ContextTablePointer::to(table)
                }
                Ok(None) => ContextTablePointer::new(),
                Err(danger) => {
                    self.hazards.note(Place::Bus((word / 2) as u8), danger, Outcome::Blocked);
                    ContextTablePointer::new()
                }
            };
            let root = self.frames.table_mut(self.tables.root);
            root[word] = new.into_bits();
            if let Some(reserved) = self.tables.mode.reserved_root_word(word) {
                root[reserved] = 0;
            }
        }
        Ok(())
    }

    fn copy_context_table(&mut self, root_word: usize) -> Result<Option<u64>, Danger> {
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

    fn visit_context_table(&mut self, root_word: usize, table: u64) -> Result<(), OutOfMemory> {
        match self.tables.mode {
            Mode::Legacy => self.visit_legacy(root_word, table),
            Mode::Scalable => self.visit_scalable(root_word, table),
        }
    }

    fn copy(&mut self, table: u64) -> Result<u64, Danger> {
        copy_table(table, self.old, self.frames, self.surroundings)
    }

    /// Lists a present entry, if there is room; otherwise its copy blocks.
    fn list(
        &mut self,
        source: SourceId,
        pasid: Option<u32>,
        entry: Entry,
        slot: Slot,
    ) -> Result<(), OutOfMemory> {
        if self.contexts.len() < self.limits.contexts {
            self.domains.ids.mark(entry.domain());
            return push(&mut self.contexts, Context { source, pasid, entry, domain: None, slot });
        }
        self.hazards.note(Place::Device(source), Danger::TooManyContexts, Outcome::Blocked);
        entry.blocked().fill(slot, self.frames);
        Ok(())
    }

    /// Puts all listed contexts into their domains, or refuses them.
    fn sort_contexts(&mut self) -> Result<(), OutOfMemory> {
        for context in &mut self.contexts {
            let place = Place::Device(context.source);
            match self.abilities.judge(context.entry, self.surroundings.host_address_bits) {
                Ok(domain) => context.domain = self.domains.enter(domain, place, &mut self.hazards)?,
                Err(danger) => self.hazards.note(place, danger, Outcome::Blocked),
            }
        }
        Ok(())
    }
}
