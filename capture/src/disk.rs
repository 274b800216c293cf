//! Finds the disk with the dump area. This module writes to no disk.

mod access;

use alloc::vec::Vec;
use core::time::Duration;

use area::{Area, Destination};
use handoff::{AreaAddress, Options};
use machine::BlockError;
use machine::growth::push;
use pci::{Device, Function};
use storage::{Allowance, AnyDisk, Place, Pool, StartError};

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
    Function(#[from] storage::OpenError<ReachError>),
    #[error(transparent)]
    Disk(#[from] StartError),
    #[error(transparent)]
    Area(#[from] area::OpenError),
}

impl DiskError {
    /// Whether more time could make the disk answer.
    fn is_silence(&self) -> bool {
        matches!(
            self,
            Self::Function(storage::OpenError::Start(StartError::Stuck(_)))
                | Self::Disk(StartError::Stuck(_))
                | Self::Area(area::OpenError::Device(BlockError::TimedOut))
        )
    }
}

/// Why no disk behind a function has the area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NotThere {
    /// A disk did not answer.
    Silent,
    /// All disks answered.
    Absent,
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
    /// Tries all functions, then those with a disk that did not answer a second time.
    fn find(&mut self, functions: impl Iterator<Item = Device<Config>>) -> Option<Area<DumpDisk>> {
        let mut silent = Vec::new();
        for function in functions {
            match self.look_behind(function, HASTE) {
                Ok(area) => return Some(area),
                // If there is no memory to remember a function, it is not tried again.
                Err(NotThere::Silent) => _ = push(&mut silent, function),
                Err(NotThere::Absent) => {}
            }
        }
        silent.into_iter().find_map(|function| self.look_behind(function, PATIENCE).ok())
    }

    /// Looks for the area on each disk behind a function, and reports the results on the console.
    fn look_behind(
        &mut self,
        device: Device<Config>,
        patience: Duration,
    ) -> Result<Area<DumpDisk>, NotThere> {
        let Self { space, devices, remapping, pool, area } = self;
        let function = device.function;
        let mut access = FunctionAccess { device, devices, space, remapping, reach: None };
        let opened = storage::open(&mut access, WaitClock, Allowance { pool: *pool, patience });
        watchdogs::progress();
        let mut disk = opened.map_err(|error| report(function, Place::Only, &error.into()))?;
        let mut result = NotThere::Absent;
        while let Some((place, usable)) = disk.advance() {
            let error = match usable.map_err(DiskError::from).and_then(|()| check(&mut disk, *area)) {
                Ok(()) => return open(disk, &mut access, *area, place),
                Err(error) => error,
            };
            if report(function, place, &error) == NotThere::Silent {
                result = NotThere::Silent;
            }
            watchdogs::progress();
        }
        Err(result)
    }
}

/// Checks that a disk has the area, and writes nothing.
fn check(disk: &mut DumpDisk, AreaAddress { uuid, offset }: AreaAddress) -> Result<(), DiskError> {
    Ok(Area::open(disk, offset, uuid).map(drop)?)
}

/// Opens the area of a disk that has it. Memory for many requests is taken only now, because it is never given back.
fn open(
    mut disk: DumpDisk,
    access: &mut FunctionAccess<'_>,
    area: AreaAddress,
    place: Place,
) -> Result<Area<DumpDisk>, NotThere> {
    let function = access.device.function;
    disk.fill_pool(access);
    let opened = Area::open(disk, area.offset, area.uuid);
    let opened = opened.map_err(|error| report(function, place, &error.into()))?;
    say!("disk {function}{place} holds area {}", area.uuid);
    Ok(opened)
}

/// Reports why a disk does not have the area.
fn report(function: Function, place: Place, error: &DiskError) -> NotThere {
    say!("disk {function}{place}: {error}");
    if error.is_silence() { NotThere::Silent } else { NotThere::Absent }
}
