//! A split virtqueue whose requests are chains of three descriptors (section 2.7).
//!
//! Slot `n` owns descriptors `3n`, `3n + 1` and `3n + 2`, so the driver allocates no descriptors, and the one number
//! that the device returns, the first descriptor of a chain, identifies the slot.

use machine::{Dma, DmaMemory, IoAddress};

use super::spec::{Descriptor, ring, used};
use super::transport::QueueAddresses;
use crate::slots::Pool;

/// Descriptors of a slot: the request's header, its data, its status.
pub(super) const CHAIN: usize = 3;

/// A stretch of memory that one descriptor describes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    /// The address of its first byte for the device.
    pub(super) address: IoAddress,
    /// Size in bytes.
    pub(super) len: u32,
    /// Whether the device reads or writes it.
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

/// A virtqueue, and the driver's position in it.
pub(super) struct Queue<M> {
    memory: M,
    size: u16,
    /// Index of the next available entry; counts on past `size` and wraps at 2¹⁶.
    next_available: u16,
    /// Index of the next used entry to look at; counts likewise.
    next_used: u16,
    /// Index up to which the device was notified.
    notified: u16,
}

impl<M: DmaMemory> Queue<M> {
    /// Makes a queue of `size` entries, a power of two. `None` if there is no memory.
    pub(super) fn allocate(dma: &mut impl Dma<Memory = M>, size: u16) -> Option<Self> {
        let mut memory = dma.allocate(used_offset(size) + ring::ENTRIES + used::SIZE * usize::from(size))?;
        memory.write_u16(available_offset(size) + ring::FLAGS, ring::NO_INTERRUPT);
        Some(Self { memory, size, next_available: 0, next_used: 0, notified: 0 })
    }

    /// How many entries it has.
    pub(super) fn size(&self) -> u16 {
        self.size
    }

    /// Makes it as new, for a device that was reset.
    pub(super) fn clear(&mut self) {
        self.memory.write_u16(available_offset(self.size) + ring::INDEX, 0);
        self.memory.write_u16(used_offset(self.size) + ring::FLAGS, 0);
        self.memory.write_u16(used_offset(self.size) + ring::INDEX, 0);
        (self.next_available, self.next_used, self.notified) = (0, 0, 0);
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

    /// Writes `segments` as the chain of a slot, and makes it available to the device.
    pub(super) fn submit(&mut self, slot: usize, segments: &[Segment]) {
        let head = slot * CHAIN;
        for (number, segment) in segments.iter().enumerate() {
            let next = (number + 1 < segments.len()).then_some((head + number + 1) as u16);
            let bytes = descriptor(segment, next).into_bits().to_le_bytes();
            self.memory.write((head + number) * size_of::<Descriptor>(), &bytes);
        }
        let available = available_offset(self.size);
        let entry = usize::from(self.next_available % self.size) * ring::AVAILABLE_SIZE;
        self.memory.write_u16(available + ring::ENTRIES + entry, head as u16);
        // The chain and the entry must be visible before the index announces them (2.7.13.3.1).
        self.memory.fence();
        self.next_available = self.next_available.wrapping_add(1);
        self.memory.write_u16(available + ring::INDEX, self.next_available);
    }

    /// Whether something was submitted since the last call, and the device wants a notification.
    pub(super) fn take_notification(&mut self) -> bool {
        if self.notified == self.next_available {
            return false;
        }
        self.notified = self.next_available;
        // The index must be visible before the flag is read (2.7.13.4.1), and before the device is notified.
        self.memory.fence();
        self.memory.read_u16(used_offset(self.size) + ring::FLAGS) & ring::NO_NOTIFY == 0
    }

    /// Takes one entry from the used ring.
    pub(super) fn take_used(&mut self) -> Option<Used> {
        let start = used_offset(self.size);
        if self.memory.read_u16(start + ring::INDEX) == self.next_used {
            return None;
        }
        // The entry's content may be read only after the index has announced it (2.7.14).
        self.memory.fence();
        let entry = start + ring::ENTRIES + usize::from(self.next_used % self.size) * used::SIZE;
        self.next_used = self.next_used.wrapping_add(1);
        let field = |offset| self.memory.read_u32(entry + offset);
        Some(Used { id: field(used::ID), len: field(used::LEN) })
    }
}

/// Entries for the queue: enough for the pool, at most what the device has, a power of two; `None` if no chain fits.
pub(super) fn size_for(most: u16, pool: Pool) -> Option<u16> {
    let most = 1 << most.checked_ilog2()?;
    let needed = pool.slots.checked_mul(CHAIN)?.checked_next_power_of_two()?;
    let size = u16::try_from(needed).map_or(most, |needed| needed.min(most));
    (usize::from(size) >= CHAIN).then_some(size)
}

fn descriptor(segment: &Segment, next: Option<u16>) -> Descriptor {
    Descriptor::new()
        .with_address(segment.address.get())
        .with_len(segment.len)
        .with_device_writes(segment.access == Access::Writes)
        .with_has_next(next.is_some())
        .with_next(next.unwrap_or(0))
}

/// The available ring lies right behind the descriptors.
fn available_offset(size: u16) -> usize {
    size_of::<Descriptor>() * usize::from(size)
}

/// The used ring lies behind the available ring, aligned to 4 bytes.
fn used_offset(size: u16) -> usize {
    let entries = ring::AVAILABLE_SIZE * usize::from(size);
    (available_offset(size) + ring::ENTRIES + entries + ring::TRAILER).next_multiple_of(4)
}
