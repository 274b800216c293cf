//! Dump areas among the disks of this host: makes them, and finds them by UUID or by device.

pub(crate) mod file;
mod format;
pub(crate) mod registry;
mod remove;
pub(crate) mod search;
mod signature;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::{fmt, io};

use area::{Area, Damage, OpenError, read_label};
use dumpfile::BlockFile;
use machine::{BlockDevice, BlockError};
use uuid::Uuid;

pub use area::{Held, Label};

pub use self::file::FileError;
use self::file::{DirectDisk, FilePlace};
pub use self::format::{FormatError, Formatted, IfUsed, format, format_file};
use self::registry::Registry;
pub use self::remove::{InUse, RemoveError, Removed, RemovedKind, remove, remove_files};
use crate::Bytes;
pub use crate::loaded::AreaPlace;
use crate::loaded::LoadedArea;
use crate::sysfs::{self, Location, SysfsError};

/// How a person names a dump area.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AreaName {
    /// By the UUID in its label, wherever it is.
    Uuid(Uuid),
    /// By its device: a disk, a partition or a file.
    Device(PathBuf),
}

impl FromStr for AreaName {
    type Err = std::convert::Infallible;

    /// Reads any text that is not a UUID as the path of a device.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(text.parse().map_or_else(|_| Self::Device(text.into()), Self::Uuid))
    }
}

impl From<OsString> for AreaName {
    /// Reads an argument, which may be the path of a device that is no text.
    fn from(argument: OsString) -> Self {
        let uuid = argument.to_str().and_then(|text| text.parse().ok());
        uuid.map_or_else(|| Self::Device(argument.into()), Self::Uuid)
    }
}

impl fmt::Display for AreaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uuid(uuid) => uuid.fmt(f),
            Self::Device(device) => device.display().fmt(f),
        }
    }
}

