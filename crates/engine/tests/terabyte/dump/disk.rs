//! An unlimited disk that stores headers, bitmaps and descriptors, and discards the pages' data.

use std::fs::File;
use std::os::unix::fs::FileExt;

use machine::{BlockDevice, BlockError};

/// The stored bytes are in a file, because the test measures memory.
pub(crate) struct Disk {
    file: File,
    /// Offset from which data is discarded.
    end: u64,
    /// Bytes that were discarded.
    pub(crate) forgotten: u64,
}

impl Disk {
    /// Makes a disk that stores its first `end` bytes.
    pub(crate) fn new(end: u64) -> Self {
        Self { file: tempfile::tempfile().unwrap(), end, forgotten: 0 }
    }
}

impl BlockDevice for Disk {
    fn size(&self) -> u64 {
        1 << 50
    }

    fn block_size(&self) -> u32 {
        4096
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), BlockError> {
        assert!(offset + into.len() as u64 <= self.end, "nobody reads the pages' data back");
        self.file.read_exact_at(into, offset).map_err(|_| BlockError::Device(1))
    }

    fn write(&mut self, offset: u64, from: &[u8]) -> Result<(), BlockError> {
        if offset >= self.end {
            self.forgotten += from.len() as u64;
            return Ok(());
        }
        self.file.write_all_at(from, offset).map_err(|_| BlockError::Device(2))
    }

    fn flush(&mut self) -> Result<(), BlockError> {
        Ok(())
    }
}
