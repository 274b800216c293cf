//! Everything that a requester can reach: each leaf of its tables, found once.

use super::second_stage::Step;
use super::{Device, Rights, Table, Translation, Walker};
use crate::answer::Requester;
use crate::memory::Kind;
use machine::{ENTRIES, Range};
use std::collections::{BTreeMap, BTreeSet};
use vtd::control::TableMode;
use vtd::paging::Level;

/// Functions that one context table of scalable mode speaks for; one of legacy mode speaks for two times as many.
const HALF_A_BUS: usize = 128;

/// A range of memory that a requester reaches through one leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Who.
    pub requester: Requester,
    /// An I/O virtual address that leads there; the same table may be entered under others too.
    pub iova: u64,
    /// The memory.
    pub memory: Range,
    /// What it may do there.
    pub rights: Rights,
}

impl Walker<'_> {
    /// All requesters of whom the tables say something that makes sense.
    pub(crate) fn requesters(&self) -> Vec<Requester> {
        let half_buses = (0..=u16::MAX).step_by(HALF_A_BUS).filter(|first| self.has_context_table(*first));
        let sources = half_buses.flat_map(|first| first..=first | (HALF_A_BUS - 1) as u16);
        let devices = sources.filter_map(|source| Some((source, self.device(source).ok()?)));
        devices.flat_map(|(source, device)| self.requesters_of(source, device)).collect()
    }

    fn has_context_table(&self, source: u16) -> bool {
        match self.root.mode() {
            TableMode::SCALABLE => self.half_bus_table(source).is_ok(),
            _ => self.context_table((source >> 8) as u8).is_ok(),
        }
    }

    /// A function's requests without PASID, and those with each PASID that it has.
    fn requesters_of(&self, source: u16, device: Device) -> Vec<Requester> {
        let without = self.context_of(device, None).ok().map(|_| None);
        let with = match device {
            Device::Legacy(_) => Vec::new(),
            Device::Scalable(directory) => self.pasids(directory),
        };
        without
            .into_iter()
            .chain(with.into_iter().map(Some))
            .map(|pasid| Requester { source, pasid })
            .collect()
    }

    /// All memory that a requester reaches. Each table is entered once per level and rights, however many entries lead to
    /// it, so tables that form loops or fan out end too.
    pub(crate) fn reach(&self, requester: Requester) -> Vec<Reached> {
        match self.context(requester).map(|context| context.translation) {
            Err(_) => Vec::new(),
            Ok(Translation::PassThrough) => self.all_memory(requester),
            Ok(Translation::SecondStage(root)) => self.leaves(requester, root),
        }
    }

    /// Everything that any requester reaches of which `is_wanted` says so. Tables that many requesters share are searched
    /// once.
    pub(crate) fn reach_of_all(&self, is_wanted: impl Fn(&Reached) -> bool) -> Vec<Reached> {
        let mut known: BTreeMap<Option<Table>, Vec<Reached>> = BTreeMap::new();
        let mut found = Vec::new();
        for requester in self.requesters() {
            let root = match self.context(requester).map(|context| context.translation) {
                Ok(Translation::SecondStage(root)) => Some(root),
                _ => None,
            };
            let reached = known.entry(root).or_insert_with(|| self.reach(requester));
            found.extend(reached.iter().map(|reached| Reached { requester, ..*reached }).filter(&is_wanted));
        }
        found
    }

    /// All there is in pass-through: RAM, as far as it counts here.
    fn all_memory(&self, requester: Requester) -> Vec<Reached> {
        let ranges = [Kind::Old, Kind::Capture].into_iter().flat_map(|kind| self.memory.ranges(kind));
        ranges.map(|memory| Reached { requester, iova: memory.start, memory, rights: Rights::ALL }).collect()
    }

    fn leaves(&self, requester: Requester, root: Table) -> Vec<Reached> {
        let mut found = Vec::new();
        let mut seen = BTreeSet::from([root]);
        let mut open = vec![(root, 0)];
        while let Some((table, iova)) = open.pop() {
            for index in 0..ENTRIES {
                let iova = iova | (index as u64) << table.level.shift();
                match self.step(table, index) {
                    Ok(Step::Down(next)) if next.rights.any() && seen.insert(next) => open.push((next, iova)),
                    Ok(Step::Leaf { address, rights }) if rights.any() => {
                        found.push(Reached { requester, iova, memory: span(address, table.level), rights });
                    }
                    _ => (),
                }
            }
        }
        found
    }
}

fn span(address: u64, level: Level) -> Range {
    Range::new(address, address + level.span())
}
