//! A controller as the disks behind it: its namespaces.

use machine::{BlockError, ByteOffset, Clock, DmaMemory, Range, Registers};
use pci::{Identity, Match};

use super::admin::Admin;
use super::namespace::{Properties, Tour};
use super::port::{Doorbells, Port};
use super::queue::QueuePair;
use super::quirks::Quirks;
use super::requests::Requests;
use super::spec::{CLASS, Command, IO, io};
use super::transfer::Lists;
use crate::access::{Addressing, Allowance, DeviceAccess};
use crate::disk::{Completion, Controller, FAILED, Found, Place, StartResult, Started};
use crate::error::{OpenError, StartError};
use crate::slots::{Pool, Request, Slots};

/// The functions that this driver runs.
pub(crate) const DRIVEN: [Match; 1] = [Match::Class(CLASS)];

/// How often a controller is brought up again because one of its namespaces did not answer.
const MOST_RESTARTS: u8 = 3;

/// An NVMe controller as a [`Controller`].
///
/// One pair of queues carries all requests. A slot's number is the identifier of its command.
///
/// Nobody tells the controller of a shutdown (3.6.1): it may take many seconds, and what a flush has confirmed is safe
/// without it (7.1).
pub struct Nvme<R, M> {
    admin: Admin<R, M>,
    queue: QueuePair<M>,
    lists: Lists<M>,
    requests: Requests,
    properties: Properties,
    tour: Tour,
    power: Power,
    restarts: u8,
    /// Bytes in a block of the present namespace.
    block_size: u32,
}

/// Whether a controller carries out commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Power {
    On,
    /// It touches no memory, and can be turned on again.
    Off,
    /// It does not turn off.
    Lost,
}

/// Starts a controller; this ends whatever it was doing for somebody else.
///
/// The registers cannot be read before the function is attached: nobody may have used it before.
pub(crate) fn start<A: DeviceAccess>(
    access: &mut A,
    clock: &impl Clock,
    allowance: Allowance,
) -> StartResult<Nvme<A::Registers, A::Memory>, A> {
    let quirks = Quirks::of(Identity::read(access.config()));
    let mut port = Port::map(access, quirks, allowance)?;
    access.attach(Addressing::Platform).map_err(OpenError::Attach)?;
    port.turn_off(clock)?;
    bring_up(access, port, clock, allowance.pool)
}

/// Brings a controller that is off up.
fn bring_up<A: DeviceAccess>(
    access: &mut A,
    port: Port<A::Registers>,
    clock: &impl Clock,
    pool: Pool,
) -> StartResult<Nvme<A::Registers, A::Memory>, A> {
    let capabilities = port.capabilities()?;
    let (pool, entries) = share(pool, port.most_entries(capabilities)).ok_or(StartError::Queue)?;
    let doorbells = Doorbells::map(access, capabilities, IO)?;
    let version = port.version();
    let mut admin = Admin::allocate(access, port, doorbells).ok_or(StartError::NoMemory)?;
    let queue = QueuePair::allocate(access, IO, entries).ok_or(StartError::NoMemory)?;
    let lists = Lists::allocate(access, pool).ok_or(StartError::NoMemory)?;
    let mut slots = Slots::first(access, pool).ok_or(StartError::NoMemory)?;
    let requests = Requests::allocate(pool.slots).ok_or(StartError::NoMemory)?;
    let properties = turn_on(&mut admin, &queue, clock, slots.buffer(0))?;
    let (tour, power) = (Tour::new(version), Power::On);
    let controller =
        Nvme { admin, queue, lists, requests, properties, tour, power, restarts: 0, block_size: 512 };
    Ok(Started { controller, slots })
}

/// Turns the controller on, and makes the queues for requests. It is turned off again if it does not make them.
fn turn_on<R: Registers, M: DmaMemory>(
    admin: &mut Admin<R, M>,
    queue: &QueuePair<M>,
    clock: &impl Clock,
    buffer: &mut M,
) -> Result<Properties, StartError> {
    admin.turn_on(clock)?;
    let made = Properties::read(admin, clock, buffer)
        .and_then(|properties| admin.create_queues(clock, IO, queue.addresses()).map(|()| properties));
    if made.is_err() {
        // If it cannot be turned off either, nothing more can be done; the memory stays the device's.
        let _ = admin.port().turn_off(clock);
    }
    made
}

