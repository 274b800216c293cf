//! The old kernel, as far as remapping is concerned: it writes its tables and brings the units up.

mod bring_up;
mod contexts;
mod harm;
mod paging;

use crate::memory::{Kind, Memory};
use crate::scenario::{Scenario, Stage};
use fastrand::Rng;
use machine::{PAGE_SIZE, Range};
use std::collections::{BTreeMap, BTreeSet};
use vtd::control::TableMode;

/// The tables of the old kernel, for whoever wants to damage them.
#[derive(Clone, Debug, Default)]
pub(crate) struct OldTables {
    /// The root table of each unit.
    pub(crate) roots: Vec<u64>,
    /// The context tables, by unit and word of the root table that names each.
    pub(crate) contexts: BTreeMap<(usize, u64), u64>,
    /// Pages of PASID directories and tables.
    pub(crate) pasids: Vec<u64>,
    /// The page tables.
    pub(crate) paging: Vec<u64>,
    /// The capture kernel's memory, a register block and a hole: addresses that no table should name.
    pub(crate) forbidden: Vec<u64>,
}

impl OldTables {
    /// All of them, of every kind.
    fn all(&self) -> Vec<u64> {
        let contexts = self.contexts.values().copied();
        [&self.paging, &self.pasids, &self.roots].into_iter().flatten().copied().chain(contexts).collect()
    }
}

/// The old kernel at work.
pub(crate) struct OldKernel<'a> {
    scenario: &'a Scenario,
    pub(crate) memory: Memory,
    tables: OldTables,
    /// The top table of each domain, as entries name it.
    tops: Vec<u64>,
    /// Where the tables of guests are, by their guests' physical addresses.
    guest_tables: BTreeMap<u64, u64>,
    rng: Rng,
    used: BTreeSet<u64>,
}

impl<'a> OldKernel<'a> {
    pub(crate) fn new(scenario: &'a Scenario) -> Self {
        let memory = Memory::new(scenario.memory.clone());
        let vast = scenario.domains.iter().find_map(|domain| domain.vast);
        let memory = vast.map_or(memory.clone(), |vast| memory.with_vast(vast));
        let buffered = scenario.units.iter().any(|unit| unit.traits.capability.rwbf());
        Self {
            scenario,
            memory: if buffered { memory.with_write_buffer() } else { memory },
            tables: OldTables::default(),
            tops: Vec::new(),
            guest_tables: BTreeMap::new(),
            rng: Rng::with_seed(scenario.seed ^ 0x01D),
            used: [0].into(),
        }
    }

    /// A page of old memory that nothing uses yet.
    fn page(&mut self) -> u64 {
        self.pages(1)
    }

    /// So many pages in one piece that nothing uses yet.
    fn pages(&mut self, count: u64) -> u64 {
        let fits = |range: &Range| range.len() >= count * PAGE_SIZE;
        let ranges: Vec<Range> = self.memory.ranges(Kind::Old).filter(fits).collect();
        loop {
            let range = ranges[self.rng.usize(..ranges.len())];
            let start = range.start + self.rng.u64(..=range.len() / PAGE_SIZE - count) * PAGE_SIZE;
            let pages = || (start..start + count * PAGE_SIZE).step_by(PAGE_SIZE as usize);
            if pages().all(|page| !self.used.contains(&page) && !self.memory.is_vast(page)) {
                self.used.extend(pages());
                return start;
            }
        }
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
        let forbidden = [Kind::Capture, Kind::Mmio].into_iter().flat_map(|kind| self.memory.ranges(kind));
        let last = self.scenario.memory.iter().map(|(range, _)| range.end).max().unwrap_or(0);
        self.tables.forbidden = forbidden.map(|range| range.start).chain([last + PAGE_SIZE]).collect();
    }

    /// Tables of second-stage domains first: those of guests are mapped there.
    fn write_domains(&mut self) {
        let domains = &self.scenario.domains;
        self.tops = domains.iter().map(|_| 0).collect();
        let (guests, hosts): (Vec<usize>, Vec<usize>) =
            (0..domains.len()).partition(|index| matches!(domains[*index].stage, Stage::Nested(_)));
        for index in hosts.into_iter().chain(guests) {
            self.tops[index] = self.write_domain(&domains[index]);
        }
        self.link_shared_tables();
    }

    fn write_words(&mut self, at: u64, words: &[u64]) {
        debug_assert!(at % PAGE_SIZE + words.len() as u64 * 8 <= PAGE_SIZE);
        (at..).step_by(8).zip(words).for_each(|(at, word)| self.memory.write(at, *word));
    }
}
