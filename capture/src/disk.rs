//! Finds the disks with the dump areas, in the order in which the areas are tried. This module writes to no disk.

mod access;

use alloc::vec::Vec;
use core::time::Duration;

use area::{Area, Destination};
use handoff::{AreaAddress, Areas, Options, Uncollected};
use machine::BlockError;
use machine::growth::push;
use pci::{Device, Function};
use storage::{Allowance, AnyDisk, Place, Pool, StartError};
use uuid::Uuid;

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

/// Why a disk does not take the dump.
#[derive(Debug, thiserror::Error)]
enum DiskError {
    #[error(transparent)]
    Function(#[from] storage::OpenError<ReachError>),
    #[error(transparent)]
    Disk(#[from] StartError),
    #[error(transparent)]
    Area(#[from] area::OpenError),
    #[error(
        "holds a dump of {} KiB in area {area} that nobody has collected, and keeps it: `holdover collect {area} FILE` fetches it; \
         `holdover load --discard-dump` would have given it up",
        bytes >> 10
    )]
    Uncollected { area: Uuid, bytes: u64 },
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

/// The areas that the command line names, each when it is its turn: all of them in their order, and then once more, with more
/// patience, those whose disks may be among the ones that did not answer.
pub(crate) struct Destinations {
    areas: Areas,
    uncollected: Uncollected,
    /// The next turn: each area has two.
    turn: usize,
    /// Disks that did not answer, by the number of the area that was looked for.
    silent: Vec<(usize, Device<Config>)>,
}

impl Destinations {
    /// The areas of a command line.
    pub(crate) fn new(options: &Options) -> Self {
        if options.areas.is_empty() {
            say!("no holdover.area=UUID on the command line: no disk to write to");
        }
        Self { areas: options.areas, uncollected: options.uncollected, turn: 0, silent: Vec::new() }
    }

    /// Finds the next area that can take the dump, on the disk that the command line names or on any other that there is a driver
    /// for. An area is found once, whatever becomes of the dump in it.
    pub(crate) fn next(
        &mut self,
        machine: &mut Machine,
        remapping: &mut Remapping,
    ) -> Option<Destination<DumpDisk>> {
        let count = self.areas.iter().count();
        while self.turn < 2 * count {
            let (number, patience) = (self.turn % count, if self.turn < count { HASTE } else { PATIENCE });
            self.turn += 1;
            let Some(area) = self.areas.iter().nth(number) else { continue };
            if let Some(found) = self.search(machine, remapping, area, number, patience) {
                self.silent.retain(|(of, _)| *of != number);
                return Some(Destination::Area(found));
            }
            say!("no disk takes the dump to area {}", area.uuid);
        }
        None
    }

    /// Looks for one area: in haste on all disks, patiently on those that did not answer before.
    fn search(
        &mut self,
        machine: &mut Machine,
        remapping: &mut Remapping,
        area: AreaAddress,
        number: usize,
        patience: Duration,
    ) -> Option<Area<DumpDisk>> {
        let slots = Share::DISK_BUFFERS.of(machine.reserved()) as usize / SLOT_SIZE;
        let pool = Pool { slots: slots.clamp(1, MOST_SLOTS), slot_size: SLOT_SIZE };
        let Machine { space, devices, .. } = machine;
        let uncollected = self.uncollected;
        let mut search = Search { space, devices, remapping, pool, area, uncollected, patience };
        if patience == HASTE {
            let silent = &mut self.silent;
            // If there is no memory to remember a function, it is not tried again.
            return search.find(disks(devices, area.disk), |function| _ = push(silent, (number, function)));
        }
        let silent = self.silent.iter().filter(|(of, _)| *of == number).map(|(_, function)| *function);
        search.find(silent, |_| {})
    }
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
    uncollected: Uncollected,
    /// Time limit for each of a disk's first steps.
    patience: Duration,
}

impl Search<'_> {
    /// Tries the functions, and names those with a disk that did not answer.
    fn find(
        &mut self,
        mut functions: impl Iterator<Item = Device<Config>>,
        mut note_silent: impl FnMut(Device<Config>),
    ) -> Option<Area<DumpDisk>> {
        functions.find_map(|function| match self.look_behind(function) {
            Ok(area) => Some(area),
            Err(NotThere::Silent) => {
                note_silent(function);
                None
            }
            Err(NotThere::Absent) => None,
        })
    }

    /// Looks for the area on each disk behind a function, and reports the results on the console.
    fn look_behind(&mut self, device: Device<Config>) -> Result<Area<DumpDisk>, NotThere> {
        let Self { space, devices, remapping, pool, area, uncollected, patience } = self;
        let function = device.function;
        let mut access = FunctionAccess { device, devices, space, remapping, reach: None };
        let opened = storage::open(&mut access, WaitClock, Allowance { pool: *pool, patience: *patience });
        watchdogs::progress();
        let mut disk = opened.map_err(|error| report(function, Place::Only, &error.into()))?;
        let mut result = NotThere::Absent;
        while let Some((place, usable)) = disk.advance() {
            let error =
                match usable.map_err(DiskError::from).and_then(|()| check(&mut disk, *area, *uncollected)) {
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

/// Checks that a disk has the area, and that the dump may go there; writes nothing.
fn check(disk: &mut DumpDisk, area: AreaAddress, uncollected: Uncollected) -> Result<(), DiskError> {
    let AreaAddress { uuid, offset, .. } = area;
    let mut found = Destination::Area(Area::open(disk, offset, uuid)?);
    match found.uncollected() {
        Some(bytes) if uncollected == Uncollected::Keep => Err(DiskError::Uncollected { area: uuid, bytes }),
        _ => Ok(()),
    }
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
