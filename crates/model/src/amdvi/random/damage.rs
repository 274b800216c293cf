//! Makes random damage.

use crate::amdvi::damage::{Damage, Harm, Table, Victim};
use crate::amdvi::scenario::{Scenario, Stray};
use fastrand::Rng;

impl Scenario {
    /// Adds `count` pieces of random damage made from `seed`.
    pub fn corrupt(mut self, seed: u64, count: usize) -> Self {
        let mut rng = Rng::with_seed(seed);
        self.damage.extend((0..count).map(|_| damage(&mut rng)));
        self
    }

    /// Adds `count` pieces of random damage made from `seed`, which happen during the first `reads` of old memory.
    pub fn astray(mut self, seed: u64, count: usize, reads: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let stray = |_| Stray { before_read: rng.u64(1..=reads.max(1)), damage: damage(&mut rng) };
        self.stray.extend((0..count).map(stray));
        self
    }
}

fn damage(rng: &mut Rng) -> Damage {
    let table = match rng.u8(..8) {
        0 | 1 => Table::Device,
        2 => Table::Cr3,
        3 => Table::Interrupt,
        _ => Table::Paging,
    };
    let harm = Harm::random(rng);
    Damage { victim: Victim::Some { table, which: rng.usize(..), word: rng.usize(..) }, harm }
}
