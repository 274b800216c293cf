//! A disk behind any controller: keeps many requests in flight, orders them, and gives each a deadline.

use core::time::Duration;

use machine::{BlockDevice, BlockError, ByteOffset, Clock, Dma, DmaMemory, Range, wait_until};

use crate::access::DeviceAccess;
use crate::error::OpenError;
use crate::slots::{Pool, Request, Slots};

/// Longest wait for a disk that has completed something to complete more. Disks retry bad sectors and empty their caches for
/// many seconds.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// Code of [`BlockError::Device`] when a device sent an answer to no request.
pub const UNASKED: u32 = 0xffff_0001;

/// The protocol of a controller: carries requests to the device and answers back.
pub trait Controller {
    /// Memory that the device can reach.
    type Memory: DmaMemory;

    /// Puts a request on the device's queue, whose data is or will be at the start of `buffer`.
    ///
    /// `slot` names the request until it completes. The device may not look before [`notify`](Self::notify).
    fn submit(&mut self, slot: usize, request: Request, buffer: &Self::Memory);

    /// Notifies the device of the requests submitted since the last call, if there are any.
    fn notify(&mut self);

    /// Takes one answer from the device, if there is one. An error means that the device cannot be trusted any more.
    fn poll(&mut self) -> Result<Option<Completion>, BlockError>;

    /// Stops the device, so that it no longer accesses memory, as far as a broken device can be stopped.
    fn stop(&mut self, clock: &impl Clock);
}

/// A device's answer. Neither part has been checked against the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The request that it answers.
    pub slot: usize,
    /// How the request ended.
    pub result: Result<(), BlockError>,
}

/// A device that a driver has brought up, ready for requests.
pub(crate) struct Started<P: Controller> {
    pub(crate) controller: P,
    pub(crate) slots: Slots<P::Memory>,
    pub(crate) geometry: Geometry,
}

impl<P: Controller> Started<P> {
    /// Wraps the controller by `wrap`, and keeps the rest.
    pub(crate) fn map<Q: Controller<Memory = P::Memory>>(self, wrap: impl FnOnce(P) -> Q) -> Started<Q> {
        Started { controller: wrap(self.controller), slots: self.slots, geometry: self.geometry }
    }
}

/// The result of a driver's `start`.
pub(crate) type StartResult<P, A> = Result<Started<P>, OpenError<<A as DeviceAccess>::Refusal>>;

/// The properties of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// Size in bytes, a multiple of `block_size`.
    pub(crate) size: u64,
    /// Bytes in a block: a power of two from 512 to 4096.
    pub(crate) block_size: u32,
    /// Bytes that one request moves at most; a multiple of `block_size`, at most the size of a slot.
    pub(crate) piece: usize,
    /// When a write is durable.
    pub(crate) durability: Durability,
}

/// When a completed write survives a loss of power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// At once: the disk has no volatile cache.
    OnCompletion,
    /// Once a flush has completed.
    OnFlush,
}

/// A disk, as [`BlockDevice`].
///
/// A write is copied into a free slot and left to the device. Devices complete requests in any order, so a request waits
/// for those in flight that touch the same bytes. The error of a queued write is returned once, by the next call. A disk
/// that completes nothing for 30 seconds, or answers a request that was not made, is stopped and no longer used. So is a
/// disk that completes nothing at all within the patience that it was started with.
///
/// Dropping a disk stops its device, because the memory that they share is freed too. Flush the disk before.
pub struct Disk<P: Controller, C: Clock> {
    controller: P,
    slots: Slots<P::Memory>,
    geometry: Geometry,
    clock: C,
    /// Longest wait for the next completion.
    limit: Duration,
    /// First error of a queued write that no call has returned yet.
    untold: Option<BlockError>,
    /// Why the disk is not used any more.
    dead: Option<BlockError>,
    /// Time spent on waiting for the device.
    waited: Duration,
}

impl<P: Controller, C: Clock> Disk<P, C> {
    /// Makes a disk that must complete its first request within `patience`.
    pub(crate) fn new(started: Started<P>, clock: C, patience: Duration) -> Self {
        let Started { controller, slots, geometry } = started;
        let waited = Duration::ZERO;
        Self { controller, slots, geometry, clock, limit: patience, untold: None, dead: None, waited }
    }

    /// Takes memory for the whole pool that the disk was started with, or for as much of it as there is.
    ///
    /// Before this call one request at a time is in flight: enough to find out what is on the disk.
    pub fn fill_pool(&mut self, dma: &mut impl Dma<Memory = P::Memory>) {
        self.slots.fill(dma);
    }

    /// Number and size of the requests that can be in flight; fewer than requested if memory or the device's queue is
    /// short.
    pub fn pool(&self) -> Pool {
        Pool { slots: self.slots.count(), slot_size: self.geometry.piece }
    }

    /// Total time for which calls have waited for the device: the time that a faster disk could save.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Returns the error that occurred since the last call, if there is one.
    fn check_health(&mut self) -> Result<(), BlockError> {
        self.check_alive()?;
        self.reap()?;
        self.untold.take().map_or(Ok(()), Err)
    }

    fn check_alive(&self) -> Result<(), BlockError> {
        self.dead.map_or(Ok(()), Err)
    }

