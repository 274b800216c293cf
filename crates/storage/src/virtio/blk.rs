//! The virtio block device (section 5.2).

use alloc::vec::Vec;

use machine::growth::filled;
use machine::{BlockError, Clock, Dma, DmaMemory, Registers};
use pci::Match;

use super::queue::{self, Access, CHAIN, Queue, Segment, Used};
use super::spec::{
    BLOCK, BLOCK_QUEUE, Features, RequestHeader, SECTOR, STATUS_OK, TRANSITIONAL_BLOCK, VENDOR, block, kind,
};
use super::transport::{Capabilities, Doorbell, Transport};
use crate::access::{Addressing, Allowance, DeviceAccess};
use crate::disk::{
    Completion, Controller, Durability, Found, Geometry, Place, SHORT, StartResult, Started, UNASKED,
};
use crate::error::StartError;
use crate::slots::{Pool, Request, Slots};

/// The data of a slot besides its buffer: the header of its request, followed by the status.
mod request {
    /// Where the status is.
    pub(super) const STATUS: usize = size_of::<super::RequestHeader>();
    /// Bytes between two slots.
    pub(super) const STRIDE: usize = 32;
    /// A status that no device writes: it stands there before the device has answered.
    pub(super) const STATUS_NONE: u8 = 0xff;
}

/// The size of blocks if the device does not give one.
const DEFAULT_BLOCK_SIZE: u32 = 512;
/// Optional features that this driver uses, besides the required ones.
const USEFUL: Features = Features::BLK_SIZE_MAX
    .union(Features::BLK_BLK_SIZE)
    .union(Features::BLK_FLUSH)
    .union(Features::ACCESS_PLATFORM)
    .union(Features::ORDER_PLATFORM);

/// The functions that this driver runs.
pub(crate) const DRIVEN: [Match; 2] =
    [Match::Ids { vendor: VENDOR, device: TRANSITIONAL_BLOCK }, Match::Ids { vendor: VENDOR, device: BLOCK }];

/// A virtio block device as a [`Controller`].
pub struct Blk<R, M> {
    transport: Transport<R>,
    queue: Queue<M>,
    doorbell: Doorbell,
    /// Header and status of every slot.
    requests: M,
    /// Bytes that the device must write for the request of each slot, status included.
    expected: Vec<u32>,
    /// The disk, until [`next_disk`](Controller::next_disk) has given it away.
    disk: Option<Geometry>,
}

impl Capabilities {
    /// Reads from the configuration space of a virtio block device where its structures are.
    pub fn find_blk(configuration: &impl Registers) -> Result<Self, StartError> {
        Self::find(configuration, block::SIZE)
    }
}

/// Starts a disk (3.1.1); this ends whatever the device was doing for somebody else.
pub(crate) fn start<A: DeviceAccess>(
    access: &mut A,
    clock: &impl Clock,
    allowance: Allowance,
) -> StartResult<Blk<A::Registers, A::Memory>, A> {
    let Allowance { pool, patience } = allowance;
    let capabilities = Capabilities::find_blk(access.config())?;
    let (transport, parts) =
        Transport::start(access, &capabilities, clock, patience, |transport, access, addressing| {
            bring_up(transport, access, addressing, clock, pool)
        })?;
    let Parts { queue, doorbell, requests, expected, slots, geometry } = parts;
    let controller = Blk { transport, queue, doorbell, requests, expected, disk: Some(geometry) };
    Ok(Started { controller, slots })
}

/// The parts of a disk besides its registers.
struct Parts<M> {
    queue: Queue<M>,
    doorbell: Doorbell,
    requests: M,
    expected: Vec<u32>,
    slots: Slots<M>,
    geometry: Geometry,
}

fn bring_up<R: Registers, D: Dma>(
    transport: &mut Transport<R>,
    dma: &mut D,
    addressing: Addressing,
    clock: &impl Clock,
    pool: Pool,
) -> Result<Parts<D::Memory>, StartError> {
    if transport.offered().contains(Features::BLK_RO) {
        return Err(StartError::ReadOnly);
    }
    let features = transport.negotiate(addressing, USEFUL)?;
    let configuration = transport.read_configuration(clock, Configuration::read)?;
    let geometry = configuration.geometry(features, pool).ok_or(StartError::Geometry)?;
    let size = queue::size_for(transport.queue_size(BLOCK_QUEUE), pool).ok_or(StartError::Queue)?;
    let queue = Queue::allocate(dma, size).ok_or(StartError::NoMemory)?;
    let most = Pool { slots: pool.slots.min(usize::from(size) / CHAIN), ..pool };
    let requests = dma.allocate(most.slots * request::STRIDE).ok_or(StartError::NoMemory)?;
    let expected = filled(0, most.slots).map_err(|_| StartError::NoMemory)?;
    let slots = Slots::first(dma, most).ok_or(StartError::NoMemory)?;
    let doorbell = transport.enable_queue(BLOCK_QUEUE, size, queue.addresses()).ok_or(StartError::Queue)?;
    Ok(Parts { queue, doorbell, requests, expected, slots, geometry })
}

