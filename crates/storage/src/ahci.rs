//! Serial ATA disks behind AHCI controllers (Serial ATA Advanced Host Controller Interface, revision 1.3.1, and ATA/ATAPI
//! Command Set 3; section numbers without a name are of the first).
//!
//! One port is used at a time. Its link is reset before its disk is asked anything, and again after each error: that ends
//! whatever the disk was doing for the dead kernel, and its queue.

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
use identity::Identity;
use list::{CommandList, Data};
use port::{Addresses, wait_or_gone};
use requests::Requests;
use spec::{Ata, LARGEST_REGION, signature};

/// The functions that this driver runs.
pub(crate) const DRIVEN: [Match; 1] = [Match::Class(Class::from_code(spec::CLASS))];

/// Code of [`BlockError::Device`] for a request whose buffer the controller cannot address.
pub const UNREACHABLE: u32 = 0xffff_0003;

/// The slot of commands besides requests.
const FIRST_SLOT: usize = 0;

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
    patience: Duration,
}

/// A disk, and how it is spoken to.
#[derive(Clone, Copy, Debug)]
struct Disk {
    /// Index of its port.
    port: usize,
    block_size: u64,
    /// Whether the disk queues reads and writes.
    queues: bool,
    /// The command that empties its cache.
    flush: Ata,
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
    let (disk, requests, patience) = (None, Requests::NONE, allowance.patience);
    let controller = Ahci { hba, list, slots, next: 0, disk, requests, patience };
    if !controller.reaches(controller.list.end()) || !controller.reaches(end(buffers.buffer(FIRST_SLOT))) {
        return Err(StartError::OutOfReach.into());
    }
    Ok(Started { controller, slots: buffers })
}

/// The device address behind a buffer.
fn end(buffer: &impl DmaMemory) -> IoAddress {
    buffer.device_address().saturating_add(buffer.size() as u64)
}

impl<R: Registers, M: DmaMemory> Ahci<R, M> {
    /// Whether the controller reaches memory up to `end`.
    fn reaches(&self, end: IoAddress) -> bool {
        self.hba.capabilities.wide_addresses() || end.get() <= 1 << 32
    }

    /// Stops a port and starts it again, with its link reset; gives the signature of the device, if there is one.
    fn restart(
        &mut self,
        port: usize,
        clock: &impl Clock,
        patience: Duration,
    ) -> Result<Option<u32>, StartError> {
        self.hba.stop_port(port, clock)?;
        let addresses = Addresses { list: self.list.address(), received: self.list.received() };
        self.hba.ports[port].connect(self.hba.capabilities, addresses, clock, patience)
    }

    /// Looks for a disk at a port; `None` if there is no device.
    fn look_at(
        &mut self,
        port: usize,
        buffer: &mut M,
        clock: &impl Clock,
    ) -> Option<Result<(Disk, Geometry), StartError>> {
        match self.restart(port, clock, self.patience).transpose()? {
            Ok(signature::DISK) => Some(self.identify(port, buffer, clock)),
            Ok(signature) => Some(Err(StartError::NoDisk(device_name(signature)))),
            Err(error) => Some(Err(error)),
        }
    }

    /// Asks a disk what it is.
    fn identify(
        &mut self,
        port: usize,
        buffer: &mut M,
        clock: &impl Clock,
    ) -> Result<(Disk, Geometry), StartError> {
        let mut bytes = [0; identity::SIZE];
        buffer.write(0, &bytes);
        let data = Data { address: buffer.device_address(), len: bytes.len(), is_write: false };
        self.list.put(FIRST_SLOT, Ata::IDENTIFY, Some(data));
        self.list.fence();
        let (list, port_of_disk) = (&self.list, &mut self.hba.ports[port]);
        port_of_disk.issue(1 << FIRST_SLOT, 0);
        let mut error = None;
        wait_or_gone(
            clock,
            self.patience,
            || port_of_disk.is_gone(),
            || {
                let is_pending = port_of_disk.pending() != 0;
                error = port_of_disk.error();
                !is_pending || error.is_some()
            },
        )?;
        match error {
            None => {}
            Some(_) if port_of_disk.is_gone() => return Err(StartError::Gone),
            Some(code) => return Err(StartError::Unidentified(BlockError::Device(code))),
        }
        list.fence();
        buffer.read(0, &mut bytes);
        let identity = Identity::read(&bytes).ok_or(StartError::Geometry)?;
        let geometry = identity.geometry(buffer.size().min(LARGEST_REGION))?;
        let queues = self.hba.capabilities.queuing() && identity.queue_depth() >= self.slots;
        let flush = if identity.has_long_flush() { Ata::FLUSH_EXT } else { Ata::FLUSH };
        Ok((Disk { port, block_size: geometry.block_size.into(), queues, flush }, geometry))
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
            Some(code) => self.recover(disk, code, clock)?,
        }
        self.issue();
        Ok(())
    }

    /// Brings the disk back to work after an error (6.2.2). The requests that the disk had have failed, and no longer access memory.
    fn recover(&mut self, disk: Disk, code: u32, clock: &impl Clock) -> Result<(), BlockError> {
        let pending = self.hba.ports[disk.port].pending();
        match self.restart(disk.port, clock, REQUEST_LIMIT) {
            Ok(Some(signature::DISK)) => {
                self.requests.fail(pending, BlockError::Device(code));
                Ok(())
            }
            Ok(_) | Err(StartError::Gone) => Err(BlockError::Gone),
            Err(_) => Err(BlockError::TimedOut),
        }
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
        while self.hba.is_usable() {
            let port = self.next;
            let number = self.hba.ports.get(port)?.number;
            self.next += 1;
            let found = self.look_at(port, buffer, clock);
            let geometry = found.map(|found| {
                let (disk, geometry) = found?;
                self.disk = Some(disk);
                Ok(geometry)
            });
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

    fn submit(&mut self, slot: usize, request: Request, buffer: &M) {
        let Some(disk) = self.disk else { return };
        if request == Request::Flush {
            self.list.put(slot, disk.flush, None);
            return self.requests.add_single(slot);
        }
        if !self.reaches(end(buffer)) {
            return self.requests.add_failed(slot, BlockError::Device(UNREACHABLE));
        }
        let is_write = matches!(request, Request::Write(_));
        let data = Data { address: buffer.device_address(), len: request.range().len() as usize, is_write };
        self.list.put(slot, disk.command(slot, request), Some(data));
        if disk.queues { self.requests.add_queued(slot) } else { self.requests.add_single(slot) }
    }

    fn notify(&mut self) {
        self.issue();
    }

    fn poll(&mut self, clock: &impl Clock) -> Result<Option<Completion>, BlockError> {
        let ended = self.requests.take_ended();
        match self.disk {
            Some(disk) if ended.is_none() && self.requests.any_issued() => self.look(disk, clock)?,
            _ => return Ok(ended),
        }
        Ok(self.requests.take_ended())
    }

    fn stop(&mut self, clock: &impl Clock) {
        self.requests = Requests::NONE;
        if let Some(disk) = self.disk.take() {
            // If it does not stop, nothing more can be done; the memory stays the device's.
            let _ = self.hba.stop_port(disk.port, clock);
        }
    }
}
