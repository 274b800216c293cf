//! The virtio SCSI host (section 5.6): disks are logical units of its targets.
//!
//! The queues for control and events are not used: nobody here aborts requests, or wants to hear of new disks.

use alloc::vec::Vec;
use core::time::Duration;

use machine::growth::{filled, push};
use machine::{BlockError, Clock, Dma, DmaMemory, Registers, TimedOut, wait_until};
use pci::Match;

use super::queue::{self, Access, CHAIN, Queue, Segment, Used};
use super::spec::{
    Features, SCSI, SCSI_REQUEST_QUEUE, TRANSITIONAL_SCSI, VENDOR, scsi as config, scsi_request as request,
    scsi_response as response,
};
use super::transport::{Capabilities, Doorbell, Transport};
use crate::access::{Allowance, DeviceAccess};
use crate::disk::{
    Completion, Controller, Durability, Found, Geometry, Place, StartResult, Started, UNASKED,
};
use crate::error::StartError;
use crate::scsi::{self, Cdb, Sense, length, status};
use crate::slots::{Pool, Request, Slots};
use crate::virtio::SHORT;

/// The functions that this driver runs.
pub(crate) const DRIVEN: [Match; 2] =
    [Match::Ids { vendor: VENDOR, device: TRANSITIONAL_SCSI }, Match::Ids { vendor: VENDOR, device: SCSI }];

/// The slot of commands besides requests.
const FIRST_SLOT: usize = 0;
/// How often a command is given to the disk that was not done for a passing reason, such as a reset before it.
const TRIES: u8 = 6;
/// Code of the error of a command for a target that is not there.
const NO_TARGET: u32 = response::MARK | (response::BAD_TARGET as u32) << 8;
/// Optional features that this driver uses.
const USEFUL: Features = Features::ACCESS_PLATFORM.union(Features::ORDER_PLATFORM);

/// A virtio SCSI host as a [`Controller`].
pub struct Scsi<R, M> {
    transport: Transport<R>,
    queue: Queue<M>,
    doorbell: Doorbell,
    /// Command and response of every slot.
    requests: M,
    slots: Vec<Slot>,
    scan: Scan,
    /// The disk that requests go to.
    disk: Option<Disk>,
    patience: Duration,
    /// Most bytes that one command moves.
    most: usize,
    /// Whether the device was stopped, or cannot be trusted.
    is_lost: bool,
}

/// What became of the command in a slot.
#[derive(Clone, Copy, Debug)]
struct Slot {
    /// Whether the device has it.
    in_flight: bool,
    data: Option<Segment>,
    purpose: Purpose,
    /// How often it may be given to the disk again.
    tries: u8,
}

impl Slot {
    /// How many bytes of the data may be missing: a question must be answered with something.
    fn may_lack(self) -> u32 {
        match (self.purpose, self.data) {
            (Purpose::Question, Some(data)) => data.len - 1,
            _ => 0,
        }
    }
}

/// An unused slot.
const UNUSED: Slot = Slot { in_flight: false, data: None, purpose: Purpose::Question, tries: 0 };

/// What a command is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// It asks the device something. The answer may be shorter than its place.
    Question,
    /// It moves data, all of it.
    Transfer,
    /// It empties the disk's cache. A disk without a cache need not know it.
    Flush,
}

/// A logical unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unit {
    target: u8,
    number: u16,
}

#[derive(Clone, Copy, Debug)]
struct Disk {
    unit: Unit,
    block_size: u64,
}

/// The targets and units that were not looked at yet.
#[derive(Debug)]
struct Scan {
    next_target: u16,
    last_target: u16,
    /// Units of the target before `next_target`, the last one first.
    units: Vec<Unit>,
}

/// Why a command gave nothing.
enum Failure {
    /// The device did not answer in time.
    Silent(TimedOut),
    /// The device cannot be trusted.
    Lost(BlockError),
    /// There is no such target.
    NoTarget,
    /// The unit refused.
    Refused(BlockError),
}

/// What is to be done about an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The command is done.
    Done,
    /// It is given to the disk again.
    Again,
    /// It is given to the disk again, a few times; then it has failed.
    Retry(u32),
    /// It failed.
    Failed(u32),
}

