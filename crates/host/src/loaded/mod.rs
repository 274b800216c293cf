//! What `load` had the kernel load, and what it was made for. It is noted in `/run`, which ends with the boot as the loaded
//! kernel does; `doctor` compares it with what is there now.
//!
//! The kernel says only whether a crash kernel is loaded, not whose. So the note has a checksum of the reservation's content.

pub(crate) mod area;
mod standing;

use std::hash::Hasher;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};
use twox_hash::XxHash64;
use uuid::Uuid;

use self::area::{AreaPlace, LoadedArea};
pub(crate) use self::standing::Standing;
use self::standing::{Surroundings, Upkeep};
use crate::areas::FoundArea;
use crate::fallback::FallbackRequest;
use crate::image::Image;
use crate::{clock, kexec, reservation, state};

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
    use super::standing::tests::note;
    use super::*;

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
}
