//! The notes that the dead kernel left: one set of registers per processor, and VMCOREINFO.
//!
//! Each processor's notes lie in a place of their own, ended by an empty note; a dump wants them in one piece, the way
//! `/proc/vmcore` gives them (`fs/proc/vmcore.c`). Layout of a note: System V ABI, "Note Section", with 32-bit words and
//! padding to 4 bytes also in ELF64.

use alloc::vec::Vec;

use machine::{OldMemory, Range};

use crate::{CoreHeader, OutOfMemory, VmcoreInfo};

/// Most bytes of notes that are kept: enough for 8192 processors.
const MAX_BYTES: usize = 4 << 20;
/// `n_namesz`, `n_descsz`, `n_type`.
const HEADER_BYTES: u64 = 12;
/// The registers of a processor (`NT_PRSTATUS`), in a note called "CORE".
const PRSTATUS: u32 = 1;
const PRSTATUS_NAME: &[u8] = b"CORE\0";
/// Name of the note, type 0, that holds VMCOREINFO.
const VMCOREINFO_NAME: &[u8] = b"VMCOREINFO\0";

/// The dead kernel's notes, merged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    bytes: Vec<u8>,
    vmcoreinfo: Option<core::ops::Range<usize>>,
    processors: usize,
    damaged: usize,
}

impl Notes {
    /// Collects the notes that `header` points to.
    ///
    /// A place whose notes run past its end, cannot be read, or would pass the limit gives what came before, and counts as
    /// damaged.
    pub fn read(memory: &impl OldMemory, header: &CoreHeader) -> Result<Self, OutOfMemory> {
        let mut notes = Self::default();
        for &place in header.notes() {
            if !notes.add_all(memory, place)? {
                notes.damaged += 1;
            }
        }
        Ok(notes)
    }

    /// The notes, ready to be the note segment of a dump.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where in [`bytes`](Self::bytes) the text of VMCOREINFO is.
    pub fn vmcoreinfo_place(&self) -> Option<core::ops::Range<usize>> {
        self.vmcoreinfo.clone()
    }

    /// VMCOREINFO; empty if the kernel left none.
    pub fn vmcoreinfo(&self) -> VmcoreInfo<'_> {
        let text = self.vmcoreinfo_place().and_then(|place| self.bytes.get(place));
        VmcoreInfo::new(text.unwrap_or_default())
    }

    /// How many processors left their registers.
    pub fn processors(&self) -> usize {
        self.processors
    }

    /// How many places held damaged notes.
    pub fn damaged(&self) -> usize {
        self.damaged
    }

    /// Appends the notes in `place`; says whether they ended as they should.
    fn add_all(&mut self, memory: &impl OldMemory, mut place: Range) -> Result<bool, OutOfMemory> {
        while place.len() >= HEADER_BYTES {
            let Some(note) = NoteHeader::read(memory, place.start) else { return Ok(false) };
            if note.name_size == 0 {
                return Ok(true);
            }
            if note.size() > place.len() || !self.append(memory, place.start, &note)? {
                return Ok(false);
            }
            place.start += note.size();
        }
        Ok(true)
    }

    /// Appends one note; says whether it could be read and fits.
    fn append(
        &mut self,
        memory: &impl OldMemory,
        address: u64,
        note: &NoteHeader,
    ) -> Result<bool, OutOfMemory> {
        let (start, size) = (self.bytes.len(), note.size() as usize);
        if size > MAX_BYTES - start {
            return Ok(false);
        }
        self.bytes.try_reserve(size)?;
        self.bytes.resize(start + size, 0);
        let read = memory.read(address, &mut self.bytes[start..]).is_ok();
        if read {
            self.index(start, note);
        } else {
            self.bytes.truncate(start);
        }
        Ok(read)
    }

    /// Notices what a note that was just appended is.
    fn index(&mut self, start: usize, note: &NoteHeader) {
        let name_start = start + HEADER_BYTES as usize;
        let text_start = name_start + padded(note.name_size) as usize;
        let name = self.bytes.get(name_start..name_start + note.name_size as usize);
        if name == Some(VMCOREINFO_NAME) && note.kind == 0 {
            self.vmcoreinfo = Some(text_start..text_start + note.content_size as usize);
        } else if name == Some(PRSTATUS_NAME) && note.kind == PRSTATUS {
            self.processors += 1;
        }
    }
}

/// `Elf64_Nhdr`.
struct NoteHeader {
    name_size: u32,
    content_size: u32,
    kind: u32,
}

impl NoteHeader {
    fn read(memory: &impl OldMemory, address: u64) -> Option<Self> {
        let mut words = [[0; 4]; 3];
        memory.read(address, words.as_flattened_mut()).ok()?;
        let [name_size, content_size, kind] = words.map(u32::from_le_bytes);
        Some(Self { name_size, content_size, kind })
    }

    /// Bytes of the whole note, padding included.
    fn size(&self) -> u64 {
        HEADER_BYTES + padded(self.name_size) + padded(self.content_size)
    }
}

fn padded(size: u32) -> u64 {
    u64::from(size).next_multiple_of(4)
}
