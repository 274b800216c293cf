//! What `load` had the kernel load, and what it was made for. It is noted in `/run`, which ends with the boot as the loaded
//! kernel does; `doctor` compares it with what is there now.
//!
//! The kernel says only whether a crash kernel is loaded, not whose. So the note has a checksum of the reservation's content.

use std::hash::Hasher;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use serde::{Deserialize, Serialize};
use twox_hash::XxHash64;
use uuid::Uuid;

use crate::areas::{AreaName, FoundArea};
use crate::fallback::FallbackRequest;
use crate::image::Image;
use crate::sysfs::{self, Location};
use crate::{clock, iomem, kexec, reservation, state};

/// The files in which the kernel says that it keeps a loaded crash kernel up to date itself when processors or memory come or go
/// (Documentation/ABI/testing/sysfs-devices-system-cpu and sysfs-devices-memory).
const KEPT_UP: [&str; 2] =
    ["/sys/devices/system/cpu/crash_hotplug", "/sys/devices/system/memory/crash_hotplug"];
/// Where the note is.
const NOTE: &str = "/run/holdover/loaded.json";
/// The file that tells boots apart.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// What was loaded, and what it was made for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LoadNote {
    /// The boot in which it was loaded.
    boot: Uuid,
    /// When, in seconds since 1970.
    at: u64,
    /// The file of the capture kernel.
    image: PathBuf,
    /// Its command line. A note of an earlier version has none.
    #[serde(default)]
    command_line: String,
    /// The dump areas, in their order.
    areas: Vec<Uuid>,
    /// The devices that they are on; a file is found by its name only.
    devices: Vec<PathBuf>,
    /// Where the capture kernel looks for each of them; `None` if that was not found. A note of an earlier version has no places.
    #[serde(default)]
    places: Vec<Option<AreaPlace>>,
    /// The files of the fallback kernel, if there is one.
    #[serde(default)]
    fallback: Vec<PathBuf>,
    /// What it depends on.
    made_for: Surroundings,
    /// What was in the reservation afterwards; `None` if the kernel does not show it.
    reservation: Option<u64>,
}

/// Where a dump area begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AreaPlace {
    /// The kernel's name of the whole disk.
    pub disk: String,
    /// Byte of that disk.
    pub offset: u64,
    /// What the disk says that it is, if it says so: its name may change while it stays the same.
    #[serde(default)]
    pub identity: Option<String>,
    /// The device mapper's UUID of the volume that the area is on, if it is on one: another volume may get its blocks.
    #[serde(default)]
    pub volume: Option<String>,
}

impl AreaPlace {
    /// Whether the capture kernel that looks there finds what is at `now`. A disk takes its labels along, whatever it is called; a
    /// volume may leave them behind, on the same disk or on another.
    pub(crate) fn leads_to(&self, now: &Self) -> bool {
        let is_same_disk =
            self.disk == now.disk || (self.identity.is_some() && self.identity == now.identity);
        match (&self.volume, &now.volume) {
            (None, None) => self.offset == now.offset,
            (then, now_in) => self.offset == now.offset && then == now_in && is_same_disk,
        }
    }
}

impl fmt::Display for AreaPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {:#x} of {}", self.offset, self.disk)?;
        self.volume.as_ref().map_or(Ok(()), |volume| write!(f, " in volume {volume}"))
    }
}

impl From<Location> for AreaPlace {
    fn from(Location { disk, offset, volume, .. }: Location) -> Self {
        Self { identity: sysfs::identity(&disk), disk, offset, volume }
    }
}

/// An area that the loaded capture kernel dumps to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LoadedArea {
    /// Its UUID.
    pub(crate) uuid: Uuid,
    /// The device that it is on, or its file.
    pub(crate) device: PathBuf,
    /// Where the capture kernel looks for it, if that was noted.
    pub(crate) place: Option<AreaPlace>,
}

impl LoadedArea {
    /// Whether it is a file. Devices are in `/dev`; no file system that can have an area is mounted there.
    fn is_file(&self) -> bool {
        !self.device.starts_with("/dev")
    }

    /// Whether it is the one of this name.
    pub(crate) fn is_named(&self, name: &AreaName) -> bool {
        let whole = |device: &Path| device.canonicalize().unwrap_or_else(|_| device.to_owned());
        match name {
            AreaName::Uuid(uuid) => self.uuid == *uuid,
            AreaName::Device(device) => whole(&self.device) == whole(device),
        }
    }

    /// Whether its blocks may become others' while its disk stays: it is a file, or on a volume.
    pub(crate) fn is_on_lent_blocks(&self) -> bool {
        self.is_file() || self.place.as_ref().is_some_and(|place| place.volume.is_some())
    }
}

