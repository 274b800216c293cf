//! A file's bytes, read where they are asked for.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use machine::{OldMemory, Table, Unreadable};

/// A file whose offsets are taken for addresses.
#[derive(Debug)]
pub struct FileView {
    file: File,
    len: u64,
}

impl FileView {
    /// Opens a file for reading.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let len = file.seek(SeekFrom::End(0))?;
        Ok(Self { file, len })
    }

    /// Size in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl OldMemory for FileView {
    fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), Unreadable> {
        let unreadable = Unreadable { address: offset, len: into.len() as u64 };
        self.file.read_exact_at(into, offset).map_err(|_| unreadable)
    }

    fn read_table(&self, offset: u64, into: &mut Table) -> Result<(), Unreadable> {
        let mut bytes = [0; size_of::<Table>()];
        self.read(offset, &mut bytes)?;
        for (entry, bytes) in into.iter_mut().zip(bytes.as_chunks().0) {
            *entry = u64::from_le_bytes(*bytes);
        }
        Ok(())
    }
}