/// Starts a host (3.1.1); this ends whatever the device was doing for somebody else.
pub(crate) fn start<A: DeviceAccess>(
    access: &mut A,
    clock: &impl Clock,
    allowance: Allowance,
) -> StartResult<Scsi<A::Registers, A::Memory>, A> {
    let Allowance { pool, patience } = allowance;
    let capabilities = Capabilities::find(access.config(), config::SIZE)?;
    let (transport, parts) =
        Transport::start(access, &capabilities, clock, patience, |transport, access, addressing| {
            transport.negotiate(addressing, USEFUL)?;
            let configuration = transport.read_configuration(clock, Configuration::read)?;
            Parts::make(transport, access, configuration, pool)
        })?;
    let Parts { queue, doorbell, requests, slots, buffers, last_target, most } = parts;
    let scan = Scan { next_target: 0, last_target, units: Vec::new() };
    let controller = Scsi {
        transport,
        queue,
        doorbell,
        requests,
        slots,
        scan,
        disk: None,
        patience,
        most,
        is_lost: false,
    };
    Ok(Started { controller, slots: buffers })
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
    slots: Vec<Slot>,
    buffers: Slots<M>,
    last_target: u16,
    most: usize,
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
        if (sense_size, cdb_size) != (request::SENSE_SIZE as u32, request::CDB_SIZE as u32) {
            return Err(StartError::Features);
        }
        let most = pool.slot_size.min((max_sectors as usize).saturating_mul(config::SECTOR));
        let entries = transport.queue_size(SCSI_REQUEST_QUEUE);
        let size = queue::size_for(entries, pool).ok_or(StartError::Queue)?;
        let queue = Queue::allocate(dma, size).ok_or(StartError::NoMemory)?;
        let pool = Pool { slots: pool.slots.min(usize::from(size) / CHAIN), ..pool };
        let requests = dma.allocate(pool.slots * request::STRIDE).ok_or(StartError::NoMemory)?;
        let slots = filled(UNUSED, pool.slots).map_err(|_| StartError::NoMemory)?;
        let buffers = Slots::first(dma, pool).ok_or(StartError::NoMemory)?;
        let doorbell = transport.enable_queue(SCSI_REQUEST_QUEUE, size, queue.addresses());
        let doorbell = doorbell.ok_or(StartError::Queue)?;
        // The address of a target has eight bits (5.6.6.1).
        let last_target = max_target.min(u8::MAX.into());
        Ok(Self { queue, doorbell, requests, slots, buffers, last_target, most })
    }
}

impl<R: Registers, M: DmaMemory> Scsi<R, M> {
    /// Puts a command on the queue.
    fn put(&mut self, slot: usize, unit: Unit, cdb: Cdb, data: Option<Segment>, purpose: Purpose) {
        let header = request::header(unit.target, unit.number, slot as u64, cdb);
        self.requests.write(slot * request::STRIDE, &header);
        self.slots[slot] = Slot { in_flight: true, data, purpose, tries: TRIES };
        self.put_again(slot);
    }

    /// Puts the command of a slot on the queue, which is as it was.
    fn put_again(&mut self, slot: usize) {
        let (place, data) = (slot * request::STRIDE, self.slots[slot].data);
        self.requests.write(place + request::RESPONSE, &request::NO_RESPONSE);
        let segment = |offset: usize, len, access| Segment {
            address: self.requests.device_address().saturating_add((place + offset) as u64),
            len,
            access,
        };
        let command = segment(0, request::HEADER_SIZE as u32, Access::Reads);
        let response = segment(request::RESPONSE, request::RESPONSE_SIZE as u32, Access::Writes);
        // What the device reads comes before what it writes (2.7.4.2).
        match data {
            None => self.queue.submit(slot, &[command, response]),
            Some(data) if data.access == Access::Reads => self.queue.submit(slot, &[command, data, response]),
            Some(data) => self.queue.submit(slot, &[command, response, data]),
        }
    }

    /// Takes one answer, if there is one, and gives the command to the disk again if need be.
    fn take_answer(&mut self) -> Result<Option<Completion>, BlockError> {
        let Some(used) = self.queue.take_used() else { return Ok(None) };
        let slot = self.slot_of(used).ok_or(BlockError::Device(UNASKED))?;
        let verdict = self.verdict(slot);
        let may_retry = self.slots[slot].tries > 1;
        let result = match verdict {
            Verdict::Done => Ok(()),
            Verdict::Failed(code) => Err(BlockError::Device(code)),
            Verdict::Retry(code) if !may_retry => Err(BlockError::Device(code)),
            Verdict::Retry(_) | Verdict::Again => {
                self.slots[slot].tries -= u8::from(verdict != Verdict::Again);
                self.put_again(slot);
                self.notify();
                return Ok(None);
            }
        };
        self.slots[slot].in_flight = false;
        Ok(Some(Completion { slot, result }))
    }

