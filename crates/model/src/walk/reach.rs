//! Everything that a requester can reach: each leaf of its tables, found once.

use super::second_stage::Step;
use super::{Rights, Table, Translation, Walker};
use crate::memory::Kind;
use machine::{ENTRIES, Range};
use std::collections::{BTreeMap, BTreeSet};
use vtd::paging::Level;

/// A range of memory that a requester reaches through one leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Who.
    pub source: u16,
    /// An I/O virtual address that leads there; the same table may be entered under others too.
    pub iova: u64,
    /// The memory.
    pub memory: Range,
    /// What it may do there.
    pub rights: Rights,
}

impl Walker<'_> {
    /// All requesters whose context entry makes sense.
    pub(crate) fn sources(&self) -> Vec<u16> {
        let present = |bus: &u8| self.context_table(*bus).is_ok();
        let functions = |bus: u8| (0..=u8::MAX).map(move |devfn| u16::from_be_bytes([bus, devfn]));
        (0..=u8::MAX)
            .filter(present)
            .flat_map(functions)
            .filter(|source| self.context(*source).is_ok())
            .collect()
    }

    /// All memory that `source` reaches. Each table is entered once per level and rights, however many entries lead to
    /// it, so tables that form loops or fan out end too.
    pub(crate) fn reach(&self, source: u16) -> Vec<Reached> {
        match self.context(source).map(|context| context.translation) {
            Err(_) => Vec::new(),
            Ok(Translation::PassThrough) => self.all_memory(source),
            Ok(Translation::SecondStage(root)) => self.leaves(source, root),
        }
    }

    /// Everything that any requester reaches of which `is_wanted` says so. Tables that many requesters share are searched
    /// once.
    pub(crate) fn reach_of_all(&self, is_wanted: impl Fn(&Reached) -> bool) -> Vec<Reached> {
        let mut known: BTreeMap<Option<Table>, Vec<Reached>> = BTreeMap::new();
        let mut found = Vec::new();
        for source in self.sources() {
            let root = match self.context(source).map(|context| context.translation) {
                Ok(Translation::SecondStage(root)) => Some(root),
                _ => None,
            };
            let reached = known.entry(root).or_insert_with(|| self.reach(source));
            found.extend(reached.iter().map(|reached| Reached { source, ..*reached }).filter(&is_wanted));
        }
        found
    }

    /// All there is in pass-through: RAM, as far as it counts here.
    fn all_memory(&self, source: u16) -> Vec<Reached> {
        let ranges = [Kind::Old, Kind::Capture].into_iter().flat_map(|kind| self.memory.ranges(kind));
        ranges.map(|memory| Reached { source, iova: memory.start, memory, rights: Rights::ALL }).collect()
    }

    fn leaves(&self, source: u16, root: Table) -> Vec<Reached> {
        let mut found = Vec::new();
        let mut seen = BTreeSet::from([root]);
        let mut open = vec![(root, 0)];
        while let Some((table, iova)) = open.pop() {
            for index in 0..ENTRIES {
                let iova = iova | (index as u64) << table.level.shift();
                match self.step(table, index) {
                    Ok(Step::Down(next)) if next.rights.any() && seen.insert(next) => open.push((next, iova)),
                    Ok(Step::Leaf { address, rights }) if rights.any() => {
                        found.push(Reached { source, iova, memory: span(address, table.level), rights });
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
