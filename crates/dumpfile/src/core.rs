//! ELF cores of kernels: `/proc/vmcore`, copies of it, and what hypervisors write.

use std::path::Path;

use vmcore::{CoreFile, CoreHeader, HeaderError, Notes, Ram, Segment};

use crate::{DumpError, FileView, Format};

/// An ELF core of a kernel.
#[derive(Debug)]
pub struct Core {
    memory: CoreFile<FileView>,
    header: CoreHeader,
    notes: Notes,
}

impl Core {
    /// Opens a core; reads its headers and notes.
    pub fn open(path: &Path) -> Result<Self, DumpError> {
        let file = FileView::open(path)?;
        match Format::of(&file)? {
            Format::Elf => Self::new(file),
            Format::Kdump => Err(DumpError::Compressed),
        }
    }

    pub(crate) fn new(file: FileView) -> Result<Self, DumpError> {
        let header = CoreHeader::read(&file, 0).map_err(|error| match error {
            HeaderError::Unreadable(_) => DumpError::HeaderCut { len: file.len() },
            other => other.into(),
        })?;
        let notes = Notes::read(&file, &header)?;
        Ok(Self { memory: CoreFile::new(file, &header)?, header, notes })
    }

    /// The dead kernel's memory.
    pub fn memory(&self) -> &CoreFile<FileView> {
        &self.memory
    }

    /// The ranges of memory that its header lists.
    pub fn segments(&self) -> &[Segment] {
        self.header.segments()
    }

    /// The dead kernel's RAM.
    pub fn ram(&self) -> &Ram {
        self.header.ram()
    }

    /// The dead kernel's notes.
    pub fn notes(&self) -> &Notes {
        &self.notes
    }

    /// How many bytes the file lacks: its headers speak of more than it has.
    pub fn lacking(&self) -> u64 {
        self.memory.expected_len().saturating_sub(self.memory.file().len())
    }
}
