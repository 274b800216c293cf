//! Makes a disk, a partition or a file a dump area.

use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::SystemTimeError;
use std::{fs, io};

use area::{Area, Label};
use dumpfile::BlockFile;
use machine::{BlockDevice, BlockError};
use uuid::Uuid;

use super::file::{self, FileError};
use super::registry::Registry;
use super::remove::{InUse, check_free};
use super::{AreaName, FoundArea, IfUncollected, signature};
use crate::sysfs::{self, Location, SysfsError};
use crate::{Progress, clock};

/// The file from which the kernel gives each reader a random UUID.
const RANDOM_UUID: &str = "/proc/sys/kernel/random/uuid";

/// What to do with a device that looks used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfUsed {
    /// Leave it as it is.
    Refuse,
    /// Overwrite what is on it, but no dump that nobody has collected.
    Overwrite,
    /// Overwrite such a dump too.
    DiscardDump,
}

impl IfUsed {
    fn if_uncollected(self) -> IfUncollected {
        if self == Self::DiscardDump { IfUncollected::Discard } else { IfUncollected::Keep }
    }
}

/// A new dump area.
#[derive(Clone, Debug)]
pub struct Formatted {
    /// Its UUID, which is random.
    pub uuid: Uuid,
    /// How `load` and `collect` find it: a file by its path, others by their UUID wherever they are.
    pub name: AreaName,
    /// The disk, partition or file that it is.
    pub device: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// Bytes of the largest dump that it holds.
    pub capacity: u64,
    /// Why the capture kernel could not write to it where it is now; `load` refuses it for the same reason.
    pub objection: Option<String>,
}

