//! The old kernel, as far as the IOMMU is concerned: writes its tables and brings the units up.

mod bring_up;
mod devices;
mod harm;
mod paging;

use super::scenario::Scenario;
use crate::memory::{Memory, MemoryKind};
use crate::old_pages::OldPages;
use crate::parts::Mapping;
use fastrand::Rng;
use machine::{Level, PAGE_SIZE, Permission, PhysicalAddress};
use std::collections::BTreeMap;

use super::scenario::{GUEST_TABLES, Stage};

/// The tables of the old kernel, which damage can hit.
#[derive(Clone, Debug, Default)]
pub(crate) struct OldTables {
    /// The device table of each unit, or its segments.
    pub(crate) devices: Vec<Vec<PhysicalAddress>>,
    /// CR3 tables of all levels.
    pub(crate) cr3: Vec<PhysicalAddress>,
    /// The page tables.
    pub(crate) paging: Vec<PhysicalAddress>,
    /// The interrupt tables.
    pub(crate) interrupts: Vec<PhysicalAddress>,
    /// The capture kernel's memory, a register block and a hole: addresses that no table should name.
    pub(crate) forbidden: Vec<PhysicalAddress>,
}

/// The old kernel at work: it writes tables into memory.
pub(crate) struct OldKernel<'a> {
    scenario: &'a Scenario,
    pub(crate) memory: Memory,
    tables: OldTables,
    /// The top table of each domain, by the address in entries.
    tops: Vec<PhysicalAddress>,
    /// The CR3 table of each function that has one, by source-id and by the address in entries.
    cr3: BTreeMap<u16, PhysicalAddress>,
    /// Addresses of guests' tables, by their guest physical addresses.
    guest_tables: BTreeMap<PhysicalAddress, PhysicalAddress>,
    /// Where guests' tables are mapped in their host's domain, by its index.
    of_guests: BTreeMap<usize, Vec<Mapping>>,
    rng: Rng,
    unused: OldPages,
}

impl<'a> OldKernel<'a> {
    pub(crate) fn new(scenario: &'a Scenario) -> Self {
        let memory = Memory::new(scenario.memory.clone());
        let rng = Rng::with_seed(scenario.seed ^ 0x01D);
        Self {
            scenario,
            unused: OldPages::of(&memory),
            memory,
            tables: OldTables::default(),
            tops: Vec::new(),
            cr3: BTreeMap::new(),
            guest_tables: BTreeMap::new(),
            of_guests: BTreeMap::new(),
            rng,
        }
    }

    /// Takes a page of old memory that is unused.
    fn page(&mut self) -> PhysicalAddress {
        self.pages(1)
    }

    /// Takes contiguous unused pages.
    fn pages(&mut self, count: u64) -> PhysicalAddress {
        self.unused.take(count, &mut self.rng)
    }

    /// Takes a page for a table, and returns its address for entries: that of a guest's table is mapped in its host's domain.
    fn table_of(&mut self, host: Option<usize>) -> PhysicalAddress {
        let page = self.page();
        let Some(host) = host else { return page };
        let iova = GUEST_TABLES.start.saturating_add(self.guest_tables.len() as u64 * PAGE_SIZE);
        let guest = PhysicalAddress::new(iova.get());
        self.guest_tables.insert(guest, page);
        let mapping = Mapping { iova, memory: page, level: Level::ONE, permission: Permission::ReadWrite };
        self.of_guests.entry(host).or_default().push(mapping);
        guest
    }

    /// The physical address of a table that entries know by the address `table`.
    fn place(&self, table: PhysicalAddress) -> PhysicalAddress {
        self.guest_tables.get(&table).copied().unwrap_or(table)
    }

    /// Writes all tables. Those of guests come first: their hosts map them.
    pub(crate) fn write_tables(&mut self) {
        let domains = &self.scenario.domains;
        self.tops = domains.iter().map(|_| PhysicalAddress::default()).collect();
        let is_host = |index: &usize| domains[*index].stage == Stage::Host;
        let (hosts, guests): (Vec<usize>, Vec<usize>) = (0..domains.len()).partition(is_host);
        for index in guests {
            self.tops[index] = self.write_domain(index);
        }
        self.write_cr3_tables();
        for index in hosts {
            self.tops[index] = self.write_domain(index);
        }
        self.link_shared_tables();
        for unit in 0..self.scenario.units.len() {
            self.write_device_table(unit);
        }
        let forbidden =
            [MemoryKind::Capture, MemoryKind::Mmio].into_iter().flat_map(|kind| self.memory.ranges(kind));
        let last = self.scenario.memory.iter().map(|(range, _)| range.end).max().unwrap_or_default();
        self.tables.forbidden =
            forbidden.map(|range| range.start).chain([last.saturating_add(PAGE_SIZE)]).collect();
    }

    fn write_words(&mut self, at: PhysicalAddress, words: &[u64]) {
        for (index, word) in words.iter().enumerate() {
            self.memory.write(at.saturating_add(index as u64 * 8), *word);
        }
    }
}
