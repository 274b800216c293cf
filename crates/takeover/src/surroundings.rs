//! What the caller knows about the machine, and how much a takeover may use.

use core::time::Duration;

use machine::{IoAddress, PhysicalAddress, Range, SourceId};

use crate::identity::IdentityMap;
use crate::own::OwnMemory;
use crate::patience::Patience;

/// The machine around a unit: its memory, our memory, and I/O addresses that devices must not get.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// Physical address bits of the machine: the larger of the DMAR table's host address width and what the processor says.
    /// If there is memory beyond, the takeover reckons with as many bits as that needs.
    pub host_address_bits: u32,
    /// All of the machine's memory, `own` included: the tables that replace pass-through map it.
    pub memory: &'a [Range<PhysicalAddress>],
    /// Other memory that devices may reach, such as persistent memory; some of `memory` may be in it again. It may be so
    /// much that only pages of 1 GiB map it in few tables: the tables that replace pass-through map it where they have such
    /// pages.
    pub other_memory: &'a [Range<PhysicalAddress>],
    /// The capture kernel's own memory, the frames for tables included. No inherited translation may reach it, and no
    /// inherited table may lie in it.
    pub own: &'a [Range<PhysicalAddress>],
    /// I/O addresses that drivers never get: RMRRs and the windows of PCI bridges. The interrupt window is always
    /// kept free as well.
    pub kept_free: &'a [Range<IoAddress>],
    /// Memory of the dead kernel's that units use on where it is: those which were taken over before
    /// ([`Takeover::in_use`](crate::Takeover::in_use)), and all others as far as that is known before
    /// ([`Unit::locked_memory`](crate::Unit::locked_memory)). The tables that replace pass-through leave it out, as they leave out what
    /// the unit itself uses on.
    pub in_use: &'a [Range<PhysicalAddress>],
    /// What is known of devices that the old kernel may have allowed a device-TLB: one entry for each function whose
    /// configuration space was read, whether it has a device-TLB or not. A device that is missing here, and that its
    /// context allows a device-TLB, is told to invalidate it all the same, and is a hazard.
    pub device_tlbs: &'a [DeviceTlb],
    /// The devices that will be attached, if they are known, with their aliases: where frames run short, they come
    /// first.
    pub wanted: &'a [SourceId],
    /// Maps that takeovers of other units made in place of pass-through. Their surroundings were the same, but for
    /// device-TLBs and wanted devices. Where memory is in use, the unit gets a map of its own.
    pub maps: &'a [IdentityMap],
}

impl<'a> Surroundings<'a> {
    /// A machine of which no more is known, and with nothing to be kept free.
    pub const fn new(
        host_address_bits: u32,
        memory: &'a [Range<PhysicalAddress>],
        own: &'a [Range<PhysicalAddress>],
    ) -> Self {
        Self {
            host_address_bits,
            memory,
            other_memory: &[],
            own,
            kept_free: &[],
            in_use: &[],
            device_tlbs: &[],
            wanted: &[],
            maps: &[],
        }
    }

    /// The same, on a machine whose addresses are at least as wide as those of its memory: firmware's word is not believed
    /// against memory that is there.
    pub(crate) fn as_wide_as_memory(self) -> Self {
        let highest = self.memory.iter().map(|range| range.end.get().saturating_sub(1)).max().unwrap_or(0);
        let host_address_bits = self.host_address_bits.max(u64::BITS - highest.leading_zeros());
        Self { host_address_bits, ..self }
    }

    /// The same, where units use this memory on. A map that others made has some of it.
    pub(crate) fn with_in_use(self, in_use: &'a [Range<PhysicalAddress>]) -> Self {
        let maps = if in_use.is_empty() { self.maps } else { &[] };
        Self { in_use, maps, ..self }
    }

    /// The capture kernel's own memory.
    pub(crate) fn own_memory(&self) -> OwnMemory<'a> {
        OwnMemory(self.own)
    }
}

/// What a device's configuration space says of its device-TLB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceTlb {
    /// The device.
    pub source: SourceId,
    /// Whether the device may keep translations of this unit: its ATS capability is there and enabled, and it is behind this unit.
    pub enabled: bool,
    /// The physical function of the device: itself, unless it is a virtual function.
    pub physical: SourceId,
    /// How many invalidations it takes at once, 1 to 32. Those of virtual functions count for their physical function.
    pub depth: u8,
    /// How often it must be told to invalidate: once, or twice where it is known to miss the first.
    pub tellings: u8,
}

impl DeviceTlb {
    /// What must be assumed of a device whose configuration space was not found.
    pub(crate) fn unknown(source: SourceId) -> Self {
        Self { source, enabled: true, physical: source, depth: 1, tellings: 1 }
    }
}

/// Bounds of a takeover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a register or the queue may take to answer, as long as there is [`Patience`] for units.
    pub deadline: Duration,
    /// How long the unit and its devices may keep the takeover waiting, all together.
    pub patience: Patience,
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

impl Limits {
    /// The same limits, where so many units after this one will share its tables: it leaves frames for their queues.
    #[must_use]
    pub fn sparing(self, units: usize) -> Self {
        let queues = units.saturating_mul(crate::amdvi::command::QUEUE_FRAMES);
        Self { spare_frames: self.spare_frames.saturating_add(queues), ..self }
    }

    /// The limits of one unit's takeover, when `frames` frames are left for this unit and those after it, `units` in all that have tables
    /// of their own. The unit may use half of the frames as it needs them; the other half is divided equally among these units.
    #[must_use]
    pub fn among(self, frames: usize, units: usize) -> Self {
        let others = units.saturating_sub(1);
        let for_others = frames / 2 * others / (others + 1);
        Self { spare_frames: self.spare_frames + for_others, ..self }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(10),
            patience: Patience::default(),
            contexts: 16384,
            hazards: 256,
            reserved_ranges: 8192,
            // The tables of 4 TiB in pages of 4 KiB.
            looks: 1 << 21,
            spare_frames: 64,
        }
    }
}
