//! The dump's file, which grows as it is written.

use std::io;
use std::sync::OnceLock;

use machine::{BlockDevice, BlockError, ByteOffset, Range};

use super::growing::Growing;
use super::hostfile::HostFile;

/// Size of the device: larger than any file becomes.
const SIZE: u64 = 1 << 62;
const BLOCK: u32 = 4096;

/// Most bytes whose room is taken although some are holes: the bitmaps of a machine with 1 TiB, and headers.
const MOST_MAPPED: u64 = 65 << 20;

/// A file as a device without end. It keeps the first error of the host, which says more than the device's. Threads share it.
#[derive(Debug)]
pub(super) struct Output<'f> {
    file: &'f dyn HostFile,
    pages: Growing<'f>,
    error: OnceLock<io::Error>,
}

impl<'f> Output<'f> {
    /// Writes to `file` from its beginning on. Up to `open` bytes before the last data that was written, some may not be written yet.
    pub(super) fn new(file: &'f dyn HostFile, open: u64) -> Self {
        Self { file, pages: Growing::new(file, open), error: OnceLock::new() }
    }

    /// The first error of the host.
    pub(super) fn into_error(self) -> Option<io::Error> {
        self.error.into_inner()
    }

    /// Writes pages' data.
    pub(super) fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), BlockError> {
        self.check(self.pages.write_at(offset, data))
    }

    /// Asks Linux to bring everything to the disk: nearly all is written.
    pub(super) fn bring_rest(&self) {
        self.pages.bring_rest();
    }

    /// Takes the room of these bytes on the disk: they can be written even after it is full. If the file system cannot do that, or
    /// has too little room, the dump gets as far as it gets.
    pub(super) fn reserve(&self, range: Range<ByteOffset>) {
        let _ = self.file.reserve(range);
    }

    /// Takes the room of bytes that readers map into their memory, if holes among them would take it then.
    pub(super) fn reserve_mapped(&self, range: Range<ByteOffset>) {
        if range.len() <= MOST_MAPPED && self.file.mapped_holes_take_room() {
            self.reserve(range);
        }
    }

    /// Makes the file this long.
    pub(super) fn set_len(&self, len: u64) -> Result<(), BlockError> {
        self.check(self.file.set_len(len))
    }

    /// Whether nothing was written to these bytes of the file. `false` where the file system does not know.
    fn is_hole(&self, offset: u64, len: usize) -> bool {
        self.file.next_data(offset) >= offset + len as u64
    }

    fn check(&self, result: io::Result<()>) -> Result<(), BlockError> {
        result.map_err(|error| {
            let code = error.raw_os_error().unwrap_or_default().cast_unsigned();
            let _ = self.error.set(error);
            BlockError::Device(code)
        })
    }
}

impl BlockDevice for &Output<'_> {
    fn size(&self) -> u64 {
        SIZE
    }

    fn block_size(&self) -> u32 {
        BLOCK
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), BlockError> {
        if self.is_hole(offset, into.len()) {
            into.fill(0);
            return Ok(());
        }
        self.check(self.file.read_exact_at(into, offset))
    }

    /// Zeros take no room where nothing was written before: memory may be in few places of a large range.
    fn write(&mut self, offset: u64, from: &[u8]) -> Result<(), BlockError> {
        if from.iter().all(|byte| *byte == 0) && self.is_hole(offset, from.len()) {
            return Ok(());
        }
        self.check(self.file.write_all_at(from, offset))
    }

    /// [`Unfinished::keep`](crate::unfinished::Unfinished::keep) makes all of it durable at once.
    fn flush(&mut self) -> Result<(), BlockError> {
        Ok(())
    }

    fn next_data(&mut self, offset: u64) -> u64 {
        self.file.next_data(offset)
    }
}
