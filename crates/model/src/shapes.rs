//! Shapes of random machines of either architecture.

use crate::memory::MemoryKind;
use crate::parts::Mapping;
use fastrand::Rng;
use machine::{IoAddress, Level, PAGE_SIZE, Permission, PhysicalAddress, Range};

/// The largest size of a random machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Remapping units: one at least.
    pub units: usize,
    /// Domains.
    pub domains: usize,
    /// Functions with an entry in a unit's tables.
    pub functions: usize,
    /// Runs of neighbouring pages that a domain maps.
    pub runs: usize,
}

/// The domain-id of pass-through; no other domain has it.
pub const PASS_THROUGH: u16 = 0xF;
/// The capture kernel's memory.
pub(crate) const CAPTURE: Range<PhysicalAddress> =
    Range::new(PhysicalAddress::new(0x200_0000), PhysicalAddress::new(0x280_0000));
/// Memory of the firmware, for which firmware's table has an RMRR or an IVMD: some domains map it to itself.
pub const RESERVED_MEMORY: Range<PhysicalAddress> =
    Range::new(PhysicalAddress::new(0x7F00_0000), PhysicalAddress::new(0x7F01_0000));
/// Where memory above 4 GiB starts, on machines that have it.
const HIGH: u64 = 0x1_0000_0000;

/// Whether there is 1 GiB of memory above 4 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HighMemory {
    Absent,
    Present,
}

/// About 64 MiB of old memory around the capture kernel's, device registers, and perhaps 1 GiB above 4 GiB.
pub(crate) fn memory(high: HighMemory) -> Vec<(Range<PhysicalAddress>, MemoryKind)> {
    let mut memory = vec![
        (Range::from(0..0xA_0000), MemoryKind::Old),
        (Range::from(0x10_0000..CAPTURE.start.get()), MemoryKind::Old),
        (CAPTURE, MemoryKind::Capture),
        (Range::from(CAPTURE.end.get()..0x480_0000), MemoryKind::Old),
        (Range::from(0xFEB0_0000..0xFEC0_0000), MemoryKind::Mmio),
    ];
    if high == HighMemory::Present {
        memory.push((Range::from(HIGH..HIGH + (1 << 30)), MemoryKind::Old));
    }
    memory
}

/// Identity mappings that firmware asks the kernel to make for some device (VT-d 8.4, AMD-Vi 5.2.4).
pub(crate) fn reserved_memory() -> impl Iterator<Item = Mapping> {
    let pages = (RESERVED_MEMORY.start.get()..RESERVED_MEMORY.end.get()).step_by(PAGE_SIZE as usize);
    let (level, permission) = (Level::ONE, Permission::ReadWrite);
    pages.map(move |page| Mapping { iova: page.into(), memory: page.into(), level, permission })
}

/// The memory that pages may map: old memory, or for a guest the addresses that its host maps and entries can hold.
pub(crate) fn targets(
    memory: &[(Range<PhysicalAddress>, MemoryKind)],
    host: Option<&[Mapping]>,
    address_bits: u32,
) -> Vec<Range<PhysicalAddress>> {
    let Some(host) = host else {
        return memory.iter().filter(|(_, kind)| *kind == MemoryKind::Old).map(|(range, _)| *range).collect();
    };
    let mapped = host.iter().map(range_of);
    let mapped = mapped.map(|range| Range::from(range.start.get()..range.end.get()));
    let end = PhysicalAddress::new(1 << address_bits);
    mapped.filter(|range: &Range<PhysicalAddress>| range.end <= end).collect()
}

/// Chooses an aligned page of this size in `targets`, if there is one.
pub(crate) fn target(
    rng: &mut Rng,
    targets: &[Range<PhysicalAddress>],
    level: Level,
) -> Option<PhysicalAddress> {
    let aligned = |range: &Range<PhysicalAddress>| {
        let first = range.start.get().next_multiple_of(level.span());
        (first, range.end.get().saturating_sub(first) / level.span())
    };
    let fitting = targets.iter().map(aligned).filter(|(_, pages)| *pages > 0);
    let (first, pages) = rng.choice(fitting.collect::<Vec<_>>())?;
    Some(PhysicalAddress::new(first + rng.u64(..pages) * level.span()))
}

/// The addresses of a mapping.
pub(crate) fn range_of(mapping: &Mapping) -> Range<IoAddress> {
    mapping.level.entry_span(mapping.iova)
}

/// An address in a mapping.
pub(crate) fn inside(rng: &mut Rng, mapping: &Mapping) -> IoAddress {
    mapping.iova.saturating_add(rng.u64(..mapping.level.span()))
}

pub(crate) fn pick<T: Copy>(rng: &mut Rng, choices: &[T]) -> T {
    choices[rng.usize(..choices.len())]
}

pub(crate) fn one_in(rng: &mut Rng, count: u32) -> bool {
    rng.u32(..count) == 0
}
