//! Reads a file's bytes in the way that is fastest for that file.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use machine::{BlockDevice, BlockError, Range, Unreadable};
use vmcore::Medium;

use crate::DumpError;
use crate::blockfile::check_kind;
use crate::flattened::{self, Flattened};
use crate::holes;
use crate::window::Windows;

/// `EROFS`, the error number for a write to a read-only file.
const READ_ONLY: BlockError = BlockError::Device(30);

/// A file whose offsets serve as addresses; for a flattened file, these are offsets in the original dump. Clones share the
/// file.
#[derive(Clone, Debug)]
pub(crate) struct FileView {
    file: Arc<File>,
    len: u64,
    way: Way,
    /// Where bytes in no record of a flattened file that was cut short are taken for zeros.
    zeros: [Range<u64>; 2],
}

/// How a file's bytes are read.
#[derive(Clone, Debug)]
enum Way {
    /// By read(2).
    Plain,
    /// By read(2), where the pieces of the dump are.
    Flattened(Arc<Flattened>),
    /// Through windows.
    Windows(Arc<Windows>),
}

impl Way {
    fn to(file: &File, len: u64) -> Result<Self, DumpError> {
        let mut signature = [0; flattened::SIGNATURE.len()];
        if file.read_exact_at(&mut signature, 0).is_ok() && signature == flattened::SIGNATURE {
            return Ok(Self::Flattened(Flattened::read(file, len)?.into()));
        }
        Ok(Windows::of(file, len).map_or(Self::Plain, |windows| Self::Windows(windows.into())))
    }
}

impl FileView {
    /// Opens a file for reading.
    pub(crate) fn open(path: &Path) -> Result<Self, DumpError> {
        check_kind(path)?;
        let mut file = File::open(path)?;
        let len = file.seek(SeekFrom::End(0))?;
        let way = Way::to(&file, len)?;
        let len = if let Way::Flattened(flattened) = &way { flattened.len() } else { len };
        Ok(Self { file: Arc::new(file), len, way, zeros: [Range::default(); 2] })
    }

    /// The same file, where bytes of these ranges that are in no record of a flattened file are zeros, although records are
    /// missing: its writer left gaps there, or what is missing is all the same as none.
    pub(crate) fn with_gaps_as_zeros(self, zeros: [Range<u64>; 2]) -> Self {
        Self { zeros, ..self }
    }

    /// Size in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Whether it is a flattened file whose last records are missing.
    pub(crate) fn lacks_records(&self) -> bool {
        matches!(&self.way, Way::Flattened(flattened) if !flattened.is_whole())
    }

    fn copy(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        match &self.way {
            Way::Plain => self.file.read_exact_at(into, offset),
            Way::Flattened(flattened) => flattened.read_at(&self.file, offset, into, &self.zeros),
            Way::Windows(windows) => {
                let read = windows.read_at(&self.file, offset, into);
                read.or_else(|_| self.file.read_exact_at(into, offset))
            }
        }
    }
}

impl Medium for FileView {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), Unreadable> {
        let unreadable = Unreadable { address: offset.into(), len: into.len() as u64 };
        self.copy(offset, into).map_err(|_| unreadable)
    }
}

/// Its blocks are single bytes, and it is never written.
impl BlockDevice for FileView {
    fn size(&self) -> u64 {
        self.len
    }

    fn block_size(&self) -> u32 {
        1
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), BlockError> {
        self.copy(offset, into).map_err(|error| match error.raw_os_error() {
            Some(code) => BlockError::Device(code.cast_unsigned()),
            None => BlockError::OutOfBounds,
        })
    }

    fn write(&mut self, _offset: u64, _from: &[u8]) -> Result<(), BlockError> {
        Err(READ_ONLY)
    }

    fn flush(&mut self) -> Result<(), BlockError> {
        Ok(())
    }

    fn next_data(&mut self, offset: u64) -> u64 {
        match self.way {
            Way::Plain => holes::next_data(&self.file, offset).min(self.len.max(offset)),
            Way::Flattened(_) | Way::Windows(_) => offset,
        }
    }
}
