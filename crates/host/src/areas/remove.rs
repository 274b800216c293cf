//! Makes a dump area none any more: the device is free, a file is gone.
//!
//! A loaded capture kernel knows an area by its labels. They are erased before anybody else gets the blocks.

use std::path::{Path, PathBuf};

use machine::BlockError;
use uuid::Uuid;

use super::file::{self, FileError};
use super::{AreaError, AreaName, FoundArea, IfUncollected, UncollectedDump, find_only, known};
use crate::loaded;

/// A dump area that is none any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// Its UUID.
    pub uuid: Uuid,
    /// The disk or partition that is free now, or the file that is gone.
    pub device: PathBuf,
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
}

/// Why a dump area stays.
#[derive(Debug, thiserror::Error)]
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
}

/// Why what is in an area, or the area itself, must not be lost yet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
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
}

/// Removes a dump area, file or not. Fails if the loaded capture kernel would use it.
pub fn remove(name: &AreaName, if_uncollected: IfUncollected) -> Result<Removed, RemoveError> {
    if let AreaName::Device(path) = name
        && let Some(first) = file::first_extent(path)?
    {
        return remove_file(path, first.uuid, if_uncollected);
    }
    let found = find_only(name)?;
    if found.file.is_some() {
        return remove_file(&found.device, found.label.uuid, if_uncollected);
    }
    let (device, uuid) = (found.device.clone(), found.label.uuid);
    check_free(&device, uuid, if_uncollected)?;
    found.open_to_write()?.erase().map_err(|source| RemoveError::Erase { device: device.clone(), source })?;
    Ok(Removed { uuid, device, kind: RemovedKind::Device })
}

/// Removes a file that says that it is an area, whether it is in its place or not.
fn remove_file(path: &Path, uuid: Uuid, if_uncollected: IfUncollected) -> Result<Removed, RemoveError> {
    check_free(path, uuid, if_uncollected)?;
    // Its name is another if it was given through a link.
    let noted = path.canonicalize().unwrap_or(path.to_owned());
    file::remove(path)?;
    // A file that is gone is looked for in vain, and that is all.
    let _ = known::remove(&noted);
    Ok(Removed { uuid, device: noted, kind: RemovedKind::File })
}

/// Checks that neither the loaded capture kernel nor a dump needs the area on a device. An area that cannot be read has no dump that
/// could be collected.
pub(super) fn check_free(device: &Path, uuid: Uuid, if_uncollected: IfUncollected) -> Result<(), InUse> {
    if loaded::is_for(uuid) {
        return Err(InUse::Loaded { device: device.to_owned() });
    }
    if if_uncollected == IfUncollected::Discard {
        return Ok(());
    }
    let dump = FoundArea::at(device).ok().and_then(|found| found.uncollected().ok().flatten());
    dump.map_or(Ok(()), |dump| Err(InUse::Uncollected(dump)))
}
