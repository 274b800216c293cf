//! Makes a dump area none any more: the device is free, a file is gone.
//!
//! A loaded capture kernel knows an area by its labels. They are erased before anybody else gets the blocks. A file without a label is
//! deleted by nobody here, whatever is noted of it: it may be a damaged area with a dump, or what somebody put in its place.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use machine::BlockError;
use uuid::Uuid;

use super::file::{self, FileError};
use super::registry::Registry;
use super::{AreaError, AreaName, FoundArea, IfUncollected, UncollectedDump, find_only_noted};
use crate::programs::Programs;
use crate::setup::DEFAULT_FILE;
use crate::{loaded, units};

/// A dump area that is none any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// Its UUID; `None` of a file that was gone before.
    pub uuid: Option<Uuid>,
    /// The disk or partition that is free now, or the file that is gone; `None` of a disk that was away.
    pub device: Option<PathBuf>,
    /// Which of both.
    pub kind: RemovedKind,
}

/// What a dump area was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemovedKind {
    /// A disk, a partition, or an image of one.
    Device,
    /// A file in its place on a disk.
    File,
    /// Nothing that is there: only a note of it.
    Note,
    /// A file that is there, without a label: only the note of it.
    Unlabelled,
}

/// Why a dump area stays.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum RemoveError {
    /// It was not found, or cannot be opened.
    #[error(transparent)]
    Area(#[from] AreaError),
    /// Its file cannot be removed.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is in use.
    #[error(transparent)]
    InUse(#[from] InUse),
    /// Its device cannot be written.
    #[error("cannot erase the label on {device}, so that it is an area still; `dmesg` may say why")]
    Erase {
        /// The device.
        device: PathBuf,
        /// What it said.
        source: BlockError,
    },
    /// The note of it cannot be changed.
    #[error("cannot forget {area}; make room in /var/lib/holdover (`df -h`), and run it as root")]
    Forget {
        /// The area's UUID, or its file.
        area: String,
        /// What the host said.
        source: io::Error,
    },
}

/// Why what is in an area, or the area itself, must not be lost yet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum InUse {
    /// A panic would be dumped to it.
    #[error(
        "the loaded capture kernel dumps to {device}; run `holdover unload` first, or `holdover load` with another area"
    )]
    Loaded {
        /// The area's device.
        device: PathBuf,
    },
    /// It holds a dump.
    #[error("{0}; `--discard-dump` gives it up")]
    Uncollected(UncollectedDump),
    /// It is unknown whether it holds one.
    #[error(
        "{device} is in use: it is a dump area that cannot be read ({error}), and may hold a dump; `--discard-dump` gives it up"
    )]
    Unreadable {
        /// The area's device.
        device: PathBuf,
        /// Why it cannot be read.
        error: String,
    },
}

/// Removes a dump area, file or not, of the system whose root folder is `root`; systemd then watches it no longer. Fails if the loaded
/// capture kernel would use it.
pub fn remove(
    name: &AreaName,
    if_uncollected: IfUncollected,
    root: &Path,
    programs: &dyn Programs,
) -> Result<Removed, RemoveError> {
    let removed = remove_noted_in(&Registry::at_root(root), name, if_uncollected)?;
    if let Some(file) = &removed.device
        && removed.kind != RemovedKind::Device
    {
        units::stop_watching(file, programs);
    }
    Ok(removed)
}

/// Removes all files that were made dump areas of that system, except those that are in use, may hold a dump, or have lost their labels.
pub fn remove_files(root: &Path, programs: &dyn Programs) -> Vec<(PathBuf, Result<Removed, RemoveError>)> {
    let mut files = Registry::at_root(root).files();
    let default = root.join(DEFAULT_FILE.trim_start_matches('/'));
    // Without a label it is another's, unless it is noted.
    if !files.contains(&default) && matches!(file::first_extent(&default), Ok(Some(_))) {
        files.push(default);
    }
    let removed = files.into_iter().map(|file| {
        let removed = remove(&AreaName::Device(file.clone()), IfUncollected::Keep, root, programs);
        (file, removed)
    });
    removed.collect()
}

