//! Applies damage to the old kernel's tables: which word each piece of it hits.

use super::OldKernel;
use super::paging::top;
use crate::harm::{Aims, one_of, some_word};
use crate::vtd::damage::{Damage, Table, Victim};
use crate::vtd::scenario::{Meddling, Stray};
use machine::{IoAddress, PhysicalAddress};
use vtd::control::TableMode;
use vtd::second_stage::SecondStageEntry;

impl OldKernel<'_> {
    /// Applies damage to the tables.
    pub(crate) fn suffer(&mut self, damage: &[Damage]) {
        for one in damage {
            for (at, word) in self.consequences(*one) {
                self.memory.write(at, word);
            }
        }
    }

    /// The words that stray DMA writes, and when.
    pub(crate) fn meddling(&self, stray: &[Stray]) -> Vec<Meddling> {
        let writes = |stray: &Stray| {
            let before_read = stray.before_read;
            let words = self.consequences(stray.damage).into_iter();
            words.map(move |(address, value)| Meddling { before_read, address, value }).collect::<Vec<_>>()
        };
        stray.iter().flat_map(writes).collect()
    }

    /// The words that a piece of damage changes, and their new values.
    fn consequences(&self, damage: Damage) -> Vec<(PhysicalAddress, u64)> {
        let Some(at) = self.word_of(damage.victim) else { return Vec::new() };
        let (tables, forbidden) = (self.tables.all(), &self.tables.forbidden);
        damage.harm.done_to(at, &self.memory, &Aims { tables: &tables, forbidden })
    }

    fn word_of(&self, victim: Victim) -> Option<PhysicalAddress> {
        match victim {
            Victim::Some { table, which, word } => {
                Some(some_word(self.table(table, which)?, word, &self.memory))
            }
            Victim::Context(source) => self.context_of(source),
            Victim::RidPasid(source) => self.rid_pasid_of(source),
            Victim::Leaf { domain, iova } => self.leaf_of(domain, iova),
        }
    }

    fn table(&self, table: Table, which: usize) -> Option<PhysicalAddress> {
        let tables = &self.tables;
        match table {
            Table::Root => one_of(&tables.roots, which),
            Table::Context => one_of(&tables.contexts.values().copied().collect::<Vec<_>>(), which),
            Table::Pasid => one_of(&tables.pasids, which),
            Table::Paging => one_of(&tables.paging, which),
        }
    }

    fn context_of(&self, source: u16) -> Option<PhysicalAddress> {
        let (unit, mode) = self.unit_of(source)?;
        let [bus, devfn] = source.to_be_bytes().map(u64::from);
        let (root_word, offset) = match mode {
            TableMode::SCALABLE => (u64::from(source >> 7), (devfn & 0x7F) * 32),
            _ => (bus * 2, devfn * 16),
        };
        Some(self.tables.contexts.get(&(unit, root_word))?.saturating_add(offset))
    }

    fn rid_pasid_of(&self, source: u16) -> Option<PhysicalAddress> {
        self.unit_of(source).filter(|(_, mode)| *mode == TableMode::SCALABLE)?;
        Some(self.context_of(source)?.saturating_add(8))
    }

    /// The unit that translates for a function, and its mode.
    fn unit_of(&self, source: u16) -> Option<(usize, TableMode)> {
        let mut functions = self.scenario.functions.iter();
        let unit = functions.find(|function| function.source == source)?.unit;
        Some((unit, self.scenario.units.get(unit)?.mode))
    }

    /// The address of the leaf entry for an I/O address. Both stages have the leaf bit in the same place.
    fn leaf_of(&self, domain: usize, iova: IoAddress) -> Option<PhysicalAddress> {
        let (mut table, mut level) = (*self.tops.get(domain)?, top(self.scenario.domains.get(domain)?));
        loop {
            let at = self.place(table).saturating_add(level.index(iova) as u64 * 8);
            let entry = SecondStageEntry(self.memory.read(at)?);
            match level.below() {
                _ if entry.0 == 0 => return None,
                Some(below) if !entry.is_leaf(level) => (table, level) = (entry.address(), below),
                _ => return Some(at),
            }
        }
    }
}
