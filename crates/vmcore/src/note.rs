//! One ELF note: three words, then its name and its content, each padded to four bytes.
//!
//! System V ABI, "Note Section"; Linux writes 32-bit words and pads to 4 bytes in ELF64 too.

/// `n_namesz`, `n_descsz`, `n_type`.
pub(crate) const HEADER_BYTES: u64 = 12;

/// A note of a note segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note<'a> {
    /// The owner of the note, with the terminating zero byte: `CORE\0`, `LINUX\0`, `VMCOREINFO\0`.
    pub name: &'a [u8],
    /// The type of the note, in its owner's numbering.
    pub kind: u32,
    /// The content.
    pub content: &'a [u8],
}

impl Note<'_> {
    /// The words before name and content; `None` if a length does not fit.
    pub(crate) fn header(&self) -> Option<NoteHeader> {
        Some(NoteHeader {
            name_size: self.name.len().try_into().ok()?,
            content_size: self.content.len().try_into().ok()?,
            kind: self.kind,
        })
    }
}

/// The notes of a segment, up to an empty one or to one that does not lie wholly inside; takes any bytes.
pub fn notes_in(mut segment: &[u8]) -> impl Iterator<Item = Note<'_>> {
    core::iter::from_fn(move || {
        let header = NoteHeader::parse(segment.first_chunk()?);
        let (note, rest) = segment.split_at_checked(usize::try_from(header.size()).ok()?)?;
        segment = rest;
        header.cut(note).filter(|note| !note.name.is_empty())
    })
}

/// `Elf64_Nhdr`.
#[derive(Clone, Copy)]
pub(crate) struct NoteHeader {
    pub(crate) name_size: u32,
    content_size: u32,
    kind: u32,
}

impl NoteHeader {
    pub(crate) fn parse(bytes: &[u8; HEADER_BYTES as usize]) -> Self {
        let word = |at: usize| bytes[at..].first_chunk().map_or(0, |word| u32::from_le_bytes(*word));
        Self { name_size: word(0), content_size: word(4), kind: word(8) }
    }

    pub(crate) fn to_bytes(self) -> [u8; HEADER_BYTES as usize] {
        let mut bytes = [0; HEADER_BYTES as usize];
        let words = [self.name_size, self.content_size, self.kind].map(u32::to_le_bytes);
        bytes.copy_from_slice(words.as_flattened());
        bytes
    }

    /// Bytes of the whole note, padding included.
    pub(crate) fn size(&self) -> u64 {
        self.content_start() + padded(self.content_size)
    }

    /// Where its content is within the note.
    pub(crate) fn content(&self) -> core::ops::Range<usize> {
        let start = self.content_start() as usize;
        start..start + self.content_size as usize
    }

    /// The note of [`size`](Self::size) bytes that this is the header of.
    pub(crate) fn cut<'a>(&self, note: &'a [u8]) -> Option<Note<'a>> {
        let name = note.get(HEADER_BYTES as usize..)?.get(..self.name_size as usize)?;
        Some(Note { name, kind: self.kind, content: note.get(self.content())? })
    }

    fn content_start(&self) -> u64 {
        HEADER_BYTES + padded(self.name_size)
    }
}

/// A length with its padding.
pub(crate) fn padded(size: u32) -> u64 {
    u64::from(size).next_multiple_of(4)
}
