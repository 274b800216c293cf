//! Takes the census of a VT-d unit: root, context and PASID tables are copied into frames of our own and checked there; these
//! copies become the new tables.

mod legacy;
mod scalable;

use machine::{ENTRIES, Frames, OldMemory, PhysicalAddress, Registers, SourceId};
use vtd::control::TableMode;
use vtd::root::ContextTablePointer;

use crate::census::{Census, Roll, root_lost};
use crate::entry::Entry;
use crate::failure::Reason;
use crate::found::Context;
use crate::hazard::{Danger, HazardPlace, Outcome};
use crate::resources::Resources;
use crate::surroundings::Limits;
use crate::table::{copy_table, new_table};
use crate::vtd::judge::Abilities;
use crate::vtd::mode::Mode;
use crate::vtd::tables::Tables;
use crate::vtd::unit::Unit;
use machine::growth::{OutOfMemory, collected};

/// Takes the census of a unit, and returns the tables of our own that it made. It writes only to frames of our own.
pub(crate) fn take<R: Registers, C, M: OldMemory, F: Frames>(
    unit: &Unit<'_, R, C>,
    resources: &mut Resources<'_, M, F>,
) -> Result<(Census, Tables), Reason> {
    if !unit.status().tes() {
        return Err(Reason::TranslationOff);
    }
    let old_root = unit.root_table();
    let mode = Mode::of(unit).ok_or(Reason::Mode(old_root.mode()))?;
    let Resources { old, ref mut frames, surroundings, limits } = *resources;
    let root = match old_root.mode() {
        // No request passes, whatever is in memory: the tables that say the same are empty.
        TableMode::ABORT_DMA => new_table(*frames).ok_or(Reason::OutOfFrames)?,
        _ => copy_table(old_root.address(), old, *frames, surroundings.own_memory()).map_err(root_lost)?,
    };
    let abilities = Abilities::of(unit, mode);
    let roll = Roll::new(resources, abilities.architecture(), abilities.capability.domains())?;
    let mut taker = Taker { roll, abilities, tables: Tables::new(mode, root), economy: Economy::new(limits) };
    taker.visit_root()?;
    taker.visit_context_tables()?;
    taker.sort_contexts()?;
    Ok((taker.roll.close(None), taker.tables))
}

/// Walks the copies of root and context tables in the order of source-ids.
struct Taker<'a, M, F> {
    roll: Roll<'a, M, F>,
    abilities: Abilities,
    tables: Tables,
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
        let root = self.roll.frames.table_mut(self.tables.root);
        root[word] = new.into_bits();
        if let Some(reserved) = self.tables.mode.reserved_root_word(word) {
            root[reserved] = 0;
        }
        Ok(())
    }

    /// When the context table is copied that this word of the root table names.
    fn turn_of_table(&self, root_word: usize) -> Turn {
        let mut wanted = self.roll.surroundings.wanted.iter();
        let is_wanted = wanted.any(|source| self.tables.mode.root_word(*source) == root_word);
        if is_wanted { Turn::Wanted } else { Turn::Others }
    }

    /// When a device's tables are copied.
    fn turn_of(&self, source: SourceId) -> Turn {
        if self.roll.surroundings.wanted.contains(&source) { Turn::Wanted } else { Turn::Others }
    }

    /// Blocks all devices of a context table.
    fn lose_context_table(&mut self, root_word: usize, danger: Danger) -> Result<(), OutOfMemory> {
        self.roll.hazards.note(HazardPlace::Bus((root_word / 2) as u8), danger, Outcome::Blocked);
        let mode = self.tables.mode;
        let words = (0..ENTRIES).step_by(mode.context_words());
        let overlooked = words.filter(|_| danger == Danger::OverBudget);
        overlooked
            .map(|word| mode.source(root_word, word))
            .try_for_each(|source| self.roll.unknown.insert(source))
    }

    fn copy_context_table(&mut self, root_word: usize) -> Result<Option<PhysicalAddress>, Danger> {
        let root = self.roll.frames.table(self.tables.root);
        let old = ContextTablePointer::from_bits(root[root_word]);
        let reserved = self.tables.mode.reserved_root_word(root_word).map_or(0, |word| root[word]);
        if !old.present() {
            return Ok(None);
        }
        if reserved != 0 || old.reserved_bits(self.roll.surroundings.host_address_bits) != 0 {
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
        self.roll.contexts.sort_unstable_by_key(|context| (context.source, context.tag));
        Ok(())
    }

    /// Copies a table, if enough frames are left after that.
    fn copy(&mut self, table: PhysicalAddress) -> Result<PhysicalAddress, Danger> {
        if self.roll.frames.available() <= self.economy.leaves {
            return Err(Danger::OverBudget);
        }
        copy_table(table, self.roll.old, self.roll.frames, self.roll.surroundings.own_memory())
    }

    /// Lists a present entry, if there is room; otherwise its copy blocks.
    fn list(&mut self, context: Context) -> Result<(), OutOfMemory> {
        if !self.roll.list(context)? {
            self.block(context);
        }
        Ok(())
    }

    fn block(&mut self, context: Context) {
        if let (Some(slot), Entry::Vtd(entry)) = (context.slot, context.entry) {
            entry.blocked().fill(slot, self.roll.frames);
        }
    }

    /// Puts all listed contexts into their domains, or refuses them.
    fn sort_contexts(&mut self) -> Result<(), OutOfMemory> {
        let (abilities, bits) = (self.abilities, self.roll.surroundings.host_address_bits);
        self.roll.sort_contexts(|entry| abilities.judge(entry, bits))
    }
}
