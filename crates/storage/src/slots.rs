//! The pool of DMA buffers. It records which of them a device is working on.

use alloc::vec::Vec;

use machine::{BlockError, ByteOffset, Dma, DmaMemory, Range};

/// How much memory a driver takes for requests in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Requests in flight at most.
    pub slots: usize,
    /// Bytes that one request moves at most; a multiple of 4096.
    pub slot_size: usize,
}

/// A request to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Reads these bytes of the disk into the slot's buffer.
    Read(Range<ByteOffset>),
    /// Writes these bytes of the disk from the slot's buffer.
    Write(Range<ByteOffset>),
    /// Makes every completed write durable.
    Flush,
}

impl Request {
    /// The bytes of the disk that are moved.
    pub fn range(self) -> Range<ByteOffset> {
        match self {
            Self::Read(range) | Self::Write(range) => range,
            Self::Flush => Range::default(),
        }
    }
}

/// Buffers that a device can reach, each free or given to the device with a request.
pub(crate) struct Slots<M> {
    slots: Vec<Slot<M>>,
    /// The number and size of the slots that there may be.
    pool: Pool,
}

struct Slot<M> {
    buffer: M,
    state: SlotState,
}

#[derive(Clone, Copy)]
enum SlotState {
    InFlight(Request),
    /// How the last request ended.
    Free(Result<(), BlockError>),
}

impl<M: DmaMemory> Slots<M> {
    /// Takes memory for the first slot of a pool; `None` if there is none.
    pub(crate) fn first(dma: &mut impl Dma<Memory = M>, pool: Pool) -> Option<Self> {
        let mut slots = Self { slots: Vec::new(), pool };
        slots.add(dma, |_| true)?;
        Some(slots)
    }

    /// Takes memory for the rest of the pool, or for as much of it as there is memory that is usable.
    pub(crate) fn fill(&mut self, dma: &mut impl Dma<Memory = M>, is_usable: impl Fn(&M) -> bool) {
        while self.slots.len() < self.pool.slots && self.add(dma, &is_usable).is_some() {}
    }

    fn add(&mut self, dma: &mut impl Dma<Memory = M>, is_usable: impl Fn(&M) -> bool) -> Option<()> {
        self.slots.try_reserve(1).ok()?;
        let buffer = dma.allocate(self.pool.slot_size).filter(is_usable)?;
        #[cfg_attr(not(test), expect(clippy::disallowed_methods, reason = "memory is taken before"))]
        self.slots.push(Slot { buffer, state: SlotState::Free(Ok(())) });
        Some(())
    }

    /// How many slots there are, free or not.
    pub(crate) fn count(&self) -> usize {
        self.slots.len()
    }

    /// A slot that is free.
    pub(crate) fn find_free(&self) -> Option<usize> {
        self.slots.iter().position(|slot| slot.request().is_none())
    }

    /// Whether no slot is in flight.
    pub(crate) fn all_free(&self) -> bool {
        self.slots.iter().all(|slot| slot.request().is_none())
    }

    /// Whether the device is still at work on any byte of `range`.
    pub(crate) fn any_overlaps(&self, range: Range<ByteOffset>) -> bool {
        self.slots.iter().filter_map(Slot::request).any(|request| request.range().overlaps(range))
    }

    /// The buffer of a slot.
    pub(crate) fn buffer(&mut self, slot: usize) -> &mut M {
        &mut self.slots[slot].buffer
    }

    /// Marks all slots as free, because the device has let go of them.
    pub(crate) fn reset(&mut self) {
        for slot in &mut self.slots {
            slot.state = SlotState::Free(Ok(()));
        }
    }

    /// Marks a slot as in flight.
    pub(crate) fn begin(&mut self, slot: usize, request: Request) {
        self.slots[slot].state = SlotState::InFlight(request);
    }

    /// Marks as free a slot that the device names. `None` if there is no such slot or it was not in flight.
    pub(crate) fn finish(&mut self, slot: usize, result: Result<(), BlockError>) -> Option<Request> {
        let slot = self.slots.get_mut(slot)?;
        let request = slot.request()?;
        slot.state = SlotState::Free(result);
        Some(request)
    }

    /// How the last request of a slot ended; `None` while it is in flight.
    pub(crate) fn result(&self, slot: usize) -> Option<Result<(), BlockError>> {
        match self.slots[slot].state {
            SlotState::Free(result) => Some(result),
            SlotState::InFlight(_) => None,
        }
    }
}

impl<M> Slot<M> {
    fn request(&self) -> Option<Request> {
        match self.state {
            SlotState::InFlight(request) => Some(request),
            SlotState::Free(_) => None,
        }
    }
}
