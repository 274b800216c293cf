//! Applies damage to the old kernel's tables: which word each piece of it hits.

use super::{OldKernel, OldTables};
use crate::amdvi::damage::{Damage, Table, Victim};
use crate::amdvi::scenario::{Meddling, Stray};
use crate::harm::{Aims, one_of, some_word};
use amdvi::host_table::{HostEntry, NextLevel};
use machine::{IoAddress, PAGE_SIZE, PhysicalAddress};

impl OldTables {
    /// The tables of all kinds.
    fn all(&self) -> Vec<PhysicalAddress> {
        let devices = self.devices.iter().flatten();
        [&self.paging, &self.cr3, &self.interrupts].into_iter().flatten().chain(devices).copied().collect()
    }
}

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
            Victim::Entry { source, word } => {
                let unit = self.scenario.functions.iter().find(|function| function.source == source)?.unit;
                Some(self.entry_of(unit, source)?.saturating_add(word as u64 % 4 * 8))
            }
            Victim::Leaf { domain, iova } => self.leaf_of(domain, iova),
        }
    }

    /// A page of a table of some kind.
    fn table(&self, table: Table, which: usize) -> Option<PhysicalAddress> {
        let tables = &self.tables;
        match table {
            Table::Device => {
                let units = tables.devices.iter().zip(&self.scenario.units);
                let pages = units.flat_map(|(segments, unit)| {
                    let pages = move |start: &PhysicalAddress| {
                        let start = *start;
                        (0..unit.table_pages).map(move |page| start.saturating_add(page * PAGE_SIZE))
                    };
                    segments.iter().flat_map(pages)
                });
                one_of(&pages.collect::<Vec<_>>(), which)
            }
            Table::Cr3 => one_of(&tables.cr3, which),
            Table::Paging => one_of(&tables.paging, which),
            Table::Interrupt => one_of(&tables.interrupts, which),
        }
    }

    /// The address of the leaf entry for an I/O address. Guest tables have no next level: their large pages have a bit of their
    /// own.
    fn leaf_of(&self, domain: usize, iova: IoAddress) -> Option<PhysicalAddress> {
        use crate::amdvi::scenario::Stage;
        let description = self.scenario.domains.get(domain)?;
        let (mut table, mut level) = (*self.tops.get(domain)?, description.top);
        loop {
            let at = self.place(table).saturating_add(level.index(iova) as u64 * 8);
            let entry = HostEntry(self.memory.read(at)?);
            let next = match description.stage {
                Stage::Host => match entry.next_level() {
                    NextLevel::Table(next) => Some(next),
                    NextLevel::Page | NextLevel::SizedPage => None,
                },
                Stage::Guest | Stage::Nested(_) => level.below().filter(|_| entry.0 & 1 << 7 == 0),
            };
            match next {
                _ if !entry.present() => return None,
                Some(next) => (table, level) = (entry.address(), next),
                None => return Some(at),
            }
        }
    }
}