fn remove_noted_in(
    registry: &Registry,
    name: &AreaName,
    if_uncollected: IfUncollected,
) -> Result<Removed, RemoveError> {
    if let AreaName::Device(path) = name
        && let Some(noted) = deleted(registry, path)
    {
        return forget(registry, noted);
    }
    if let AreaName::Device(path) = name {
        if let Some(first) = file::first_extent(path)? {
            return remove_file(registry, path, first.uuid, if_uncollected);
        }
        if let Some(noted) = unlabelled(registry, path) {
            return forget_unlabelled(registry, noted, if_uncollected);
        }
    }
    let found = match find_only_noted(name, registry) {
        Err(AreaError::NotFound { uuid }) if registry.areas().contains(&uuid) => {
            return forget_area(registry, uuid);
        }
        found => found?,
    };
    if found.file.is_some() {
        return remove_file(registry, &found.device, found.label.uuid, if_uncollected);
    }
    let (device, uuid) = (found.device.clone(), found.label.uuid);
    check_free(&device, uuid, if_uncollected)?;
    found.open_to_write()?.erase().map_err(|source| RemoveError::Erase { device: device.clone(), source })?;
    // One that is noted and nowhere is looked for in vain, and that is all.
    let _ = registry.remove_area(uuid);
    Ok(Removed { uuid: Some(uuid), device: Some(device), kind: RemovedKind::Device })
}

/// The noted file of that name, if nothing is there any more.
fn deleted(registry: &Registry, path: &Path) -> Option<PathBuf> {
    let path = std::path::absolute(path).ok()?;
    let is_it = |noted: &PathBuf| *noted == path && matches!(noted.try_exists(), Ok(false));
    registry.files().into_iter().find(is_it)
}

/// Forgets a file, and leaves it as it is if it is there, or its file system is only away.
fn forget(registry: &Registry, file: PathBuf) -> Result<Removed, RemoveError> {
    if loaded::areas().iter().any(|area| area.device == file) {
        return Err(InUse::Loaded { device: file }.into());
    }
    registry
        .remove_file(&file)
        .map_err(|source| RemoveError::Forget { area: file.display().to_string(), source })?;
    Ok(Removed { uuid: None, device: Some(file), kind: RemovedKind::Note })
}

/// The noted file of that name, which has no label. What took its place may be anything.
fn unlabelled(registry: &Registry, path: &Path) -> Option<PathBuf> {
    let path = path.canonicalize().ok()?;
    let has_no_label = || matches!(FoundArea::to_read(&path), Err(AreaError::NoArea { .. }));
    (registry.files().contains(&path) && has_no_label()).then_some(path)
}

/// Forgets a file that has lost its label, if that is wanted, and leaves it where it is.
fn forget_unlabelled(
    registry: &Registry,
    file: PathBuf,
    if_uncollected: IfUncollected,
) -> Result<Removed, RemoveError> {
    if if_uncollected == IfUncollected::Keep {
        return Err(AreaError::LabelGone { file }.into());
    }
    file::release(&file)?;
    Ok(Removed { kind: RemovedKind::Unlabelled, ..forget(registry, file)? })
}

/// Forgets an area that no disk has.
fn forget_area(registry: &Registry, uuid: Uuid) -> Result<Removed, RemoveError> {
    if let Some(area) = loaded::areas().into_iter().find(|area| area.uuid == uuid) {
        return Err(InUse::Loaded { device: area.device }.into());
    }
    registry.remove_area(uuid).map_err(|source| RemoveError::Forget { area: uuid.to_string(), source })?;
    Ok(Removed { uuid: Some(uuid), device: None, kind: RemovedKind::Note })
}

