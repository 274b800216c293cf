//! The dump's file, which grows as it is written.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use machine::{BlockDevice, BlockError};

/// As large as files get.
const SIZE: u64 = 1 << 62;
const BLOCK: u32 = 4096;

/// A file as a device without end; keeps the host's first error in its own words.
#[derive(Debug)]
pub(crate) struct Output<'f> {
    file: &'f File,
    error: Option<io::Error>,
}

impl<'f> Output<'f> {
    /// Writes to `file` from its beginning on.
    pub(crate) fn new(file: &'f File) -> Self {
        Self { file, error: None }
    }

    /// What the host said when something first went wrong.
    pub(crate) fn into_error(self) -> Option<io::Error> {
        self.error
    }

    fn check(&mut self, result: io::Result<()>) -> Result<(), BlockError> {
        result.map_err(|error| {
            let code = error.raw_os_error().unwrap_or_default().cast_unsigned();
            self.error.get_or_insert(error);
            BlockError::Device(code)
        })
    }
}

impl BlockDevice for Output<'_> {
    fn size(&self) -> u64 {
        SIZE
    }

    fn block_size(&self) -> u32 {
        BLOCK
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), BlockError> {
        let read = self.file.read_exact_at(into, offset);
        self.check(read)
    }

    fn write(&mut self, offset: u64, from: &[u8]) -> Result<(), BlockError> {
        let written = self.file.write_all_at(from, offset);
        self.check(written)
    }

    /// [`Unfinished::keep`](crate::unfinished::Unfinished::keep) makes all of it durable at once.
    fn flush(&mut self) -> Result<(), BlockError> {
        Ok(())
    }
}
