//! Makes a dump area none any more: the device is free, a file is gone.
//!
//! A loaded capture kernel knows an area by its labels. They are erased before anybody else gets the blocks.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use machine::BlockError;
use uuid::Uuid;

use super::file::{self, FileError};
use super::registry::Registry;
use super::{AreaError, AreaName, FoundArea, IfUncollected, UncollectedDump, find_only};
use crate::programs::Programs;
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
    #[error("cannot erase the label on {device}")]
    Erase {
        /// The device.
        device: PathBuf,
        /// What it said.
        source: BlockError,
    },
    /// The note of it cannot be changed.
    #[error("cannot forget {area}")]
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

/// Removes a dump area, file or not, which systemd then watches no longer. Fails if the loaded capture kernel would use it.
pub fn remove(
    name: &AreaName,
    if_uncollected: IfUncollected,
    programs: &dyn Programs,
) -> Result<Removed, RemoveError> {
    let removed = remove_noted_in(&Registry::of_host(), name, if_uncollected)?;
    if let Some(file) = &removed.device
        && removed.kind != RemovedKind::Device
    {
        units::stop_watching(file, programs);
    }
    Ok(removed)
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
    if let AreaName::Device(path) = name
        && let Some(first) = file::first_extent(path)?
    {
        return remove_file(registry, path, first.uuid, if_uncollected);
    }
    let found = match find_only(name) {
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

/// Forgets a file that is not there. Where its file system is away only, it stays as it is.
fn forget(registry: &Registry, file: PathBuf) -> Result<Removed, RemoveError> {
    if loaded::areas().iter().any(|area| area.device == file) {
        return Err(InUse::Loaded { device: file }.into());
    }
    registry
        .remove_file(&file)
        .map_err(|source| RemoveError::Forget { area: file.display().to_string(), source })?;
    Ok(Removed { uuid: None, device: Some(file), kind: RemovedKind::Note })
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
        let refused = remove(&name, IfUncollected::Keep, &programs).unwrap_err();
        assert!(programs.lines.borrow().is_empty(), "what stays is watched");
        assert!(matches!(refused, RemoveError::InUse(InUse::Uncollected(_))), "{refused:?}");
        format_file(&path, BYTES, IfUsed::Overwrite, &()).unwrap_err();
        let out = folder.path().join("vmcore");
        let collected =
            collect(&CollectRequest { area: name.clone(), out, if_exists: IfExists::Refuse }, &()).unwrap();
        assert_eq!(collected.bytes, 8192);
        collected.mark.unwrap();
        remove(&name, IfUncollected::Keep, &programs).unwrap();
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

    #[test]
    fn an_area_that_cannot_be_read_is_in_use() {
        let free = |mode| check_free(Path::new("/dev/no-such-disk"), Uuid::nil(), mode);
        let refused = free(IfUncollected::Keep).unwrap_err().to_string();
        assert!(refused.contains("cannot be read") && refused.contains("--discard-dump"), "{refused}");
        assert!(free(IfUncollected::Discard).is_ok());
    }
}
