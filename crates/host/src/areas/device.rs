//! What an area is read from and written to.

use std::path::Path;

use dumpfile::BlockFile;
use machine::{BlockDevice, BlockError};

use super::AreaError;
use super::file::DirectDisk;

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

pub(super) fn open_direct(disk: &Path) -> Result<DirectDisk, AreaError> {
    DirectDisk::open(disk).map_err(|source| AreaError::Open { device: disk.to_owned(), source })
}

pub(super) fn open_device(device: &Path) -> Result<BlockFile, AreaError> {
    BlockFile::open(device).map_err(|source| AreaError::Open { device: device.to_owned(), source })
}
