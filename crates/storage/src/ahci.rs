//! Serial ATA disks behind AHCI controllers (Serial ATA Advanced Host Controller Interface, revision 1.3.1, and ATA/ATAPI
//! Command Set 3; section numbers without a name are of the first).
//!
//! One port is used at a time. Its link is reset before its disk is asked anything, and again after each error: that ends
//! whatever the disk was doing for the dead kernel, and its queue. After an error it must be the same disk that answers; it gets the
//! requests again that it had. If its link broke by itself, it may have been without power: the next flush fails if writes were done
//! since the last one, unless the disk has no volatile cache.

mod hba;
mod identity;
mod list;
mod port;
mod requests;
mod spec;

use core::time::Duration;

use machine::{BlockError, Clock, DmaMemory, IoAddress, Registers};
use pci::{Class, Match};

use crate::access::{Addressing, Allowance, DeviceAccess};
use crate::disk::{Completion, Controller, Found, Geometry, Place, REQUEST_LIMIT, StartResult, Started};
use crate::error::{OpenError, StartError};
use crate::slots::{Pool, Request, Slots};
use hba::Hba;
use identity::{Identity, Name};
use list::{CommandList, Data, QUESTION_SLOT};
use port::{Addresses, Trouble, Waits, wait_or_gone};
use requests::Requests;
use spec::{Ata, LARGEST_REGION, signature};

/// The functions that this driver runs.
pub(crate) const DRIVEN: [Match; 1] = [Match::Class(Class::from_code(spec::CLASS))];

/// How often the registers are looked at if no FIS comes: for what no FIS tells, and for a controller that stores none.
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);
/// How often a disk is asked what it is, if an error comes in between.
const MOST_QUESTIONS: usize = 3;
/// Longest wait for a device that nobody knew of to announce itself. Devices must do so within 10 ms (Serial ATA 3.x, 8.4), and
/// some links take longer.
const STRANGER: Duration = Duration::from_millis(150);
/// The same where there is nothing else to try.
const STRANGER_OF_LAST_TRY: Duration = Duration::from_secs(2);
/// Longest wait for a disk to announce itself again after its link broke down: as long as a cable that is touched, or a disk that
/// starts anew, may take.
const RETURN: Duration = Duration::from_secs(5);

/// An AHCI controller as a [`Controller`].
pub struct Ahci<R, M> {
    hba: Hba<R>,
    list: CommandList<M>,
    /// How many slots there are.
    slots: usize,
    /// Index of the port that is looked at next.
    next: usize,
    /// The disk that requests go to.
    disk: Option<Disk>,
    requests: Requests,
    allowance: Allowance,
    /// The longest wait for the disk to be brought back to work.
    limit: Duration,
    /// When the registers were looked at last.
    looked: Duration,
}

/// A disk, and how it is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Disk {
    /// Index of its port.
    port: usize,
    block_size: u64,
    /// Whether the disk queues reads and writes.
    queues: bool,
    /// The command that empties its cache.
    flush: Ata,
    name: Name,
    geometry: Geometry,
}

/// Starts a controller; this ends whatever it was doing for somebody else.
pub(crate) fn start<A: DeviceAccess>(
    access: &mut A,
    clock: &impl Clock,
    allowance: Allowance,
) -> StartResult<Ahci<A::Registers, A::Memory>, A> {
    let registers = access.map(hba::REGISTERS).ok_or(StartError::Unmapped(hba::REGISTERS))?;
    access.attach(Addressing::Platform).map_err(OpenError::Attach)?;
    let hba = Hba::take(access, registers, clock)?;
    let slots = allowance.pool.slots.min(usize::from(hba.capabilities.slots_less_one()) + 1);
    let pool = Pool { slots, slot_size: allowance.pool.slot_size.min(LARGEST_REGION) };
    let list = CommandList::allocate(access, slots).ok_or(StartError::NoMemory)?;
    let mut buffers = Slots::first(access, pool).ok_or(StartError::NoMemory)?;
    let (disk, requests, limit) = (None, Requests::NONE, allowance.patience);
    let (next, looked) = (0, Duration::ZERO);
    let controller = Ahci { hba, list, slots, next, disk, requests, allowance, limit, looked };
    if !controller.reaches_up_to(controller.list.end()) || !controller.reaches(buffers.buffer(0)) {
        return Err(StartError::OutOfReach.into());
    }
    Ok(Started { controller, slots: buffers })
}

impl<R: Registers, M: DmaMemory> Ahci<R, M> {
    /// Whether the controller reaches memory up to `end`.
    fn reaches_up_to(&self, end: IoAddress) -> bool {
        self.hba.capabilities.wide_addresses() || end.get() <= 1 << 32
    }

