//! The virtio SCSI host (section 5.6): its queue for requests.
//!
//! The queues for control and events are not used: nobody here aborts requests, or wants to hear of new disks.

use alloc::vec::Vec;

use machine::growth::filled;
use machine::{BlockError, Clock, Dma, DmaMemory, Registers};
use pci::Match;

use super::queue::{self, Access, CHAIN, Queue, Segment, Used};
use super::spec::{
    Features, SCSI, SCSI_REQUEST_QUEUE, TRANSITIONAL_SCSI, VENDOR, scsi as config, scsi_request as request,
    scsi_response as response,
};
use super::transport::{Capabilities, Doorbell, Transport};
use crate::access::{Addressing, Allowance, DeviceAccess};
use crate::disk::{StartResult, Started, UNASKED};
use crate::error::StartError;
use crate::scsi::adapter::{Adapter, Answer, Command, Direction, Outcome};
use crate::scsi::sense::{self, Sense};
use crate::slots::{Pool, Slots};

pub use crate::scsi::host::Host;

/// The functions that this driver runs.
pub(crate) const DRIVEN: [Match; 2] =
    [Match::Ids { vendor: VENDOR, device: TRANSITIONAL_SCSI }, Match::Ids { vendor: VENDOR, device: SCSI }];

/// Optional features that this driver uses.
const USEFUL: Features = Features::ACCESS_PLATFORM.union(Features::ORDER_PLATFORM);

/// The way of commands to a virtio SCSI host.
pub(crate) struct VirtioQueue<R, M> {
    transport: Transport<R>,
    addressing: Addressing,
    queue: Queue<M>,
    doorbell: Doorbell,
    /// Command and response of every slot.
    requests: M,
    /// Most bytes that the device can have touched for the command of each slot; 0 before the first one.
    most: Vec<u32>,
}

/// Starts a host (3.1.1); this ends whatever the device was doing for somebody else.
pub(crate) fn start<A: DeviceAccess>(
    access: &mut A,
    clock: &impl Clock,
    allowance: Allowance,
) -> StartResult<Host<A::Registers, A::Memory>, A> {
    let Allowance { pool, patience } = allowance;
    let capabilities = Capabilities::find(access.config(), config::SIZE)?;
    let (transport, (addressing, parts)) =
        Transport::start(access, &capabilities, clock, patience, |transport, access, addressing| {
            transport.negotiate(addressing, USEFUL)?;
            let configuration = transport.read_configuration(clock, Configuration::read)?;
            Ok((addressing, Parts::make(transport, access, configuration, pool)?))
        })?;
    let Parts { queue, doorbell, requests, most, slots, last_target, most_bytes } = parts;
    let count = most.len();
    let adapter = VirtioQueue { transport, addressing, queue, doorbell, requests, most };
    let controller = Host::new(Adapter::Virtio(adapter), count, last_target, most_bytes, patience)?;
    Ok(Started { controller, slots })
}

/// The device's configuration, as far as it matters here.
#[derive(Clone, Copy, Debug)]
struct Configuration {
    max_sectors: u32,
    sense_size: u32,
    cdb_size: u32,
    max_target: u16,
}

impl Configuration {
    fn read(device: &impl Registers) -> Self {
        Self {
            max_sectors: config::MAX_SECTORS.read(device),
            sense_size: config::SENSE_SIZE.read(device),
            cdb_size: config::CDB_SIZE.read(device),
            max_target: config::MAX_TARGET.read(device),
        }
    }
}

/// The parts of a host besides its registers.
struct Parts<M> {
    queue: Queue<M>,
    doorbell: Doorbell,
    requests: M,
    most: Vec<u32>,
    slots: Slots<M>,
    last_target: u8,
    /// Bytes that one command moves at most.
    most_bytes: usize,
}

impl<M: DmaMemory> Parts<M> {
    fn make<R: Registers>(
        transport: &mut Transport<R>,
        dma: &mut impl Dma<Memory = M>,
        configuration: Configuration,
        pool: Pool,
    ) -> Result<Self, StartError> {
        let Configuration { max_sectors, sense_size, cdb_size, max_target } = configuration;
        // After a reset the sizes are these (5.6.4.1).
        if (sense_size, cdb_size) != (sense::SIZE as u32, request::CDB_SIZE as u32) {
            return Err(StartError::Features);
        }
        let most_bytes = pool.slot_size.min((max_sectors as usize).saturating_mul(config::SECTOR));
        let entries = transport.queue_size(SCSI_REQUEST_QUEUE);
        let size = queue::size_for(entries, pool).ok_or(StartError::Queue)?;
        let queue = Queue::allocate(dma, size).ok_or(StartError::NoMemory)?;
        let pool = Pool { slots: pool.slots.min(usize::from(size) / CHAIN), ..pool };
        let requests = dma.allocate(pool.slots * request::STRIDE).ok_or(StartError::NoMemory)?;
        let most = filled(0, pool.slots).map_err(|_| StartError::NoMemory)?;
        let slots = Slots::first(dma, pool).ok_or(StartError::NoMemory)?;
        let doorbell = transport.enable_queue(SCSI_REQUEST_QUEUE, size, queue.addresses());
        let doorbell = doorbell.ok_or(StartError::Queue)?;
        // The address of a target has eight bits (5.6.6.1).
        let last_target = u8::try_from(max_target).unwrap_or(u8::MAX);
        Ok(Self { queue, doorbell, requests, most, slots, last_target, most_bytes })
    }
}

