//! A file's bytes, read where they are asked for.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use machine::{BlockDevice, BlockError, OldMemory, Unreadable};

use crate::DumpError;
use crate::flattened::{self, Flattened};

/// `EROFS`: what the host says to who writes where that cannot be.
const READ_ONLY: BlockError = BlockError::Device(30);

/// A file whose offsets are taken for addresses; of a flattened one, those in the dump that was flattened. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct FileView {
    file: Arc<File>,
    len: u64,
    flattened: Option<Arc<Flattened>>,
}

impl FileView {
    /// Opens a file for reading.
    pub(crate) fn open(path: &Path) -> Result<Self, DumpError> {
        let mut file = File::open(path)?;
        let len = file.seek(SeekFrom::End(0))?;
        let mut signature = [0; flattened::SIGNATURE.len()];
        let is_flattened = file.read_exact_at(&mut signature, 0).is_ok() && signature == flattened::SIGNATURE;
        let flattened = is_flattened.then(|| Flattened::read(&file, len)).transpose()?.map(Arc::new);
        let len = flattened.as_ref().map_or(len, |flattened| flattened.len());
        Ok(Self { file: Arc::new(file), len, flattened })
    }

    /// Size in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Whether it is a flattened file whose last records are missing.
    pub(crate) fn lacks_records(&self) -> bool {
        self.flattened.as_ref().is_some_and(|flattened| !flattened.is_whole())
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        match &self.flattened {
            Some(flattened) => flattened.read_at(&self.file, offset, into),
            None => self.file.read_exact_at(into, offset),
        }
    }
}

impl OldMemory for FileView {
    fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), Unreadable> {
        let unreadable = Unreadable { address: offset, len: into.len() as u64 };
        self.read_at(offset, into).map_err(|_| unreadable)
    }
}

/// Read byte by byte, and never written.
impl BlockDevice for FileView {
    fn size(&self) -> u64 {
        self.len
    }

    fn block_size(&self) -> u32 {
        1
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), BlockError> {
        self.read_at(offset, into).map_err(|error| match error.raw_os_error() {
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
}
