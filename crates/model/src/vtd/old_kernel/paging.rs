//! Writes page tables of either stage.

use super::OldKernel;
use crate::vtd::scenario::{Domain, GUEST_TABLES, Mapping, Stage};
use machine::{Level, PAGE_SIZE, Permission, PhysicalAddress};
use vtd::first_stage::FirstStageEntry;
use vtd::second_stage::SecondStageEntry;

/// PS of a paging entry: a leaf above level 1.
const PAGE: u64 = 1 << 7;

/// Hardware ignores bits 61:52 of a paging entry (9.7, 9.8).
const IGNORED: u64 = 0x3FF << 52;

impl OldKernel<'_> {
    /// Writes a domain's tables and returns its top table, by the address in entries.
    pub(super) fn write_domain(&mut self, domain: &Domain) -> PhysicalAddress {
        if let Some(vast) = domain.vast {
            return vast.root();
        }
        let table = self.paging_table(domain.stage);
        for mapping in &domain.mappings {
            self.map(domain.stage, table, top(domain), mapping);
        }
        table
    }

    /// Makes a table and returns its address for entries of this stage. A guest's tables are mapped in the second
    /// stage.
    fn paging_table(&mut self, stage: Stage) -> PhysicalAddress {
        let page = self.page();
        self.tables.paging.push(page);
        let Stage::Nested(parent) = stage else { return page };
        let iova = GUEST_TABLES.start.saturating_add(self.guest_tables.len() as u64 * PAGE_SIZE);
        let guest = PhysicalAddress::new(iova.get());
        self.guest_tables.insert(guest, page);
        let host = &self.scenario.domains[parent];
        let permission = Permission::ReadWrite;
        let mapping = Mapping { iova, memory: page, level: Level::ONE, permission };
        self.map(host.stage, self.tops[parent], top(host), &mapping);
        guest
    }

    /// The physical address of a table that entries know by the address `table`.
    pub(super) fn place(&self, table: PhysicalAddress) -> PhysicalAddress {
        self.guest_tables.get(&table).copied().unwrap_or(table)
    }

    fn map(&mut self, stage: Stage, mut table: PhysicalAddress, mut level: Level, mapping: &Mapping) {
        while let Some(below) = level.below().filter(|_| level > mapping.level) {
            let at = self.place(table).saturating_add(level.index(mapping.iova) as u64 * 8);
            let word = self.memory.read(at).unwrap_or(0);
            assert!(!present(stage, word) || word & PAGE == 0, "mappings overlap at {:#x}", mapping.iova);
            table = if present(stage, word) {
                SecondStageEntry(word).address()
            } else {
                let table = self.paging_table(stage);
                let entry = self.table_entry(stage, table);
                self.memory.write(at, entry);
                table
            };
            level = below;
        }
        let leaf = self.leaf(stage, level, mapping);
        self.memory.write(self.place(table).saturating_add(level.index(mapping.iova) as u64 * 8), leaf);
    }

    fn table_entry(&mut self, stage: Stage, table: PhysicalAddress) -> u64 {
        let entry = match stage {
            Stage::Second => SecondStageEntry::table(table).0,
            Stage::First | Stage::Nested(_) => self.used(FirstStageEntry::table(table)),
        };
        entry | self.some_of(IGNORED)
    }

    fn leaf(&mut self, stage: Stage, level: Level, mapping: &Mapping) -> u64 {
        let entry = match stage {
            Stage::Second => SecondStageEntry::leaf(level, mapping.memory, mapping.permission).0,
            Stage::First | Stage::Nested(_) => {
                self.used(FirstStageEntry::leaf(level, mapping.memory, mapping.permission))
            }
        };
        entry | self.some_of(IGNORED)
    }

    /// A first-stage entry with some of the accessed and dirty bits; with all of them if a unit cannot set them.
    fn used(&mut self, entry: FirstStageEntry) -> u64 {
        let can_note = self.scenario.units.iter().all(|unit| unit.traits.extended.smpwcs());
        let unused = if can_note { self.some_of(FirstStageEntry::USED) } else { 0 };
        (entry.0 | FirstStageEntry::USED) & !unused
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
                if !present(domain.stage, word(mine)) {
                    self.memory.write(mine.saturating_add(at), word(theirs));
                }
            }
        }
    }
}

fn present(stage: Stage, word: u64) -> bool {
    match stage {
        Stage::Second => SecondStageEntry(word).present(),
        Stage::First | Stage::Nested(_) => FirstStageEntry(word).present(),
    }
}

#[expect(clippy::expect_used, reason = "scenarios have widths of 39, 48 and 57 bits")]
pub(super) fn top(domain: &Domain) -> Level {
    domain.width.top().expect("a width that has levels")
}