    /// Stops a port and starts it again, with its link reset; gives the signature of the device, if there is one.
    ///
    /// The reset leaves the content of a disk's cache alone. A disk whose link broke before may have lost it.
    fn restart(&mut self, port: usize, clock: &impl Clock, waits: Waits) -> Result<Option<u32>, StartError> {
        self.hba.stop_port(port, clock)?;
        if let Some(trouble) = self.hba.ports[port].take_break() {
            self.requests.note_break(trouble);
        }
        let addresses = Addresses { list: self.list.address(), received: self.list.received() };
        self.hba.ports[port].connect(self.hba.capabilities, addresses, clock, waits)
    }

    /// Looks for a disk at a port; `None` if there is no device.
    fn look_at(
        &mut self,
        port: usize,
        most: usize,
        clock: &impl Clock,
        waits: Waits,
    ) -> Option<Result<Disk, StartError>> {
        let mut questions = 0;
        loop {
            questions += 1;
            let found = match self.restart(port, clock, waits).transpose()? {
                Ok(signature::DISK) => self.identify(port, most, clock, waits.readiness),
                Ok(signature) => Err(StartError::NoDisk(device_name(signature))),
                Err(error) => Err(error),
            };
            if questions == MOST_QUESTIONS || !matches!(found, Err(StartError::Unidentified(_))) {
                return Some(found);
            }
        }
    }

    /// Asks a disk what it is. Its requests move up to `most` bytes.
    fn identify(
        &mut self,
        port: usize,
        most: usize,
        clock: &impl Clock,
        limit: Duration,
    ) -> Result<Disk, StartError> {
        let replaced = self.list.put_question();
        let answered = self.ask(port, clock, limit);
        let answer = self.list.take_answer(replaced);
        answered?;
        let identity = Identity::read(&answer).ok_or(StartError::Geometry)?;
        let geometry = identity.geometry(most.min(LARGEST_REGION))?;
        self.requests.has_volatile_cache = identity.has_volatile_cache();
        let queues = self.hba.capabilities.queuing() && identity.queue_depth() >= self.slots;
        let flush = if identity.has_long_flush() { Ata::FLUSH_EXT } else { Ata::FLUSH };
        let (block_size, name) = (geometry.block_size.into(), identity.name());
        Ok(Disk { port, block_size, queues, flush, name, geometry })
    }

    /// Gives a disk the question what it is, and waits for the answer.
    fn ask(&mut self, port: usize, clock: &impl Clock, limit: Duration) -> Result<(), StartError> {
        self.list.fence();
        let port = &mut self.hba.ports[port];
        port.issue(1 << QUESTION_SLOT, 0);
        let mut error = None;
        let is_answered = || {
            let is_pending = port.pending() != 0;
            error = port.error();
            !is_pending || error.is_some()
        };
        wait_or_gone(clock, limit, || port.is_gone(), is_answered)?;
        match error {
            None => {}
            Some(_) if port.is_gone() => return Err(StartError::Gone),
            Some(Trouble { code, .. }) => return Err(StartError::Unidentified(BlockError::Device(code))),
        }
        self.list.fence();
        Ok(())
    }

    /// Gives the disk the requests that it can have now.
    fn issue(&mut self) {
        let Some(disk) = self.disk else { return };
        let (slots, queued) = self.requests.take_issuable();
        if slots != 0 {
            // The commands and their data must be visible before the register announces them (5.5.1).
            self.list.fence();
            self.hba.ports[disk.port].issue(slots, queued);
        }
    }

    /// Whether the registers may have something new to say. Memory says so first: under a hypervisor each read of a register stops
    /// the processor, and the disk's work with it.
    fn may_have_news(&mut self, clock: &impl Clock) -> bool {
        let now = clock.now();
        let has_news = self.list.take_received() || now.saturating_sub(self.looked) >= BETWEEN_LOOKS;
        if has_news {
            // A FIS that comes from now on is seen in the registers, or by the next call.
            self.list.fence();
            self.looked = now;
        }
        has_news
    }

    /// Looks for requests that have ended.
    fn look(&mut self, disk: Disk, clock: &impl Clock) -> Result<(), BlockError> {
        let port = &self.hba.ports[disk.port];
        if port.is_gone() {
            return Err(BlockError::Gone);
        }
        // The error is looked for after the end: a command that has failed may have ended too.
        let pending = port.pending();
        let error = port.error();
        // What the disk stored is read only after the register said that it is there.
        self.list.fence();
        match error {
            None => self.requests.finish(pending),
            Some(trouble) => self.recover(disk, trouble, clock)?,
        }
        self.issue();
        Ok(())
    }