impl<R: Registers, M: DmaMemory> VirtioQueue<R, M> {
    /// Puts the command of a slot on the queue.
    pub(crate) fn put(&mut self, slot: usize, command: &Command) {
        let Command { unit, cdb, data } = *command;
        let place = slot * request::STRIDE;
        let header = request::header(unit.target, unit.number, slot as u64, cdb);
        self.requests.write(place, &header);
        self.requests.write(place + request::RESPONSE, &request::NO_RESPONSE);
        self.most[slot] = request::RESPONSE_SIZE as u32 + data.map_or(0, |data| data.len);
        let segment = |offset: usize, len, access| Segment {
            address: self.requests.device_address().saturating_add((place + offset) as u64),
            len,
            access,
        };
        let command = segment(0, request::HEADER_SIZE as u32, Access::Reads);
        let response = segment(request::RESPONSE, request::RESPONSE_SIZE as u32, Access::Writes);
        let Some(data) = data else { return self.queue.submit(slot, &[command, response]) };
        let part = |access| Segment { address: data.address, len: data.len, access };
        // What the device reads comes before what it writes (2.7.4.2).
        match data.direction {
            Direction::ToUnit => self.queue.submit(slot, &[command, part(Access::Reads), response]),
            Direction::FromUnit => self.queue.submit(slot, &[command, response, part(Access::Writes)]),
        }
    }

    /// Notifies the device of what was put on the queue, if anything was.
    pub(crate) fn notify(&mut self) {
        if self.queue.take_notification() {
            self.transport.ring(self.doorbell);
        }
    }

    /// Takes one answer, if there is one.
    pub(crate) fn take(&mut self) -> Result<Option<Answer>, BlockError> {
        let Some(used) = self.queue.take_used() else { return Ok(None) };
        let slot = self.slot_of(used).ok_or(BlockError::Device(UNASKED))?;
        Ok(Some(Answer { slot, outcome: self.outcome(slot) }))
    }

    /// The slot of a used entry; `None` if it makes no sense.
    fn slot_of(&self, used: Used) -> Option<usize> {
        let (slot, rest) = (used.id as usize / CHAIN, used.id as usize % CHAIN);
        // Some devices count what they read, too.
        (used.len <= *self.most.get(slot)? && rest == 0).then_some(slot)
    }

    /// What the device wrote about the command of a slot (5.6.6.1).
    fn outcome(&self, slot: usize) -> Outcome {
        let mut bytes = [0; request::RESPONSE_SIZE];
        self.requests.read(slot * request::STRIDE + request::RESPONSE, &mut bytes);
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let (sense, sense_len) = (&bytes[request::SENSE..], word(0) as usize);
        match bytes[11] {
            response::OK => Outcome::Answered {
                status: bytes[10],
                sense: Sense::read(&sense[..sense.len().min(sense_len)]),
                missing: word(4),
            },
            response::BAD_TARGET => Outcome::NoTarget,
            response::BUSY => Outcome::Busy,
            code @ (response::RESET | response::ABORTED) => Outcome::Interrupted(code.into()),
            code => Outcome::Failed(code.into()),
        }
    }

    /// Resets the device.
    pub(crate) fn reset(&mut self, clock: &impl Clock) {
        // If the reset fails too, nothing more can be done; the memory stays the device's.
        let _ = self.transport.reset(clock);
    }

    /// Brings the device up again, with the memory that it had.
    pub(crate) fn restart(&mut self, clock: &impl Clock) -> Result<(), StartError> {
        let Self { transport, addressing, queue, doorbell, .. } = self;
        transport.initialize(clock, |transport| {
            transport.negotiate(*addressing, USEFUL)?;
            if transport.queue_size(SCSI_REQUEST_QUEUE) < queue.size() {
                return Err(StartError::Queue);
            }
            queue.clear();
            let enabled = transport.enable_queue(SCSI_REQUEST_QUEUE, queue.size(), queue.addresses());
            *doorbell = enabled.ok_or(StartError::Queue)?;
            Ok(())
        })
    }
}
