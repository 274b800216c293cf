//! A split virtqueue whose requests are chains of three descriptors (section 2.7).
//!
//! Slot `n` owns descriptors `3n`, `3n + 1` and `3n + 2`, so nothing has to be allocated, and the one number that the
//! device hands back, the first descriptor of a chain, says which slot it is.

use machine::{Dma, DmaMemory, IoAddress};

use super::transport::QueueAddresses;

/// Descriptors of a slot: the request's header, its data, its status.
pub(super) const CHAIN: usize = 3;

const DESCRIPTOR_SIZE: usize = 16;
/// The chain goes on at `next`.
const DESCRIPTOR_NEXT: u16 = 1;
/// The device writes the buffer rather than reads it.
const DESCRIPTOR_WRITE: u16 = 2;

/// Bytes before the entries of either ring: flags and index.
const RING_HEADER: usize = 4;
const RING_INDEX: usize = 2;
const AVAILABLE_ENTRY: usize = 2;
const USED_ENTRY: usize = 8;
/// In the available ring's flags: the driver wants no interrupt.
const NO_INTERRUPT: u16 = 1;
/// In the used ring's flags: the device wants no notification.
const NO_NOTIFY: u16 = 1;

/// A stretch of memory that one descriptor describes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    /// Where the device finds it.
    pub(super) address: IoAddress,
    /// Size in bytes.
    pub(super) len: u32,
    /// Who writes it.
    pub(super) access: Access,
}

/// What a device does with a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Reads,
    Writes,
}

/// What the device wrote into the used ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Used {
    /// First descriptor of the chain, as the device says.
    pub(super) id: u32,
    /// Bytes written, as the device says.
    pub(super) len: u32,
}

/// A virtqueue, and where in it the driver is.
pub(super) struct Queue<M> {
    memory: M,
    size: u16,
    /// Index that the next available entry gets; counts on past `size` and wraps at 2¹⁶.
    next_available: u16,
    /// Index of the next used entry to look at; counts likewise.
    next_used: u16,
    /// Index up to which the device was notified.
    notified: u16,
}

impl<M: DmaMemory> Queue<M> {
    /// Makes a queue of `size` entries, a power of two. `None` if there is no memory.
    pub(super) fn allocate(dma: &mut impl Dma<Memory = M>, size: u16) -> Option<Self> {
        let mut memory = dma.allocate(used_offset(size) + RING_HEADER + USED_ENTRY * usize::from(size))?;
        memory.write_u16(available_offset(size), NO_INTERRUPT);
        Some(Self { memory, size, next_available: 0, next_used: 0, notified: 0 })
    }

    /// Where the device finds the parts.
    pub(super) fn addresses(&self) -> QueueAddresses {
        let start = self.memory.device_address();
        QueueAddresses {
            descriptors: start,
            available: start.saturating_add(available_offset(self.size) as u64),
            used: start.saturating_add(used_offset(self.size) as u64),
        }
    }

    /// Makes `segments` the chain of a slot and available to the device.
    pub(super) fn submit(&mut self, slot: usize, segments: &[Segment]) {
        let head = slot * CHAIN;
        for (number, segment) in segments.iter().enumerate() {
            let next = (number + 1 < segments.len()).then_some((head + number + 1) as u16);
            self.memory.write((head + number) * DESCRIPTOR_SIZE, &descriptor(segment, next));
        }
        let ring = available_offset(self.size);
        let entry = usize::from(self.next_available % self.size) * AVAILABLE_ENTRY;
        self.memory.write_u16(ring + RING_HEADER + entry, head as u16);
        // The chain and the entry must be there before the index says so (2.7.13.3.1).
        self.memory.fence();
        self.next_available = self.next_available.wrapping_add(1);
        self.memory.write_u16(ring + RING_INDEX, self.next_available);
    }

    /// Whether something was submitted since the last time this was asked, and the device wants to be told.
    pub(super) fn take_notification(&mut self) -> bool {
        if self.notified == self.next_available {
            return false;
        }
        self.notified = self.next_available;
        // The index must be there before the flag is read (2.7.13.4.1), and before the device is told.
        self.memory.fence();
        self.memory.read_u16(used_offset(self.size)) & NO_NOTIFY == 0
    }

    /// Takes one entry from the used ring.
    pub(super) fn take_used(&mut self) -> Option<Used> {
        let ring = used_offset(self.size);
        if self.memory.read_u16(ring + RING_INDEX) == self.next_used {
            return None;
        }
        // What the entry speaks of may be read only after the index said that it is there (2.7.14).
        self.memory.fence();
        let entry = ring + RING_HEADER + usize::from(self.next_used % self.size) * USED_ENTRY;
        self.next_used = self.next_used.wrapping_add(1);
        Some(Used { id: self.memory.read_u32(entry), len: self.memory.read_u32(entry + 4) })
    }
}

/// `struct virtq_desc` (2.7.5).
fn descriptor(segment: &Segment, next: Option<u16>) -> [u8; DESCRIPTOR_SIZE] {
    let write = if segment.access == Access::Writes { DESCRIPTOR_WRITE } else { 0 };
    let flags = write | next.map_or(0, |_| DESCRIPTOR_NEXT);
    let mut bytes = [0; DESCRIPTOR_SIZE];
    bytes[0..8].copy_from_slice(&segment.address.get().to_le_bytes());
    bytes[8..12].copy_from_slice(&segment.len.to_le_bytes());
    bytes[12..14].copy_from_slice(&flags.to_le_bytes());
    bytes[14..16].copy_from_slice(&next.unwrap_or(0).to_le_bytes());
    bytes
}

/// The available ring lies right behind the descriptors.
fn available_offset(size: u16) -> usize {
    DESCRIPTOR_SIZE * usize::from(size)
}

/// The used ring lies behind the available ring, which ends with a field that is not used, and is aligned to 4 bytes.
fn used_offset(size: u16) -> usize {
    (available_offset(size) + RING_HEADER + AVAILABLE_ENTRY * usize::from(size) + 2).next_multiple_of(4)
}