/// Removes a file that says that it is an area, whether it is in its place or not.
fn remove_file(
    registry: &Registry,
    path: &Path,
    uuid: Uuid,
    if_uncollected: IfUncollected,
) -> Result<Removed, RemoveError> {
    check_free(path, uuid, if_uncollected)?;
    // Its name is another if it was given through a link.
    let noted = path.canonicalize().unwrap_or(path.to_owned());
    file::remove(path)?;
    // A file that is gone is looked for in vain, and that is all.
    let _ = registry.remove_file(&noted);
    Ok(Removed { uuid: Some(uuid), device: Some(noted), kind: RemovedKind::File })
}

/// Checks that neither the loaded capture kernel nor a dump needs the area on a device. An area that cannot be read may hold a dump.
pub(super) fn check_free(device: &Path, uuid: Uuid, if_uncollected: IfUncollected) -> Result<(), InUse> {
    if loaded::is_for(uuid) {
        return Err(InUse::Loaded { device: device.to_owned() });
    }
    if if_uncollected == IfUncollected::Discard {
        return Ok(());
    }
    match FoundArea::to_read(device).and_then(|found| found.uncollected()) {
        Ok(None) => Ok(()),
        Ok(Some(dump)) => Err(InUse::Uncollected(dump)),
        Err(error) => Err(InUse::unreadable(device, &error)),
    }
}

impl InUse {
    /// The area on a device cannot be read.
    pub(super) fn unreadable(device: &Path, error: &AreaError) -> Self {
        let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
        Self::Unreadable { device: device.to_owned(), error: format!("{error}{source}") }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use area::{Area, Completeness, FileExtent, Label};
    use dumpfile::BlockFile;
    use machine::BlockDevice;

    use super::*;
    use crate::IfExists;
    use crate::areas::{IfUsed, format_file};
    use crate::collect::{CollectRequest, collect};
    use crate::programs::tests::Noted;

    const BYTES: u64 = 8 << 20;

    /// A file that is an area with a dump, on a file system of which nothing tells the disk: as on a volume that was extended since.
    fn on_unknown_disk() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let path = folder.path().join("area");
        File::create(&path).unwrap().set_len(BYTES).unwrap();
        let extent = FileExtent { file: file::HEAD, disk: 1 << 20, length: BYTES - file::HEAD };
        let label = Label { uuid: Uuid::from_u128(7), length: BYTES, created: 0 };
        let through = BlockFile::open_exclusive(&path).unwrap();
        let area = Area::format_file(through, &[extent], 1 << 30, label).unwrap();
        let mut dump = area.begin().unwrap();
        dump.write(0, &[7; 8192]).unwrap();
        dump.seal(Completeness::Complete, 8192).unwrap();
        (folder, path)
    }

    #[test]
    fn a_dump_in_a_file_of_which_the_disk_is_unknown_is_kept_and_collected() {
        let (folder, path) = on_unknown_disk();
        file::DirectDisk::open(&path).expect("tmpfs has direct access since Linux 6.6");
        assert!(FoundArea::at(&path).is_err(), "nothing tells its disk");
        let by_uuid = |uuid| super::super::in_files(Uuid::from_u128(uuid), vec![path.clone()]);
        assert!(by_uuid(7).is_some() && by_uuid(8).is_none(), "collect UUID reads it through the file");
        let name = AreaName::Device(path.clone());
        let programs = Noted::default();
        let remove = || remove(&name, IfUncollected::Keep, folder.path(), &programs);
        let refused = remove().unwrap_err();
        assert!(programs.lines.borrow().is_empty(), "what stays is watched");
        assert!(matches!(refused, RemoveError::InUse(InUse::Uncollected(_))), "{refused:?}");
        format_file(&path, BYTES, IfUsed::Overwrite, folder.path(), &()).unwrap_err();
        let out = folder.path().join("vmcore");
        let (if_exists, root) = (IfExists::Refuse, folder.path().to_owned());
        let collected = collect(&CollectRequest { area: name.clone(), out, if_exists, root }, &()).unwrap();
        assert_eq!(collected.bytes, 8192);
        collected.mark.unwrap();
        remove().unwrap();
        assert!(!path.exists());
        let watch = units::watch_of(&path);
        assert_eq!(programs.lines.take(), [format!("systemctl disable --now {watch}")]);
    }

