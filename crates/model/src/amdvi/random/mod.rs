//! Makes random machines, as a kernel that worked would leave them. [Damage](crate::amdvi::damage) comes separately.

mod damage;
mod domains;
mod functions;
mod units;

use crate::amdvi::scenario::Scenario;
use crate::shapes::{HighMemory, Size, memory, one_in};
use fastrand::Rng;

impl Scenario {
    /// Makes a machine from `seed`, of at most this size. The same seed and size always make the same machine.
    pub fn random(seed: u64, size: Size) -> Self {
        let mut rng = Rng::with_seed(seed);
        let units = units::units(&mut rng, size);
        let high = if one_in(&mut rng, 2) { HighMemory::Present } else { HighMemory::Absent };
        let memory = memory(high);
        let common = units::common(&units);
        let domains = domains::domains(&mut rng, &common, &memory, size);
        let functions = functions::functions(&mut rng, &units, &domains, size);
        Self { seed, memory, units, domains, functions, ..Self::default() }
    }
}
