//! A remapping unit of either architecture, and why one cannot be used.

use alloc::vec::Vec;
use core::time::Duration;

use machine::growth::OutOfMemory;
use machine::{Contended, PhysicalAddress, Range, Registers};
use vtd::fault::FaultStatus;

use crate::{amdvi, vtd as vt_d};

/// A remapping unit: reads its registers, and changes nothing that it does.
#[derive(Debug)]
pub enum Unit<'c, R, C> {
    /// Intel's.
    Vtd(vt_d::unit::Unit<'c, R, C>),
    /// AMD's.
    AmdVi(amdvi::unit::Unit<'c, R, C>),
}

/// A register of a unit, by its offset, and its value.
pub type RegisterValue = (usize, u64);

impl<'c, R: Registers, C> Unit<'c, R, C> {
    /// Makes a VT-d unit from `registers`, a block of `size` bytes: at least a page, see
    /// [`register_bytes`](Self::register_bytes).
    ///
    /// This only reads; the takeover uses `clock` for its waits. If the capability registers place some registers
    /// outside the block, the takeover works without them: it reads no fault records, and invalidates by queue only.
    pub fn vtd(registers: R, size: usize, clock: &'c C) -> Result<Self, UnitError> {
        vt_d::unit::Unit::new(registers, size, clock).map(Self::Vtd)
    }

    /// Makes an AMD-Vi unit from `registers`, a block of 16 KiB.
    ///
    /// This only reads; the takeover uses `clock` for its waits.
    pub fn amdvi(registers: R, clock: &'c C) -> Result<Self, UnitError> {
        amdvi::unit::Unit::new(registers, clock).map(Self::AmdVi)
    }

    /// Whether translation is on.
    pub fn translates(&self) -> bool {
        match self {
            Self::Vtd(unit) => unit.status().tes(),
            Self::AmdVi(unit) => unit.control().enabled(),
        }
    }

    /// How many bytes of registers a takeover uses from the start of the block, as the unit says. Firmware may have reported
    /// fewer.
    pub fn register_bytes(&self) -> usize {
        match self {
            Self::Vtd(unit) => unit.register_bytes(),
            Self::AmdVi(_) => ::amdvi::registers::BYTES,
        }
    }

    /// The dead kernel's memory that the unit will use on where it is, because hardware has locked the registers that name it: for the
    /// [`Surroundings`](crate::Surroundings) of all units, those taken over before included. This writes a register that means
    /// nothing now, and restores it.
    pub fn locked_memory(&mut self) -> Result<Vec<Range<PhysicalAddress>>, OutOfMemory> {
        match self {
            Self::AmdVi(unit) if unit.control().enabled() => unit.locked_memory(),
            Self::Vtd(_) | Self::AmdVi(_) => Ok(Vec::new()),
        }
    }

    /// All registers that can be read, for a report; none if there is no memory for them.
    pub fn registers(&self) -> Vec<RegisterValue> {
        match self {
            Self::Vtd(unit) => unit.readable(),
            Self::AmdVi(unit) => unit.readable(),
        }
    }
}

/// A register did not show the expected value in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{register} did not show {wanted} within {} ms", limit.as_millis())]
pub struct NoAnswer {
    /// The register that was watched.
    pub register: &'static str,
    /// The bits that it should have shown.
    pub wanted: &'static str,
    /// How long the wait took.
    pub limit: Duration,
}

impl NoAnswer {
    /// Whether a command to the unit as a whole is still pending: software must give no other before it is done
    /// (VT-d 11.4.4).
    pub(crate) fn is_of_command(&self) -> bool {
        [vt_d::unit::STATUS, amdvi::unit::STATUS].contains(&self.register)
    }
}

/// A unit cannot be used, or does not execute a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// The register that tells what the unit is reads all zeros or all ones: nothing answers there.
    #[error("there is no remapping unit: {register} is {value:#x}")]
    NotThere {
        /// The register.
        register: &'static str,
        /// What it reads.
        value: u64,
    },
    /// The capability registers place other registers outside the block.
    #[error("{0} lies outside the unit's registers")]
    Outside(&'static str),
    /// A register did not answer in time.
    #[error(transparent)]
    NoAnswer(#[from] NoAnswer),
    /// An invalidation was refused.
    #[error("{0} refused to invalidate")]
    NotInvalidated(&'static str),
    /// The invalidation queue stopped with an error.
    #[error("the invalidation queue stopped: FSTS is {:#x}", .0.into_bits())]
    QueueStopped(FaultStatus),
    /// The tail of the invalidation queue is not the one that was written: a processor of the old kernel wrote it, or the
    /// unit lost the write.
    #[error("the invalidation queue's tail did not stay as it was written")]
    QueueDisturbed,
    /// The unit stopped fetching commands: one of them was malformed, or could not be read.
    #[error("the command buffer stopped")]
    CommandsStopped,
    /// A device did not answer an invalidation.
    #[error("the device did not answer")]
    DeviceSilent,
    /// A device was told, and events of others filled the log that would say if it did not answer.
    #[error("the log of events was full, so that nobody knows whether the device has answered")]
    DeviceUnheard,
    /// The unit takes no limit for devices that do not answer an invalidation: one of them would keep it from executing any command,
    /// so none is sent to devices.
    #[error("the unit would wait for ever for a device that does not answer")]
    NeverGivesUp,
    /// A register that names a table or a buffer still holds what it held before it was written: the hardware has locked it, as
    /// secure nested paging does (AMD-Vi, 2.12).
    #[error("{0} is locked: secure nested paging is on")]
    Locked(&'static str),
    /// A register that names a table or a buffer does not hold what was written.
    #[error("{register} reads {found:#x} after {written:#x} was written")]
    NotTaken {
        /// The register.
        register: &'static str,
        /// What was written.
        written: u64,
        /// What is there.
        found: u64,
    },
    /// Devices keep changing what has to be written: a command, or an entry of a device table that stays where the dead kernel has it.
    #[error(transparent)]
    Contended(#[from] Contended),
    /// Devices that did not answer have used up the time that there was for all of them.
    #[error("no time is left to wait for it")]
    NoTimeLeft,
    /// This mode needs a queue for invalidations, and the unit offers none that works.
    #[error("no invalidation queue")]
    NoQueue,
}
