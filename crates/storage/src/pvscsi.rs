//! VMware's paravirtual SCSI host (PCI 15ad:07c0): two rings in shared memory, of requests and of completions, and a page that says
//! how far each side has got.
//!
//! There is no specification. Registers and layouts are those of VMware's public header for the device, as several operating
//! systems and QEMU have it. The ring of messages, which tells of new disks, is not used.

mod spec;

use alloc::vec::Vec;
use core::num::NonZeroU64;

use machine::growth::filled;
use machine::{BlockError, Clock, DmaMemory, Registers};
use pci::Match;

use crate::access::{Addressing, Allowance, BarRange, DeviceAccess};
use crate::disk::{StartResult, Started, UNASKED};
use crate::error::{OpenError, StartError};
use crate::scsi::adapter::{Adapter, Answer, Command, Direction, Outcome};
use crate::scsi::command;
use crate::scsi::sense::{self, Sense};
use crate::slots::{Pool, Slots};

use spec::{completion, host_status, layout, register, request, state};

pub(crate) use crate::scsi::host::Host;

/// The functions that this driver runs.
pub(crate) const DRIVEN: [Match; 1] = [Match::Ids { vendor: spec::VENDOR, device: spec::DEVICE }];

/// The way of commands to a pvscsi host.
pub(crate) struct Ring<R, M> {
    registers: R,
    /// Everything that is shared besides data: see [`layout`].
    memory: M,
    /// What names the command of each slot on the rings, while the device has it. No two commands have the same name, so that an
    /// answer that comes twice is noticed.
    contexts: Vec<Option<NonZeroU64>>,
    /// The last name that was given; the first one is 1.
    last_context: u64,
    /// Requests put on the ring; wraps at 2³².
    produced: u32,
    /// Completions taken from the ring; wraps likewise.
    consumed: u32,
    /// The register that tells the device of what was put on the ring since the last time.
    kick: Option<Kick>,
}

/// What the device is told of (the device may put transfers off a little).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kick {
    Transfers,
    Others,
}

/// Starts a host; this ends whatever the device was doing for somebody else.
pub(crate) fn start<A: DeviceAccess>(
    access: &mut A,
    _: &impl Clock,
    allowance: Allowance,
) -> StartResult<Host<A::Registers, A::Memory>, A> {
    let Allowance { pool, patience } = allowance;
    let mut registers = map(access)?;
    access.attach(Addressing::Platform).map_err(OpenError::Attach)?;
    reset(&mut registers);
    if register::INTERRUPT_STATUS.read(&registers) == u32::MAX {
        return Err(StartError::Gone.into());
    }
    let memory = access.allocate(layout::SIZE).ok_or(StartError::NoMemory)?;
    let pool = Pool { slots: pool.slots.min(spec::REQUESTS), ..pool };
    let slots = Slots::first(access, pool).ok_or(StartError::NoMemory)?;
    let contexts = filled(None, pool.slots).map_err(|_| StartError::NoMemory)?;
    let mut ring =
        Ring { registers, memory, contexts, last_context: 0, produced: 0, consumed: 0, kick: None };
    ring.set_up()?;
    let adapter = Adapter::Pvscsi(ring);
    let controller = Host::new(adapter, pool.slots, spec::LAST_TARGET, pool.slot_size, patience)?;
    Ok(Started { controller, slots })
}

/// Maps the registers. They are in the first BAR in memory space: VMware has a BAR in I/O space before it, QEMU has not.
fn map<A: DeviceAccess>(access: &mut A) -> Result<A::Registers, StartError> {
    let range = |bar| BarRange { bar, offset: 0, length: register::SIZE };
    (0..6).find_map(|bar| access.map(range(bar))).ok_or(StartError::Unmapped(range(0)))
}

/// Resets the device: it forgets its rings, and ends the requests on them.
fn reset(registers: &mut impl Registers) {
    register::INTERRUPT_MASK.write(registers, 0);
    register::COMMAND.write(registers, spec::ADAPTER_RESET);
    // The device has done it when it answers.
    let _ = register::COMMAND_STATUS.read(registers);
}

impl<R: Registers, M: DmaMemory> Ring<R, M> {
    /// Tells a device that was reset where the rings are.
    fn set_up(&mut self) -> Result<(), StartError> {
        self.memory.write(0, &[0; layout::SENSE]);
        self.memory.fence();
        (self.produced, self.consumed, self.kick) = (0, 0, None);
        self.contexts.fill(None);
        let page =
            |offset| self.memory.device_address().saturating_add(offset as u64).get() >> spec::PAGE_SHIFT;
        let rings =
            spec::rings(page(layout::STATE), page(layout::REQUEST_RING), page(layout::COMPLETION_RING));
        register::COMMAND.write(&mut self.registers, spec::SETUP_RINGS);
        for word in rings {
            register::COMMAND_DATA.write(&mut self.registers, word);
        }
        match register::COMMAND_STATUS.read(&self.registers) {
            spec::FAILED => Err(StartError::Refused { what: "its rings", status: spec::FAILED }),
            _ => Ok(()),
        }
    }