/// Why a dump area was not found, or cannot be used.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum AreaError {
    /// No disk has it.
    #[error("no disk that you may read has dump area {uuid}; `holdover doctor` shows what there is")]
    NotFound {
        /// The UUID that was asked for.
        uuid: Uuid,
    },
    /// More than one disk has it.
    #[error("{uuid} is on {first} and on {copy}; name the device")]
    Ambiguous {
        /// The UUID that was asked for.
        uuid: Uuid,
        /// The first device that has it.
        first: PathBuf,
        /// Another one.
        copy: PathBuf,
    },
    /// The host refuses to open the device.
    #[error("cannot read {device}")]
    Open {
        /// The device.
        device: PathBuf,
        /// What the host said.
        source: io::Error,
    },
    /// The device has no label.
    #[error("{device} is not a dump area; `holdover format {device}` makes it one")]
    NoArea {
        /// The device.
        device: PathBuf,
    },
    /// The device is shorter than its label says.
    #[error(
        "{device} has the label of a dump area of {length}, which does not fit: was it cut, or copied in part? Make it as long as it was: `lsblk -b {device}` shows how long it is"
    )]
    Cut {
        /// The device.
        device: PathBuf,
        /// The length that its label says.
        length: Bytes,
    },
    /// The device has a label, and something is wrong.
    #[error("{device} is a dump area that cannot be used: {reason}")]
    Unusable {
        /// The device.
        device: PathBuf,
        /// What is wrong.
        reason: OpenError,
    },
    /// There is no such device or file any more.
    #[error(
        "{device} is gone: taken away, removed, renamed, or on a file system that is not mounted; attach or mount it, or run `holdover load` with another area"
    )]
    Gone {
        /// The device.
        device: PathBuf,
    },
    /// A file that was made an area, or is configured as one, is not there.
    #[error(
        "{file} is a dump area, and is not there: mount its file system and collect again, or, if the file was deleted, take it out of \
         {} if it names it, and run `holdover remove {file}`, which forgets it",
        crate::config::FILE
    )]
    NotThere {
        /// The file.
        file: PathBuf,
    },
    /// A file that was made an area has no label any more.
    #[error(
        "{file} was made a dump area, and has no label of one any more: it is damaged, or another file has its name; nothing of it is read or \
         changed. If no dump of it is missed, `holdover remove --discard-dump {file}` forgets it, and leaves the file"
    )]
    LabelGone {
        /// The file.
        file: PathBuf,
    },
    /// It begins elsewhere than when the capture kernel was loaded, which would write to where it was.
    #[error(
        "{device} begins at {now}, and began at {then} when the capture kernel was loaded: what is there may be another's; `holdover load` tells it the new place"
    )]
    Elsewhere {
        /// The device.
        device: PathBuf,
        /// Where it began.
        then: Box<AreaPlace>,
        /// Where it begins.
        now: Box<AreaPlace>,
    },
    /// A file is no area any more, or its disk cannot be found.
    #[error(transparent)]
    File(#[from] FileError),
    /// The disks cannot be listed.
    #[error(transparent)]
    Disks(#[from] SysfsError),
}

impl AreaError {
    /// `holdover format` is recommended only if there is no label: otherwise there may be a dump.
    fn refused(device: &Path, reason: OpenError) -> Self {
        let device = device.to_owned();
        match reason {
            OpenError::Label(Damage::NoMagic) => Self::NoArea { device },
            OpenError::Length { length } => Self::Cut { device, length: Bytes(length) },
            _ => Self::Unusable { device, reason },
        }
    }
}

impl AreaError {
    /// Whether this user may not see what is there.
    pub(crate) fn is_forbidden(&self) -> bool {
        match self {
            Self::Open { source, .. } | Self::File(FileError::Open { source, .. }) => {
                source.kind() == io::ErrorKind::PermissionDenied
            }
            _ => false,
        }
    }

    /// Whether the blocks that an area was in may be others' by now. A disk that is away endangers nobody, nor does one without labels.
    pub(crate) fn is_lost(&self, area: &LoadedArea) -> bool {
        match self {
            Self::Gone { .. } | Self::NoArea { .. } | Self::Cut { .. } => area.is_on_lent_blocks(),
            Self::Unusable { reason, .. } => area.is_on_lent_blocks() && !is_failure(reason),
            Self::Elsewhere { .. } => true,
            Self::File(error) => error.is_another_place(),
            _ => false,
        }
    }

    /// Whether the device has a label, and something is wrong with it or with the area: not that it cannot be read.
    pub(crate) fn tells_of_a_label(&self) -> bool {
        match self {
            Self::Cut { .. } => true,
            Self::Unusable { reason, .. } => !is_failure(reason),
            _ => false,
        }
    }
}

/// Whether a device, or this host, failed: it is unknown what the area is like.
const fn is_failure(reason: &OpenError) -> bool {
    matches!(reason, OpenError::Device(_) | OpenError::OutOfMemory(_))
}

/// A dump area and its device.
#[derive(Clone, Debug)]
pub struct FoundArea {
    /// The device.
    pub device: PathBuf,
    /// What its label says.
    pub label: Label,
    /// Where the area really is, if the device is a file of a mounted file system.
    pub(crate) file: Option<FilePlace>,
}

/// What an area is read from: a device or an image of one, or the disk that a file is on.
pub(crate) enum AreaDevice {
    /// A disk, a partition, or a file that is an image of one.
    Device(BlockFile),
    /// The disk of a file.
    Disk(DirectDisk),
}

impl BlockDevice for AreaDevice {
    fn size(&self) -> u64 {
        match self {
            Self::Device(device) => device.size(),
            Self::Disk(disk) => disk.size(),
        }
    }

    fn block_size(&self) -> u32 {
        match self {
            Self::Device(device) => device.block_size(),
            Self::Disk(disk) => disk.block_size(),
        }
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), BlockError> {
        match self {
            Self::Device(device) => device.read(offset, into),
            Self::Disk(disk) => disk.read(offset, into),
        }
    }

    fn write(&mut self, offset: u64, from: &[u8]) -> Result<(), BlockError> {
        match self {
            Self::Device(device) => device.write(offset, from),
            Self::Disk(disk) => disk.write(offset, from),
        }
    }

    fn flush(&mut self) -> Result<(), BlockError> {
        match self {
            Self::Device(device) => device.flush(),
            Self::Disk(disk) => disk.flush(),
        }
    }
}

/// What becomes of a dump that is in an area and in no file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfUncollected {
    /// It stays, and what would replace it is refused.
    Keep,
    /// It may be lost.
    Discard,
}

/// Two devices with one label, either of which could get the dump. Its text says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AreaCopy {
    /// The device that is meant.
    pub device: PathBuf,
    /// The other one.
    pub copy: PathBuf,
}

impl fmt::Display for AreaCopy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (device, copy) = (self.device.display(), self.copy.display());
        write!(
            f,
            "{copy} has the same label and UUID as {device}, and could get the dump; give it another with `holdover format --force {copy}`"
        )
    }
}

/// What a dead kernel left in an area and is in no file: a dump, a part of one, its log, or what cannot be told. Its text says how to
/// get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UncollectedDump {
    /// The area's device.
    pub device: PathBuf,
    /// What is there.
    pub held: Held,
}

impl fmt::Display for UncollectedDump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let device = self.device.display();
        match self.held {
            Held::Nothing => write!(f, "{device} holds no dump"),
            Held::Dump(bytes) => write!(
                f,
                "{device} holds a dump of {} that was not collected; `holdover collect {device} FILE` fetches it",
                Bytes(bytes)
            ),
            Held::Log(_) => write!(
                f,
                "{device} holds the log of a dead kernel, without a dump, that was not collected; `holdover collect --dmesg {device} FILE` fetches it"
            ),
            Held::Unknown(why) => write!(
                f,
                "{device} may hold a dump, but does not tell ({why}); `holdover collect --dmesg {device}` fetches the log if there is one"
            ),
        }
    }
}