/// What a loaded capture kernel depends on. `None` and empty lists are unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Surroundings {
    /// Ranges of RAM, as in `/proc/iomem`.
    memory: Vec<String>,
    /// The processors that there are, as in `/sys`.
    processors: String,
    /// Checksum of the image's file.
    image: Option<u64>,
    /// Checksums of the fallback kernel's files.
    #[serde(default)]
    fallback: Vec<Option<u64>>,
    /// Byte of its disk at which each dump area begins; `None` for one that is not found.
    area_offsets: Vec<Option<u64>>,
}

/// Whose crash kernel is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// None is.
    Nothing,
    /// One that `holdover load` did not load since this boot.
    Foreign,
    /// Not the one that `holdover load` loaded: the reservation has other content.
    Replaced(Ago),
    /// The one that was loaded, but its surroundings have changed: these.
    Stale(Ago, Vec<String>),
    /// The one that was loaded.
    Ours(Ago),
    /// One was loaded, and the kernel does not show whether it is still the same.
    Unseen(Ago),
}

/// Who writes to the reservation after a crash kernel was loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Upkeep {
    /// Nobody: other content is another crash kernel.
    Nobody,
    /// The kernel, when processors or memory come or go.
    Kernel,
}

impl Upkeep {
    /// As the running kernel tells.
    fn now() -> Self {
        let is_on = |file| fs::read_to_string(file).is_ok_and(|value| value.trim() == "1");
        if KEPT_UP.into_iter().any(is_on) { Self::Kernel } else { Self::Nobody }
    }
}

/// How long ago something was, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ago(u64);

impl Ago {
    /// From then until now, both in seconds since 1970.
    pub(crate) fn since(then: u64, now: u64) -> Self {
        Self(now.saturating_sub(then))
    }
}

impl fmt::Display for Ago {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("days", 2 * 86_400, 86_400), ("hours", 2 * 3_600, 3_600), ("minutes", 120, 60)];
        let unit = units.iter().find(|(_, least, _)| self.0 >= *least);
        let (name, _, seconds) = unit.unwrap_or(&("seconds", 0, 1));
        write!(f, "{} {name} ago", self.0 / seconds)
    }
}

impl LoadNote {
    /// Notes what was loaded just now, for `doctor`.
    pub(crate) fn write(
        image: &Image,
        command_line: &str,
        areas: &[FoundArea],
        fallback: Option<&FallbackRequest>,
    ) -> io::Result<()> {
        let files = fallback.map(FallbackRequest::files).into_iter().flatten().map(Path::to_owned);
        let fallback: Vec<_> = files.collect();
        let uuids: Vec<_> = areas.iter().map(|area| area.label.uuid).collect();
        let image = image.file()?;
        let note = Self {
            boot: boot().ok_or(io::ErrorKind::NotFound)?,
            at: clock::now().unwrap_or_default(),
            command_line: command_line.to_owned(),
            made_for: Surroundings::now(&image, &fallback, &uuids, areas),
            fallback,
            image,
            areas: uuids,
            devices: areas.iter().map(|area| area.device.clone()).collect(),
            places: areas.iter().map(|area| area.locate().ok().map(AreaPlace::from)).collect(),
            reservation: reservation::checksum(),
        };
        state::write(Path::new(NOTE), &serde_json::to_vec_pretty(&note)?)
    }

    /// What was loaded since this boot, if that was noted.
    fn read() -> Option<Self> {
        let note: Self = serde_json::from_slice(&fs::read(NOTE).ok()?).ok()?;
        (Some(note.boot) == boot()).then_some(note)
    }

    /// Forgets what was loaded: it is no more.
    pub(crate) fn remove() {
        // If it cannot be removed, nothing is loaded all the same, and the kernel says so.
        let _ = fs::remove_file(NOTE);
    }

    /// The areas, in their order.
    fn loaded_areas(self) -> Vec<LoadedArea> {
        let places = self.places.into_iter().chain(std::iter::repeat(None));
        let areas = self.areas.into_iter().zip(self.devices).zip(places);
        areas.map(|((uuid, device), place)| LoadedArea { uuid, device, place }).collect()
    }

    /// Compares this note with what is there now.
    fn standing(&self, reservation: Option<u64>, upkeep: Upkeep, now: &Surroundings, at: u64) -> Standing {
        let ago = Ago(at.saturating_sub(self.at));
        let changes = self.made_for.changes(now);
        let may_be_the_kernels = upkeep == Upkeep::Kernel && !changes.is_empty();
        match (self.reservation, reservation) {
            (Some(then), Some(now)) if then != now && !may_be_the_kernels => Standing::Replaced(ago),
            _ if !changes.is_empty() => Standing::Stale(ago, changes),
            (Some(_), Some(_)) => Standing::Ours(ago),
            _ => Standing::Unseen(ago),
        }
    }
}

