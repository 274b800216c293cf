//! Checks that the loaded capture kernel would still write to what was made a dump area, and to nothing else: a timer asks for it.
//!
//! The capture kernel looks for an area's labels where they were when it was loaded. A file that has moved since leaves them behind, in
//! blocks that the file system gives to others, who may write them much later. So does one that was removed without `holdover remove`.
//! Only `swapoff` makes that possible; whoever runs `swapoff -a` does not think of a dump. A volume of LVM leaves its labels behind too
//! if `pvmove` moves it. A disk that is away is another matter: its area takes no dump, and the others still do.

use std::path::PathBuf;

use crate::areas::registry::Registry;
use crate::areas::{self, AreaError, AreaPlace, FoundArea};
use crate::kexec::KexecError;
use crate::loaded::area::LoadedArea;
use crate::{load, loaded};

/// What to do about what was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfWrong {
    /// Tell it.
    Tell,
    /// Pin again what is loose; unload the capture kernel if an area is no longer where it would write.
    Repair,
}

/// What became of the areas that the loaded capture kernel dumps to.
#[derive(Debug)]
pub struct Verified {
    /// Each of them, in their order; none if nothing is loaded.
    pub areas: Vec<VerifiedArea>,
    /// Whether the capture kernel was unloaded.
    pub unloaded: bool,
}

/// One of these areas.
#[derive(Debug)]
pub struct VerifiedArea {
    /// Its device.
    pub device: PathBuf,
    /// What became of it.
    pub state: AreaState,
}

/// What became of an area since the capture kernel was loaded.
#[derive(Debug)]
pub enum AreaState {
    /// It is in its place, and stays there.
    InPlace,
    /// It is a file in its place, and nothing keeps it there.
    Loose,
    /// The same, and it is kept there again.
    PinnedAgain,
    /// This user may not see it.
    Unknown(AreaError),
    /// It cannot be reached, as on a disk that was taken away: nobody's blocks are in danger.
    Unreachable(AreaError),
    /// It is not in its place: what is there may be another's.
    Lost(AreaError),
}

impl AreaState {
    /// Finds out.
    fn of(area: &LoadedArea) -> (Self, Option<FoundArea>) {
        match find_again(area) {
            Ok(found) if found.is_loose() => (Self::Loose, Some(found)),
            Ok(found) => (Self::InPlace, Some(found)),
            Err(error) => (Self::failed(error, area), None),
        }
    }

    /// What it means that an area was not found, or cannot be kept in its place.
    fn failed(error: AreaError, area: &LoadedArea) -> Self {
        if error.is_forbidden() {
            Self::Unknown(error)
        } else if error.is_lost(area) {
            Self::Lost(error)
        } else {
            Self::Unreachable(error)
        }
    }

    /// Whether nothing is to be done.
    pub fn is_good(&self) -> bool {
        matches!(self, Self::InPlace | Self::PinnedAgain)
    }
}

impl Verified {
    /// Whether a capture kernel is loaded, and would find each of its areas.
    pub fn is_good(&self) -> bool {
        !self.areas.is_empty() && self.areas.iter().all(|area| area.state.is_good())
    }
}

/// Checks each area that the loaded capture kernel dumps to.
pub fn verify(if_wrong: IfWrong) -> Result<Verified, KexecError> {
    if if_wrong == IfWrong::Repair {
        // An earlier version may have loaded them, and noted nothing that outlives the boot. Without the note, collect asks for a name.
        let _ = Registry::of_host().add_areas(&loaded::noted_on_disks());
    }
    let areas = loaded::areas().into_iter().map(|area| {
        let state = match (AreaState::of(&area), if_wrong) {
            ((AreaState::Loose, Some(found)), IfWrong::Repair) => pinned_again(&found, &area),
            ((state, _), _) => state,
        };
        VerifiedArea { device: area.device, state }
    });
    let areas: Vec<_> = areas.collect();
    let is_lost = areas.iter().any(|area| matches!(area.state, AreaState::Lost(_)));
    let unloaded = is_lost && if_wrong == IfWrong::Repair;
    if unloaded {
        load::unload()?;
    }
    Ok(Verified { areas, unloaded })
}

/// Pins a file; between the check and the pin it may have moved.
fn pinned_again(found: &FoundArea, area: &LoadedArea) -> AreaState {
    match found.pin() {
        Ok(()) => AreaState::PinnedAgain,
        Err(error) => AreaState::failed(error, area),
    }
}

/// Finds an area where it was when the capture kernel was loaded.
fn find_again(area: &LoadedArea) -> Result<FoundArea, AreaError> {
    let found = FoundArea::again(&area.device, area.uuid);
    let found = found.or_else(|error| renamed(area, error, areas::all))?;
    check_same_place(area, found.locate()?.into())?;
    Ok(found)
}

/// Finds an area on a disk that was taken out and put back, or whose links are others: its device has another name then.
fn renamed(
    area: &LoadedArea,
    error: AreaError,
    all: impl FnOnce() -> Result<Vec<FoundArea>, AreaError>,
) -> Result<FoundArea, AreaError> {
    if !matches!(error, AreaError::Gone { .. }) || area.is_on_lent_blocks() {
        return Err(error);
    }
    let found = all()?.into_iter().find(|found| found.label.uuid == area.uuid).ok_or(error)?;
    FoundArea::again(&found.device, area.uuid)
}