    /// The slot of a used entry; `None` if nothing was asked of the device there.
    fn slot_of(&self, used: Used) -> Option<usize> {
        let (slot, rest) = (used.id as usize / CHAIN, used.id as usize % CHAIN);
        let Slot { in_flight, data, .. } = *self.slots.get(slot)?;
        // Some devices count what they read, too.
        let fits = used.len <= request::RESPONSE_SIZE as u32 + data.map_or(0, |data| data.len);
        (in_flight && rest == 0 && fits).then_some(slot)
    }

    /// Decides by a slot's response what is to be done about its command.
    fn verdict(&self, slot: usize) -> Verdict {
        let mut bytes = [0; request::RESPONSE_SIZE];
        self.requests.read(slot * request::STRIDE + request::RESPONSE, &mut bytes);
        let Response { sense_len, residual, status, code: response } = Response::read(&bytes);
        let code = response::MARK | u32::from(response) << 8 | u32::from(status);
        let purpose = self.slots[slot].purpose;
        match (response, status) {
            (response::OK, status::GOOD) if residual > self.slots[slot].may_lack() => Verdict::Failed(SHORT),
            (response::OK, status::GOOD) => Verdict::Done,
            (response::OK, status::CHECK_CONDITION) => {
                let sense = &bytes[request::SENSE..];
                judge(Sense::read(&sense[..sense.len().min(sense_len as usize)]), purpose, code)
            }
            (response::OK, status::BUSY | status::TASK_SET_FULL) | (response::BUSY, _) => Verdict::Again,
            (response::RESET | response::ABORTED, _) => Verdict::Retry(code),
            _ => Verdict::Failed(code),
        }
    }

    /// Has a unit do a command, and waits for it.
    fn execute(
        &mut self,
        unit: Unit,
        cdb: Cdb,
        data: Option<Segment>,
        clock: &impl Clock,
    ) -> Result<(), Failure> {
        self.put(FIRST_SLOT, unit, cdb, data, Purpose::Question);
        self.notify();
        let mut answer = Ok(None);
        let waited = wait_until(clock, self.patience, || {
            answer = self.take_answer();
            answer != Ok(None)
        });
        let result = waited.map_err(Failure::Silent).and_then(|()| answer.map_err(Failure::Lost));
        match result {
            Ok(Some(Completion { result: Ok(()), .. })) => Ok(()),
            Ok(Some(Completion { result: Err(BlockError::Device(NO_TARGET)), .. })) => Err(Failure::NoTarget),
            Ok(Some(Completion { result: Err(error), .. })) => Err(Failure::Refused(error)),
            Ok(None) => Err(Failure::Refused(BlockError::TimedOut)),
            Err(failure) => {
                self.lose(clock);
                Err(failure)
            }
        }
    }

    /// Has a unit do a command that gives `N` bytes, at most the size of a slot.
    fn ask<const N: usize>(
        &mut self,
        unit: Unit,
        cdb: Cdb,
        buffer: &mut M,
        clock: &impl Clock,
    ) -> Result<[u8; N], Failure> {
        let mut bytes = [0; N];
        buffer.write(0, &bytes);
        let data = Segment { address: buffer.device_address(), len: N as u32, access: Access::Writes };
        self.execute(unit, cdb, Some(data), clock)?;
        buffer.read(0, &mut bytes);
        Ok(bytes)
    }

