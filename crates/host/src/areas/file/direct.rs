//! A disk past the page cache. Linux caches a disk and the files on it apart from each other: what one of them has read before, it
//! does not read again when the other was written.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use machine::{BlockDevice, BlockError};

/// Alignment of memory and offsets that every disk can do.
const ALIGN: usize = 4096;
/// Bytes per request.
const PIECE: usize = 1 << 20;

/// A disk that is read and written directly (`O_DIRECT`).
#[derive(Debug)]
pub(crate) struct DirectDisk {
    file: File,
    size: u64,
    /// Room for a request and its alignment.
    buffer: Vec<u8>,
}

impl DirectDisk {
    /// Opens a disk, or a file, for reading only.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Self::with(OpenOptions::new().read(true), path)
    }

    /// Opens a disk to write to it too, though a file system on it is mounted. Whoever writes must know that the blocks are Holdover's.
    pub(crate) fn open_to_write(path: &Path) -> io::Result<Self> {
        Self::with(OpenOptions::new().read(true).write(true), path)
    }

    fn with(options: &mut OpenOptions, path: &Path) -> io::Result<Self> {
        let mut file = options.custom_flags(libc::O_DIRECT).open(path)?;
        let size = file.seek(SeekFrom::End(0))?;
        Ok(Self { file, size, buffer: vec![0; PIECE + ALIGN] })
    }

    /// The aligned part of the buffer.
    fn aligned(&mut self) -> (&File, &mut [u8]) {
        let start = self.buffer.as_ptr().align_offset(ALIGN);
        (&self.file, &mut self.buffer[start..start + PIECE])
    }

    fn check(&self, offset: u64, len: usize) -> Result<(), BlockError> {
        if !offset.is_multiple_of(ALIGN as u64) || !len.is_multiple_of(ALIGN) {
            return Err(BlockError::Misaligned);
        }
        let end = offset.checked_add(len as u64).filter(|end| *end <= self.size);
        end.map(|_| ()).ok_or(BlockError::OutOfBounds)
    }
}

/// The host's error number as the device's own.
fn device_error(error: &io::Error) -> BlockError {
    BlockError::Device(error.raw_os_error().unwrap_or_default().cast_unsigned())
}

impl BlockDevice for DirectDisk {
    fn size(&self) -> u64 {
        self.size
    }

    fn block_size(&self) -> u32 {
        ALIGN as u32
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), BlockError> {
        self.check(offset, into.len())?;
        for (number, piece) in into.chunks_mut(PIECE).enumerate() {
            let (file, buffer) = self.aligned();
            let buffer = &mut buffer[..piece.len()];
            let place = offset + (number * PIECE) as u64;
            file.read_exact_at(buffer, place).map_err(|error| device_error(&error))?;
            piece.copy_from_slice(buffer);
        }
        Ok(())
    }

    fn write(&mut self, offset: u64, from: &[u8]) -> Result<(), BlockError> {
        self.check(offset, from.len())?;
        for (number, piece) in from.chunks(PIECE).enumerate() {
            let (file, buffer) = self.aligned();
            let buffer = &mut buffer[..piece.len()];
            buffer.copy_from_slice(piece);
            let place = offset + (number * PIECE) as u64;
            file.write_all_at(buffer, place).map_err(|error| device_error(&error))?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), BlockError> {
        self.file.sync_all().map_err(|error| device_error(&error))
    }
}
