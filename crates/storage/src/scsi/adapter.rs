//! The way of commands to the units behind a SCSI host: what differs between kinds of hosts.

use machine::{BlockError, Clock, DmaMemory, IoAddress, Registers};

use super::command::Cdb;
use super::sense::Sense;
use crate::error::StartError;
use crate::pvscsi::Ring;
use crate::virtio::scsi::VirtioQueue;

/// A logical unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    pub(crate) target: u8,
    pub(crate) number: u16,
}

/// A command for a unit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Command {
    pub(crate) unit: Unit,
    pub(crate) cdb: Cdb,
    pub(crate) data: Option<Data>,
}

/// The memory whose content a command moves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Data {
    pub(crate) address: IoAddress,
    /// Size in bytes.
    pub(crate) len: u32,
    pub(crate) direction: Direction,
}

/// Which way data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    FromUnit,
    ToUnit,
}

/// An answer to a command. The slot is one of the adapter's; whether it holds a command is not checked yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) slot: usize,
    pub(crate) outcome: Outcome,
}

/// What became of a command.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outcome {
    /// The unit has answered.
    Answered {
        /// Its status, of [`status`](super::command::status).
        status: u8,
        sense: Option<Sense>,
        /// Bytes of the data that were not moved.
        missing: u32,
    },
    /// There is no such target.
    NoTarget,
    /// The host has no room for it.
    Busy,
    /// It was not done, for a reason that passes; the code is the host's own.
    Interrupted(u32),
    /// It failed; the code is the host's own.
    Failed(u32),
}

/// The part of a host that differs.
pub(crate) enum Adapter<R, M> {
    /// The virtio SCSI host.
    Virtio(VirtioQueue<R, M>),
    /// VMware's paravirtual SCSI host.
    Pvscsi(Ring<R, M>),
}

impl<R: Registers, M: DmaMemory> Adapter<R, M> {
    /// Puts the command of a slot on the queue.
    pub(super) fn put(&mut self, slot: usize, command: &Command) {
        match self {
            Self::Virtio(queue) => queue.put(slot, command),
            Self::Pvscsi(ring) => ring.put(slot, command),
        }
    }

    /// Notifies the host of the commands put since the last call, if there are any.
    pub(super) fn notify(&mut self) {
        match self {
            Self::Virtio(queue) => queue.notify(),
            Self::Pvscsi(ring) => ring.notify(),
        }
    }

    /// Takes one answer, if there is one. An error means that the host cannot be trusted.
    pub(super) fn take(&mut self) -> Result<Option<Answer>, BlockError> {
        match self {
            Self::Virtio(queue) => queue.take(),
            Self::Pvscsi(ring) => ring.take(),
        }
    }

    /// Resets the host, so that it no longer accesses memory, as far as a broken one can be stopped.
    pub(super) fn reset(&mut self, clock: &impl Clock) {
        match self {
            Self::Virtio(queue) => queue.reset(clock),
            Self::Pvscsi(ring) => ring.reset(),
        }
    }

    /// Brings a host up again that was reset.
    pub(super) fn restart(&mut self, clock: &impl Clock) -> Result<(), StartError> {
        match self {
            Self::Virtio(queue) => queue.restart(clock),
            Self::Pvscsi(ring) => ring.restart(),
        }
    }
}