impl FoundArea {
    /// An area that is all of a device.
    pub const fn on_device(device: PathBuf, label: Label) -> Self {
        Self { device, label, file: None }
    }

    /// The area on a device, or in a file.
    fn at(device: &Path) -> Result<Self, AreaError> {
        let file = file::place_of(device)?;
        let label = match &file {
            Some(place) if place.is_there => read_label(&mut open_direct(&place.disk)?, place.offset),
            Some(_) => area::read_label_in_file(&mut open_direct(device)?, file::HEAD),
            None => read_label(&mut open_device(device)?, 0),
        };
        let label = label.map_err(|reason| AreaError::refused(device, reason))?;
        // A file is looked for again by its name.
        let device = file.as_ref().and_then(|_| device.canonicalize().ok()).unwrap_or(device.to_owned());
        Ok(Self { device, label, file })
    }

    /// The area on a device, or in a file, to read what is there: through the file if its place on the disk cannot be found, as on a
    /// volume that was extended since.
    fn to_read(device: &Path) -> Result<Self, AreaError> {
        match Self::at(device) {
            Err(error @ AreaError::File(_)) => Self::through(device).ok_or(error),
            found => found,
        }
    }

    /// The area that a file is, wherever it is on its disk.
    fn through(path: &Path) -> Option<Self> {
        let place = FilePlace { disk: path.to_owned(), offset: file::HEAD, is_there: false };
        let label = area::read_label_in_file(&mut open_direct(path).ok()?, file::HEAD).ok()?;
        Some(Self { device: path.canonicalize().ok()?, label, file: Some(place) })
    }

    /// The area on a device that was one, in its place.
    pub(crate) fn again(device: &Path, uuid: Uuid) -> Result<Self, AreaError> {
        if matches!(device.try_exists(), Ok(false)) {
            return Err(AreaError::Gone { device: device.to_owned() });
        }
        let found = Self::at(device)?;
        if found.label.uuid != uuid {
            let reason = OpenError::OtherArea { found: found.label.uuid };
            return Err(AreaError::Unusable { device: device.to_owned(), reason });
        }
        found.check_where()?;
        found.open()?;
        Ok(found)
    }

    /// Where the area begins, on which disk.
    pub(crate) fn locate(&self) -> Result<Location, SysfsError> {
        match &self.file {
            Some(place) => Ok(Location { offset: place.offset, ..sysfs::locate(&place.disk)? }),
            None => sysfs::locate(&self.device),
        }
    }

    /// Does something that writes to the area. If the area is a file, it is kept in its place meanwhile: its blocks are no other's.
    pub(crate) fn pinned<T, E: From<AreaError>>(&self, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        match &self.file {
            Some(place) if place.is_there => {
                file::while_pinned(&self.device, self.label.uuid, work).map_err(AreaError::from)?
            }
            // It is written through the file.
            Some(_) => file::while_unpinned(&self.device, work).map_err(AreaError::from)?,
            None => work(),
        }
    }

    /// Checks that the area is in its place, if it is a file.
    fn check_where(&self) -> Result<(), AreaError> {
        match &self.file {
            Some(place) => Ok(file::check_on_disk(&self.device, place, self.label.uuid)?),
            None => Ok(()),
        }
    }

    /// Checks that the area is in its place and stays there, if it is a file.
    pub(crate) fn check_place(&self) -> Result<(), AreaError> {
        self.check_where()?;
        if self.is_loose() {
            return Err(FileError::Unpinned { path: self.device.clone() }.into());
        }
        Ok(())
    }

    /// Whether it is a file that nothing keeps in its place.
    pub(crate) fn is_loose(&self) -> bool {
        self.file.is_some() && !file::is_pinned(&self.device)
    }

    /// Keeps the area in its place, if it is a file, and checks that it is still there.
    pub(crate) fn pin(&self) -> Result<(), AreaError> {
        match self.file {
            Some(_) => Ok(file::pin(&self.device, self.label.uuid)?),
            None => Ok(()),
        }
    }

    /// Lets the area go from its place, if it is a file.
    pub(crate) fn unpin(&self) -> Result<(), AreaError> {
        match self.file {
            Some(_) => Ok(file::unpin(&self.device)?),
            None => Ok(()),
        }
    }

