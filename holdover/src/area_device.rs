//! Finds dump areas among the disks of this host.

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail};
use area::{Area, Label, read_label};
use blockfile::BlockFile;
use uuid::Uuid;

use crate::sysfs;

/// How a person names a dump area.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Name {
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
pub(crate) struct Found {
    /// The device.
    pub(crate) device: PathBuf,
    /// What its label says.
    pub(crate) label: Label,
}

/// Finds the dump area of that name, and checks it as the capture kernel will.
pub(crate) fn find(name: &Name) -> Result<Found> {
    let found = match name {
        Name::Device(device) => Found { device: device.clone(), label: label(device)? },
        Name::Uuid(uuid) => all()?
            .into_iter()
            .find(|found| found.label.uuid == *uuid)
            .ok_or_else(|| anyhow!("no disk has dump area {uuid}; `holdover format` makes one"))?,
    };
    open(&found.device, found.label.uuid)?;
    Ok(found)
}

/// All dump areas on disks and partitions that can be read, without devices that are made of others.
pub(crate) fn all() -> Result<Vec<Found>> {
    let devices = sysfs::block_devices()?.into_iter().filter(|device| sysfs::locate(device).is_ok());
    Ok(devices.filter_map(|device| label(&device).ok().map(|label| Found { device, label })).collect())
}

/// Opens the area on a device to be read.
pub(crate) fn open(device: &Path, uuid: Uuid) -> Result<Area<BlockFile>> {
    Area::open(open_device(device)?, 0, uuid).map_err(|error| refused(device, &error))
}

/// Reads the label on a device.
pub(crate) fn label(device: &Path) -> Result<Label> {
    read_label(&mut open_device(device)?, 0).map_err(|error| refused(device, &error))
}

fn open_device(device: &Path) -> Result<BlockFile> {
    BlockFile::open(device).with_context(|| format!("cannot read {}", device.display()))
}

fn refused(device: &Path, error: &area::OpenError) -> anyhow::Error {
    let device = device.display();
    anyhow!("{device} is not a dump area ({error}); `holdover format {device}` makes it one")
}

/// Opens a device to make a dump area of it.
pub(crate) fn open_to_format(device: &Path) -> Result<BlockFile> {
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
