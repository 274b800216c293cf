//! What damage does to the tables that it hits.

use super::OldTables;
use crate::damage::{Damage, Harm, Victim};
use crate::memory::Memory;
use machine::PAGE_SIZE;

/// Bits 51:12: where all entries have their address.
const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;

impl OldTables {
    /// Lets a piece of damage be done.
    pub(super) fn suffer(&self, damage: &Damage, memory: &mut Memory) {
        let Some(table) = self.victim(damage) else { return };
        let at = word_of(damage, table, memory);
        let word = memory.read(at).unwrap_or(0);
        let aim = |address: u64| word & !ADDRESS | address & ADDRESS;
        match damage.harm {
            Harm::Flip(bit) => memory.write(at, word ^ 1_u64.rotate_left(bit)),
            Harm::Overwrite(value) => memory.write(at, value),
            Harm::PointAtTable(which) => memory.write(at, one_of(&self.paging, which).map_or(word, aim)),
            Harm::PointAtForbidden(which) => {
                memory.write(at, one_of(&self.forbidden, which).map_or(word, aim));
            }

            Harm::PointAnywhere(address) => memory.write(at, aim(address)),
            Harm::Spread => (table..table + PAGE_SIZE).step_by(8).for_each(|other| memory.write(other, word)),
        }
    }

    fn victim(&self, damage: &Damage) -> Option<u64> {
        match damage.table {
            Victim::Root => one_of(&self.roots, damage.which),
            Victim::Context => one_of(&self.contexts.values().copied().collect::<Vec<_>>(), damage.which),
            Victim::Pasid => one_of(&self.pasids, damage.which),
            Victim::Paging => one_of(&self.paging, damage.which),
        }
    }
}

/// The word that damage hits in its table.
fn word_of(damage: &Damage, table: u64, memory: &Memory) -> u64 {
    let words = || (table..table + PAGE_SIZE).step_by(8);
    let present: Vec<u64> = words().filter(|at| memory.read(*at).unwrap_or(0) != 0).collect();
    let candidates = if present.is_empty() { words().collect() } else { present };
    candidates[damage.word % candidates.len()]
}

fn one_of(list: &[u64], which: usize) -> Option<u64> {
    list.get(which % list.len().max(1)).copied()
}