    /// Lists the areas with the same UUID: they are on copies of the disk.
    pub fn copies<'a>(&'a self, all: &'a [Self]) -> impl Iterator<Item = AreaCopy> {
        let is_copy = |other: &&Self| {
            other.label.uuid == self.label.uuid && !sysfs::are_same(&other.device, &self.device)
        };
        let copies = all.iter().filter(is_copy);
        copies.map(|other| AreaCopy { device: self.device.clone(), copy: other.device.clone() })
    }

    /// Opens the area to read from it.
    pub(crate) fn open(&self) -> Result<Area<AreaDevice>, AreaError> {
        match &self.file {
            Some(place) if place.is_there => {
                self.open_on(AreaDevice::Disk(open_direct(&place.disk)?), place.offset)
            }
            Some(_) => self.open_through(open_direct(&self.device)?),
            None => self.open_on(AreaDevice::Device(open_device(&self.device)?), 0),
        }
    }

    /// Opens the area to write to it too; fails if its device is in use. The disk of a file is in use, but not the file's blocks: those
    /// are Holdover's, as the labels on them say. A file that has moved is written as any other.
    pub(crate) fn open_to_write(&self) -> Result<Area<AreaDevice>, AreaError> {
        let failed = |source| AreaError::Open { device: self.device.clone(), source };
        match &self.file {
            Some(place) if place.is_there => {
                let disk = DirectDisk::open_to_write(&place.disk).map_err(failed)?;
                self.open_on(AreaDevice::Disk(disk), place.offset)
            }
            Some(_) => self.open_through(DirectDisk::open_to_write(&self.device).map_err(failed)?),
            None => {
                let device = BlockFile::open_exclusive(&self.device).map_err(failed)?;
                self.open_on(AreaDevice::Device(device), 0)
            }
        }
    }

    /// The area in a file that has moved: past the page cache, so that what the capture kernel wrote is seen.
    fn open_through(&self, file: DirectDisk) -> Result<Area<AreaDevice>, AreaError> {
        let area = Area::open_in_file(AreaDevice::Disk(file), file::HEAD, self.label.uuid);
        area.map_err(|reason| AreaError::refused(&self.device, reason))
    }

    fn open_on(&self, device: AreaDevice, offset: u64) -> Result<Area<AreaDevice>, AreaError> {
        let area = Area::open(device, offset, self.label.uuid);
        area.map_err(|reason| AreaError::refused(&self.device, reason))
    }

    /// What is in the area that nobody has collected, if there is anything. An area that does not tell may hold a dump.
    pub fn uncollected(&self) -> Result<Option<UncollectedDump>, AreaError> {
        let held = self.open()?.held();
        let uncollected = UncollectedDump { device: self.device.clone(), held };
        Ok(Some(uncollected).filter(|uncollected| uncollected.held != Held::Nothing))
    }

    /// Refuses an area that has copies: a person must say which is meant.
    fn check_only(&self, all: &[Self]) -> Result<(), AreaError> {
        match self.copies(all).next() {
            Some(AreaCopy { device, copy }) => {
                Err(AreaError::Ambiguous { uuid: self.label.uuid, first: device, copy })
            }
            None => Ok(()),
        }
    }
}

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

fn open_direct(disk: &Path) -> Result<DirectDisk, AreaError> {
    DirectDisk::open(disk).map_err(|source| AreaError::Open { device: disk.to_owned(), source })
}

fn open_device(device: &Path) -> Result<BlockFile, AreaError> {
    BlockFile::open(device).map_err(|source| AreaError::Open { device: device.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(device: &str, uuid: u128) -> FoundArea {
        let label = Label { uuid: Uuid::from_u128(uuid), length: 1 << 20, created: 0 };
        FoundArea { device: device.into(), label, file: None }
    }

    #[test]
    fn a_device_that_cannot_be_read_is_told_from_one_with_a_label_that_cannot_be() {
        let tells = |reason| AreaError::refused(Path::new("/dev/loop0"), reason).tells_of_a_label();
        assert!(!tells(machine::BlockError::OutOfBounds.into()), "it is empty");
        assert!(!tells(OpenError::Label(Damage::NoMagic)));
        assert!(tells(OpenError::Label(Damage::Checksum)) && tells(OpenError::LabelsDiffer));
        assert!(tells(OpenError::Length { length: 1 << 40 }));
    }

    #[test]
    fn a_copy_of_a_disk_is_told_from_the_disk_and_from_other_areas() {
        let all = [found("/dev/vda", 1), found("/dev/vdb", 2), found("/dev/vdc", 1)];
        let copies: Vec<_> = all[0].copies(&all).map(|copy| copy.copy).collect();
        assert_eq!(copies, [Path::new("/dev/vdc")]);
        assert_eq!(all[1].copies(&all).count(), 0);
        assert!(all[1].check_only(&all).is_ok());
        let refused = all[0].check_only(&all).unwrap_err().to_string();
        assert!(refused.contains("is on /dev/vda and on /dev/vdc; name the device"), "{refused}");
    }
}
