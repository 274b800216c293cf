//! Finding the disk with the dump area. Nothing is written to any disk here.

use alloc::vec::Vec;

use area::{Area, OpenError};
use machine::Range;
use storage::virtio::{
    self, Addressing, Blk, Capabilities, StartError, Structure, Transport, TransportError,
};
use storage::{Disk, Pool};
use uuid::Uuid;

use crate::clock::Tsc;
use crate::console::say;
use crate::discover::Machine;
#[cfg(not(mutations))]
use crate::dma::DeviceDma;
use crate::dma::SharedMemory;
use crate::mmio::Mmio;
#[cfg(mutations)]
use crate::mutations::dma::DeviceDma;
use crate::options::Options;
use crate::paging::AddressSpace;
use crate::pci::{self, Device, Function};
use crate::remapping::{Reach, ReachError, Remapping};

/// Bytes that one request moves at most.
const SLOT_SIZE: usize = 64 << 10;
/// Requests in flight at most: more do not make a disk faster.
const MOST_SLOTS: usize = 16;
/// The share of the reservation that one disk's requests may take.
const BUDGET_DIVISOR: u64 = 16;

/// A disk that can be dumped to.
pub(crate) type DumpDisk = Disk<Blk<Mmio, SharedMemory>, Tsc>;

/// Why a disk is not the one.
#[derive(Debug, thiserror::Error)]
enum DiskError {
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error(transparent)]
    Reach(#[from] ReachError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Area(#[from] OpenError),
}

/// Looks for the area that the command line names: on the disk it names, then on all others that there is a driver for.
pub(crate) fn find_area(
    machine: &mut Machine,
    remapping: &mut Remapping,
    options: &Options,
) -> Option<Area<DumpDisk>> {
    let uuid = options.area.and_then(|text| Uuid::try_parse(text).ok());
    let Some(uuid) = uuid else {
        say!("no holdover.area=UUID on the command line: no disk to write to");
        return None;
    };
    let slots = (machine.reserved() / BUDGET_DIVISOR) as usize / SLOT_SIZE;
    let pool = Pool { slots: slots.clamp(1, MOST_SLOTS), slot_size: SLOT_SIZE };
    let Machine { space, devices, .. } = machine;
    devices.sort_by_key(|device| Some(device.function) != options.disk);
    let disks: Vec<Device<Mmio>> = devices.iter().copied().filter(is_disk).collect();
    disks.into_iter().find_map(|mut disk| {
        let function = disk.function;
        let aliases = pci::aliases(devices, function);
        let opened = start(&mut disk, &aliases, space, remapping, pool)
            .and_then(|disk| Ok(Area::open(disk, options.area_offset, uuid)?));
        tell(function, opened)
    })
}

fn is_disk(device: &Device<Mmio>) -> bool {
    let (vendor, id) = device.id();
    storage::has_driver(vendor, id)
}

/// Brings a disk up: from here on the device uses our memory only.
fn start(
    device: &mut Device<Mmio>,
    aliases: &[Function],
    space: &mut AddressSpace,
    remapping: &mut Remapping,
    pool: Pool,
) -> Result<DumpDisk, DiskError> {
    let capabilities = Capabilities::find_blk(&device.config)?;
    let mut transport = Transport::new(&capabilities, |structure| map(device, space, structure))?;
    let addressing = transport.addressing();
    let reach = match addressing {
        Addressing::Platform => remapping.attach(device.function, aliases)?,
        Addressing::Physical => Reach::Direct,
    };
    device.enable();
    let mut dma = DeviceDma::new(remapping, reach);
    Ok(virtio::start(transport, &mut dma, addressing, Tsc, pool)?)
}

fn map(device: &Device<Mmio>, space: &mut AddressSpace, structure: Structure) -> Option<Mmio> {
    let start = device.bar(structure.bar.into())?.checked_add(structure.offset.into())?;
    Mmio::map(space, Range::sized(start, structure.length.into())?).ok()
}

fn tell(function: Function, opened: Result<Area<DumpDisk>, DiskError>) -> Option<Area<DumpDisk>> {
    match opened {
        Ok(area) => {
            say!("disk {function} holds area {}", area.label().uuid);
            Some(area)
        }
        Err(error) => {
            say!("disk {function}: {error}");
            None
        }
    }
}