/// What there can be of a pool, and the entries of its queues: one more than requests in flight, `most` at most. `None` if no
/// request fits.
fn share(pool: Pool, most: u16) -> Option<(Pool, u16)> {
    let entries = u16::try_from(pool.slots.saturating_add(1)).map_or(most, |entries| entries.min(most));
    let slots = usize::from(entries).checked_sub(1).filter(|&slots| slots > 0)?;
    Some((Pool { slots, ..pool }, entries))
}

impl<R: Registers, M: DmaMemory> Nvme<R, M> {
    /// The command that reads or writes `range` (NVM 3.2.4, 3.2.6).
    fn transfer(&mut self, opcode: u8, slot: usize, range: Range<ByteOffset>, buffer: &M) -> Command {
        let block = u64::from(self.block_size);
        let (start, blocks) = (range.start.get() / block, range.len() / block);
        let pointers = self.lists.pointers(slot, buffer, range.len() as usize);
        let arguments = [start as u32, (start >> 32) as u32, blocks.saturating_sub(1) as u32];
        Command { opcode, namespace: self.tour.namespace(), pointers, arguments }
    }

    /// Turns the controller off. If that fails, nothing more can be done; the memory stays the device's.
    fn turn_off(&mut self, clock: &impl Clock) {
        if self.power == Power::On {
            let is_off = self.admin.port().turn_off(clock).is_ok();
            self.power = if is_off { Power::Off } else { Power::Lost };
        }
    }

    /// Turns a controller that was stopped on again, so that its other namespaces can be looked at; `None` if it is lost, or was
    /// brought up often enough.
    fn bring_up_again(&mut self, buffer: &mut M, clock: &impl Clock) -> Option<Result<(), StartError>> {
        match self.power {
            Power::On => return Some(Ok(())),
            Power::Lost => return None,
            Power::Off => {}
        }
        self.restarts = Some(self.restarts + 1).filter(|&restarts| restarts <= MOST_RESTARTS)?;
        self.queue.reset();
        let result = turn_on(&mut self.admin, &self.queue, clock, buffer);
        self.power = if result.is_ok() { Power::On } else { Power::Lost };
        Some(result.map(|properties| self.properties = properties))
    }

    /// Gives the controller those requests again that failed for a while.
    fn submit_again(&mut self, clock: &impl Clock) {
        if !self.requests.any_waits() {
            return;
        }
        let now = clock.now();
        while let Some((slot, command)) = self.requests.take_due(now) {
            self.queue.submit(slot, command);
        }
        self.queue.ring(self.admin.doorbells());
    }
}

impl<R: Registers, M: DmaMemory> Controller for Nvme<R, M> {
    type Memory = M;

    fn next_disk(&mut self, buffer: &mut M, clock: &impl Clock) -> Option<Found> {
        self.requests.clear();
        if let Err(error) = self.bring_up_again(buffer, clock)? {
            return Some(Found { place: Place::Only, geometry: Err(error) });
        }
        let Self { admin, lists, properties, tour, .. } = self;
        let before = tour.namespace();
        let piece = buffer.size().min(lists.most_bytes());
        let geometry = tour.advance(admin, clock, buffer, *properties, piece)?;
        let namespace = tour.namespace();
        let place = if namespace == before { Place::Only } else { Place::Namespace(namespace) };
        match geometry {
            Ok(geometry) => self.block_size = geometry.block_size,
            Err(StartError::Stuck(_) | StartError::Gone | StartError::Failed | StartError::Unasked) => {
                self.turn_off(clock);
            }
            Err(_) => {}
        }
        Some(Found { place, geometry })
    }

    fn submit(&mut self, slot: usize, request: Request, buffer: &M) {
        let command = match request {
            Request::Read(range) => self.transfer(io::READ, slot, range, buffer),
            Request::Write(range) => self.transfer(io::WRITE, slot, range, buffer),
            Request::Flush => {
                Command { opcode: io::FLUSH, namespace: self.tour.namespace(), ..Command::default() }
            }
        };
        self.requests.begin(slot, command);
        self.queue.submit(slot as u16, command);
    }

    fn notify(&mut self) {
        self.queue.ring(self.admin.doorbells());
    }

    fn poll(&mut self, clock: &impl Clock) -> Result<Option<Completion>, BlockError> {
        self.submit_again(clock);
        let Some(answer) = self.queue.take() else {
            return self.admin.port().check_alive().map(|()| None).map_err(|error| match error {
                StartError::Gone => BlockError::Gone,
                _ => BlockError::Device(FAILED),
            });
        };
        self.admin.port().was_answered();
        self.requests.end(answer, || clock.now())
    }

    fn stop(&mut self, clock: &impl Clock) {
        self.turn_off(clock);
    }
}
