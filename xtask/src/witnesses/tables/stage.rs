//! Walks page tables of every format, from the top to the mapped pages.

use super::format::{Format, Next, bits_below};
use super::run::{Run, Runs};
use super::{READ, Tables, WRITE};
use crate::machines::ram::Page;

/// Page tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Stage {
    /// Address of the table at the top.
    pub(crate) address: u64,
    /// How many levels.
    pub(crate) levels: u32,
    /// How its entries are read.
    pub(crate) format: Format,
    /// What is granted at most.
    pub(crate) rights: u64,
}

/// A table on the way down.
#[derive(Clone, Copy)]
struct Step {
    table: u64,
    level: u32,
    /// First address that it translates.
    iova: u64,
    rights: u64,
}

impl Stage {
    /// Second-stage tables, of a width as context and PASID entries code it.
    pub(super) fn second(address: u64, width: u64) -> Self {
        Self { address, levels: width as u32 + 2, format: Format::Second, rights: READ | WRITE }
    }

    /// Whether an I/O address is within the tables' width: for the first stage, whether it is canonical.
    fn covers(self, iova: u64) -> bool {
        let bits = 12 + 9 * self.levels;
        match self.format {
            Format::Second | Format::Amd => iova.checked_shr(bits).is_none_or(|rest| rest == 0),
            Format::First => [0, u64::MAX >> (bits - 1)].contains(&(iova >> (bits - 1))),
        }
    }

    fn top(self) -> Step {
        Step { table: self.address, level: self.levels, iova: 0, rights: self.rights }
    }
}

impl Step {
    /// Address of the entry for an I/O address; `None` if that has bits which the levels that were skipped would translate.
    fn entry(self, iova: u64, format: Format) -> Option<u64> {
        let index = iova.wrapping_sub(self.iova) >> bits_below(self.level);
        (index < format.entries(self.level)).then_some(self.table + index * 8)
    }

    /// The first address that an entry translates.
    fn start(self, index: u64) -> u64 {
        self.iova + (index << bits_below(self.level))
    }
}

impl Tables<'_> {
    /// Where `iova` leads, for reading or writing.
    pub(super) fn walk(&self, stage: Stage, iova: u64) -> Option<u64> {
        self.leaf(stage, iova).map(|(page, size)| page + iova % size)
    }

    /// The page to which `iova` leads: its address, and its size.
    pub(super) fn leaf(&self, stage: Stage, iova: u64) -> Option<(u64, u64)> {
        let mut leaf = None;
        self.descend(stage, iova, |_, _, next| {
            if let Some(Next::Page { address, bits }) = next {
                leaf = Some((address, 1 << bits));
            }
        });
        leaf
    }

    /// Addresses of the entries on the way from an I/O address to its page.
    pub(super) fn path_of(&self, stage: Stage, iova: u64) -> Vec<u64> {
        let mut path = Vec::new();
        self.descend(stage, iova, |_, at, _| path.push(at));
        path
    }

    /// How many I/O addresses go through each of these entries.
    pub(super) fn covered_by(&self, stage: Stage, iova: u64) -> Vec<u64> {
        let mut covered = Vec::new();
        self.descend(stage, iova, |step, _, _| covered.push(1 << bits_below(step.level)));
        covered
    }

    /// Visits the entries on the way from an I/O address to its page: the tables that they are in, their addresses, and where they lead.
    fn descend(&self, stage: Stage, iova: u64, mut visit: impl FnMut(Step, u64, Option<Next>)) {
        if !stage.covers(iova) {
            return;
        }
        // Only the first stage knows addresses that have more bits than the tables translate: all ones.
        let width = 12 + 9 * stage.levels;
        let iova = if width < 64 { iova % (1 << width) } else { iova };
        let mut step = stage.top();
        while let Some(at) = step.entry(iova, stage.format) {
            let next = self.next(stage.format, step, at);
            visit(step, at, next.map(|(next, _)| next));
            let Some((Next::Table { address, level }, rights)) = next else { break };
            step = Step { table: address, level, iova: step.start((at - step.table) / 8), rights };
        }
    }

    /// Where the entry at an address leads, and with which rights; `None` if it grants none.
    fn next(&self, format: Format, step: Step, at: u64) -> Option<(Next, u64)> {
        let entry = self.word(at)?;
        let rights = step.rights & format.rights(entry);
        Some((format.next(entry, step.level)?, rights)).filter(|_| rights != 0)
    }

    /// Everything that page tables map.
    pub(super) fn runs_of(&self, stage: Stage) -> Vec<Run> {
        let mut runs = Runs::default();
        self.collect(stage.format, stage.top(), &mut |_| {}, &mut runs);
        runs.finish()
    }

    /// The page frames in which the tables themselves stand.
    pub(super) fn tables_of(&self, stage: Stage) -> Vec<u64> {
        let mut tables = Vec::new();
        self.collect(stage.format, stage.top(), &mut |table| tables.push(table), &mut Runs::default());
        tables
    }

    /// A table that is not in memory maps nothing: the unit refuses such requests.
    fn collect(&self, format: Format, step: Step, visit: &mut impl FnMut(u64), runs: &mut Runs) {
        let Ok(page) = self.ram.page(step.table) else { return };
        visit(step.table);
        for (index, entry) in (0..format.entries(step.level)).zip(entries(&page)) {
            let (iova, rights) = (step.start(index), step.rights & format.rights(entry));
            let Some(next) = format.next(entry, step.level).filter(|_| rights != 0) else { continue };
            match next {
                Next::Page { address, bits } => {
                    let (offset, len) = (iova % (1 << bits), 1 << bits_below(step.level));
                    runs.push(Run { iova, address: address + offset, len, writable: rights & WRITE != 0 });
                }
                Next::Table { address, level } => {
                    let below = Step { table: address, level, iova, rights };
                    self.collect(format, below, visit, runs);
                }
            }
        }
    }
}

fn entries(page: &Page) -> impl Iterator<Item = u64> {
    let (entries, _) = page.as_chunks::<8>();
    entries.iter().map(|bytes| u64::from_le_bytes(*bytes))
}
