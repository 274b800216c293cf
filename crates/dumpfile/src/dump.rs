//! A dump of either format.

use std::path::Path;

use blockfile::BlockFile;
use kdump::{Bitmap, Page, Reader};
use machine::OldMemory;
use vmcore::VmcoreInfo;

use crate::{Core, DumpError, FileView};

/// What kind of file a dump is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// kdump-compressed.
    Kdump,
    /// ELF core.
    Elf,
}

impl Format {
    /// That of a file, as its first bytes tell.
    pub(crate) fn of(file: &FileView) -> Result<Self, DumpError> {
        let mut magic = [0; 8];
        file.read(0, &mut magic).map_err(|_| DumpError::NotADump)?;
        match &magic {
            b"KDUMP   " => Ok(Self::Kdump),
            [0x7f, b'E', b'L', b'F', ..] => Ok(Self::Elf),
            _ => Err(DumpError::NotADump),
        }
    }

    /// As people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kdump => "kdump-compressed",
            Self::Elf => "ELF core",
        }
    }
}

/// An open dump of either format.
pub struct Dump {
    content: Content,
    notes: Vec<u8>,
    vmcoreinfo: Vec<u8>,
}

enum Content {
    Kdump(Box<Reader<BlockFile>>),
    Elf(Core),
}

impl Dump {
    /// Opens a dump of either format.
    pub fn open(path: &Path) -> Result<Self, DumpError> {
        let file = FileView::open(path)?;
        match Format::of(&file)? {
            Format::Kdump => Self::open_kdump(BlockFile::open(path)?),
            Format::Elf => Self::open_elf(file),
        }
    }

    fn open_kdump(file: BlockFile) -> Result<Self, DumpError> {
        let mut reader = Reader::open(file)?;
        let (notes, vmcoreinfo) = (reader.notes()?, reader.vmcoreinfo()?);
        Ok(Self { content: Content::Kdump(Box::new(reader)), notes, vmcoreinfo })
    }

    fn open_elf(file: FileView) -> Result<Self, DumpError> {
        let core = Core::new(file)?;
        let (notes, vmcoreinfo) = (core.notes().bytes().to_vec(), core.notes().vmcoreinfo().text().to_vec());
        Ok(Self { content: Content::Elf(core), notes, vmcoreinfo })
    }

    /// Which format it has.
    pub fn format(&self) -> Format {
        match self.content {
            Content::Kdump(_) => Format::Kdump,
            Content::Elf(_) => Format::Elf,
        }
    }

    /// Whether nothing says that something is missing.
    pub fn is_complete(&self) -> bool {
        match &self.content {
            Content::Kdump(reader) => reader.is_complete(),
            Content::Elf(core) => core.lacking() == 0 && core.notes().damaged() == 0,
        }
    }

    /// How many pages it holds, or should hold.
    pub fn pages(&self) -> u64 {
        match &self.content {
            Content::Kdump(reader) => reader.pages(),
            Content::Elf(core) => core.ram().pages(),
        }
    }

    /// The ELF notes; [`vmcore::notes_in`] takes them apart.
    pub fn notes(&self) -> &[u8] {
        &self.notes
    }

    /// VMCOREINFO; empty if there is none.
    pub fn vmcoreinfo(&self) -> VmcoreInfo<'_> {
        VmcoreInfo::new(&self.vmcoreinfo)
    }

    /// The kernel's release, as `uname -r` gave it; empty if it is not known.
    pub fn release(&self) -> &str {
        match &self.content {
            Content::Kdump(reader) => reader.header().utsname.release.as_str(),
            Content::Elf(_) => self.vmcoreinfo().os_release().unwrap_or_default(),
        }
    }

    /// The first page frame at or after `pfn` that it holds, or should hold.
    pub fn next_page(&mut self, pfn: u64) -> Result<Option<u64>, DumpError> {
        match &mut self.content {
            Content::Kdump(reader) => Ok(reader.next_set(Bitmap::Kept, pfn)?),
            Content::Elf(core) => Ok(core.ram().next(pfn)),
        }
    }

    /// Reads the page with that page frame number.
    pub fn read_page(&mut self, pfn: u64, page: &mut Page) -> Result<(), DumpError> {
        match &mut self.content {
            Content::Kdump(reader) => Ok(reader.read_page(pfn, page)?),
            Content::Elf(core) => Ok(core.memory().read_page(pfn, page)?),
        }
    }
}