    #[test]
    fn a_file_that_was_deleted_and_an_area_that_no_disk_has_are_forgotten() {
        let root = tempfile::tempdir().unwrap();
        let registry = Registry::at_root(root.path());
        let (file, uuid) = (root.path().join("area"), Uuid::from_u128(0x0dd_a4ea));
        registry.add_file(&file).unwrap();
        registry.add_areas(&[uuid]).unwrap();
        let forget = |name| remove_noted_in(&registry, &name, IfUncollected::Keep);
        let forgotten = forget(AreaName::Device(file.clone())).unwrap();
        assert_eq!(forgotten, Removed { uuid: None, device: Some(file.clone()), kind: RemovedKind::Note });
        let forgotten = forget(AreaName::Uuid(uuid)).unwrap();
        assert_eq!((forgotten.uuid, forgotten.kind), (Some(uuid), RemovedKind::Note));
        assert!(registry.files().is_empty() && registry.areas().is_empty());
        forget(AreaName::Device(file)).unwrap_err();
        forget(AreaName::Uuid(uuid)).unwrap_err();
    }

    /// It may be damaged, with a dump in it, or somebody may have put another file in its place.
    #[test]
    fn a_noted_file_without_a_label_is_deleted_by_nobody() {
        let (folder, path) = on_unknown_disk();
        let registry = Registry::at_root(folder.path());
        registry.add_file(&path).unwrap();
        let mut content = std::fs::read(&path).unwrap();
        content[file::HEAD as usize] ^= 1;
        std::fs::write(&path, &content).unwrap();
        let programs = Noted::default();
        let removed = remove_files(folder.path(), &programs);
        let [(file, Err(RemoveError::Area(AreaError::LabelGone { .. })))] = &removed[..] else {
            panic!("{removed:?}")
        };
        assert_eq!((file, registry.files()), (&path, vec![path.clone()]));
        let name = AreaName::Device(path.clone());
        let forgotten = remove(&name, IfUncollected::Discard, folder.path(), &programs).unwrap();
        assert_eq!((forgotten.kind, registry.files().len()), (RemovedKind::Unlabelled, 0));
        assert!(std::fs::read(&path).unwrap() == content, "nothing of it has changed");
    }

    #[test]
    fn of_all_files_those_with_a_dump_stay_and_others_go() {
        let (folder, with_dump) = on_unknown_disk();
        let registry = Registry::at_root(folder.path());
        let gone = folder.path().join("gone");
        registry.add_file(&with_dump).unwrap();
        registry.add_file(&gone).unwrap();
        let mut removed = remove_files(folder.path(), &Noted::default());
        removed.sort_by_key(|(file, _)| *file == gone);
        let [(_, Err(RemoveError::InUse(InUse::Uncollected(_)))), (_, Ok(_))] = &removed[..] else {
            panic!("{removed:?}")
        };
        assert!(with_dump.exists() && registry.files() == [with_dump]);
        // A file in the default place is one, also where nothing is noted of it.
        let (folder, path) = on_unknown_disk();
        let default = folder.path().join("var/lib/holdover/area");
        std::fs::create_dir_all(default.parent().unwrap()).unwrap();
        std::fs::rename(path, &default).unwrap();
        assert!(matches!(remove_files(folder.path(), &Noted::default())[..], [(_, Err(_))]));
    }

    #[test]
    fn an_area_that_cannot_be_read_is_in_use() {
        let free = |mode| check_free(Path::new("/dev/no-such-disk"), Uuid::nil(), mode);
        let refused = free(IfUncollected::Keep).unwrap_err().to_string();
        assert!(refused.contains("cannot be read") && refused.contains("--discard-dump"), "{refused}");
        assert!(free(IfUncollected::Discard).is_ok());
    }
}
