//! The access to its device that a driver gets, and the limits on what it may allocate.

use core::fmt;
use core::time::Duration;

use machine::{Dma, Registers};

use crate::slots::Pool;

/// A PCI function, as much of it as its driver needs.
///
/// The memory that [`Dma`] hands out is such as this device can reach; there is none before [`attach`](Self::attach). What
/// lies between the device and memory is not the driver's business.
pub trait DeviceAccess: Dma {
    /// A block of the device's registers.
    type Registers: Registers;
    /// Why the device cannot be given memory.
    type Refusal: core::error::Error;

    /// The function's configuration space.
    fn config(&self) -> &impl Registers;

    /// Maps registers; `None` if they do not lie in a memory BAR, or are where no registers can be.
    fn map(&mut self, range: BarRange) -> Option<Self::Registers>;

    /// Lets the device answer in memory space and do DMA to the memory that it is handed from here on.
    ///
    /// What the dead kernel had asked of the device may still be under way, and still finds its memory: the driver's first
    /// step is to reset the device.
    fn attach(&mut self, addressing: Addressing) -> Result<(), Self::Refusal>;
}

/// A part of one of a function's BARs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarRange {
    /// Index of the BAR, 0 to 5.
    pub bar: u8,
    /// Bytes from the start of the BAR. How long that is nobody knows without changing it.
    pub offset: u64,
    /// Size in bytes.
    pub length: u64,
}

impl fmt::Display for BarRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bar, offset, length } = self;
        write!(f, "{length:#x} bytes at {offset:#x} of BAR {bar}")
    }
}

/// Which addresses a device is to be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressing {
    /// Those that any PCI device in its place would be given: I/O addresses, if they are remapped.
    Platform,
    /// Physical addresses: the device, being the hypervisor, passes by whatever remaps.
    Physical,
}

/// What a disk may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Memory for requests in flight, at most.
    pub pool: Pool,
    /// The longest wait for each of the device's first steps, such as to have reset itself, and for its first answer.
    pub patience: Duration,
}