    /// Brings the disk back to work after an error (6.2.2). It must be the same disk as before.
    fn recover(&mut self, disk: Disk, trouble: Trouble, clock: &impl Clock) -> Result<(), BlockError> {
        self.requests.take_back(self.hba.ports[disk.port].pending(), trouble);
        let announcement = RETURN.min(self.limit);
        let waits = Waits { stranger: announcement, acquaintance: announcement, readiness: self.limit };
        match self.look_at(disk.port, disk.geometry.piece, clock, waits) {
            Some(Ok(found)) if found == disk => Ok(()),
            None | Some(Ok(_) | Err(StartError::Gone | StartError::NoDisk(_))) => Err(BlockError::Gone),
            Some(Err(StartError::Unidentified(error))) => Err(error),
            Some(Err(_)) => Err(BlockError::TimedOut),
        }
    }

    /// The longest waits for a disk that is looked for.
    fn waits(&self) -> Waits {
        let patience = self.allowance.patience;
        let stranger = if self.allowance.is_last_try() { STRANGER_OF_LAST_TRY } else { STRANGER };
        Waits { stranger: stranger.min(patience), acquaintance: patience, readiness: patience }
    }
}

impl Disk {
    /// The command of a request for data.
    fn command(self, slot: usize, request: Request) -> Ata {
        let range = request.range();
        let (block, count) = (range.start.get() / self.block_size, (range.len() / self.block_size) as u16);
        let (single, queued) = match request {
            Request::Write(_) => (Ata::WRITE, Ata::WRITE_QUEUED),
            Request::Read(_) | Request::Flush => (Ata::READ, Ata::READ_QUEUED),
        };
        let device = Ata::BY_NUMBER;
        if self.queues {
            // The slot is the command's tag, in bits 7 to 3 (ACS-3, 7.23).
            Ata { code: queued, features: count, count: (slot as u16) << 3, block, device }
        } else {
            Ata { code: single, features: 0, count, block, device }
        }
    }
}

/// What a device that is no disk is.
fn device_name(signature: u32) -> &'static str {
    match signature {
        signature::PACKET => "a packet device, such as a DVD drive",
        signature::PORT_MULTIPLIER => "a port multiplier",
        signature::ENCLOSURE => "an enclosure bridge",
        _ => "a device of an unknown kind",
    }
}

impl<R: Registers, M: DmaMemory> Controller for Ahci<R, M> {
    type Memory = M;

    fn next_disk(&mut self, buffer: &mut M, clock: &impl Clock) -> Option<Found> {
        self.stop(clock);
        self.limit = self.allowance.patience;
        while self.hba.is_usable() {
            let port = self.next;
            let number = self.hba.ports.get(port)?.number;
            self.next += 1;
            let found = self.look_at(port, buffer.size(), clock, self.waits());
            let geometry = found.map(|found| found.map(|disk| self.disk.insert(disk).geometry));
            if self.disk.is_none() {
                // If the port does not stop, the controller is not usable any more.
                let _ = self.hba.stop_port(port, clock);
            }
            if let Some(geometry) = geometry {
                return Some(Found { place: Place::Port(number), geometry });
            }
        }
        None
    }

    fn reaches(&self, buffer: &M) -> bool {
        self.reaches_up_to(buffer.device_address().saturating_add(buffer.size() as u64))
    }

    fn submit(&mut self, slot: usize, request: Request, buffer: &M) {
        let Some(disk) = self.disk else { return };
        if request == Request::Flush {
            self.list.put(slot, disk.flush, None);
            return self.requests.add_single(slot, request);
        }
        let is_write = matches!(request, Request::Write(_));
        let data = Data { address: buffer.device_address(), len: request.range().len() as usize, is_write };
        self.list.put(slot, disk.command(slot, request), Some(data));
        if disk.queues {
            self.requests.add_queued(slot, request);
        } else {
            self.requests.add_single(slot, request);
        }
    }

    fn notify(&mut self) {
        self.issue();
    }

    fn poll(&mut self, clock: &impl Clock) -> Result<Option<Completion>, BlockError> {
        let mut ended = self.requests.take_ended();
        let awaited = self.disk.filter(|_| ended.is_none() && self.requests.any_issued());
        if let Some(disk) = awaited.filter(|_| self.may_have_news(clock)) {
            self.look(disk, clock)?;
            ended = self.requests.take_ended();
        }
        if ended.is_some() {
            self.limit = REQUEST_LIMIT;
        }
        Ok(ended)
    }

    fn stop(&mut self, clock: &impl Clock) {
        self.requests = Requests::NONE;
        if let Some(disk) = self.disk.take() {
            // If it does not stop, nothing more can be done; the memory stays the device's.
            let _ = self.hba.stop_port(disk.port, clock);
        }
    }
}