    /// Lists the units of the next target.
    fn scan_target(&mut self, buffer: &mut M, clock: &impl Clock) -> Result<(), StartError> {
        let target = self.scan.next_target as u8;
        self.scan.next_target += 1;
        let first = Unit { target, number: 0 };
        match self.ask::<{ length::UNITS }>(first, scsi::REPORT_UNITS, buffer, clock) {
            Ok(answer) => {
                for number in scsi::units(&answer) {
                    push(&mut self.scan.units, Unit { target, number }).map_err(|_| StartError::NoMemory)?;
                }
                self.scan.units.reverse();
                Ok(())
            }
            Err(Failure::NoTarget) => Ok(()),
            // Targets of old have one unit and no list.
            Err(Failure::Refused(_)) => push(&mut self.scan.units, first).map_err(|_| StartError::NoMemory),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Looks whether a unit is a disk; `None` if there is nothing.
    fn look_at(
        &mut self,
        unit: Unit,
        buffer: &mut M,
        clock: &impl Clock,
    ) -> Option<Result<Geometry, StartError>> {
        match self.ask(unit, scsi::INQUIRY, buffer, clock) {
            Ok(answer) => match scsi::device_kind(&answer)? {
                scsi::DISK => Some(self.measure(unit, buffer, clock)),
                kind => Some(Err(StartError::NoDisk(scsi::kind_name(kind)))),
            },
            Err(Failure::NoTarget) => None,
            Err(failure) => Some(Err(failure.into())),
        }
    }

    /// Asks a disk for its size, and whether it can be written.
    fn measure(&mut self, unit: Unit, buffer: &mut M, clock: &impl Clock) -> Result<Geometry, StartError> {
        let answer = self.ask(unit, scsi::READ_CAPACITY, buffer, clock)?;
        let (blocks, block_size) = scsi::capacity(&answer).ok_or(StartError::Geometry)?;
        let size = blocks.checked_mul(block_size.into()).ok_or(StartError::Geometry)?;
        let piece = self.most - self.most % block_size as usize;
        if piece == 0 {
            return Err(StartError::Geometry);
        }
        match self.ask(unit, scsi::MODE_SENSE, buffer, clock) {
            Ok(answer) if scsi::is_write_protected(&answer) => return Err(StartError::ReadOnly),
            // A disk need not have modes. If it cannot be written, the first write tells.
            Ok(_) | Err(Failure::Refused(_) | Failure::NoTarget) => {}
            Err(failure) => return Err(failure.into()),
        }
        self.disk = Some(Disk { unit, block_size: block_size.into() });
        Ok(Geometry { size, block_size, piece, durability: Durability::OnFlush })
    }

    /// Gives the device up.
    fn lose(&mut self, clock: &impl Clock) {
        self.is_lost = true;
        // If the reset fails too, nothing more can be done; the memory stays the device's.
        let _ = self.transport.reset(clock);
    }
}

/// Decides by sense data. `code` is told if there is none.
fn judge(sense: Option<Sense>, purpose: Purpose, code: u32) -> Verdict {
    match sense {
        None => Verdict::Failed(code),
        Some(sense) if sense.is_unknown_command() && purpose == Purpose::Flush => Verdict::Done,
        Some(sense) if sense.is_becoming_ready() => Verdict::Again,
        Some(sense) if sense.is_passing() => Verdict::Retry(sense.number()),
        Some(sense) => Verdict::Failed(sense.number()),
    }
}

impl From<Failure> for StartError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Silent(timed_out) => Self::Stuck(timed_out),
            Failure::Lost(error) | Failure::Refused(error) => Self::Unidentified(error),
            Failure::NoTarget => Self::Gone,
        }
    }
}

/// What the device wrote about a command (5.6.6.1).
struct Response {
    sense_len: u32,
    residual: u32,
    status: u8,
    /// A code of [`response`].
    code: u8,
}

impl Response {
    fn read(bytes: &[u8; request::RESPONSE_SIZE]) -> Self {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Self { sense_len: word(0), residual: word(4), status: bytes[10], code: bytes[11] }
    }
}

impl<R: Registers, M: DmaMemory> Controller for Scsi<R, M> {
    type Memory = M;

    fn next_disk(&mut self, buffer: &mut M, clock: &impl Clock) -> Option<Found> {
        self.disk = None;
        while !self.is_lost {
            if let Some(unit) = self.scan.units.pop() {
                let Some(geometry) = self.look_at(unit, buffer, clock) else { continue };
                return Some(Found { place: unit.place(), geometry });
            }
            if self.scan.next_target > self.scan.last_target {
                return None;
            }
            let first = Unit { target: self.scan.next_target as u8, number: 0 };
            if let Err(error) = self.scan_target(buffer, clock) {
                return Some(Found { place: first.place(), geometry: Err(error) });
            }
        }
        None
    }

    fn submit(&mut self, slot: usize, request: Request, buffer: &M) {
        let Some(Disk { unit, block_size }) = self.disk else { return };
        let range = request.range();
        let (block, count) = (range.start.get() / block_size, (range.len() / block_size) as u32);
        let (cdb, access) = match request {
            Request::Flush => return self.put(slot, unit, scsi::SYNCHRONIZE_CACHE, None, Purpose::Flush),
            Request::Read(_) => (scsi::read(block, count), Access::Writes),
            Request::Write(_) => (scsi::write(block, count), Access::Reads),
        };
        let data = Segment { address: buffer.device_address(), len: range.len() as u32, access };
        self.put(slot, unit, cdb, Some(data), Purpose::Transfer);
    }

    fn notify(&mut self) {
        if self.queue.take_notification() {
            self.transport.ring(self.doorbell);
        }
    }

    fn poll(&mut self, _: &impl Clock) -> Result<Option<Completion>, BlockError> {
        self.take_answer()
    }

    fn stop(&mut self, clock: &impl Clock) {
        self.disk = None;
        self.lose(clock);
    }
}

impl Unit {
    fn place(self) -> Place {
        Place::LogicalUnit { target: self.target.into(), lun: self.number }
    }
}
