//! Finds the disks with the dump areas, in the order in which the areas are tried. This module writes to no disk.

mod access;
mod budget;
mod turns;

use core::fmt;

use area::{Area, Destination, Held, OpenError, SealError, Untold};
use handoff::{AreaAddress, Areas, Options, Uncollected};
use machine::{BlockDevice, BlockError};
use pci::{Device, Function};
use storage::{Allowance, AnyDisk, Place, Pool, StartError};
use uuid::Uuid;

use crate::discover::Machine;
use crate::platform::config::Config;
use crate::platform::console::say;
use crate::platform::paging::AddressSpace;
use crate::remapping::{ReachError, Remapping};
use crate::watchdogs::{self, Attended};
use handoff::Share;

use access::FunctionAccess;
use budget::{Patience, SearchClock};
use turns::{Later, NotThere, Round, Turn, turns};

/// Bytes that one request moves at most.
const SLOT_SIZE: usize = 128 << 10;
/// Most requests in flight; a disk does not get faster with more.
const MOST_SLOTS: usize = 16;
/// A disk that can be dumped to.
pub(crate) type DumpDisk = AnyDisk<FunctionAccess<'static>, SearchClock>;

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
        "holds {} in area {} that nobody has collected, and keeps it: `{}` fetches it; \
         `holdover load --discard-dump` would have given it up",
        .0.held, .0.area, .0.fetch()
    )]
    Kept(Kept),
    #[error("has a copy of the file that is area {area}: the file itself is behind {named}")]
    CopyOfFile { area: Uuid, named: Function },
}

/// An area that keeps what nobody has collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) area: Uuid,
    pub(crate) held: Held,
}

impl Kept {
    /// The command that fetches it.
    pub(crate) fn fetch(self) -> Fetch {
        Fetch(self)
    }
}

/// The command that fetches what an area keeps.
pub(crate) struct Fetch(Kept);

impl fmt::Display for Fetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Kept { area, held } = self.0;
        let option = if matches!(held, Held::Dump(_)) { "" } else { "--dmesg " };
        write!(f, "holdover collect {option}{area} FILE")
    }
}

impl DiskError {
    /// What the search makes of it.
    fn verdict(&self) -> NotThere {
        match self {
            Self::Function(storage::OpenError::Start(StartError::Stuck(_)))
            | Self::Disk(StartError::Stuck(_))
            | Self::Area(OpenError::Device(BlockError::TimedOut))
            | Self::Kept(Kept {
                held: Held::Unknown(Untold::Seal(SealError::Device(BlockError::TimedOut))),
                ..
            }) => NotThere::Silent,
            Self::Kept(_) => NotThere::Held,
            _ => NotThere::Absent,
        }
    }
}

/// The areas that the command line names, each when it is its turn.
///
/// All of them are looked for in their order; then once more, with more patience, behind functions that did not answer; and then, if
/// dumps that nobody has collected may be given up, those that hold one.
pub(crate) struct Destinations {
    areas: Areas,
    uncollected: Uncollected,
    /// How many turns are over.
    over: usize,
    later: Later<Device<Config>>,
    /// The first area that was found to keep what nobody has collected.
    kept: Option<Kept>,
}

impl Destinations {
    /// The areas of a command line.
    pub(crate) fn new(options: &Options) -> Self {
        if options.areas.is_empty() {
            say!("no holdover.area=UUID on the command line: no disk to write to");
        }
        Self {
            areas: options.areas,
            uncollected: options.uncollected,
            over: 0,
            later: Later::new(),
            kept: None,
        }
    }

    /// Finds the next area that can take the dump, on the disk that the command line names or on any other that there is a driver
    /// for. An area is found once, whatever becomes of the dump in it.
    pub(crate) fn next(
        &mut self,
        machine: &mut Machine,
        remapping: &mut Remapping,
    ) -> Option<Destination<DumpDisk>> {
        let count = self.areas.iter().count();
        while let Some(turn) = turns(count, self.uncollected).nth(self.over) {
            self.over += 1;
            let Some(area) = self.areas.iter().nth(turn.area) else { continue };
            if let Some(found) = self.search(machine, remapping, area, turn) {
                return Some(Destination::Area(found));
            }
            say!("no disk takes the dump to area {}", area.uuid);
        }
        None
    }