/// The device's configuration. The last two fields are valid only with their features.
#[derive(Clone, Copy, Debug)]
struct Configuration {
    sectors: u64,
    size_max: u32,
    blk_size: u32,
}

impl Configuration {
    fn read(device: &impl Registers) -> Self {
        Self {
            sectors: block::CAPACITY.read(device).0,
            size_max: block::SIZE_MAX.read(device),
            blk_size: block::BLK_SIZE.read(device),
        }
    }

    fn geometry(self, features: Features, pool: Pool) -> Option<Geometry> {
        let block_size =
            if features.contains(Features::BLK_BLK_SIZE) { self.blk_size } else { DEFAULT_BLOCK_SIZE };
        let segment = if features.contains(Features::BLK_SIZE_MAX) { self.size_max } else { u32::MAX };
        if !block_size.is_power_of_two() || !(512..=4096).contains(&block_size) {
            return None;
        }
        let whole_blocks = |bytes: u64| bytes - bytes % u64::from(block_size);
        let piece = whole_blocks(pool.slot_size.min(segment as usize) as u64) as usize;
        let size = whole_blocks(self.sectors.checked_mul(SECTOR)?);
        let flush = features.contains(Features::BLK_FLUSH);
        let durability = if flush { Durability::OnFlush } else { Durability::OnCompletion };
        (piece > 0).then_some(Geometry { size, block_size, piece, durability })
    }
}

impl<R, M: DmaMemory> Blk<R, M> {
    fn put_header(&mut self, slot: usize, kind: u32, sector: u64) {
        let header = RequestHeader::new().with_kind(kind).with_sector(sector);
        self.requests.write(slot * request::STRIDE, &header.into_bits().to_le_bytes());
        self.requests.write(slot * request::STRIDE + request::STATUS, &[request::STATUS_NONE]);
    }

    fn segments(&self, slot: usize) -> (Segment, Segment) {
        let address = self.requests.device_address().saturating_add((slot * request::STRIDE) as u64);
        let header = Segment { address, len: size_of::<RequestHeader>() as u32, access: Access::Reads };
        let status = Segment {
            address: address.saturating_add(request::STATUS as u64),
            len: 1,
            access: Access::Writes,
        };
        (header, status)
    }

    /// Decodes a used entry; returns an error if it names a request that was never submitted.
    fn completion(&self, used: Used) -> Result<Completion, BlockError> {
        let head = used.id as usize;
        let slot = head / CHAIN;
        let expected = *self.expected.get(slot).ok_or(BlockError::Device(UNASKED))?;
        if !head.is_multiple_of(CHAIN) || used.len > expected {
            return Err(BlockError::Device(UNASKED));
        }
        let mut status = [0];
        self.requests.read(slot * request::STRIDE + request::STATUS, &mut status);
        let result = match status {
            // Some devices leave the status out of the count.
            [STATUS_OK] if used.len + 1 < expected => Err(BlockError::Device(SHORT)),
            [STATUS_OK] => Ok(()),
            [status] => Err(BlockError::Device(status.into())),
        };
        Ok(Completion { slot, result })
    }
}

impl<R: Registers, M: DmaMemory> Controller for Blk<R, M> {
    type Memory = M;

    fn next_disk(&mut self, _: &mut M, _: &impl Clock) -> Option<Found> {
        self.disk.take().map(|geometry| Found { place: Place::Only, geometry: Ok(geometry) })
    }

    fn submit(&mut self, slot: usize, request: Request, buffer: &M) {
        let (kind, access) = match request {
            Request::Read(_) => (kind::IN, Access::Writes),
            Request::Write(_) => (kind::OUT, Access::Reads),
            Request::Flush => (kind::FLUSH, Access::Reads),
        };
        let range = request.range();
        let data = Segment { address: buffer.device_address(), len: range.len() as u32, access };
        self.put_header(slot, kind, range.start.get() / SECTOR);
        let (header, status) = self.segments(slot);
        self.expected[slot] = if access == Access::Writes { data.len + 1 } else { 1 };
        match request {
            Request::Flush => self.queue.submit(slot, &[header, status]),
            Request::Read(_) | Request::Write(_) => self.queue.submit(slot, &[header, data, status]),
        }
    }

    fn notify(&mut self) {
        if self.queue.take_notification() {
            self.transport.ring(self.doorbell);
        }
    }

    fn poll(&mut self, _: &impl Clock) -> Result<Option<Completion>, BlockError> {
        self.queue.take_used().map(|used| self.completion(used)).transpose()
    }

    fn stop(&mut self, clock: &impl Clock) {
        self.disk = None;
        // If the reset fails too, nothing more can be done; the memory stays the device's.
        let _ = self.transport.reset(clock);
    }
}