/// The dump areas that the loaded capture kernel dumps to, in their order; none if `holdover load` loaded nothing
/// that is still there.
pub(crate) fn areas() -> Vec<LoadedArea> {
    let note = LoadNote::read().filter(|_| kexec::is_loaded().unwrap_or(false));
    note.map(LoadNote::loaded_areas).unwrap_or_default()
}

/// The areas on disks that were loaded since this boot, as far as that was noted.
pub(crate) fn noted_on_disks() -> Vec<Uuid> {
    let areas = LoadNote::read().map(LoadNote::loaded_areas).unwrap_or_default();
    areas.into_iter().filter(|area| !area.is_file()).map(|area| area.uuid).collect()
}

/// What makes the loaded capture kernel another than one that was loaded before.
pub(crate) struct LoadedKernel {
    /// Checksum of the image's file, as it was when it was loaded; `None` if it could not be read.
    pub(crate) image: Option<u64>,
    /// The command line; empty if it was not noted.
    pub(crate) command_line: String,
    /// The areas, in their order.
    pub(crate) areas: Vec<LoadedArea>,
}

/// What `holdover load` loaded, if that is still there.
pub(crate) fn kernel() -> Option<LoadedKernel> {
    let note = LoadNote::read().filter(|_| kexec::is_loaded().unwrap_or(false))?;
    let (image, command_line) = (note.made_for.image, note.command_line.clone());
    Some(LoadedKernel { image, command_line, areas: note.loaded_areas() })
}

/// Whether a panic would be dumped to this area, as far as is known.
pub(crate) fn is_for(area: Uuid) -> bool {
    areas().iter().any(|loaded| loaded.uuid == area)
}

/// Finds out whose crash kernel is loaded, where one is.
pub(crate) fn standing(areas: &[FoundArea]) -> Standing {
    let Some(note) = LoadNote::read() else { return Standing::Foreign };
    let now = Surroundings::now(&note.image, &note.fallback, &note.areas, areas);
    note.standing(reservation::checksum(), Upkeep::now(), &now, clock::now().unwrap_or_default())
}

impl Surroundings {
    /// What a capture kernel that is loaded now for dumps to these areas depends on.
    fn now(image: &Path, fallback: &[PathBuf], areas: &[Uuid], found: &[FoundArea]) -> Self {
        let offset = |uuid: &Uuid| {
            let area = found.iter().find(|found| found.label.uuid == *uuid)?;
            Some(area.locate().ok()?.offset)
        };
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self {
            memory: memory(&read(iomem::FILE)),
            processors: read("/sys/devices/system/cpu/present").trim().to_owned(),
            image: checksum_of(image),
            fallback: fallback.iter().map(|file| checksum_of(file)).collect(),
            area_offsets: areas.iter().map(offset).collect(),
        }
    }

    /// What is no longer as it was, in words. What was or is unknown is not compared.
    fn changes(&self, now: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        if !self.memory.is_empty() && !now.memory.is_empty() && self.memory != now.memory {
            changes.push("memory was added or removed".into());
        }
        if !now.processors.is_empty() && self.processors != now.processors {
            changes.push(format!("the processors were {}, and are {}", self.processors, now.processors));
        }
        if self.image != now.image && now.image.is_some() {
            changes.push("the image's file is another".into());
        }
        let mut files = self.fallback.iter().zip(&now.fallback);
        if files.any(|(then, now)| then != now && now.is_some()) {
            changes.push("a file of the fallback kernel is another".into());
        }
        let mut offsets = self.area_offsets.iter().zip(&now.area_offsets);
        if offsets.any(|(then, now)| then != now && now.is_some()) {
            changes.push("a dump area is elsewhere on its disk".into());
        }
        changes
    }
}

/// All RAM, hot-added memory too; nothing if the kernel hides it from this user.
fn memory(iomem: &str) -> Vec<String> {
    let ranges = iomem::named(iomem, |name| name.starts_with("System RAM"));
    let shown = ranges.filter(|range| range.contains(|digit| !matches!(digit, '0' | '-')));
    shown.map(str::to_owned).collect()
}

/// The checksum of a file; `None` if it cannot be read.
fn checksum_of(file: &Path) -> Option<u64> {
    fs::read(file).ok().map(|bytes| checksum(&bytes))
}

/// A checksum that tells contents apart which nobody made to be alike.
pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    let mut sum = XxHash64::with_seed(0);
    sum.write(bytes);
    sum.finish()
}