    /// The area that was passed over because of what it keeps; the first one, if there are several.
    pub(crate) fn kept(&self) -> Option<Kept> {
        self.kept
    }

    /// Looks for one area.
    fn search(
        &mut self,
        machine: &mut Machine,
        remapping: &mut Remapping,
        area: AreaAddress,
        turn: Turn,
    ) -> Option<Area<DumpDisk>> {
        let slots = Share::DISK_BUFFERS.of(machine.working) as usize / SLOT_SIZE;
        let pool = Pool { slots: slots.clamp(1, MOST_SLOTS), slot_size: SLOT_SIZE };
        let Machine { space, devices, .. } = machine;
        let is_only_area = self.areas.iter().count() == 1;
        // Where nothing else could be tried meanwhile, haste gains nothing.
        let is_only_chance = is_only_area && disks(devices, area.disk).count() == 1;
        let in_haste = turn.round == Round::All && !is_only_chance;
        let patience = if in_haste { Patience::HASTE } else { Patience::PATIENT };
        // If there is another area, it may be free.
        let replaces = turn.round == Round::Held || is_only_area;
        let uncollected = if replaces { self.uncollected } else { Uncollected::Keep };
        let kept = &mut self.kept;
        let mut search = Search { space, devices, remapping, pool, area, uncollected, patience, kept };
        self.later.ask(turn, disks(devices, area.disk), |function| search.look_behind(function))
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
    /// What becomes of an older dump.
    uncollected: Uncollected,
    patience: Patience,
    kept: &'a mut Option<Kept>,
}

impl Search<'_> {
    /// Looks for the area on each disk behind a function, and reports the results on the console.
    fn look_behind(&mut self, device: Device<Config>) -> Result<Area<DumpDisk>, NotThere> {
        let function = device.function;
        budget::begin_function(self.patience);
        let Self { space, devices, remapping, pool, patience, .. } = self;
        let mut access = FunctionAccess { device, devices, space, remapping, reach: None };
        let allowance = Allowance { pool: *pool, patience: patience.step };
        let opened = storage::open(&mut access, SearchClock, allowance);
        watchdogs::progress();
        let mut disk = opened.map_err(|error| report(function, Place::Only, &error.into()))?;
        let mut result = NotThere::Absent;
        loop {
            if !budget::begin_disk() {
                say!("disk {function}: no time is left for its other disks");
                return Err(NotThere::Silent);
            }
            let Some((place, usable)) = disk.advance() else { return Err(result) };
            watchdogs::progress();
            let checked = usable.map_err(DiskError::from);
            let checked = checked.and_then(|()| check(&mut disk, function, self.area, self.uncollected));
            if let Err(DiskError::Kept(kept)) = checked {
                self.kept.get_or_insert(kept);
            }
            match checked.map_err(|error| report(function, place, &error)) {
                Ok(area) => {
                    budget::end();
                    disk.fill_pool(&mut access);
                    say!("disk {function}{place} holds area {}", self.area.uuid);
                    return Ok(area.map_device(|()| disk));
                }
                Err(NotThere::Held) => return Err(NotThere::Held),
                Err(NotThere::Silent) => result = NotThere::Silent,
                Err(NotThere::Absent) => {}
            }
        }
    }
}

/// Finds the area on a disk behind a function, if the dump may go there; writes nothing.
fn check(
    disk: &mut DumpDisk,
    function: Function,
    area: AreaAddress,
    uncollected: Uncollected,
) -> Result<Area<()>, DiskError> {
    let AreaAddress { uuid, offset, disk: named } = area;
    let mut attended = Attended(disk);
    let mut found = Area::open(&mut attended as &mut dyn BlockDevice, offset, uuid)?;
    let other = named.filter(|named| *named != function);
    if let Some(named) = other.filter(|_| found.extents().next().is_some()) {
        return Err(DiskError::CopyOfFile { area: uuid, named });
    }
    match found.held() {
        held if held != Held::Nothing && uncollected == Uncollected::Keep => {
            Err(DiskError::Kept(Kept { area: uuid, held }))
        }
        _ => Ok(found.map_device(|_| ())),
    }
}

/// Reports why a disk does not have the area.
fn report(function: Function, place: Place, error: &DiskError) -> NotThere {
    say!("disk {function}{place}: {error}");
    error.verdict()
}
