//! A file or a disk of the host as a [`BlockDevice`]. Programs on the host access dump areas and dumps through it.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

use machine::{BlockDevice, BlockError};

use crate::holes;

const BLOCK: u32 = 512;

/// A file or a disk; bytes from its end up to the next block boundary read as zeros.
#[derive(Debug)]
pub struct BlockFile {
    file: File,
    /// Size in bytes.
    len: u64,
}

impl BlockFile {
    /// Opens for reading only.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::with(OpenOptions::new().read(true), path)
    }

    /// Opens for reading and writing. A disk is opened exclusively, which fails with [`io::ErrorKind::ResourceBusy`] if it,
    /// or a partition on it, is mounted or part of something that is in use.
    pub fn open_exclusive(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        if path.metadata()?.file_type().is_block_device() {
            options.custom_flags(libc::O_EXCL);
        }
        Self::with(&options, path)
    }

    fn with(options: &OpenOptions, path: &Path) -> io::Result<Self> {
        check_kind(path)?;
        let mut file = options.open(path)?;
        // The length in a disk's metadata is 0.
        let len = file.seek(SeekFrom::End(0))?;
        Ok(Self { file, len })
    }
}

/// Refuses what cannot be read at any place. Opening a pipe would wait for somebody who writes to it.
pub(crate) fn check_kind(path: &Path) -> io::Result<()> {
    let kind = path.metadata()?.file_type();
    let told = match kind {
        _ if kind.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
        _ if kind.is_fifo() => "it is a pipe",
        _ if kind.is_socket() => "it is a socket",
        _ => return Ok(()),
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{told}; name a file or a disk")))
}

impl BlockDevice for BlockFile {
    fn size(&self) -> u64 {
        self.len.next_multiple_of(u64::from(BLOCK))
    }

    fn block_size(&self) -> u32 {
        BLOCK
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), BlockError> {
        self.check(offset, into.len())?;
        let stored = into.len().min(self.len.saturating_sub(offset) as usize);
        let (stored, padding) = into.split_at_mut(stored);
        padding.fill(0);
        self.file.read_exact_at(stored, offset).map_err(|error| device_error(&error))
    }

    fn write(&mut self, offset: u64, from: &[u8]) -> Result<(), BlockError> {
        self.check(offset, from.len())?;
        self.file.write_all_at(from, offset).map_err(|error| device_error(&error))
    }

    fn flush(&mut self) -> Result<(), BlockError> {
        self.file.sync_all().map_err(|error| device_error(&error))
    }

    fn next_data(&mut self, offset: u64) -> u64 {
        holes::next_data(&self.file, offset).min(self.size().max(offset))
    }
}

impl BlockFile {
    fn check(&self, offset: u64, len: usize) -> Result<(), BlockError> {
        let block = u64::from(BLOCK);
        if !offset.is_multiple_of(block) || !(len as u64).is_multiple_of(block) {
            return Err(BlockError::Misaligned);
        }
        let end = offset.checked_add(len as u64).filter(|end| *end <= self.size());
        end.map(|_| ()).ok_or(BlockError::OutOfBounds)
    }
}

/// The host's error number as the device's own.
fn device_error(error: &io::Error) -> BlockError {
    BlockError::Device(error.raw_os_error().unwrap_or_default().cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(len: u64) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(len).unwrap();
        file
    }

    #[test]
    fn what_was_written_is_read_back_and_nothing_past_the_end() {
        let file = file(1024);
        let mut device = BlockFile::open_exclusive(file.path()).unwrap();
        device.write(512, &[7; 512]).unwrap();
        device.flush().unwrap();
        let mut bytes = [0; 1024];
        device.read(0, &mut bytes).unwrap();
        assert_eq!((bytes[511], bytes[512]), (0, 7));
        assert_eq!(device.write(1024, &[0; 512]), Err(BlockError::OutOfBounds));
        assert_eq!(device.read(u64::MAX - 511, &mut bytes[..512]), Err(BlockError::OutOfBounds));
        assert_eq!(device.read(1, &mut bytes[..512]), Err(BlockError::Misaligned));
    }

    #[test]
    fn a_file_that_ends_within_a_block_is_padded_with_zeros() {
        let file = file(0);
        std::fs::write(file.path(), b"short").unwrap();
        let mut bytes = [0xFF; 512];
        let mut device = BlockFile::open(file.path()).unwrap();
        assert_eq!(device.size(), 512);
        device.read(0, &mut bytes).unwrap();
        assert_eq!(&bytes[..6], b"short\0");
    }

    #[test]
    fn a_device_opened_for_reading_cannot_be_written() {
        let file = file(512);
        let mut device = BlockFile::open(file.path()).unwrap();
        assert!(matches!(device.write(0, &[1; 512]), Err(BlockError::Device(_))));
    }
}
