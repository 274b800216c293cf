//! An area that was found: read, written, kept in its place, and told from its copies.

use std::fmt;
use std::path::{Path, PathBuf};

use area::{Area, Held, Label, OpenError, read_label};
use dumpfile::BlockFile;
use uuid::Uuid;

use super::device::{AreaDevice, open_device, open_direct};
use super::file::{self, DirectDisk, FilePlace};
use super::{AreaError, FileError, UncollectedDump};
use crate::sysfs::{self, Location, SysfsError};

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

impl FoundArea {
    /// An area that is all of a device.
    pub const fn on_device(device: PathBuf, label: Label) -> Self {
        Self { device, label, file: None }
    }

    /// The area on a device, or in a file.
    pub(super) fn at(device: &Path) -> Result<Self, AreaError> {
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
    pub(super) fn to_read(device: &Path) -> Result<Self, AreaError> {
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
    pub(super) fn check_only(&self, all: &[Self]) -> Result<(), AreaError> {
        match self.copies(all).next() {
            Some(AreaCopy { device, copy }) => {
                Err(AreaError::Ambiguous { uuid: self.label.uuid, first: device, copy })
            }
            None => Ok(()),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn found(device: &str, uuid: u128) -> FoundArea {
        let label = Label { uuid: Uuid::from_u128(uuid), length: 1 << 20, created: 0 };
        FoundArea { device: device.into(), label, file: None }
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
