//! A dump of either format.

use std::path::Path;

use kdump::Page;
use machine::{OldMemory, PhysicalAddress, Unreadable};
use vmcore::{Kernel, Level, Medium, Note, Notes, Ram, Segment, VmcoreInfo};

use crate::compressed::Compressed;
use crate::core::Core;
use crate::{DumpError, FileView, search};

/// The format of a dump's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// kdump-compressed.
    Kdump,
    /// ELF core.
    Elf,
}

impl Format {
    /// Recognizes the format of a file by its first bytes.
    fn of(file: &FileView) -> Result<Self, DumpError> {
        let mut magic = [0; 8];
        let len = file.len().min(magic.len() as u64) as usize;
        file.read_at(0, &mut magic[..len]).map_err(|_| DumpError::NotADump)?;
        match &magic {
            b"KDUMP   " => Ok(Self::Kdump),
            [0x7f, b'E', b'L', b'F', ..] => Ok(Self::Elf),
            _ if file.len() == 0 => Err(DumpError::Empty),
            _ => Err(packer(magic).map_or(DumpError::NotADump, DumpError::Packed)),
        }
    }

    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kdump => "kdump-compressed",
            Self::Elf => "ELF core",
        }
    }
}

/// The name of the program that packed a file, by the file's first bytes.
fn packer(magic: [u8; 8]) -> Option<&'static str> {
    match magic {
        [0x1f, 0x8b, ..] => Some("gzip"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some("zstd"),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some("xz"),
        [b'B', b'Z', b'h', ..] => Some("bzip2"),
        [0x04, 0x22, 0x4d, 0x18, ..] => Some("lz4"),
        [b'P', b'K', 3, 4, ..] => Some("zip"),
        _ => None,
    }
}

/// Something that a dump should have and lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// So many bytes at its end.
    Bytes(u64),
    /// The last records of a flattened file.
    Records,
    /// The pages that its writer had no time or room for.
    Unfinished,
    /// So many places of notes are damaged.
    Notes(usize),
    /// So many entries of its header make no sense, and something may be missing for that.
    Headers(usize),
    /// So many pages are in it that are in no memory that it lists.
    Unlisted(u64),
}

/// An open dump of either format: the dead kernel's memory, as far as it was dumped.
///
/// Several threads may read it at once.
pub struct Dump {
    content: Content,
    notes: Notes,
    lacks_records: bool,
}

enum Content {
    Kdump(Box<Compressed>),
    Elf(Core),
}

impl Dump {
    /// Opens a dump of either format, flattened or not.
    pub fn open(path: &Path) -> Result<Self, DumpError> {
        let file = FileView::open(path)?;
        let lacks_records = file.lacks_records();
        Self::of(file)
            .map_err(|error| if lacks_records { DumpError::RecordsCut(error.into()) } else { error })
    }

    fn of(file: FileView) -> Result<Self, DumpError> {
        let lacks_records = file.lacks_records();
        let (content, notes) = match Format::of(&file)? {
            Format::Kdump => {
                let dump = Compressed::open(file)?;
                let notes = notes_of(&dump)?;
                (Content::Kdump(Box::new(dump)), notes)
            }
            Format::Elf => {
                let (core, notes) = Core::open(file)?;
                (Content::Elf(core), notes)
            }
        };
        Ok(Self { content, notes, lacks_records })
    }

    /// Which format it has.
    pub fn format(&self) -> Format {
        match self.content {
            Content::Kdump(_) => Format::Kdump,
            Content::Elf(_) => Format::Elf,
        }
    }

    /// Lists what the dump lacks, as far as its headers tell.
    pub fn lacks(&self) -> impl Iterator<Item = Lack> {
        let (bytes, unfinished, headers, unlisted) = match &self.content {
            Content::Kdump(dump) => {
                (dump.lacking(), !dump.reader().is_complete(), dump.clipped(), dump.unlisted())
            }
            Content::Elf(core) => (core.lacking(), false, core.clipped(), 0),
        };
        let damaged = self.notes.damaged();
        let lacks = [
            (bytes > 0).then_some(Lack::Bytes(bytes)),
            self.lacks_records.then_some(Lack::Records),
            unfinished.then_some(Lack::Unfinished),
            (damaged > 0).then_some(Lack::Notes(damaged)),
            (headers > 0).then_some(Lack::Headers(headers)),
            (unlisted > 0).then_some(Lack::Unlisted(unlisted)),
        ];
        lacks.into_iter().flatten()
    }

    /// Whether nothing says that something is missing.
    pub fn is_complete(&self) -> bool {
        self.lacks().next().is_none()
    }