/// Why a device was not made a dump area. Nothing was written unless it is `Format`.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum FormatError {
    /// Somebody uses it.
    #[error(
        "{device} is in use: mounted, or part of a swap, RAID or LVM device; `lsblk {device}` shows by whom: name another, or end that"
    )]
    Busy {
        /// The device.
        device: PathBuf,
    },
    /// There is no such file.
    #[error(
        "there is no {device}; name a disk or a partition, or make a file with `truncate -s 1G {device}`"
    )]
    NoFile {
        /// The path that was given.
        device: PathBuf,
    },
    /// There is no such device.
    #[error("there is no device {device}; `lsblk` lists the disks and partitions that there are")]
    NoDevice {
        /// The path that was given.
        device: PathBuf,
    },
    /// The host refuses to open it.
    #[error("cannot write {device}")]
    Open {
        /// The device.
        device: PathBuf,
        /// What the host said.
        source: io::Error,
    },
    /// The device cannot be read, so that it is unknown whether it is used.
    #[error("cannot read the device, so that nobody knows whether it is used; `dmesg` may say why")]
    Read(#[source] BlockError),
    /// It looks used.
    #[error("{device} holds {found}; `--force` overwrites it")]
    Used {
        /// The device.
        device: PathBuf,
        /// What seems to be on it.
        found: String,
    },
    /// It is an area that is still needed.
    #[error(transparent)]
    InUse(#[from] InUse),
    /// The kernel gives no random UUID.
    #[error("cannot read {RANDOM_UUID}; is /proc mounted?")]
    NoUuid(#[source] io::Error),
    /// What the kernel gives is no UUID.
    #[error("{RANDOM_UUID} holds no UUID")]
    BadUuid(#[source] uuid::Error),
    /// The host's clock is wrong.
    #[error("the clock is before 1970; `timedatectl set-time` sets it")]
    Clock(#[source] SystemTimeError),
    /// A file cannot be made a dump area.
    #[error(transparent)]
    File(#[from] FileError),
    /// The device is too small, or failed.
    #[error("cannot format {device}")]
    Format {
        /// The device.
        device: PathBuf,
        /// What is wrong with it.
        source: area::FormatError,
    },
}

/// Makes all of a device a dump area. What was on it is lost.
///
/// A disk that the capture kernel cannot write to is no error: it may be meant for another machine, or for another
/// controller. The system whose root folder is `root` notes that it is its own.
pub fn format(device: &Path, if_used: IfUsed, root: &Path) -> Result<Formatted, FormatError> {
    let mut file = open_to_format(device)?;
    let found = signature::find(&mut file).map_err(FormatError::Read)?;
    if let (Some(found), IfUsed::Refuse) = (found, if_used) {
        return Err(FormatError::Used { device: device.to_owned(), found });
    }
    check_unneeded(device, if_used.if_uncollected())?;
    let former = FoundArea::at(device).ok().map(|found| found.label.uuid);
    let length = file.size() / area::BLOCK * area::BLOCK;
    let label = Label { uuid: random_uuid()?, length, created: now()? };
    let device = device.to_owned();
    match Area::format(file, 0, label) {
        Ok(area) => {
            let (uuid, capacity) = (label.uuid, area.label().capacity());
            let objection = objection(&device);
            note(&Registry::at_root(root), &device, former, uuid);
            Ok(Formatted { uuid, name: AreaName::Uuid(uuid), device, bytes: length, capacity, objection })
        }
        Err(source) => Err(FormatError::Format { device, source }),
    }
}

/// Notes that an area is this host's, in place of the former one there, if it is on a disk of this host.
fn note(registry: &Registry, device: &Path, former: Option<Uuid>, uuid: Uuid) {
    if device.metadata().is_ok_and(|found| found.file_type().is_block_device()) {
        // Without the note it is this host's once it is configured or loaded, as `next` says.
        let _ = registry.add_areas(&[uuid]);
        let _ = former.map(|former| registry.remove_area(former));
    }
}

/// Checks that nobody needs an area on a device, if one is there. A device without a label is free.
fn check_unneeded(device: &Path, if_uncollected: IfUncollected) -> Result<(), InUse> {
    match FoundArea::at(device) {
        Ok(area) => check_free(device, area.label.uuid, if_uncollected),
        Err(error) if error.tells_of_a_label() && if_uncollected == IfUncollected::Keep => {
            Err(InUse::unreadable(device, &error))
        }
        Err(_) => Ok(()),
    }
}

/// Makes a file of `bytes` a dump area, in its place on its disk, which the system whose root folder is `root` notes. The steps of
/// `progress` are bytes.
pub fn format_file(
    path: &Path,
    bytes: u64,
    if_used: IfUsed,
    root: &Path,
    progress: &dyn Progress,
) -> Result<Formatted, FormatError> {
    if let (Some(first), true) = (file::first_extent(path)?, if_used != IfUsed::Refuse) {
        check_free(path, first.uuid, if_used.if_uncollected())?;
    }
    let formatted = file::format(path, bytes, if_used, progress)?;
    // Without the note the file is found by its name, as `next` says.
    let _ = Registry::at_root(root).add_file(&formatted.device);
    Ok(formatted)
}

/// Says why the capture kernel could not use a disk of this machine, if that is so. A file is no disk of this machine.
pub(super) fn objection(device: &Path) -> Option<String> {
    match sysfs::locate(device) {
        Ok(Location { controller: Some(controller), .. }) => controller.objection(),
        Ok(Location { disk, controller: None, .. }) => Some(format!("{disk} is behind no PCI function")),
        Err(SysfsError::NotABlockDevice { .. }) => None,
        Err(error) => Some(error.to_string()),
    }
}

/// Opens a device to make a dump area of it.
fn open_to_format(device: &Path) -> Result<BlockFile, FormatError> {
    BlockFile::open_exclusive(device).map_err(|source| {
        let device = device.to_owned();
        match source.kind() {
            ErrorKind::ResourceBusy => FormatError::Busy { device },
            // A file made there would be lost with the next boot.
            ErrorKind::NotFound if device.starts_with("/dev") => FormatError::NoDevice { device },
            ErrorKind::NotFound => FormatError::NoFile { device },
            _ => FormatError::Open { device, source },
        }
    })
}

/// A random UUID by the kernel.
pub(super) fn random_uuid() -> Result<Uuid, FormatError> {
    let text = fs::read_to_string(RANDOM_UUID).map_err(FormatError::NoUuid)?;
    text.trim().parse().map_err(FormatError::BadUuid)
}

pub(super) fn now() -> Result<u64, FormatError> {
    clock::now().map_err(FormatError::Clock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_label_may_be_that_of_a_dump() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(64 << 20).unwrap();
        format(file.path(), IfUsed::Refuse, Path::new("/")).unwrap();
        std::os::unix::fs::FileExt::write_all_at(file.as_file(), &[1], 100).unwrap();
        let refused = format(file.path(), IfUsed::Overwrite, Path::new("/")).unwrap_err();
        assert!(matches!(refused, FormatError::InUse(InUse::Unreadable { .. })), "{refused:?}");
        format(file.path(), IfUsed::DiscardDump, Path::new("/")).unwrap();
    }

    /// It may be the disk of a virtual machine.
    #[test]
    fn a_file_is_not_objected_to() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(64 << 20).unwrap();
        let formatted = format(file.path(), IfUsed::Refuse, Path::new("/")).unwrap();
        assert_eq!(formatted.objection, None);
    }
}
