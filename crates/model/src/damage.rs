//! Damage to the old kernel's tables: what stray writes, bad memory or an attacker may have left.

use crate::memory::Memory;
use crate::old_kernel::OldTables;
use crate::scenario::Scenario;
use fastrand::Rng;
use machine::PAGE_SIZE;

/// One piece of damage. Which table and entry it hits is told by numbers that wrap around, so any will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Which kind of table.
    pub table: Victim,
    /// Which one of them.
    pub which: usize,
    /// Which of its present words; if none is present, which word.
    pub word: usize,
    /// What is done to it.
    pub harm: Harm,
}

/// Which kind of table is hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// The root table.
    Root,
    /// A context table.
    Context,
    /// A PASID directory or table.
    Pasid,
    /// A page table of any level.
    Paging,
}

/// What is done to a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// One bit flips.
    Flip(u32),
    /// All of it is overwritten.
    Overwrite(u64),
    /// Its address is replaced by that of a page table: loops, wrong levels, sharing.
    PointAtTable(usize),
    /// Its address is replaced by one where there is no old memory.
    PointAtForbidden(usize),
    /// Its address is replaced by any.
    PointAnywhere(u64),
    /// It is copied to all the table's words: a fan-out.
    Spread,
}

/// Bits 51:12: where all entries have their address.
const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;

impl Damage {
    /// Does it.
    pub(crate) fn apply(&self, tables: &OldTables, memory: &mut Memory) {
        let Some(table) = self.table(tables) else { return };
        let at = self.word_of(table, memory);
        let word = memory.read(at).unwrap_or(0);
        let aim = |address: u64| word & !ADDRESS | address & ADDRESS;
        match self.harm {
            Harm::Flip(bit) => memory.write(at, word ^ 1_u64.rotate_left(bit)),
            Harm::Overwrite(value) => memory.write(at, value),
            Harm::PointAtTable(which) => {
                wrap(&tables.paging, which, |(table, _)| memory.write(at, aim(*table)));
            }

            Harm::PointAtForbidden(which) => {
                wrap(&tables.forbidden, which, |address| memory.write(at, aim(*address)));
            }

            Harm::PointAnywhere(address) => memory.write(at, aim(address)),
            Harm::Spread => (table..table + PAGE_SIZE).step_by(8).for_each(|other| memory.write(other, word)),
        }
    }

    fn table(&self, tables: &OldTables) -> Option<u64> {
        let count = |len: usize| self.which % len.max(1);
        match self.table {
            Victim::Root => Some(tables.root),
            Victim::Context => tables.contexts.values().nth(count(tables.contexts.len())).copied(),
            Victim::Pasid => tables.pasids.get(count(tables.pasids.len())).copied(),
            Victim::Paging => tables.paging.get(count(tables.paging.len())).map(|(table, _)| *table),
        }
    }

    fn word_of(&self, table: u64, memory: &Memory) -> u64 {
        let words = || (table..table + PAGE_SIZE).step_by(8);
        let present: Vec<u64> = words().filter(|at| memory.read(*at).unwrap_or(0) != 0).collect();
        let candidates = if present.is_empty() { words().collect() } else { present };
        candidates[self.word % candidates.len()]
    }
}

fn wrap<T>(list: &[T], which: usize, then: impl FnOnce(&T)) {
    if let Some(one) = list.get(which % list.len().max(1)) {
        then(one);
    }
}

impl Scenario {
    /// The same machine with `count` pieces of damage made up from `seed`.
    pub fn corrupt(mut self, seed: u64, count: usize) -> Self {
        let mut rng = Rng::with_seed(seed);
        self.damage.extend((0..count).map(|_| damage(&mut rng)));
        self
    }
}

fn damage(rng: &mut Rng) -> Damage {
    let table = match rng.u8(..8) {
        0 => Victim::Root,
        1 | 2 => Victim::Context,
        3 => Victim::Pasid,
        _ => Victim::Paging,
    };
    let harm = match rng.u8(..6) {
        0 => Harm::Flip(rng.u32(..64)),
        1 => Harm::Overwrite(rng.u64(..)),
        2 => Harm::PointAtTable(rng.usize(..)),
        3 => Harm::PointAtForbidden(rng.usize(..)),
        4 => Harm::PointAnywhere(rng.u64(..) >> rng.u32(..32)),
        _ => Harm::Spread,
    };
    Damage { table, which: rng.usize(..), word: rng.usize(..), harm }
}
