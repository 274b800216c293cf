//! The old kernel, as far as the IOMMU is concerned: writes its tables and brings the units up.

mod bring_up;
mod contexts;
mod harm;
mod paging;

use crate::memory::{Memory, MemoryKind};
use crate::old_pages::OldPages;
use crate::vtd::scenario::{Scenario, Stage};
use fastrand::Rng;
use machine::{PAGE_SIZE, PhysicalAddress};
use std::collections::BTreeMap;
use vtd::control::TableMode;

/// The tables of the old kernel, which damage can hit.
#[derive(Clone, Debug, Default)]
pub(crate) struct OldTables {
    /// The root table of each unit.
    pub(crate) roots: Vec<PhysicalAddress>,
    /// The context tables, by unit and word of the root table that names each.
    pub(crate) contexts: BTreeMap<(usize, u64), PhysicalAddress>,
    /// Pages of PASID directories and tables.
    pub(crate) pasids: Vec<PhysicalAddress>,
    /// The page tables.
    pub(crate) paging: Vec<PhysicalAddress>,
    /// The capture kernel's memory, a register block and a hole: addresses that no table should name.
    pub(crate) forbidden: Vec<PhysicalAddress>,
}

impl OldTables {
    /// The tables of all kinds.
    fn all(&self) -> Vec<PhysicalAddress> {
        let contexts = self.contexts.values().copied();
        [&self.paging, &self.pasids, &self.roots].into_iter().flatten().copied().chain(contexts).collect()
    }
}

/// The old kernel at work: it writes tables into memory.
pub(crate) struct OldKernel<'a> {
    scenario: &'a Scenario,
    pub(crate) memory: Memory,
    tables: OldTables,
    /// The top table of each domain, by the address in entries.
    tops: Vec<PhysicalAddress>,
    /// Addresses of guests' tables, by their guest physical addresses.
    guest_tables: BTreeMap<PhysicalAddress, PhysicalAddress>,
    rng: Rng,
    unused: OldPages,
}

impl<'a> OldKernel<'a> {
    pub(crate) fn new(scenario: &'a Scenario) -> Self {
        let memory = Memory::new(scenario.memory.clone());
        let vast = scenario.domains.iter().find_map(|domain| domain.vast);
        let memory = vast.map_or(memory.clone(), |vast| memory.with_vast(vast));
        let buffered = scenario.units.iter().any(|unit| unit.traits.capability.rwbf());
        Self {
            scenario,
            unused: OldPages::of(&memory),
            memory: if buffered { memory.with_write_buffer() } else { memory },
            tables: OldTables::default(),
            tops: Vec::new(),
            guest_tables: BTreeMap::new(),
            rng: Rng::with_seed(scenario.seed ^ 0x01D),
        }
    }

    /// Takes a page of old memory that is unused.
    fn page(&mut self) -> PhysicalAddress {
        self.pages(1)
    }

    /// Takes contiguous unused pages.
    fn pages(&mut self, count: u64) -> PhysicalAddress {
        self.unused.take_if(count, &mut self.rng, |page| !self.memory.is_vast(page))
    }

    pub(crate) fn write_tables(&mut self) {
        self.write_domains();
        self.tables.roots = self.scenario.units.iter().map(|_| self.page()).collect();
        for function in &self.scenario.functions {
            match self.scenario.units[function.unit].mode {
                TableMode::SCALABLE => self.write_scalable_context(function),
                _ => self.write_legacy_context(function),
            }
        }
        let forbidden =
            [MemoryKind::Capture, MemoryKind::Mmio].into_iter().flat_map(|kind| self.memory.ranges(kind));
        let last = self.scenario.memory.iter().map(|(range, _)| range.end).max().unwrap_or_default();
        self.tables.forbidden =
            forbidden.map(|range| range.start).chain([last.saturating_add(PAGE_SIZE)]).collect();
    }

    /// Writes all domains, those of the second stage first: guests' tables are mapped there.
    fn write_domains(&mut self) {
        let domains = &self.scenario.domains;
        self.tops = domains.iter().map(|_| PhysicalAddress::default()).collect();
        let (guests, hosts): (Vec<usize>, Vec<usize>) =
            (0..domains.len()).partition(|index| matches!(domains[*index].stage, Stage::Nested(_)));
        for index in hosts.into_iter().chain(guests) {
            self.tops[index] = self.write_domain(&domains[index]);
        }
        self.link_shared_tables();
    }

    fn write_words(&mut self, at: PhysicalAddress, words: &[u64]) {
        debug_assert!(at.get() % PAGE_SIZE + words.len() as u64 * 8 <= PAGE_SIZE);
        for (index, word) in words.iter().enumerate() {
            self.memory.write(at.saturating_add(index as u64 * 8), *word);
        }
    }
}
