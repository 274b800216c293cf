//! Finds VMCOREINFO among the ELF notes: the header of the file points at it.

use core::ops::Range;

/// Where the text of VMCOREINFO lies within ELF notes; total over any bytes.
///
/// A note (ELF-64 specification, "Note Section") is three 32-bit words, name length, descriptor length and type, then
/// the name and the descriptor, each padded to a multiple of four bytes.
pub fn vmcoreinfo(notes: &[u8]) -> Option<Range<usize>> {
    let mut at = 0;
    loop {
        let note = note_at(notes, at)?;
        if notes.get(note.name)? == b"VMCOREINFO\0" {
            return Some(note.descriptor);
        }
        at = note.next;
    }
}

struct Note {
    name: Range<usize>,
    descriptor: Range<usize>,
    next: usize,
}

/// The note that begins at `at`, if it lies wholly within `notes`.
fn note_at(notes: &[u8], at: usize) -> Option<Note> {
    let (name_len, descriptor_len) = (word(notes, at)?, word(notes, at + 4)?);
    let name = at + 12..(at + 12).checked_add(name_len)?;
    let start = name.end.checked_next_multiple_of(4)?;
    let descriptor = start..start.checked_add(descriptor_len)?;
    notes.get(descriptor.clone())?;
    let next = descriptor.end.checked_next_multiple_of(4)?;
    Some(Note { name, descriptor, next })
}

/// The little-endian 32-bit word at `at`.
fn word(bytes: &[u8], at: usize) -> Option<usize> {
    let word = bytes.get(at..)?.first_chunk::<4>()?;
    usize::try_from(u32::from_le_bytes(*word)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vmcoreinfo_is_found_behind_other_notes() {
        let notes = [
            &[5, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0][..],
            b"CORE\0\0\0\0reg\0",
            &[11, 0, 0, 0, 13, 0, 0, 0, 0, 0, 0, 0],
            b"VMCOREINFO\0\0PAGESIZE=4096\0\0\0",
        ]
        .concat();
        assert_eq!(&notes[vmcoreinfo(&notes).unwrap()], b"PAGESIZE=4096");
    }

    #[test]
    fn notes_that_reach_past_their_end_hold_nothing() {
        assert_eq!(vmcoreinfo(&[]), None);
        assert_eq!(vmcoreinfo(&[0xFF; 40]), None);
        assert_eq!(vmcoreinfo(b"\x0b\0\0\0\x0d\0\0\0\0\0\0\0VMCOREINFO\0\0short"), None);
    }
}