    /// Puts the command of a slot on the ring.
    pub(crate) fn put(&mut self, slot: usize, command: &Command) {
        let Command { unit, cdb, data } = *command;
        let sense = layout::SENSE + slot * layout::SENSE_STRIDE;
        self.memory.write(sense, &[0; sense::SIZE]);
        self.last_context += 1;
        self.contexts[slot] = NonZeroU64::new(self.last_context);
        let descriptor = request::Descriptor {
            context: self.last_context,
            data: data.map_or(0, |data| data.address.get()),
            data_len: data.map_or(0, |data| data.len.into()),
            sense: self.memory.device_address().saturating_add(sense as u64).get(),
            sense_len: sense::SIZE as u32,
            flags: match data.map(|data| data.direction) {
                None => request::NO_DATA,
                Some(Direction::FromUnit) => request::TO_HOST,
                Some(Direction::ToUnit) => request::TO_DEVICE,
            },
            cdb,
            cdb_len: command::cdb_len(cdb),
            target: unit.target,
            unit: unit.number,
        };
        let entry = self.produced as usize % spec::REQUESTS * request::SIZE;
        self.memory.write(layout::REQUEST_RING + entry, &descriptor.to_bytes());
        // The entry must be visible before the index announces it.
        self.memory.fence();
        self.produced = self.produced.wrapping_add(1);
        self.memory.write_u32(layout::STATE + state::REQUESTS_PRODUCED, self.produced);
        self.kick = Some(match self.kick {
            Some(Kick::Others) => Kick::Others,
            _ if command::is_transfer(cdb) => Kick::Transfers,
            _ => Kick::Others,
        });
    }

    /// Notifies the device of what was put on the ring, if anything was.
    pub(crate) fn notify(&mut self) {
        let Some(kick) = self.kick.take() else { return };
        self.memory.fence();
        match kick {
            Kick::Transfers => register::KICK_TRANSFERS.write(&mut self.registers, 0),
            Kick::Others => register::KICK_OTHERS.write(&mut self.registers, 0),
        }
    }

    /// Takes one answer, if there is one.
    pub(crate) fn take(&mut self) -> Result<Option<Answer>, BlockError> {
        let produced = self.memory.read_u32(layout::STATE + state::COMPLETIONS_PRODUCED);
        match produced.wrapping_sub(self.consumed) as usize {
            0 => return Ok(None),
            1..=spec::COMPLETIONS => {}
            _ => return Err(BlockError::Device(UNASKED)),
        }
        // The entry may be read only after the index has announced it.
        self.memory.fence();
        let mut bytes = [0; completion::SIZE];
        let entry = self.consumed as usize % spec::COMPLETIONS * completion::SIZE;
        self.memory.read(layout::COMPLETION_RING + entry, &mut bytes);
        self.consumed = self.consumed.wrapping_add(1);
        self.memory.write_u32(layout::STATE + state::COMPLETIONS_CONSUMED, self.consumed);
        let completed = completion::Descriptor::from_bytes(&bytes);
        let context = NonZeroU64::new(completed.context).ok_or(BlockError::Device(UNASKED))?;
        let slot = self.contexts.iter().position(|of| *of == Some(context));
        let slot = slot.ok_or(BlockError::Device(UNASKED))?;
        self.contexts[slot] = None;
        Ok(Some(Answer { slot, outcome: self.outcome(slot, &completed) }))
    }

    fn outcome(&self, slot: usize, completed: &completion::Descriptor) -> Outcome {
        let answered = |missing| Outcome::Answered {
            status: completed.unit_status as u8,
            sense: self.sense(slot, completed.sense_len),
            missing,
        };
        match completed.host_status {
            host_status::SUCCESS | host_status::LINKED | host_status::LINKED_WITH_FLAG => answered(0),
            // How many bytes are missing is not always told.
            host_status::UNDERRUN | host_status::DATA_RUN => answered(1),
            host_status::NO_TARGET | host_status::BAD_PARAMETER => Outcome::NoTarget,
            code if host_status::PASSING.contains(&code) => Outcome::Interrupted(code.into()),
            code => Outcome::Failed(code.into()),
        }
    }

    fn sense(&self, slot: usize, len: u32) -> Option<Sense> {
        let mut bytes = [0; sense::SIZE];
        self.memory.read(layout::SENSE + slot * layout::SENSE_STRIDE, &mut bytes);
        Sense::read(&bytes[..sense::SIZE.min(len as usize)])
    }

    /// Resets the device.
    pub(crate) fn reset(&mut self) {
        reset(&mut self.registers);
    }

    /// Brings the device up again, with the memory that it had.
    pub(crate) fn restart(&mut self) -> Result<(), StartError> {
        self.reset();
        self.set_up()
    }
}
