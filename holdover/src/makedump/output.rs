//! The dump's file, which grows as it is written.

use std::fs::File;
use std::io;
use std::num::NonZero;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use machine::{BlockDevice, BlockError};
use rustix::fs::{Advice, fadvise};

/// As large as files get.
const SIZE: u64 = 1 << 62;
const BLOCK: u32 = 4096;
/// Bytes that Linux is asked to bring to the disk at a time, while there is more to write.
const STRETCH: u64 = 4 << 20;

/// A file as a device without end; keeps the host's first error in its own words. Threads share it.
#[derive(Debug)]
pub(crate) struct Output<'f> {
    file: &'f File,
    error: OnceLock<io::Error>,
}

impl<'f> Output<'f> {
    /// Writes to `file` from its beginning on.
    pub(crate) fn new(file: &'f File) -> Self {
        Self { file, error: OnceLock::new() }
    }

    /// What the host said when something first went wrong.
    pub(crate) fn into_error(self) -> Option<io::Error> {
        self.error.into_inner()
    }

    /// Writes data.
    pub(crate) fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), BlockError> {
        self.check(write_at(self.file, offset, data))
    }

    /// Makes the file this long.
    pub(crate) fn set_len(&self, len: u64) -> Result<(), BlockError> {
        self.check(self.file.set_len(len))
    }

    fn check(&self, result: io::Result<()>) -> Result<(), BlockError> {
        result.map_err(|error| {
            let code = error.raw_os_error().unwrap_or_default().cast_unsigned();
            let _ = self.error.set(error);
            BlockError::Device(code)
        })
    }
}

/// Writes data to a file that is written more or less from its beginning to its end.
///
/// Whenever a stretch of it is full, Linux begins to bring that to the disk, if it is on one: to wait for all of it at the end takes
/// as long as writing it did.
pub(super) fn write_at(file: &File, offset: u64, data: &[u8]) -> io::Result<()> {
    file.write_all_at(data, offset)?;
    // No page begins in a block's last bytes if it does not end there.
    let end = (offset + data.len() as u64).next_multiple_of(BLOCK.into()) / STRETCH * STRETCH;
    if end > offset {
        // A hint: of what is not needed in memory, Linux begins to write what is new.
        let _ = fadvise(file, end - STRETCH, NonZero::new(STRETCH), Advice::DontNeed);
    }
    Ok(())
}

impl BlockDevice for &Output<'_> {
    fn size(&self) -> u64 {
        SIZE
    }

    fn block_size(&self) -> u32 {
        BLOCK
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), BlockError> {
        self.check(self.file.read_exact_at(into, offset))
    }

    fn write(&mut self, offset: u64, from: &[u8]) -> Result<(), BlockError> {
        self.write_at(offset, from)
    }

    /// [`Unfinished::keep`](crate::unfinished::Unfinished::keep) makes all of it durable at once.
    fn flush(&mut self) -> Result<(), BlockError> {
        Ok(())
    }
}
