//! Makes random machines, as a kernel that worked would leave them. [Damage](crate::vtd::damage) comes separately.

mod damage;
mod domains;
mod functions;
mod units;

pub use crate::shapes::{PASS_THROUGH, RESERVED_MEMORY, Size};

use crate::shapes::{HighMemory, memory};
use crate::vtd::scenario::Scenario;
use crate::vtd::walk::Traits;
use fastrand::Rng;

impl Scenario {
    /// Makes a machine from `seed`, of at most this size. The same seed and size always make the same machine.
    pub fn random(seed: u64, size: Size) -> Self {
        let mut rng = Rng::with_seed(seed);
        let units = units::units(&mut rng, size);
        let common = units::common(&units);
        let memory = memory(high_memory(&common));
        let domains = domains::domains(&mut rng, &common, &memory, size);
        let functions = functions::functions(&mut rng, &units, &domains, size);
        Self { seed, memory, units, domains, functions, ..Self::default() }
    }
}

/// Memory above 4 GiB is there where one page can map it.
fn high_memory(traits: &Traits) -> HighMemory {
    if traits.capability.sslps() == 0b11 { HighMemory::Present } else { HighMemory::Absent }
}
