//! What the caller knows about the machine, and how much a takeover may take.

use core::time::Duration;

use machine::{IoAddress, PhysicalAddress, Range};
use vtd::source::SourceId;

use crate::own::OwnMemory;

/// The machine around a unit: what is memory, what is ours, what devices' addresses may not be.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// Physical address bits of the machine: the DMAR table's host address width.
    pub host_address_bits: u32,
    /// All of the machine's memory, `own` included: what pass-through becomes a map of.
    pub memory: &'a [Range<PhysicalAddress>],
    /// The capture kernel's own memory, which no inherited translation may reach and no inherited table may lie in. Frames
    /// for tables are among it.
    pub own: &'a [Range<PhysicalAddress>],
    /// I/O addresses that are never given to a driver: RMRRs and the windows of PCI bridges. The interrupt window is
    /// always kept free.
    pub kept_free: &'a [Range<IoAddress>],
    /// The devices that keep translations themselves.
    pub device_tlbs: &'a [DeviceTlb],
}

impl<'a> Surroundings<'a> {
    /// The capture kernel's own memory.
    pub(crate) fn own_memory(&self) -> OwnMemory<'a> {
        OwnMemory(self.own)
    }
}

/// A device that keeps translations, as its configuration says: its ATS capability is switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceTlb {
    /// The device.
    pub source: SourceId,
    /// The physical function that it is a part of: itself, unless it is a virtual one.
    pub physical: SourceId,
    /// How many invalidations it takes at once, 1 to 32.
    pub depth: u8,
}

/// Bounds of a takeover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a register or the queue may take to answer.
    pub deadline: Duration,
    /// How many contexts are looked at; those after are blocked.
    pub contexts: usize,
    /// How many hazards are remembered one by one; those after are counted.
    pub hazards: usize,
    /// How many separate ranges of mapped I/O addresses are told apart in a domain; beyond it gaps are given up.
    pub reserved_ranges: usize,
    /// How many tables are looked at without being copied, over all domains: corrupt tables can name each other so often
    /// that a walk would not end.
    pub looks: u32,
    /// Frames that are left for new mappings when tables have been duplicated.
    pub spare_frames: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(1),
            contexts: 16384,
            hazards: 256,
            reserved_ranges: 8192,
            // The tables of 4 TiB in pages of 4 KiB.
            looks: 1 << 21,
            spare_frames: 64,
        }
    }
}
