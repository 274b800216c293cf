//! What the caller knows about the machine, and how much a takeover may use.

use core::time::Duration;

use machine::{IoAddress, PhysicalAddress, Range};
use vtd::source::SourceId;

use crate::own::OwnMemory;

/// The machine around a unit: its memory, our memory, and I/O addresses that devices must not get.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// Physical address bits of the machine: the DMAR table's host address width.
    pub host_address_bits: u32,
    /// All of the machine's memory, `own` included: the tables that replace pass-through map it.
    pub memory: &'a [Range<PhysicalAddress>],
    /// The capture kernel's own memory, the frames for tables included. No inherited translation may reach it, and no
    /// inherited table may lie in it.
    pub own: &'a [Range<PhysicalAddress>],
    /// I/O addresses that drivers never get: RMRRs and the windows of PCI bridges. The interrupt window is always
    /// kept free as well.
    pub kept_free: &'a [Range<IoAddress>],
    /// The devices that have a device-TLB.
    pub device_tlbs: &'a [DeviceTlb],
}

impl<'a> Surroundings<'a> {
    /// The capture kernel's own memory.
    pub(crate) fn own_memory(&self) -> OwnMemory<'a> {
        OwnMemory(self.own)
    }
}

/// A device with a device-TLB: its configuration space says that its ATS capability is enabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceTlb {
    /// The device.
    pub source: SourceId,
    /// The physical function of the device: itself, unless it is a virtual function.
    pub physical: SourceId,
    /// How many invalidations it takes at once, 1 to 32.
    pub depth: u8,
}

/// Bounds of a takeover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a register or the queue may take to answer.
    pub deadline: Duration,
    /// How many contexts are carried over; any further ones are blocked.
    pub contexts: usize,
    /// How many hazards are listed; any further ones are only counted.
    pub hazards: usize,
    /// How many separate ranges of mapped I/O addresses a domain remembers; beyond that, gaps between them are
    /// reserved too.
    pub reserved_ranges: usize,
    /// How many tables may be checked without being copied, over all domains: corrupt tables can name each other so
    /// often that a walk would not end.
    pub looks: u32,
    /// Frames that are left for new mappings after the tables were duplicated.
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
