//! The reasons why a disk cannot be used.

use machine::{BlockError, TimedOut};

use crate::access::{Addressing, BarRange};

/// Why a function cannot be opened as a disk; `E` is the reason why it cannot get memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError<E: core::error::Error> {
    /// No driver here runs the function.
    #[error("there is no driver for it")]
    NoDriver,
    /// The device could not be given memory.
    #[error(transparent)]
    Attach(E),
    /// The driver could not bring the device up.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// Why a driver cannot start its device. The device was not touched, or was left with nothing to work on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// Configuration space does not say where a structure is.
    #[error("no usable capability for the {0} structure")]
    Missing(&'static str),
    /// Registers could not be mapped.
    #[error("{0} could not be mapped")]
    Unmapped(BarRange),
    /// The device did not reset itself, or never stopped changing its configuration.
    #[error("the device does not answer: {0}")]
    Stuck(#[from] TimedOut),
    /// All registers read as ones: the device was removed, or its bus does not work.
    #[error("the device is gone")]
    Gone,
    /// The device speaks no version that the driver knows, or refuses the features that were accepted.
    #[error("the device and the driver cannot agree on features")]
    Features,
    /// The device takes addresses of another kind than memory was provided for.
    #[error("the device wants addresses of another kind: {0:?}")]
    Addressing(Addressing),
    /// A device is there that is no disk.
    #[error("it is no disk but {0}")]
    NoDisk(&'static str),
    /// The disk failed when it was asked what it is.
    #[error("the disk does not say what it is: {0}")]
    Unidentified(BlockError),
    /// The disk wants a password before it does anything else.
    #[error("the disk is locked by a password")]
    Locked,
    /// The disk lacks what the driver needs.
    #[error("the disk does not support {0}")]
    Unsupported(&'static str),
    /// The memory that there is lies where the device cannot reach it.
    #[error("the device's addresses are too short for the memory that there is")]
    OutOfReach,
    /// The device says that it has failed as a whole.
    #[error("the device has failed")]
    Failed,
    /// The device refused what the driver cannot do without; the status is the device's own.
    #[error("the device refuses {what}: status {status:#x}")]
    Refused {
        /// What it was asked for.
        what: &'static str,
        /// Its reason.
        status: u32,
    },
    /// The device answered what nobody has asked.
    #[error("the device answers what nobody has asked")]
    Unasked,
    /// The device or the disk has a property that the driver cannot deal with.
    #[error("the driver cannot use {0}")]
    Unusable(&'static str),
    /// The disk cannot be written.
    #[error("the disk is read-only")]
    ReadOnly,
    /// Another host has reserved the disk for itself.
    #[error("the disk is reserved for another host")]
    Reserved,
    /// The device reports impossible sizes.
    #[error("the device tells of impossible sizes")]
    Geometry,
    /// The device has no queue that holds a request, or no doorbell for it.
    #[error("the device has no usable queue")]
    Queue,
    /// There is no memory to share with the device.
    #[error("no memory to share with the device")]
    NoMemory,
}
