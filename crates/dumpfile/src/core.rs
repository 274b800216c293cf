//! ELF cores of kernels: `/proc/vmcore`, copies of it, and what hypervisors write.

use machine::Range;
use vmcore::{CoreFile, CoreHeader, HeaderError, Medium, Notes};

use crate::{DumpError, FileView};

/// An ELF core of a kernel.
pub(crate) struct Core {
    pub(crate) memory: CoreFile<FileView>,
    pub(crate) header: CoreHeader,
}

impl Core {
    /// Reads the core's headers and notes.
    pub(crate) fn open(file: FileView) -> Result<(Self, Notes), DumpError> {
        let header = read_header(&file)?;
        let notes = Notes::read(&file, &header)?;
        Ok((Self { memory: CoreFile::new(file, &header)?, header }, notes))
    }

    /// Number of entries of the header that make no sense.
    pub(crate) fn clipped(&self) -> usize {
        self.header.clipped()
    }

    /// Number of bytes that the headers describe and the file does not have.
    pub(crate) fn lacking(&self) -> u64 {
        self.memory.expected_len().saturating_sub(self.memory.file().len())
    }
}

fn read_header(file: &FileView) -> Result<CoreHeader, DumpError> {
    // Before the end of what was cut short, records may be missing. Entries that are missing are all zeros, which means none.
    let whole = file.clone().with_gaps_as_zeros([Range::from(0..u64::MAX), Range::default()]);
    CoreHeader::read_file(&whole, file.len()).map_err(|error| match error {
        HeaderError::Unreadable(_) => DumpError::HeaderCut { len: file.len() },
        HeaderError::NoHeader { .. } => foreign(&whole).unwrap_or(error.into()),
        other => other.into(),
    })
}

/// What an ELF file is that is no core of a kernel for x86-64 (System V ABI, "ELF Header"), if its first bytes say so.
fn foreign(file: &FileView) -> Option<DumpError> {
    const CORE: u16 = 4;
    let mut words = [[0; 2]; 10];
    file.read_at(0, words.as_flattened_mut()).ok()?;
    let [.., kind, machine] = words.map(u16::from_le_bytes);
    let name = match machine {
        3 => "32-bit x86",
        20 | 21 => "POWER",
        22 => "s390",
        40 => "32-bit arm",
        183 => "arm64",
        243 => "RISC-V",
        258 => "LoongArch",
        _ => return (kind != CORE).then_some(DumpError::NoCore),
    };
    Some(if kind == CORE { DumpError::ForeignCore(name) } else { DumpError::NoCore })
}
