//! The access to its device that a driver gets, and the limits on what it may allocate.

use core::fmt;
use core::time::Duration;

use machine::{Dma, Registers};

use crate::slots::Pool;

/// A PCI function, with the access that its driver needs.
///
/// The device can reach the memory that [`Dma`] allocates. There is none before [`attach`](Self::attach). The driver need
/// not know whether an IOMMU translates the device's requests.
pub trait DeviceAccess: Dma {
    /// A block of the device's registers.
    type Registers: Registers;
    /// Why the device cannot be given memory.
    type Refusal: core::error::Error;

    /// The function's configuration space.
    fn config(&self) -> &impl Registers;

    /// Maps registers; `None` if they do not lie in a memory BAR, or are where no registers can be.
    fn map(&mut self, range: BarRange) -> Option<Self::Registers>;

    /// Lets the device answer in memory space and do DMA to memory that is allocated from now on.
    ///
    /// Requests of the dead kernel may still be under way, and still find their memory. The driver's first step is
    /// therefore to reset the device.
    fn attach(&mut self, addressing: Addressing) -> Result<(), Self::Refusal>;
}

/// A part of one of a function's BARs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarRange {
    /// Index of the BAR, 0 to 5.
    pub bar: u8,
    /// Bytes from the start of the BAR. The BAR's length cannot be read without changing the BAR.
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

/// The kind of addresses that a device uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressing {
    /// The addresses that any PCI device in its place uses: I/O addresses, if they are remapped.
    Platform,
    /// Physical addresses: the hypervisor implements the device, and bypasses the remapping.
    Physical,
}

/// Limits on what a disk may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Memory for requests in flight, at most.
    pub pool: Pool,
    /// The longest wait for each of the device's first steps, such as its reset, and for its first answer.
    pub patience: Duration,
}

impl Allowance {
    /// The patience of somebody who has nothing else to try.
    const LAST_TRY: Duration = Duration::from_secs(30);
    /// The longest wait for a device that says how long it takes: as long as those of NVMe can say in all versions (CAP.TO).
    const LONGEST: Duration = Duration::from_secs(128);

    /// Whether whoever opens the device has nothing else to try.
    pub(crate) fn is_last_try(self) -> bool {
        self.patience >= Self::LAST_TRY
    }

    /// The longest wait for a step of which the device says that it may take as long as `told`. Where there is nothing else to try,
    /// the device gets that time although patience is shorter.
    pub(crate) fn limit(self, told: Duration) -> Duration {
        let most = if self.is_last_try() { self.patience.max(Self::LONGEST) } else { self.patience };
        told.min(most)
    }
}
