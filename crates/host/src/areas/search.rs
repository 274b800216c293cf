//! Searches the disks of this host for dump areas, and tells which of them are this host's. Others may be guests': a volume or a
//! partition that a virtual machine has made an area.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::registry::Registry;
use super::{AreaError, AreaName, FoundArea};
use crate::loaded;
use crate::sysfs;

/// A disk or a partition with the label of a dump area.
#[derive(Debug)]
pub(crate) struct Candidate {
    /// The device.
    pub(crate) device: PathBuf,
    /// The area's UUID, if the label can be read.
    pub(crate) uuid: Option<Uuid>,
    /// The area, or why it cannot be used.
    pub(crate) found: Result<FoundArea, AreaError>,
}

impl Candidate {
    /// What is on a device; `None` if that is no area, or is unknown.
    pub(crate) fn on(device: PathBuf) -> Option<Self> {
        match FoundArea::at(&device) {
            Ok(found) => {
                let (uuid, opened) = (Some(found.label.uuid), found.open().map(drop));
                Some(Self { device, uuid, found: opened.map(|()| found) })
            }
            Err(error) if error.tells_of_a_label() => Some(Self { device, uuid: None, found: Err(error) }),
            Err(_) => None,
        }
    }
}

/// Lists what has the label of a dump area, on readable disks and partitions, except devices that are made of other devices.
pub(crate) fn candidates() -> Result<Vec<Candidate>, AreaError> {
    let devices = sysfs::block_devices()?.into_iter().filter(|device| sysfs::locate(device).is_ok());
    Ok(devices.filter_map(Candidate::on).collect())
}

/// The areas on disks that are this host's: those that its configuration names, and those that were formatted or loaded here.
#[derive(Clone, Debug, Default)]
pub(crate) struct OwnAreas {
    uuids: BTreeSet<Uuid>,
    devices: Vec<PathBuf>,
}

impl OwnAreas {
    /// As the configuration and the notes of this host tell.
    pub(crate) fn of_host(configured: &[AreaName]) -> Self {
        let mut uuids = Registry::of_host().areas();
        // An earlier version has loaded them, and noted only that.
        uuids.extend(loaded::noted_on_disks());
        Self::new(configured, uuids)
    }

    /// Those that are configured, and others.
    pub(crate) fn new(configured: &[AreaName], mut uuids: BTreeSet<Uuid>) -> Self {
        let mut devices = Vec::new();
        for name in configured {
            match name {
                AreaName::Uuid(uuid) => drop(uuids.insert(*uuid)),
                AreaName::Device(device) => devices.push(device.clone()),
            }
        }
        Self { uuids, devices }
    }

    /// Whether one of `all` candidates is this host's. A label that cannot be read may be that of an area of this host that is found
    /// nowhere.
    pub(crate) fn has(&self, candidate: &Candidate, all: &[Candidate]) -> bool {
        let is_named = |device: &PathBuf| sysfs::are_same(device, &candidate.device);
        let is_nowhere = |own: &Uuid| all.iter().all(|other| other.uuid != Some(*own));
        self.devices.iter().any(is_named)
            || match candidate.uuid {
                Some(uuid) => self.uuids.contains(&uuid),
                None => self.uuids.iter().any(is_nowhere),
            }
    }
}

/// The area that a file was noted to be.
pub(crate) fn noted(file: &Path) -> Result<FoundArea, AreaError> {
    match file.try_exists() {
        Ok(false) => Err(AreaError::NotThere { file: file.to_owned() }),
        _ => FoundArea::to_read(file).map_err(|error| match error {
            AreaError::NoArea { device: file } => AreaError::LabelGone { file },
            error => error,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{IfUsed, format};
    use super::*;

    fn candidate(device: &str, uuid: Option<u128>) -> Candidate {
        let device = PathBuf::from(device);
        let found = Err(AreaError::Gone { device: device.clone() });
        Candidate { device, uuid: uuid.map(Uuid::from_u128), found }
    }

    fn own(all: &[Candidate], configured: &[&str], uuids: &[u128]) -> Vec<String> {
        let configured: Vec<AreaName> = configured.iter().map(|name| name.parse().unwrap()).collect();
        let own = OwnAreas::new(&configured, uuids.iter().copied().map(Uuid::from_u128).collect());
        let own = all.iter().filter(|candidate| own.has(candidate, all));
        own.map(|candidate| candidate.device.display().to_string()).collect()
    }

    #[test]
    fn areas_that_were_formatted_loaded_or_configured_here_are_own_and_those_of_guests_are_not() {
        let all = [1, 2, 3, 4].map(|number| candidate(&format!("/dev/disk{number}"), Some(number)));
        let three = Uuid::from_u128(3).to_string();
        assert_eq!(own(&all, &[&three, "/dev/disk4"], &[1]), ["/dev/disk1", "/dev/disk3", "/dev/disk4"]);
        assert!(own(&all, &[], &[]).is_empty(), "nothing is known of any of them");
    }

    #[test]
    fn a_damaged_label_may_be_own_only_where_an_own_area_is_found_nowhere() {
        let all = [candidate("/dev/disk1", Some(1)), candidate("/dev/disk2", None)];
        assert_eq!(own(&all, &[], &[1]), ["/dev/disk1"]);
        assert_eq!(own(&all, &[], &[1, 7]), ["/dev/disk1", "/dev/disk2"]);
    }

    /// Else the package would be removed with the dump that is in it.
    #[test]
    fn a_file_that_was_made_an_area_and_cannot_be_read_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("damaged"), vec![0; 1 << 16]).unwrap();
        std::fs::File::create(path("good")).unwrap().set_len(8 << 20).unwrap();
        format(&path("good"), IfUsed::Refuse, folder.path()).unwrap();
        let damaged = noted(&path("damaged"));
        assert!(
            matches!(&damaged, Err(AreaError::LabelGone { file }) if *file == path("damaged")),
            "{damaged:?}"
        );
        assert!(matches!(noted(&path("gone")), Err(AreaError::NotThere { .. })));
        noted(&path("good")).unwrap();
    }
}
