//! The notes that the dead kernel left: one set of registers per processor, and VMCOREINFO.
//!
//! Each processor's notes lie in a place of their own, ended by an empty note. In a dump they must be in one piece,
//! as `/proc/vmcore` gives them (`fs/proc/vmcore.c`).

use alloc::vec::Vec;

use machine::Range;

use crate::note::{HEADER_BYTES, Note, NoteHeader, notes_in};
use crate::{CoreHeader, Medium, OutOfMemory, VmcoreInfo};

/// Most bytes of notes that are kept: enough for 8192 processors.
const MAX_BYTES: usize = 4 << 20;
/// The registers of a processor (`NT_PRSTATUS`), in a note called "CORE".
const PRSTATUS: u32 = 1;
const PRSTATUS_NAME: &[u8] = b"CORE\0";
/// Name of the note, type 0, that holds VMCOREINFO.
const VMCOREINFO_NAME: &[u8] = b"VMCOREINFO\0";

/// Name of the note, type 0, in which makedumpfile lists what it erased.
const ERASEINFO_NAME: &[u8] = b"ERASEINFO\0";

/// The dead kernel's notes, merged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    bytes: Vec<u8>,
    vmcoreinfo: Option<core::ops::Range<usize>>,
    eraseinfo: Option<core::ops::Range<usize>>,
    processors: usize,
    damaged: usize,
}

impl Notes {
    /// Collects the notes that `header` points to.
    ///
    /// A place counts as damaged if its notes run past its end, cannot be read, or would exceed the limit. The notes before
    /// the damage are kept.
    pub fn read(medium: &impl Medium, header: &CoreHeader) -> Result<Self, OutOfMemory> {
        let mut notes = Self::default();
        for &place in header.notes() {
            if !notes.add_all(medium, place)? {
                notes.damaged += 1;
            }
        }
        Ok(notes)
    }

    /// Takes the notes of a dump; notes after a damaged one are lost.
    pub fn from_bytes(mut bytes: &[u8]) -> Result<Self, OutOfMemory> {
        let mut notes = Self::default();
        for note in notes_in(bytes) {
            notes.push(&note)?;
        }
        bytes = bytes.get(notes.bytes.len()..).unwrap_or_default();
        let next = bytes.first_chunk().map_or(0, |header| NoteHeader::parse(header).name_size);
        notes.damaged = usize::from(next != 0);
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

    /// Where in [`bytes`](Self::bytes) the list is of what was erased from the memory, if that was done.
    pub fn eraseinfo_place(&self) -> Option<core::ops::Range<usize>> {
        self.eraseinfo.clone()
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

    /// Appends a note that the dead kernel did not leave; the dump carries it among the others.
    ///
    /// Its name ends with a zero byte, as names of notes do.
    #[cfg_attr(not(test), expect(clippy::disallowed_methods, reason = "memory is taken before"))]
    pub fn push(&mut self, note: &Note<'_>) -> Result<(), OutOfMemory> {
        let header = note.header().ok_or(OutOfMemory)?;
        self.bytes.try_reserve(usize::try_from(header.size()).map_err(|_| OutOfMemory)?)?;
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&header.to_bytes());
        for part in [note.name, note.content] {
            self.bytes.extend_from_slice(part);
            self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        }
        self.index(start, &header);
        Ok(())
    }

    /// Appends the notes in `place`; says whether they ended as they should.
    fn add_all(&mut self, medium: &impl Medium, mut place: Range<u64>) -> Result<bool, OutOfMemory> {
        while place.len() >= HEADER_BYTES {
            let Some(header) = read_header(medium, place.start) else { return Ok(false) };
            if header.name_size == 0 {
                return Ok(true);
            }
            if header.size() > place.len() || !self.copy(medium, place.start, &header)? {
                return Ok(false);
            }
            place.start += header.size();
        }
        Ok(true)
    }

    /// Appends one note; says whether it could be read and fits.
    fn copy(&mut self, medium: &impl Medium, place: u64, header: &NoteHeader) -> Result<bool, OutOfMemory> {
        let (start, size) = (self.bytes.len(), header.size() as usize);
        if size > MAX_BYTES.saturating_sub(start) {
            return Ok(false);
        }
        self.bytes.try_reserve(size)?;
        #[cfg_attr(not(test), expect(clippy::disallowed_methods, reason = "memory is taken before"))]
        self.bytes.resize(start + size, 0);
        let read = medium.read_at(place, &mut self.bytes[start..]).is_ok();
        if read {
            self.index(start, header);
        } else {
            self.bytes.truncate(start);
        }
        Ok(read)
    }

    /// Records which kind of note was just appended.
    fn index(&mut self, start: usize, header: &NoteHeader) {
        let content = header.content();
        let place = start + content.start..start + content.end;
        match header.cut(&self.bytes[start..]) {
            Some(Note { name: VMCOREINFO_NAME, kind: 0, .. }) => self.vmcoreinfo = Some(place),
            Some(Note { name: ERASEINFO_NAME, kind: 0, .. }) => self.eraseinfo = Some(place),
            Some(Note { name: PRSTATUS_NAME, kind: PRSTATUS, .. }) => self.processors += 1,
            _ => {}
        }
    }
}

fn read_header(medium: &impl Medium, place: u64) -> Option<NoteHeader> {
    let mut bytes = [0; HEADER_BYTES as usize];
    medium.read_at(place, &mut bytes).ok()?;
    Some(NoteHeader::parse(&bytes))
}
