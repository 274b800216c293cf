//! The access to one PCI function that the capture kernel gives to a disk driver.

use arrayvec::ArrayVec;
use machine::{Dma, Registers};
use pci::Device;
use storage::{Addressing, BarRange, DeviceAccess};

#[cfg(not(mutations))]
use crate::dma::DeviceDma;
use crate::dma::SharedMemory;
#[cfg(mutations)]
use crate::mutations::dma::DeviceDma;
use crate::platform::config::Config;
use crate::platform::console::say;
use crate::platform::hypervisor::Devices;
use crate::platform::mmio::Mmio;
use crate::platform::paging::AddressSpace;
use crate::remapping::{Reach, ReachError, Remapping};
use crate::units::source_of;
use crate::vmds;
use crate::watchdogs::{self, WaitClock};

/// A disk's PCI function, with the parts of the machine that its driver needs.
pub(crate) struct FunctionAccess<'a> {
    /// The function.
    pub(crate) device: Device<Config>,
    /// All functions, including the bridges in front of this one.
    pub(crate) devices: &'a [Device<Config>],
    /// The page tables, in which registers are mapped.
    pub(crate) space: &'a mut AddressSpace,
    /// The remapping units, one of which may translate for the device.
    pub(crate) remapping: &'a mut Remapping,
    /// How the device reaches memory, once it is attached.
    pub(crate) reach: Option<Reach>,
}

impl DeviceAccess for FunctionAccess<'_> {
    type Registers = Mmio;
    type Refusal = ReachError;

    fn config(&self) -> &impl Registers {
        &self.device.config
    }

    fn map(&mut self, range: BarRange) -> Option<Mmio> {
        let range = self.device.registers(range.bar.into(), range.offset, range.length)?;
        let range = vmds::physical(self.space, self.devices, self.device.function, range)?;
        Mmio::map(self.space, range).ok()
    }

    fn attach(&mut self, addressing: Addressing) -> Result<(), ReachError> {
        let reach = if bypasses_units(addressing, Devices::of_this_machine()) {
            Reach::Direct
        } else {
            let function = pci::vmd::requester(self.devices, self.device.function);
            #[expect(clippy::disallowed_methods, reason = "the list has its memory in itself")]
            let aliases: ArrayVec<_, { pci::aliases::MOST }> =
                pci::aliases(self.devices, function).map(source_of).collect();
            self.remapping.attach(function, &aliases)?
        };
        if self.device.wake(&WaitClock) {
            say!("function {} was asleep, and was woken", self.device.function);
        }
        self.device.enable();
        self.reach = Some(reach);
        watchdogs::progress();
        Ok(())
    }
}

impl Dma for FunctionAccess<'_> {
    type Memory = SharedMemory;

    fn allocate(&mut self, len: usize) -> Option<SharedMemory> {
        DeviceDma::new(self.remapping, self.reach?).allocate(len)
    }
}

/// Whether a device's requests go past all units. Those of hardware do not, whatever it says of its addresses.
fn bypasses_units(addressing: Addressing, devices: Devices) -> bool {
    addressing == Addressing::Physical && devices == Devices::Virtual
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_hypervisors_device_can_go_past_units() {
        assert!(bypasses_units(Addressing::Physical, Devices::Virtual));
        assert!(!bypasses_units(Addressing::Physical, Devices::Real));
        assert!(!bypasses_units(Addressing::Platform, Devices::Virtual));
    }
}
