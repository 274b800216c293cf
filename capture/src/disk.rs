//! Finds the disk with the dump area. This module writes to no disk.

mod access;

use alloc::vec::Vec;
use core::time::Duration;

use area::{Area, Destination};
use handoff::{AreaAddress, Options};
use machine::BlockError;
use machine::growth::push;
use pci::{Device, Function};
use storage::{Allowance, AnyDisk, Pool, StartError};

use crate::discover::Machine;
use crate::platform::config::Config;
use crate::platform::console::say;
use crate::platform::paging::AddressSpace;
use crate::remapping::{ReachError, Remapping};
use crate::watchdogs::{self, WaitClock};
use handoff::Share;

use access::FunctionAccess;

/// Bytes that one request moves at most.
const SLOT_SIZE: usize = 64 << 10;
/// Most requests in flight; a disk does not get faster with more.
const MOST_SLOTS: usize = 16;
/// Time limit for each of a disk's first steps while there are other disks to try, so that a dead disk costs little time.
const HASTE: Duration = Duration::from_secs(2);
/// Time limit after all other disks were tried. A host whose storage is in trouble, which may be why the kernel died, lets
/// its guests wait.
const PATIENCE: Duration = Duration::from_secs(30);

/// A disk that can be dumped to.
pub(crate) type DumpDisk = AnyDisk<FunctionAccess<'static>, WaitClock>;

/// Why a disk does not have the area.
#[derive(Debug, thiserror::Error)]
enum DiskError {
    #[error(transparent)]
    Disk(#[from] storage::OpenError<ReachError>),
    #[error(transparent)]
    Area(#[from] area::OpenError),
}

impl DiskError {
    /// Whether more time could make the disk answer.
    fn is_silence(&self) -> bool {
        matches!(
            self,
            Self::Disk(storage::OpenError::Start(StartError::Stuck(_)))
                | Self::Area(area::OpenError::Device(BlockError::TimedOut))
        )
    }
}

/// Looks for the area that the command line names: on the disk it names, then on all others that there is a driver for, and
/// then again, with more patience, on those that did not answer.
pub(crate) fn find_destination(
    machine: &mut Machine,
    remapping: &mut Remapping,
    options: &Options,
) -> Option<Destination<DumpDisk>> {
    let Some(area) = options.area else {
        say!("no holdover.area=UUID on the command line: no disk to write to");
        return None;
    };
    let slots = Share::DISK_BUFFERS.of(machine.reserved()) as usize / SLOT_SIZE;
    let pool = Pool { slots: slots.clamp(1, MOST_SLOTS), slot_size: SLOT_SIZE };
    let Machine { space, devices, .. } = machine;
    let disks = disks(devices, options.disk);
    Search { space, devices, remapping, pool, area }.find(disks).map(Destination::Area)
}

/// The functions that there is a driver for, the one at `first` before the others.
fn disks(devices: &[Device<Config>], first: Option<Function>) -> impl Iterator<Item = Device<Config>> {
    let named = devices.iter().filter(move |device| Some(device.function) == first);
    let others = devices.iter().filter(move |device| Some(device.function) != first);
    named.chain(others).filter(|device| storage::has_driver(device.identity())).copied()
}

/// A search for the area.
struct Search<'a> {
    space: &'a mut AddressSpace,
    devices: &'a [Device<Config>],
    remapping: &'a mut Remapping,
    pool: Pool,
    area: AreaAddress,
}

impl Search<'_> {
    /// Tries all disks, then those that did not answer a second time.
    fn find(&mut self, disks: impl Iterator<Item = Device<Config>>) -> Option<Area<DumpDisk>> {
        let mut silent = Vec::new();
        for disk in disks {
            match self.look_at(disk, HASTE) {
                Ok(area) => return Some(area),
                // If there is no memory to remember a disk, it is not tried again.
                Err(error) if error.is_silence() => _ = push(&mut silent, disk),
                Err(_) => {}
            }
        }
        silent.into_iter().find_map(|disk| self.look_at(disk, PATIENCE).ok())
    }

    /// Opens the area on a disk, and reports the result on the console.
    fn look_at(&mut self, disk: Device<Config>, patience: Duration) -> Result<Area<DumpDisk>, DiskError> {
        let function = disk.function;
        let opened = self.open(disk, patience);
        watchdogs::progress();
        match &opened {
            Ok(area) => say!("disk {function} holds area {}", area.label().uuid),
            Err(error) => say!("disk {function}: {error}"),
        }
        opened
    }

    /// Opens the area on a disk. Takes memory for many requests only if the label is the right one, because that memory is
    /// never given back.
    fn open(&mut self, device: Device<Config>, patience: Duration) -> Result<Area<DumpDisk>, DiskError> {
        let Self { space, devices, remapping, pool, .. } = self;
        let mut access = FunctionAccess { device, devices, space, remapping, reach: None };
        let mut disk = storage::open(&mut access, WaitClock, Allowance { pool: *pool, patience })?;
        let AreaAddress { uuid, offset } = self.area;
        if area::read_label(&mut disk, offset)?.uuid == uuid {
            disk.fill_pool(&mut access);
        }
        Ok(Area::open(disk, offset, uuid)?)
    }
}
