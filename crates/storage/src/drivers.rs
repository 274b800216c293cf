//! The one door to disk drivers: tells whether a function has a driver, and makes a disk of a function that has one.

use machine::{BlockError, Clock, Dma, DmaMemory, Registers};
use pci::{Identity, Match};

use crate::access::{Allowance, DeviceAccess};
use crate::disk::{Completion, Controller, Disk, Found, StartResult};
use crate::error::OpenError;
use crate::slots::Request;

drivers! {
    /// A port of an AHCI controller, with a Serial ATA disk.
    Ahci: Ahci in ahci;
    /// The virtio block device.
    VirtioBlk: Blk in virtio::blk;
    /// The virtio SCSI host.
    VirtioScsi: Host in virtio::scsi;
    /// VMware's paravirtual SCSI host.
    Pvscsi: Host in pvscsi;
    /// The NVMe controller.
    Nvme: Nvme in nvme;
}

/// A disk with any of the drivers; `A` gives access to its function.
pub type AnyDisk<A, C> = Disk<AnyController<<A as DeviceAccess>::Registers, <A as Dma>::Memory>, C>;

/// Whether a driver runs functions with this identity.
pub fn has_driver(identity: Identity) -> bool {
    DRIVEN.iter().flat_map(|driven| driven.iter()).any(|driven| driven.fits(identity))
}

/// Starts a function with a driver; this ends whatever the device was doing for somebody else.
///
/// [`Disk::advance`] moves on to the function's first disk, and to each other one. At first only one request at a time is in flight. [`Disk::fill_pool`] takes memory for the whole pool. Nothing is
/// written to the disk.
pub fn open<A: DeviceAccess, C: Clock>(
    access: &mut A,
    clock: C,
    allowance: Allowance,
) -> Result<AnyDisk<A, C>, OpenError<A::Refusal>> {
    let started = start(access, &clock, allowance)?;
    Ok(Disk::new(started, clock, allowance.patience))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pci::Class;

    /// `virtio-blk-pci` with and without the older interface; a network card is none.
    #[test]
    fn virtio_disks_have_a_driver() {
        let class = Class::from_code(0x010000);
        let virtio = |device| has_driver(Identity { vendor: 0x1AF4, device, class });
        assert!(virtio(0x1001) && virtio(0x1042));
        assert!(virtio(0x1004) && virtio(0x1048), "SCSI hosts too");
        assert!(!virtio(0x1000) && !virtio(0x1041));
    }
}