/// Checks that the area begins where it did, as far as that was noted. `pvmove` moves a volume with its labels; the labels that it leaves
/// behind are in blocks that another volume gets.
fn check_same_place(area: &LoadedArea, now: AreaPlace) -> Result<(), AreaError> {
    match &area.place {
        Some(then) if !then.leads_to(&now) => Err(AreaError::Elsewhere {
            device: area.device.clone(),
            then: then.clone().into(),
            now: now.into(),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use uuid::Uuid;

    use super::*;
    use crate::areas::FileError;

    fn area(device: &str) -> LoadedArea {
        LoadedArea { uuid: Uuid::nil(), device: device.into(), place: Some(place("vda", 1 << 20)) }
    }

    fn place(disk: &str, offset: u64) -> AreaPlace {
        AreaPlace { disk: disk.into(), offset, identity: None, volume: None }
    }

    /// A volume on a disk that says which it is.
    fn volume(uuid: &str, disk: &str, identity: &str) -> AreaPlace {
        let (identity, volume) = (Some(identity.to_owned()), Some(uuid.to_owned()));
        AreaPlace { identity, volume, ..place(disk, 1 << 20) }
    }

    #[test]
    fn a_disk_that_was_pulled_is_not_lost_and_a_file_that_is_gone_is() {
        let state = |device| AreaState::of(&area(device)).0;
        let pulled = state("/dev/no-such-disk");
        assert!(matches!(pulled, AreaState::Unreachable(AreaError::Gone { .. })), "{pulled:?}");
        assert!(!pulled.is_good(), "it is told all the same");
        let gone = state("/no-such-folder/area");
        assert!(matches!(gone, AreaState::Lost(AreaError::Gone { .. })), "{gone:?}");
    }

    #[test]
    fn a_file_that_moved_is_lost_and_one_that_cannot_be_read_is_not() {
        let file = area("/var/crash/area");
        let path = || file.device.clone();
        let lost = |error: AreaError| matches!(AreaState::failed(error, &file), AreaState::Lost(_));
        let not_read_back =
            |reason| FileError::NotReadBack { path: path(), disk: "/dev/vda".into(), reason }.into();
        assert!(lost(FileError::Moved { path: path() }.into()));
        assert!(lost(not_read_back(area::OpenError::LabelsDiffer)));
        assert!(lost(AreaError::NoArea { device: path() }), "another file has its name");
        assert!(!lost(not_read_back(machine::BlockError::Device(5).into())));
        assert!(!lost(FileError::NoMounts(io::ErrorKind::NotFound.into()).into()));
        assert!(!lost(FileError::NoBtrfs(io::ErrorKind::NotFound.into()).into()));
        assert!(!lost(AreaError::Open { device: path(), source: io::Error::from_raw_os_error(5) }));
    }

    #[test]
    fn a_volume_that_pvmove_moved_is_lost() {
        let then = volume("LVM-1", "vda", "serial-a");
        let area = LoadedArea { place: Some(then.clone()), ..area("/dev/mapper/group-area") };
        assert!(check_same_place(&area, then.clone()).is_ok());
        for moved in [AreaPlace { offset: 9 << 20, ..then.clone() }, volume("LVM-1", "vdb", "serial-b")] {
            let error = check_same_place(&area, moved).unwrap_err();
            assert!(error.to_string().contains("began at byte 0x100000 of vda"), "{error}");
            assert!(matches!(AreaState::failed(error, &area), AreaState::Lost(_)));
        }
        let unnoted = LoadedArea { place: None, ..area };
        assert!(check_same_place(&unnoted, place("vdb", 0)).is_ok());
    }

    /// The labels are still where they were until the volume that got the blocks is written to.
    #[test]
    fn a_volume_that_was_removed_is_lost_and_so_is_one_whose_blocks_another_got() {
        let then = volume("LVM-1", "vda", "serial-a");
        let area = LoadedArea { place: Some(then), ..area("/dev/no-such-group/area") };
        let state = AreaState::of(&area).0;
        assert!(matches!(state, AreaState::Lost(AreaError::Gone { .. })), "{state:?}");
        let error = check_same_place(&area, volume("LVM-2", "vda", "serial-a")).unwrap_err();
        assert!(error.to_string().contains("in volume LVM-2"), "{error}");
        assert!(matches!(AreaState::failed(error, &area), AreaState::Lost(_)));
    }

    #[test]
    fn a_disk_with_another_name_is_not_lost() {
        let disk = area("/dev/vda1");
        assert!(check_same_place(&disk, place("vdb", 1 << 20)).is_ok(), "it takes its labels along");
        assert!(check_same_place(&disk, place("vdb", 2 << 20)).is_err(), "another partition");
        let then = volume("LVM-1", "vda", "serial-a");
        let on_volume = LoadedArea { place: Some(then), ..area("/dev/mapper/group-area") };
        assert!(check_same_place(&on_volume, volume("LVM-1", "vdc", "serial-a")).is_ok());
    }

    #[test]
    fn an_area_is_found_on_a_disk_whose_links_are_others() {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(64 << 20).unwrap();
        let uuid = areas::format(image.path(), areas::IfUsed::Refuse, "/".as_ref()).unwrap().uuid;
        let on = |area: &LoadedArea| {
            let gone = AreaError::Gone { device: area.device.clone() };
            let found = areas::find(&areas::AreaName::Device(image.path().into())).unwrap();
            renamed(area, gone, || Ok(vec![found]))
        };
        let link = LoadedArea { uuid, ..area("/dev/disk/by-id/gone") };
        assert_eq!(on(&link).unwrap().label.uuid, uuid);
        let other = area("/dev/disk/by-id/gone");
        assert!(matches!(on(&other), Err(AreaError::Gone { .. })));
        assert!(matches!(on(&LoadedArea { uuid, ..area("/var/crash/area") }), Err(AreaError::Gone { .. })));
    }
}
