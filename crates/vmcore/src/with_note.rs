//! A copy of a loader's core header that leads to one more note. The `/proc/vmcore` of a kernel that is given the copy has the note
//! among the dead kernel's.

use alloc::vec::Vec;

use machine::growth::filled;
use zerocopy::IntoBytes;

use crate::header::{FileHeader, HeaderError, ProgramHeader, read_struct};
use crate::note::{HEADER_BYTES, Note};
use crate::{Medium, OutOfMemory};

/// Copies the core header at a place of `medium`, with one more note, which lies behind the copy. `place_of` says where the bytes lie
/// that become both, and stay there.
///
/// The note comes first: Linux takes it that all entries of notes come before those of memory (`fs/proc/vmcore.c`,
/// `merge_note_headers_elf64`). It is followed by an empty one, at which Linux stops.
///
/// # Errors
///
/// If there is no header, if it has as many entries as the format can count, or if there is no memory.
pub fn with_note(
    medium: &impl Medium,
    address: u64,
    note: &Note<'_>,
    place_of: impl FnOnce(&[u8]) -> u64,
) -> Result<Vec<u8>, HeaderError> {
    let old: FileHeader = read_struct(medium, address)?;
    old.check(address)?;
    let count = old.count(medium, address)?;
    let new = u16::try_from(count + 1).ok().filter(|new| *new < u16::MAX);
    let header = FileHeader::new(new.ok_or(HeaderError::TooLong { count })?);
    let words = note.header().ok_or(OutOfMemory)?;

    let first_entry = size_of::<FileHeader>();
    let old_entries = first_entry + size_of::<ProgramHeader>();
    let note_at = old_entries + count as usize * size_of::<ProgramHeader>();
    let note_size = usize::try_from(words.size() + HEADER_BYTES).map_err(|_| OutOfMemory)?;
    let mut bytes = filled(0, note_at + note_size)?;
    let start = place_of(&bytes) + note_at as u64;
    let entry = ProgramHeader::of_notes((start..start + note_size as u64).into());
    bytes[..first_entry].copy_from_slice(header.as_bytes());
    bytes[first_entry..old_entries].copy_from_slice(entry.as_bytes());
    medium.read_at(old.program_header_address(address, 0)?, &mut bytes[old_entries..note_at])?;
    let name_at = note_at + HEADER_BYTES as usize;
    let content_at = note_at + words.content().start;
    bytes[note_at..name_at].copy_from_slice(&words.to_bytes());
    bytes[name_at..][..note.name.len()].copy_from_slice(note.name);
    bytes[content_at..][..note.content.len()].copy_from_slice(note.content);
    Ok(bytes)
}
