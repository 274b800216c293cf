//! A controller as the disks behind it: its namespaces.

use machine::{BlockError, ByteOffset, Clock, DmaMemory, Range, Registers};
use pci::{Identity, Match};

use super::admin::Admin;
use super::namespace::{Properties, Tour};
use super::port::{Doorbells, Port};
use super::queue::QueuePair;
use super::quirks::Quirks;
use super::spec::{CLASS, Command, IO, io};
use super::transfer::Lists;
use crate::access::{Addressing, Allowance, DeviceAccess};
use crate::disk::{Completion, Controller, Found, Place, StartResult, Started};
use crate::error::{OpenError, StartError};
use crate::slots::{Pool, Request, Slots};

/// The functions that this driver runs.
pub(crate) const DRIVEN: [Match; 1] = [Match::Class(CLASS)];

/// Code of [`BlockError::Device`] when a controller has failed as a whole.
pub const FAILED: u32 = 0xffff_0003;

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
    properties: Properties,
    tour: Tour,
    /// Bytes in a block of the present namespace.
    block_size: u32,
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
    let mut port = Port::map(access, quirks, allowance.patience)?;
    access.attach(Addressing::Platform).map_err(OpenError::Attach)?;
    port.turn_off(clock)?;
    bring_up(access, port, clock, allowance.pool)
}

/// Brings a controller that is off up. It is turned off again if that fails.
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
    let started = turn_on(&mut admin, &queue, clock, slots.buffer(0));
    if started.is_err() {
        // If it cannot be turned off either, nothing more can be done; the memory stays the device's.
        let _ = admin.port().turn_off(clock);
    }
    let (properties, tour) = (started?, Tour::new(version));
    Ok(Started { controller: Nvme { admin, queue, lists, properties, tour, block_size: 512 }, slots })
}

/// Turns the controller on, and makes the queues for requests.
fn turn_on<R: Registers, M: DmaMemory>(
    admin: &mut Admin<R, M>,
    queue: &QueuePair<M>,
    clock: &impl Clock,
    buffer: &mut M,
) -> Result<Properties, StartError> {
    admin.turn_on(clock)?;
    let properties = Properties::read(admin, clock, buffer)?;
    admin.create_queues(clock, IO, queue.addresses())?;
    Ok(properties)
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

    fn turn_off(&mut self, clock: &impl Clock) {
        self.tour.end();
        // If it cannot be turned off, nothing more can be done; the memory stays the device's.
        let _ = self.admin.port().turn_off(clock);
    }
}

impl<R: Registers, M: DmaMemory> Controller for Nvme<R, M> {
    type Memory = M;

    fn next_disk(&mut self, buffer: &mut M, clock: &impl Clock) -> Option<Found> {
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
        self.queue.submit(slot as u16, command);
    }

    fn notify(&mut self) {
        self.queue.ring(self.admin.doorbells());
    }

    fn poll(&mut self, _: &impl Clock) -> Result<Option<Completion>, BlockError> {
        let Some(answer) = self.queue.take() else {
            return self.admin.port().check_alive().map(|()| None).map_err(|error| match error {
                StartError::Gone => BlockError::Gone,
                _ => BlockError::Device(FAILED),
            });
        };
        self.admin.port().was_answered();
        let result = if answer.status == 0 { Ok(()) } else { Err(BlockError::Device(answer.status.into())) };
        Ok(Some(Completion { slot: answer.command.into(), result }))
    }

    fn stop(&mut self, clock: &impl Clock) {
        self.turn_off(clock);
    }
}
