//! The areas of a loaded capture kernel, and where it looks for them.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::areas::AreaName;
use crate::sysfs::{self, Location};

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
    pub(super) fn is_file(&self) -> bool {
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