    /// How many pages it holds, or should hold.
    pub fn pages(&self) -> u64 {
        match &self.content {
            Content::Kdump(dump) => dump.reader().pages(),
            Content::Elf(core) => core.header.ram().pages(),
        }
    }

    /// The level at which pages were omitted, as far as the dump gives it.
    pub fn level(&self) -> Level {
        match &self.content {
            Content::Kdump(dump) => Level::new(dump.reader().header().dump_level & Level::ALL.number()),
            Content::Elf(_) => None,
        }
        .unwrap_or(Level::NOTHING)
    }

    /// The ELF notes.
    pub fn notes(&self) -> &Notes {
        &self.notes
    }

    /// VMCOREINFO; empty if there is none.
    pub fn vmcoreinfo(&self) -> VmcoreInfo<'_> {
        self.notes.vmcoreinfo()
    }

    /// Looks for VMCOREINFO in the memory, and adds it to the notes if it is found: up to 64 GiB are read.
    pub fn find_vmcoreinfo(&mut self) -> Result<(), DumpError> {
        if let Some(text) = search::vmcoreinfo(self, &self.ram()?) {
            self.notes.push(&vmcoreinfo_note(&text))?;
        }
        Ok(())
    }

    /// The kernel's release, as `uname -r` gave it; empty if it is not known.
    pub fn release(&self) -> &str {
        match &self.content {
            Content::Kdump(dump) => dump.reader().header().utsname.release.as_str(),
            Content::Elf(_) => self.vmcoreinfo().os_release().unwrap_or_default(),
        }
    }

    /// The dead kernel's RAM, whether it is in the dump or was left out.
    pub fn ram(&self) -> Result<Ram, DumpError> {
        match &self.content {
            Content::Kdump(dump) => Ok(dump.ram().clone()),
            Content::Elf(core) => Ok(core.header.ram().clone()),
        }
    }

    /// Ranges of that RAM with their virtual addresses.
    pub fn segments(&self, kernel: &Kernel, ram: &Ram) -> Result<Vec<Segment>, DumpError> {
        match &self.content {
            Content::Kdump(dump) => Ok(kernel.segments(&**dump, ram)?),
            Content::Elf(core) => Ok(core.header.segments().to_vec()),
        }
    }

    /// The first page frame at or after `pfn` that it holds, or should hold.
    pub fn next_page(&self, pfn: u64) -> Result<Option<u64>, DumpError> {
        match &self.content {
            Content::Kdump(dump) => Ok(dump.next_page(pfn)?),
            Content::Elf(core) => Ok(core.header.ram().next(pfn)),
        }
    }

    /// Why the page with that page frame number cannot be read, if so.
    pub fn check_page(&self, pfn: u64) -> Result<(), DumpError> {
        match &self.content {
            Content::Kdump(dump) => Ok(dump.check(pfn)?),
            Content::Elf(core) => Ok(core.memory.read_page(pfn, &mut [0; kdump::BLOCK])?),
        }
    }
}

/// The memory of either format.
impl OldMemory for Dump {
    fn read(&self, address: PhysicalAddress, into: &mut [u8]) -> Result<(), Unreadable> {
        match &self.content {
            Content::Kdump(dump) => dump.read(address, into),
            Content::Elf(core) => core.memory.read(address, into),
        }
    }

    fn read_page(&self, pfn: u64, page: &mut Page) -> Result<(), Unreadable> {
        match &self.content {
            Content::Kdump(dump) => dump.read_page(pfn, page),
            Content::Elf(core) => core.memory.read_page(pfn, page),
        }
    }

    fn keep_saved(&self, first_pfn: u64, bits: &mut [u8]) {
        match &self.content {
            Content::Kdump(dump) => dump.keep_saved(first_pfn, bits),
            Content::Elf(core) => core.memory.keep_saved(first_pfn, bits),
        }
    }
}

/// The notes of a kdump-compressed dump, and what its header says is elsewhere: VMCOREINFO, and the list of erased data, which
/// is a note in an ELF core.
fn notes_of(dump: &Compressed) -> Result<Notes, DumpError> {
    let mut reader = dump.reader().clone();
    let mut notes = Notes::from_bytes(&reader.notes()?)?;
    let info = reader.vmcoreinfo()?;
    if notes.vmcoreinfo_place().is_none() && !info.is_empty() {
        notes.push(&vmcoreinfo_note(&info))?;
    }
    if notes.eraseinfo_place().is_none() && !dump.erased().is_empty() {
        notes.push(&Note { name: b"ERASEINFO\0", kind: 0, content: dump.erased() })?;
    }
    Ok(notes)
}

/// The note as Linux would leave it.
fn vmcoreinfo_note(text: &[u8]) -> Note<'_> {
    Note { name: b"VMCOREINFO\0", kind: 0, content: text }
}
