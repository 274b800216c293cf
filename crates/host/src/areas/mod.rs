//! Finds dump areas among the disks of this host.

pub mod format;
mod signature;

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail};
use area::{Area, Damage, Label, OpenError, read_label};
use dumpfile::BlockFile;
use uuid::Uuid;

use crate::{report, sysfs};

/// How a person names a dump area.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// By the UUID in its label, wherever it is.
    Uuid(Uuid),
    /// By its device.
    Device(PathBuf),
}

impl FromStr for Name {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(text.parse().map_or_else(|_| Self::Device(text.into()), Self::Uuid))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uuid(uuid) => uuid.fmt(f),
            Self::Device(device) => device.display().fmt(f),
        }
    }
}

/// A dump area and the device that is it.
#[derive(Clone, Debug)]
pub struct Found {
    /// The device.
    pub device: PathBuf,
    /// What its label says.
    pub label: Label,
}

impl Found {
    /// The area on a device.
    fn at(device: &Path) -> Result<Self> {
        Ok(Self { device: device.to_owned(), label: label(device)? })
    }

    /// Other areas of the same UUID, on copies of the disk.
    pub fn copies<'a>(&'a self, all: &'a [Self]) -> impl Iterator<Item = &'a Path> {
        let is_copy = |other: &&Self| {
            other.label.uuid == self.label.uuid && !sysfs::are_same(&other.device, &self.device)
        };
        all.iter().filter(is_copy).map(|other| other.device.as_path())
    }

    /// What a person should know of a copy of this area.
    pub fn warning(&self, copy: &Path) -> String {
        let (device, copy) = (self.device.display(), copy.display());
        format!(
            "{copy} has the same label and UUID as {device}, and could get the dump; give it another with `holdover format --force {copy}`"
        )
    }
}

/// Finds the dump area of that name, and checks it as the capture kernel will. Of copies of a disk it is the first by name.
pub fn find(name: &Name) -> Result<Found> {
    let found = match name {
        Name::Device(device) => Found::at(device)?,
        Name::Uuid(uuid) => all()?.into_iter().find(|found| found.label.uuid == *uuid).ok_or_else(|| {
            anyhow!("no disk that you may read has dump area {uuid}; `holdover doctor` shows what there is")
        })?,
    };
    open(&found.device, found.label.uuid)?;
    Ok(found)
}

/// The same; refuses a UUID that more than one disk has.
pub fn find_only(name: &Name) -> Result<Found> {
    let found = find(name)?;
    if let Name::Uuid(_) = name {
        only(&found, &all()?)?;
    }
    Ok(found)
}

/// Refuses an area that has copies: a person must say which is meant.
fn only(found: &Found, all: &[Found]) -> Result<()> {
    match found.copies(all).next() {
        Some(copy) => bail!(
            "{} is on {} and on {}; name the device",
            found.label.uuid,
            found.device.display(),
            copy.display()
        ),
        None => Ok(()),
    }
}

/// All dump areas on disks and partitions that can be read, without devices that are made of others.
pub fn all() -> Result<Vec<Found>> {
    let devices = sysfs::block_devices()?.into_iter().filter(|device| sysfs::locate(device).is_ok());
    Ok(devices.filter_map(|device| label(&device).ok().map(|label| Found { device, label })).collect())
}

/// Opens the area on a device to be read.
pub fn open(device: &Path, uuid: Uuid) -> Result<Area<BlockFile>> {
    Area::open(open_device(device)?, 0, uuid).map_err(|error| refused(device, &error))
}

/// Reads the label on a device.
pub fn label(device: &Path) -> Result<Label> {
    read_label(&mut open_device(device)?, 0).map_err(|error| refused(device, &error))
}

fn open_device(device: &Path) -> Result<BlockFile> {
    BlockFile::open(device).with_context(|| format!("cannot read {}", device.display()))
}

/// Only where there is no label is `holdover format` good advice: elsewhere there may be a dump.
fn refused(device: &Path, error: &OpenError) -> anyhow::Error {
    let device = device.display();
    match error {
        OpenError::Label(Damage::NoMagic) => {
            anyhow!("{device} is not a dump area; `holdover format {device}` makes it one")
        }
        OpenError::Length { length } => {
            let length = report::size(*length);
            anyhow!(
                "{device} has the label of a dump area of {length}, which does not fit: was it cut, or copied in part?"
            )
        }
        _ => anyhow!("{device} is a dump area that cannot be used: {error}"),
    }
}

/// Opens a device to make a dump area of it.
pub fn open_to_format(device: &Path) -> Result<BlockFile> {
    match BlockFile::open_exclusive(device) {
        Ok(file) => Ok(file),
        Err(error) if error.kind() == ErrorKind::ResourceBusy => {
            bail!("{} is in use: mounted, or part of a swap, RAID or LVM device", device.display())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => bail!(
            "there is no {0}; name a disk or a partition, or make a file with `truncate -s 1G {0}`",
            device.display()
        ),
        Err(error) => Err(error).with_context(|| format!("cannot write {}", device.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(device: &str, uuid: u128) -> Found {
        let label = Label { uuid: Uuid::from_u128(uuid), length: 1 << 20, created: 0 };
        Found { device: device.into(), label }
    }

    #[test]
    fn a_copy_of_a_disk_is_told_from_the_disk_and_from_other_areas() {
        let all = [found("/dev/vda", 1), found("/dev/vdb", 2), found("/dev/vdc", 1)];
        assert_eq!(all[0].copies(&all).collect::<Vec<_>>(), [Path::new("/dev/vdc")]);
        assert_eq!(all[1].copies(&all).count(), 0);
        assert!(only(&all[1], &all).is_ok());
        let refused = only(&all[0], &all).unwrap_err().to_string();
        assert!(refused.contains("is on /dev/vda and on /dev/vdc; name the device"), "{refused}");
    }
}
