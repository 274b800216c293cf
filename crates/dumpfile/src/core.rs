//! ELF cores of kernels: `/proc/vmcore`, copies of it, and what hypervisors write.

use vmcore::{CoreFile, CoreHeader, HeaderError, Notes};

use crate::{DumpError, FileView};

/// An ELF core of a kernel.
pub(crate) struct Core {
    pub(crate) memory: CoreFile<FileView>,
    pub(crate) header: CoreHeader,
}

impl Core {
    /// Reads the core's headers and notes.
    pub(crate) fn open(file: FileView) -> Result<(Self, Notes), DumpError> {
        let header = CoreHeader::read(&file, 0).map_err(|error| match error {
            HeaderError::Unreadable(_) => DumpError::HeaderCut { len: file.len() },
            other => other.into(),
        })?;
        let notes = Notes::read(&file, &header)?;
        Ok((Self { memory: CoreFile::new(file, &header)?, header }, notes))
    }

    /// Number of bytes that the headers describe and the file does not have.
    pub(crate) fn lacking(&self) -> u64 {
        self.memory.expected_len().saturating_sub(self.memory.file().len())
    }
}
