//! Writes page tables of hosts and guests.

use super::OldKernel;
use crate::amdvi::scenario::{Domain, Levels, Pages, Stage};
use crate::parts::Mapping;
use amdvi::host_table::HostEntry;
use machine::{ENTRIES, IoAddress, Level, PAGE_SIZE, PhysicalAddress};
use std::collections::BTreeMap;
use vtd::first_stage::FirstStageEntry;

/// Bits 62:52 of guest entries, which hardware ignores (2.2.6).
const IGNORED_IN_GUESTS: u64 = 0x7FF << 52;

impl OldKernel<'_> {
    /// Writes a domain's tables and returns its top table, by the address in entries.
    pub(super) fn write_domain(&mut self, index: usize) -> PhysicalAddress {
        let domain = &self.scenario.domains[index];
        let of_guests = self.of_guests.get(&index).into_iter().flatten();
        let mut mappings: Vec<Mapping> = domain.mappings.iter().chain(of_guests).copied().collect();
        mappings.sort_by_key(|mapping| mapping.iova);
        for pair in mappings.windows(2) {
            let [one, next] = pair else { continue };
            let free = one.level.entry_span(one.iova).end <= next.iova;
            assert!(free, "mappings overlap at {:#x}", next.iova);
        }
        self.write_table(domain, domain.top, &mappings)
    }

    /// Writes a table of this level, with these mappings, and those below it.
    fn write_table(&mut self, domain: &Domain, level: Level, mappings: &[Mapping]) -> PhysicalAddress {
        let host = match domain.stage {
            Stage::Nested(host) => Some(host),
            Stage::Host | Stage::Guest => None,
        };
        let table = self.table_of(host);
        self.tables.paging.push(self.place(table));
        let (leaves, below): (Vec<Mapping>, Vec<Mapping>) =
            mappings.iter().partition(|mapping| mapping.level == level);
        self.write_leaves(domain, table, level, &leaves);
        let mut groups: BTreeMap<usize, Vec<Mapping>> = BTreeMap::new();
        for mapping in below {
            groups.entry(level.index(mapping.iova)).or_default().push(mapping);
        }
        for (index, mappings) in groups {
            let next = next_level(domain, level, &mappings);
            let lower = self.write_table(domain, next, &mappings);
            let entry = self.table_entry(domain, lower, next);
            self.write_entry(table, index, entry);
        }
        table
    }

    fn write_leaves(&mut self, domain: &Domain, table: PhysicalAddress, level: Level, leaves: &[Mapping]) {
        let mut rest = leaves;
        while let Some(first) = rest.first() {
            let joined = joined(domain, level, rest);
            let entry = self.leaf(domain, level, first, joined);
            for mapping in &rest[..1 << joined] {
                self.write_entry(table, level.index(mapping.iova), entry);
            }
            rest = &rest[1 << joined..];
        }
    }

    fn write_entry(&mut self, table: PhysicalAddress, index: usize, entry: u64) {
        let at = self.place(table).saturating_add(index as u64 * 8);
        self.memory.write(at, entry);
    }

    fn table_entry(&mut self, domain: &Domain, table: PhysicalAddress, next: Level) -> u64 {
        match domain.stage {
            Stage::Host => {
                HostEntry::table(table, next).0 | self.some_of(HostEntry::IGNORED | HostEntry::USED)
            }
            Stage::Guest | Stage::Nested(_) => {
                FirstStageEntry::table(table).0 | self.some_of(IGNORED_IN_GUESTS | HostEntry::USED)
            }
        }
    }

    /// The entry of `2^joined` pages that begin with `first`.
    fn leaf(&mut self, domain: &Domain, level: Level, first: &Mapping, joined: u32) -> u64 {
        let Mapping { memory, permission, .. } = *first;
        match domain.stage {
            Stage::Host => {
                let entry = match joined {
                    0 => HostEntry::page(memory, permission),
                    _ => HostEntry::sized_page(memory, level.shift() + joined, permission),
                };
                entry.0 | self.some_of(HostEntry::IGNORED | HostEntry::USED)
            }
            Stage::Guest | Stage::Nested(_) => {
                let entry = FirstStageEntry::leaf(level, memory, permission);
                entry.0 | self.some_of(IGNORED_IN_GUESTS | HostEntry::USED)
            }
        }
    }

    fn some_of(&mut self, bits: u64) -> u64 {
        self.rng.u64(..) & bits
    }

    /// Links tables of other domains into the empty entries of top tables.
    pub(super) fn link_shared_tables(&mut self) {
        for (index, domain) in self.scenario.domains.iter().enumerate() {
            let Some(&other) = domain.shares_with.and_then(|other| self.tops.get(other)) else { continue };
            let (mine, theirs) = (self.place(self.tops[index]), self.place(other));
            for at in (0..PAGE_SIZE).step_by(8) {
                let word = |table: PhysicalAddress| self.memory.read(table.saturating_add(at)).unwrap_or(0);
                // Both formats have presence in the same place.
                if word(mine) & HostEntry::PRESENCE == 0 {
                    self.memory.write(mine.saturating_add(at), word(theirs));
                }
            }
        }
    }
}

/// The level of the table below an entry of a table of this level: the next one, or one that translates all bits that differ
/// from zero below the entry.
fn next_level(domain: &Domain, from: Level, mappings: &[Mapping]) -> Level {
    let below = |level: Level| level.below().unwrap_or(Level::ONE);
    let mut next = below(from);
    let skips = domain.stage == Stage::Host && domain.style.levels == Levels::Skipped;
    let offset = |iova: IoAddress| iova.get() & (from.span() - 1);
    let fits = |level: Level| {
        let is_inside =
            |mapping: &Mapping| mapping.level <= level && offset(mapping.iova) >> level.width() == 0;
        mappings.iter().all(is_inside)
    };
    while skips && next > Level::ONE && fits(below(next)) {
        next = below(next);
    }
    next
}

/// The binary logarithm of how many pages, from the first, can be written as one.
fn joined(domain: &Domain, level: Level, pages: &[Mapping]) -> u32 {
    let joins = domain.stage == Stage::Host && domain.style.pages == Pages::Joined;
    let Some(first) = pages.first().filter(|_| joins) else { return 0 };
    let follows = |number: usize| {
        let offset = number as u64 * level.span();
        pages.get(number).is_some_and(|page| {
            page.iova == first.iova.saturating_add(offset)
                && page.memory == first.memory.saturating_add(offset)
                && page.permission == first.permission
        })
    };
    let fits = |order: &u32| {
        let size = level.span() << order;
        first.iova.is_aligned(size) && first.memory.is_aligned(size) && (1..1 << order).all(follows)
    };
    (1..ENTRIES.ilog2()).rev().find(fits).unwrap_or(0)
}
