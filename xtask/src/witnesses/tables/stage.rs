//! Walks page tables of either format, from the top to the mapped pages.

use super::run::{Run, Runs};
use super::{ADDRESS, PRESENT, READ, Tables, WRITE};
use crate::machines::ram::Page;

/// The entry maps a page larger than 4 KiB: `PS`, in both formats.
const LARGE: u64 = 1 << 7;
/// Requests without a PASID have a user's rights: in the first stage, every entry on the way must grant them.
const USER: u64 = 1 << 2;

/// Which bits of an entry give rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Format {
    /// First stage, the processor's own format (VT-d specification, section 9.7).
    First,
    /// Second stage (section 9.8).
    Second,
}

impl Format {
    /// What an entry allows: [`READ`], [`WRITE`], both or nothing.
    fn rights(self, entry: u64) -> u64 {
        match self {
            Self::First if entry & (PRESENT | USER) == PRESENT | USER => READ | entry & WRITE,
            Self::First => 0,
            Self::Second => entry & (READ | WRITE),
        }
    }
}

/// Page tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Stage {
    /// Address of the table at the top.
    pub(crate) address: u64,
    /// How many levels.
    pub(crate) levels: u32,
    /// How its entries are read.
    pub(crate) format: Format,
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
        Self { address, levels: width as u32 + 2, format: Format::Second }
    }

    /// Whether an I/O address is within the tables' width: for the first stage, whether it is canonical.
    fn covers(self, iova: u64) -> bool {
        let bits = 12 + 9 * self.levels;
        match self.format {
            Format::Second => iova >> bits == 0,
            Format::First => [0, u64::MAX >> (bits - 1)].contains(&(iova >> (bits - 1))),
        }
    }

    fn top(self) -> Step {
        Step { table: self.address, level: self.levels, iova: 0, rights: READ | WRITE }
    }
}

impl Tables<'_> {
    /// Where `iova` leads, for reading or writing.
    pub(super) fn walk(&self, stage: Stage, iova: u64) -> Option<u64> {
        if !stage.covers(iova) {
            return None;
        }
        let mut step = stage.top();
        loop {
            let shift = 3 + 9 * step.level;
            let entry = self.word(step.table + (iova >> shift) % 512 * 8)?;
            step.rights &= stage.format.rights(entry);
            if step.rights == 0 {
                return None;
            }
            if step.level == 1 || entry & LARGE != 0 {
                return Some((entry & ADDRESS & !((1 << shift) - 1)) + iova % (1 << shift));
            }
            step = Step { table: entry & ADDRESS, level: step.level - 1, ..step };
        }
    }

    /// Addresses of the entries on the way from an I/O address to its page.
    pub(super) fn path_of(&self, stage: Stage, iova: u64) -> Vec<u64> {
        let mut path = Vec::new();
        let mut table = Some(stage.address);
        for level in (1..=stage.levels).rev() {
            let Some(at) = table.map(|table| table + (iova >> (3 + 9 * level)) % 512 * 8) else { break };
            path.push(at);
            table =
                self.word(at).filter(|entry| stage.format.rights(*entry) != 0).map(|entry| entry & ADDRESS);
        }
        path
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
        let shift = 3 + 9 * step.level;
        for (index, entry) in (0..).zip(entries(&page)) {
            let (iova, rights) = (step.iova + (index << shift), step.rights & format.rights(entry));
            if rights == 0 {
                continue;
            }
            let address = entry & ADDRESS;
            if step.level == 1 || entry & LARGE != 0 {
                let (address, len) = (address & !((1 << shift) - 1), 1 << shift);
                runs.push(Run { iova, address, len, writable: rights & WRITE != 0 });
            } else {
                let below = Step { table: address, level: step.level - 1, iova, rights };
                self.collect(format, below, visit, runs);
            }
        }
    }
}

fn entries(page: &Page) -> impl Iterator<Item = u64> {
    let (entries, _) = page.as_chunks::<8>();
    entries.iter().map(|bytes| u64::from_le_bytes(*bytes))
}
