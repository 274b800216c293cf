//! A disk behind any controller: keeps many requests in flight, orders them, and gives each a deadline.

use core::fmt;
use core::time::Duration;

use machine::{BlockDevice, BlockError, ByteOffset, Clock, Dma, DmaMemory, Range, wait_until};

use crate::access::DeviceAccess;
use crate::error::{OpenError, StartError};
use crate::slots::{Pool, Request, Slots};

/// Longest wait for a disk that has completed something to complete more. Disks retry bad sectors and empty their caches for
/// many seconds.
pub(crate) const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// Code of [`BlockError::Device`] when a device sent an answer to no request.
pub const UNASKED: u32 = 0xffff_0001;
/// Code of [`BlockError::Device`] when a device answered with fewer bytes than were asked for.
pub const SHORT: u32 = 0xffff_0002;
/// Code of [`BlockError::Device`] when a device says that it has failed as a whole.
pub const FAILED: u32 = 0xffff_0003;

/// The protocol of a controller: finds the disks behind a function, carries requests to one of them, and answers back.
pub trait Controller {
    /// Memory that the device can reach.
    type Memory: DmaMemory;

    /// Moves on to the function's next disk, which is the first one at the first call; `None` after the last one.
    ///
    /// No request is in flight. `buffer` has the size of a slot, for what the device says of its disk. Requests go to this
    /// disk from then on, unless it cannot be used. After [`stop`](Self::stop) there is no other disk, unless the device can do
    /// without the one that was stopped.
    fn next_disk(&mut self, buffer: &mut Self::Memory, clock: &impl Clock) -> Option<Found>;

    /// Whether the device's addresses are long enough for a buffer.
    fn reaches(&self, _buffer: &Self::Memory) -> bool {
        true
    }

    /// Puts a request on the device's queue, whose data is or will be at the start of `buffer`.
    ///
    /// `slot` names the request until it completes. The device may not look before [`notify`](Self::notify).
    fn submit(&mut self, slot: usize, request: Request, buffer: &Self::Memory);

    /// Notifies the device of the requests submitted since the last call, if there are any.
    fn notify(&mut self);

    /// Takes one answer from the device, if there is one. An error means that the device cannot be used any more.
    ///
    /// A device that must be brought back to work after a request failed is waited for here.
    fn poll(&mut self, clock: &impl Clock) -> Result<Option<Completion>, BlockError>;

    /// Stops the device, so that it no longer accesses the memory of requests, as far as a broken device can be stopped.
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

/// A disk behind a function, and how it can be used or why it cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Which one it is.
    pub place: Place,
    /// Its properties.
    pub geometry: Result<Geometry, StartError>,
}

/// The place of a disk behind its function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// The function has one disk.
    Only,
    /// A port of an AHCI controller, from 0.
    Port(u8),
    /// A namespace of an NVMe controller, from 1.
    Namespace(u32),
    /// A logical unit of a SCSI target.
    LogicalUnit {
        /// The target.
        target: u16,
        /// The logical unit's number.
        lun: u16,
    },
}

/// What follows the function's name in a message: nothing, or a space and the place.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Only => Ok(()),
            Self::Port(port) => write!(f, " port {port}"),
            Self::Namespace(namespace) => write!(f, " namespace {namespace}"),
            Self::LogicalUnit { target, lun } => write!(f, " target {target} unit {lun}"),
        }
    }
}

/// A device that a driver has brought up.
pub(crate) struct Started<P: Controller> {
    pub(crate) controller: P,
    pub(crate) slots: Slots<P::Memory>,
}

impl<P: Controller> Started<P> {
    /// Wraps the controller by `wrap`, and keeps the rest.
    pub(crate) fn map<Q: Controller<Memory = P::Memory>>(self, wrap: impl FnOnce(P) -> Q) -> Started<Q> {
        Started { controller: wrap(self.controller), slots: self.slots }
    }
}

/// The result of a driver's `start`.
pub(crate) type StartResult<P, A> = Result<Started<P>, OpenError<<A as DeviceAccess>::Refusal>>;

/// The properties of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Size in bytes, a multiple of `block_size`.
    pub size: u64,
    /// Bytes in a block: a power of two from 512 to 4096.
    pub block_size: u32,
    /// Bytes that one request moves at most; a multiple of `block_size`, at most the size of a slot.
    pub piece: usize,
    /// When a write is durable.
    pub durability: Durability,
}

impl Geometry {
    /// No disk.
    const NONE: Self = Self { size: 0, block_size: 512, piece: 512, durability: Durability::OnCompletion };
}

/// When a completed write survives a loss of power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// At once: the disk has no volatile cache.
    OnCompletion,
    /// Once a flush has completed.
    OnFlush,
}

/// A disk, as [`BlockDevice`]: one of those behind a function.
///
/// It is nothing, with a size of zero, until [`advance`](Self::advance) moves on to the function's first disk.
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
    /// Longest wait for a disk's first completion.
    patience: Duration,
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
    /// Makes a disk of a started function. Each of its disks must complete the first request within `patience`.
    pub(crate) fn new(started: Started<P>, clock: C, patience: Duration) -> Self {
        let Started { controller, slots } = started;
        let (geometry, waited) = (Geometry::NONE, Duration::ZERO);
        Self {
            controller,
            slots,
            geometry,
            clock,
            patience,
            limit: patience,
            untold: None,
            dead: None,
            waited,
        }
    }

    /// Moves on to the function's next disk, which is the first one at the first call; `None` after the last one.
    ///
    /// What was written to the disk before must be flushed. If the next disk cannot be used, this is none until the next call.
    pub fn advance(&mut self) -> Option<(Place, Result<(), StartError>)> {
        if self.dead.is_none() {
            // A disk that does not complete its requests is stopped by the wait.
            let _ = self.wait_until_idle();
        }
        self.slots.reset();
        (self.geometry, self.limit) = (Geometry::NONE, self.patience);
        (self.untold, self.dead) = (None, None);
        let Found { place, geometry } = self.controller.next_disk(self.slots.buffer(0), &self.clock)?;
        Some((place, geometry.map(|geometry| self.geometry = geometry)))
    }

    /// Takes memory for the whole pool that the disk was started with, or for as much of it as there is and the device reaches.
    ///
    /// Before this call one request at a time is in flight: enough to find out what is on the disk.
    pub fn fill_pool(&mut self, dma: &mut impl Dma<Memory = P::Memory>) {
        let Self { slots, controller, .. } = self;
        slots.fill(dma, |buffer| controller.reaches(buffer));
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

    /// Waits until the device has done every request.
    fn wait_until_idle(&mut self) -> Result<(), BlockError> {
        self.wait_for(|slots| slots.all_free().then_some(()))
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
            answer = controller.poll(clock);
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
            let answer = self.controller.poll(&self.clock);
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
        self.wait_until_idle()?;
        if self.geometry.durability == Durability::OnFlush {
            let slot = self.wait_for_slot(Range::default())?;
            self.submit(slot, Request::Flush);
            self.wait_for_result(slot)?;
        }
        self.check_health()
    }
}
