//! Makes random machines, as a kernel that worked would leave them. [Damage](crate::vtd::damage) comes separately.

mod damage;
mod domains;
mod functions;
mod units;

pub use domains::PASS_THROUGH;

use crate::memory::MemoryKind;
use crate::vtd::scenario::Scenario;
use crate::vtd::walk::Traits;
use fastrand::Rng;
use machine::{PhysicalAddress, Range};

/// The largest size of a random machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Remapping units: one at least.
    pub units: usize,
    /// Domains.
    pub domains: usize,
    /// Functions with a context entry.
    pub functions: usize,
    /// Runs of neighbouring pages that a domain maps.
    pub runs: usize,
}

/// The capture kernel's memory.
const CAPTURE: Range<PhysicalAddress> =
    Range::new(PhysicalAddress::new(0x200_0000), PhysicalAddress::new(0x280_0000));
/// Memory of the firmware, for which the DMAR table has an RMRR: some domains map it to itself.
pub const RESERVED_MEMORY: Range<PhysicalAddress> =
    Range::new(PhysicalAddress::new(0x7F00_0000), PhysicalAddress::new(0x7F01_0000));
/// Where memory above 4 GiB starts, on machines that have it.
const HIGH: u64 = 0x1_0000_0000;

impl Scenario {
    /// Makes a machine from `seed`, of at most this size. The same seed and size always make the same machine.
    pub fn random(seed: u64, size: Size) -> Self {
        let mut rng = Rng::with_seed(seed);
        let units = units::units(&mut rng, size);
        let common = units::common(&units);
        let memory = memory(&common);
        let domains = domains::domains(&mut rng, &common, &memory, size);
        let functions = functions::functions(&mut rng, &units, &domains, size);
        Self { seed, memory, units, domains, functions, ..Self::default() }
    }
}

/// About 64 MiB of old memory around the capture kernel's, device registers, and 1 GiB above 4 GiB where one page can
/// map it.
fn memory(traits: &Traits) -> Vec<(Range<PhysicalAddress>, MemoryKind)> {
    let mut memory = vec![
        (Range::from(0..0xA_0000), MemoryKind::Old),
        (Range::from(0x10_0000..CAPTURE.start.get()), MemoryKind::Old),
        (CAPTURE, MemoryKind::Capture),
        (Range::from(CAPTURE.end.get()..0x480_0000), MemoryKind::Old),
        (Range::from(0xFEB0_0000..0xFEC0_0000), MemoryKind::Mmio),
    ];
    if traits.capability.sslps() == 0b11 {
        memory.push((Range::from(HIGH..HIGH + (1 << 30)), MemoryKind::Old));
    }
    memory
}

fn pick<T: Copy>(rng: &mut Rng, choices: &[T]) -> T {
    choices[rng.usize(..choices.len())]
}

fn one_in(rng: &mut Rng, count: u32) -> bool {
    rng.u32(..count) == 0
}
