//! Finding the disk with the dump area. Nothing is written to any disk here.

use alloc::vec::Vec;
use core::time::Duration;

use area::{Area, OpenError};
use machine::{BlockError, Range};
use storage::virtio::{
    self, Addressing, Blk, Capabilities, StartError, Structure, Transport, TransportError,
};
use storage::{Disk, Pool};
use uuid::Uuid;

use crate::budget::Share;
use crate::discover::Machine;
#[cfg(not(mutations))]
use crate::dma::DeviceDma;
use crate::dma::SharedMemory;
#[cfg(mutations)]
use crate::mutations::dma::DeviceDma;
use crate::options::Options;
use crate::platform::clock::Tsc;
use crate::platform::console::say;
use crate::platform::mmio::Mmio;
use crate::platform::paging::AddressSpace;
use crate::remapping::{Reach, ReachError, Remapping};
use pci::Device;

/// Bytes that one request moves at most.
const SLOT_SIZE: usize = 64 << 10;
/// Requests in flight at most: more do not make a disk faster.
const MOST_SLOTS: usize = 16;
/// How long a disk may take for each of its first steps while there are others to try: a dead one costs no more.
const HASTE: Duration = Duration::from_secs(2);
/// How long it may take once all others were tried: hosts whose storage is in trouble, which may be why the kernel died, let
/// their guests wait.
const PATIENCE: Duration = Duration::from_secs(30);

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

/// Looks for the area that the command line names: on the disk it names, then on all others that there is a driver for, and
/// then again, with more patience, on those that did not answer.
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
    let slots = Share::DISK_BUFFERS.of(machine.reserved()) as usize / SLOT_SIZE;
    let pool = Pool { slots: slots.clamp(1, MOST_SLOTS), slot_size: SLOT_SIZE };
    let Machine { space, devices, .. } = machine;
    devices.sort_by_key(|device| Some(device.function) != options.disk);
    let mut search = Search { space, devices, remapping, pool, offset: options.area_offset, uuid };
    let mut disks: Vec<Device<Mmio>> = search.devices.iter().copied().filter(is_disk).collect();
    let mut silent = Vec::new();
    let found = disks.iter_mut().find_map(|disk| search.look_at(disk, HASTE, &mut silent));
    found.or_else(|| silent.iter_mut().find_map(|disk| search.look_at(disk, PATIENCE, &mut Vec::new())))
}

fn is_disk(device: &Device<Mmio>) -> bool {
    let identity = device.identity();
    storage::has_driver(identity.vendor, identity.device)
}

impl DiskError {
    /// Whether the disk might have answered if it had been given more time.
    fn is_silence(&self) -> bool {
        matches!(
            self,
            Self::Start(StartError::Stuck(_)) | Self::Area(OpenError::Device(BlockError::TimedOut))
        )
    }
}

/// What is looked for, and with what.
struct Search<'a> {
    space: &'a mut AddressSpace,
    devices: &'a [Device<Mmio>],
    remapping: &'a mut Remapping,
    pool: Pool,
    /// Where on its disk the area is, in bytes.
    offset: u64,
    uuid: Uuid,
}

impl Search<'_> {
    /// Tells whether a disk holds the area. One that does not answer in time is added to `silent`.
    fn look_at(
        &mut self,
        disk: &mut Device<Mmio>,
        patience: Duration,
        silent: &mut Vec<Device<Mmio>>,
    ) -> Option<Area<DumpDisk>> {
        let function = disk.function;
        match self.open(disk, patience) {
            Ok(area) => {
                say!("disk {function} holds area {}", area.label().uuid);
                Some(area)
            }
            Err(error) => {
                say!("disk {function}: {error}");
                silent.extend(error.is_silence().then_some(*disk));
                None
            }
        }
    }

    /// Opens the area on a disk. Memory for many requests is taken only if its label is the right one, for it is not given back.
    fn open(&mut self, device: &mut Device<Mmio>, patience: Duration) -> Result<Area<DumpDisk>, DiskError> {
        let (mut disk, reach) = self.start(device, patience)?;
        if area::read_label(&mut disk, self.offset)?.uuid == self.uuid {
            disk.fill_pool(&mut DeviceDma::new(self.remapping, reach));
        }
        Ok(Area::open(disk, self.offset, self.uuid)?)
    }

    /// Brings a disk up: from here on the device uses our memory only.
    fn start(
        &mut self,
        device: &mut Device<Mmio>,
        patience: Duration,
    ) -> Result<(DumpDisk, Reach), DiskError> {
        let capabilities = Capabilities::find_blk(&device.config)?;
        let mut transport =
            Transport::new(&capabilities, patience, |structure| map(device, self.space, structure))?;
        let addressing = transport.addressing();
        let reach = match addressing {
            Addressing::Platform => {
                let aliases = pci::aliases(self.devices, device.function).collect::<Vec<_>>();
                self.remapping.attach(device.function, &aliases)?
            }
            Addressing::Physical => Reach::Direct,
        };
        device.enable();
        let mut dma = DeviceDma::new(self.remapping, reach);
        Ok((virtio::start(transport, &mut dma, addressing, Tsc, self.pool)?, reach))
    }
}

fn map(device: &Device<Mmio>, space: &mut AddressSpace, structure: Structure) -> Option<Mmio> {
    let start = device.bar(structure.bar.into())?.checked_add(structure.offset.into())?;
    Mmio::map(space, Range::sized(start, structure.length.into())?).ok()
}
