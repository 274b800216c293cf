//! Dump areas among the disks of this host: makes them, and finds them by UUID or by device.

mod device;
mod error;
pub(crate) mod file;
mod format;
mod found;
mod name;
pub(crate) mod registry;
mod remove;
pub(crate) mod search;
mod signature;
mod uncollected;

use std::path::PathBuf;

use uuid::Uuid;

pub use area::{Held, Label};

pub use self::error::AreaError;
pub use self::file::FileError;
pub use self::format::{FormatError, Formatted, IfUsed, format, format_file};
pub use self::found::{AreaCopy, FoundArea};
pub use self::name::AreaName;
use self::registry::Registry;
pub use self::remove::{InUse, RemoveError, Removed, RemovedKind, remove, remove_files};
pub use self::uncollected::{IfUncollected, UncollectedDump};
pub use crate::loaded::area::AreaPlace;
use crate::sysfs;

/// Finds the dump area with that name, and checks it as the capture kernel will. If a disk has copies, this is the first by
/// name.
pub fn find(name: &AreaName) -> Result<FoundArea, AreaError> {
    find_noted(name, &Registry::of_host())
}

fn find_noted(name: &AreaName, registry: &Registry) -> Result<FoundArea, AreaError> {
    let found = match name {
        AreaName::Device(device) => FoundArea::to_read(device)?,
        AreaName::Uuid(uuid) => {
            let is_it = |found: &FoundArea| found.label.uuid == *uuid;
            let found = all()?.into_iter().find(is_it);
            let found = found.or_else(|| in_files(*uuid, registry.files()));
            found.ok_or(AreaError::NotFound { uuid: *uuid })?
        }
    };
    found.open()?;
    Ok(found)
}

/// Finds the dump area of that name as [`find`] does; refuses a UUID that more than one disk has.
pub fn find_only(name: &AreaName) -> Result<FoundArea, AreaError> {
    find_only_noted(name, &Registry::of_host())
}

/// Does so with the notes of another system, such as one in a folder.
pub(crate) fn find_only_noted(name: &AreaName, registry: &Registry) -> Result<FoundArea, AreaError> {
    let found = find_noted(name, registry)?;
    if let AreaName::Uuid(_) = name {
        found.check_only(&all()?)?;
    }
    Ok(found)
}

/// Lists all dump areas on readable disks and partitions, whosever they are, except devices that are made of other devices.
pub fn all() -> Result<Vec<FoundArea>, AreaError> {
    let devices = sysfs::block_devices()?.into_iter().filter(|device| sysfs::locate(device).is_ok());
    Ok(devices.filter_map(|device| FoundArea::at(&device).ok()).collect())
}

/// The area with that UUID among files, to read it.
fn in_files(uuid: Uuid, files: Vec<PathBuf>) -> Option<FoundArea> {
    let mut found = files.into_iter().filter_map(|file| FoundArea::to_read(&file).ok());
    found.find(|found| found.file.is_some() && found.label.uuid == uuid)
}