    fn check_range(&self, offset: u64, len: usize) -> Result<(), BlockError> {
        let (block, len) = (u64::from(self.geometry.block_size), len as u64);
        if !offset.is_multiple_of(block) || !len.is_multiple_of(block) {
            return Err(BlockError::Misaligned);
        }
        match offset.checked_add(len) {
            Some(end) if end <= self.geometry.size => Ok(()),
            _ => Err(BlockError::OutOfBounds),
        }
    }

    fn queue_write(&mut self, offset: u64, piece: &[u8]) -> Result<(), BlockError> {
        let range = Range::from(offset..offset + piece.len() as u64);
        let slot = self.wait_for_slot(range)?;
        self.slots.buffer(slot).write(0, piece);
        self.submit(slot, Request::Write(range));
        Ok(())
    }

    fn read_piece(&mut self, offset: u64, piece: &mut [u8]) -> Result<(), BlockError> {
        let range = Range::from(offset..offset + piece.len() as u64);
        let slot = self.wait_for_slot(range)?;
        self.submit(slot, Request::Read(range));
        self.wait_for_result(slot)?;
        self.slots.buffer(slot).read(0, piece);
        Ok(())
    }

    fn submit(&mut self, slot: usize, request: Request) {
        self.controller.submit(slot, request, self.slots.buffer(slot));
        self.slots.begin(slot, request);
    }

    /// Waits until a slot is free and the device has done with every byte of `range`.
    fn wait_for_slot(&mut self, range: Range<ByteOffset>) -> Result<usize, BlockError> {
        self.wait_for(|slots| slots.find_free().filter(|_| !slots.any_overlaps(range)))
    }

    fn wait_for_result(&mut self, slot: usize) -> Result<(), BlockError> {
        self.wait_for(|slots| slots.result(slot))?
    }

    /// Takes completions until `look` finds what it waits for. The deadline starts anew with each completion.
    fn wait_for<T>(&mut self, look: impl Fn(&Slots<P::Memory>) -> Option<T>) -> Result<T, BlockError> {
        loop {
            if let Some(found) = look(&self.slots) {
                return Ok(found);
            }
            self.controller.notify();
            self.wait_for_completion()?;
        }
    }

    fn wait_for_completion(&mut self) -> Result<(), BlockError> {
        let start = self.clock.now();
        let Self { controller, clock, .. } = self;
        let mut answer = Ok(None);
        let waited = wait_until(clock, self.limit, || {
            answer = controller.poll();
            answer != Ok(None)
        });
        self.waited += self.clock.now().saturating_sub(start);
        if waited.is_err() {
            return Err(self.give_up(BlockError::TimedOut));
        }
        self.take(answer).map(|_| ())
    }

    /// Takes the completions that have already arrived.
    fn reap(&mut self) -> Result<(), BlockError> {
        loop {
            let answer = self.controller.poll();
            if self.take(answer)?.is_none() {
                return Ok(());
            }
        }
    }

    /// Processes an answer.
    fn take(
        &mut self,
        answer: Result<Option<Completion>, BlockError>,
    ) -> Result<Option<Request>, BlockError> {
        let Some(Completion { slot, result }) = answer.map_err(|error| self.give_up(error))? else {
            return Ok(None);
        };
        let Some(request) = self.slots.finish(slot, result) else {
            return Err(self.give_up(BlockError::Device(UNASKED)));
        };
        self.limit = REQUEST_LIMIT;
        if let (Request::Write(_), Err(error)) = (request, result) {
            self.untold.get_or_insert(error);
        }
        Ok(Some(request))
    }

    fn give_up(&mut self, error: BlockError) -> BlockError {
        self.controller.stop(&self.clock);
        self.dead = Some(error);
        error
    }
}

impl<P: Controller, C: Clock> Drop for Disk<P, C> {
    fn drop(&mut self) {
        if self.dead.is_none() {
            self.controller.stop(&self.clock);
        }
    }
}

impl<P: Controller, C: Clock> BlockDevice for Disk<P, C> {
    fn size(&self) -> u64 {
        self.geometry.size
    }

    fn block_size(&self) -> u32 {
        self.geometry.block_size
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), BlockError> {
        self.check_range(offset, into.len())?;
        self.check_health()?;
        let piece = self.geometry.piece;
        for (number, part) in into.chunks_mut(piece).enumerate() {
            self.read_piece(offset + (number * piece) as u64, part)?;
        }
        Ok(())
    }

    fn write(&mut self, offset: u64, from: &[u8]) -> Result<(), BlockError> {
        self.check_range(offset, from.len())?;
        self.check_health()?;
        let piece = self.geometry.piece;
        for (number, part) in from.chunks(piece).enumerate() {
            self.queue_write(offset + (number * piece) as u64, part)?;
        }
        self.controller.notify();
        Ok(())
    }

    fn flush(&mut self) -> Result<(), BlockError> {
        self.check_alive()?;
        self.wait_for(|slots| slots.all_free().then_some(()))?;
        if self.geometry.durability == Durability::OnFlush {
            let slot = self.wait_for_slot(Range::default())?;
            self.submit(slot, Request::Flush);
            self.wait_for_result(slot)?;
        }
        self.check_health()
    }
}
