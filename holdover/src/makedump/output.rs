//! The dump's file, which grows as it is written.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use machine::{BlockDevice, BlockError};

/// As large as files get.
const SIZE: u64 = 1 << 62;
const BLOCK: u32 = 4096;

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

    /// Writes pieces of data that lie apart, one behind the other.
    pub(crate) fn write_pieces(&self, offset: u64, pieces: &mut [IoSlice<'_>]) -> Result<(), BlockError> {
        self.check(write_all_vectored_at(self.file, offset, pieces))
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

fn write_all_vectored_at(file: &File, mut offset: u64, mut pieces: &mut [IoSlice<'_>]) -> io::Result<()> {
    // Empty pieces at the beginning would look like a file that takes no more.
    IoSlice::advance_slices(&mut pieces, 0);
    while !pieces.is_empty() {
        match rustix::io::pwritev(file, pieces, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(len) => {
                IoSlice::advance_slices(&mut pieces, len);
                offset += len as u64;
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
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
        self.check(self.file.write_all_at(from, offset))
    }

    /// [`Unfinished::keep`](crate::unfinished::Unfinished::keep) makes all of it durable at once.
    fn flush(&mut self) -> Result<(), BlockError> {
        Ok(())
    }
}