/// What tells this boot from others.
pub(crate) fn boot() -> Option<Uuid> {
    fs::read_to_string(BOOT).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surroundings() -> Surroundings {
        let memory = memory("00001000-0009fbff : System RAM\n00100000-3ffdbfff : System RAM\n");
        let fallback = vec![Some(3), None];
        Surroundings {
            memory,
            processors: "0-1".into(),
            image: Some(1),
            fallback,
            area_offsets: vec![Some(0)],
        }
    }

    fn note() -> LoadNote {
        let (boot, areas) = (Uuid::from_u128(1), vec![Uuid::from_u128(2)]);
        let image = "/boot/holdover.bzImage".into();
        LoadNote {
            boot,
            at: 1000,
            image,
            command_line: String::new(),
            areas,
            devices: vec!["/dev/vda1".into()],
            places: vec![Some(AreaPlace {
                disk: "vda".into(),
                offset: 1 << 20,
                identity: None,
                volume: None,
            })],
            fallback: Vec::new(),
            made_for: surroundings(),
            reservation: Some(7),
        }
    }

    #[test]
    fn another_crash_kernel_in_the_reservation_is_told_from_the_one_that_was_loaded() {
        let standing = |reservation| note().standing(reservation, Upkeep::Nobody, &surroundings(), 1500);
        assert_eq!(standing(Some(7)), Standing::Ours(Ago(500)));
        assert_eq!(standing(Some(8)), Standing::Replaced(Ago(500)));
        assert_eq!(standing(None), Standing::Unseen(Ago(500)));
    }

    /// Linux from 6.8 on, where it is built so, writes the ranges of memory anew when memory comes or goes.
    #[test]
    fn content_that_the_kernel_may_have_updated_itself_is_no_other_crash_kernel() {
        let standing = |upkeep, now: &Surroundings| note().standing(Some(8), upkeep, now, 1000);
        let grown = Surroundings { processors: "0-3".into(), ..surroundings() };
        assert!(matches!(standing(Upkeep::Kernel, &grown), Standing::Stale(..)));
        assert_eq!(standing(Upkeep::Nobody, &grown), Standing::Replaced(Ago(0)));
        assert_eq!(standing(Upkeep::Kernel, &surroundings()), Standing::Replaced(Ago(0)));
    }

    #[test]
    fn a_note_of_an_earlier_version_has_its_areas_without_their_places() {
        let mut json = serde_json::to_value(note()).unwrap();
        let read = |json: &serde_json::Value| serde_json::from_value::<LoadNote>(json.clone()).unwrap();
        assert_eq!(read(&json).loaded_areas()[0].place.as_ref().unwrap().to_string(), "byte 0x100000 of vda");
        json.as_object_mut().unwrap().remove("places");
        let areas = read(&json).loaded_areas();
        let device = "/dev/vda1".into();
        assert_eq!(areas, [LoadedArea { uuid: Uuid::from_u128(2), device, place: None }]);
    }

    #[test]
    fn memory_and_processors_that_came_or_went_make_it_stale() {
        let standing = |now: &Surroundings| note().standing(Some(7), Upkeep::Nobody, now, 1000);
        let more = memory("00100000-3ffdbfff : System RAM\n100000000-13fffffff : System RAM (virtio_mem)\n");
        let now = Surroundings { memory: more, processors: "0-3".into(), ..surroundings() };
        let Standing::Stale(_, changes) = standing(&now) else { panic!("{:?}", standing(&now)) };
        assert_eq!(changes, ["memory was added or removed", "the processors were 0-1, and are 0-3"]);
        let now = Surroundings {
            image: Some(2),
            fallback: vec![Some(4), Some(5)],
            area_offsets: vec![Some(4096)],
            ..surroundings()
        };
        let Standing::Stale(_, changes) = standing(&now) else { panic!("{:?}", standing(&now)) };
        let expected = [
            "the image's file is another",
            "a file of the fallback kernel is another",
            "a dump area is elsewhere on its disk",
        ];
        assert_eq!(changes, expected);
    }

    #[test]
    fn what_a_user_may_not_see_is_not_called_a_change() {
        let memory = memory("00000000-00000000 : System RAM\n");
        let now = Surroundings {
            memory,
            image: None,
            fallback: vec![None, None],
            area_offsets: vec![None],
            ..surroundings()
        };
        assert_eq!(note().standing(None, Upkeep::Nobody, &now, 1000), Standing::Unseen(Ago(0)));
    }

    #[test]
    fn times_are_told_in_the_unit_that_fits() {
        let told = [0, 119, 7_199, 86_400 * 3].map(|seconds| Ago(seconds).to_string());
        assert_eq!(told, ["0 seconds ago", "119 seconds ago", "119 minutes ago", "3 days ago"]);
    }
}
