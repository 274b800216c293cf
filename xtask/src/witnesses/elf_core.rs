//! Makes a file of guest memory into the ELF core that `/proc/vmcore` would have shown, for tools that read such a
//! core.
//!
//! The dead kernel prepared the core's headers in the crash reservation. Notes and segments name physical addresses
//! there; in the core, all of memory follows the headers, so each address is moved by that distance.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use machine::PAGE_SIZE;

use crate::machines::ram::Ram;
use crate::machines::reserved::Reserved;

/// `e_ident`, `e_type` ET_CORE and `e_machine` EM_X86_64 of the header that Linux or kexec prepares.
const MAGIC: [u8; 20] = [0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 62, 0];
const HEADER: usize = 64;
const SEGMENT: usize = 56;
/// Offset of `e_phnum`, the number of segments.
const SEGMENTS: usize = 56;
/// A field of `struct page`, of which bit 0 tells tails of compound pages, as Linux has called it since 7.1 and before. makedumpfile
/// 1.7.8 knows the old name only, takes tails for pages of their own by the new one, and leaves some of the slab allocator's out.
const RENAMED: [&[u8]; 2] = [b"OFFSET(page.compound_info)", b"OFFSET(page.compound_head)"];
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
/// Where memory starts in the core: far behind any headers and notes.
const MEMORY: u64 = 1 << 20;

/// One program header, with the fields that matter here.
struct Segment {
    bytes: [u8; SEGMENT],
}

impl Segment {
    fn kind(&self) -> u32 {
        u32::from_le_bytes([self.bytes[0], self.bytes[1], self.bytes[2], self.bytes[3]])
    }

    /// `p_offset`: where its content is; in the prepared headers this is a physical address.
    fn offset(&self) -> u64 {
        self.word(8)
    }

    /// `p_filesz`.
    fn size(&self) -> u64 {
        self.word(32)
    }

    /// The page frame within which this range of RAM ends, if it does not end with one.
    fn cut_frame(&self) -> Option<u64> {
        let end = self.physical_address().saturating_add(self.size());
        (self.kind() == PT_LOAD && !end.is_multiple_of(PAGE_SIZE)).then_some(end / PAGE_SIZE)
    }

    /// `p_paddr`.
    fn physical_address(&self) -> u64 {
        self.word(24)
    }

    fn word(&self, at: usize) -> u64 {
        let mut word = [0; 8];
        word.copy_from_slice(&self.bytes[at..at + 8]);
        u64::from_le_bytes(word)
    }

    fn set_word(&mut self, at: usize, value: u64) {
        self.bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
}

/// Writes the core of the kernel whose headers are somewhere in `reserved`. Returns the page frames within which ranges of RAM
/// end.
pub(crate) fn write(ram: &Ram, reserved: &Reserved, core: &Path) -> Result<BTreeSet<u64>> {
    let headers =
        ram.find(reserved.pieces(), 0, &MAGIC).context("cannot find the dead kernel's core header")?;
    let file = File::create(core).with_context(|| format!("cannot write {}", core.display()))?;
    let segments = read_segments(ram, headers)?;
    let cut = segments.iter().filter_map(Segment::cut_frame).collect();
    write_headers(ram, headers, segments, &file)?;
    ram.write_behind(MEMORY, &file)?;
    Ok(cut)
}

fn read_segments(ram: &Ram, headers: u64) -> Result<Vec<Segment>> {
    let mut header = [0; HEADER];
    ram.read(headers, &mut header)?;
    let count = u16::from_le_bytes([header[SEGMENTS], header[SEGMENTS + 1]]);
    let starts = (headers + HEADER as u64..).step_by(SEGMENT).take(count.into());
    let read = |at| {
        let mut bytes = [0; SEGMENT];
        ram.read(at, &mut bytes).map(|()| Segment { bytes })
    };
    starts.map(read).collect()
}

/// All notes become one: readers expect that.
fn write_headers(ram: &Ram, headers: u64, segments: Vec<Segment>, file: &File) -> Result<()> {
    let (notes, memory): (Vec<_>, Vec<_>) =
        segments.into_iter().partition(|segment| segment.kind() == PT_NOTE);
    let mut all_notes = Vec::new();
    for note in &notes {
        all_notes.extend(content(ram, note)?);
    }
    rename(&mut all_notes, RENAMED);
    let count = 1 + memory.len();
    let table_end = (HEADER + count * SEGMENT) as u64;
    ensure!(table_end + (all_notes.len() as u64) < MEMORY, "the dead kernel's notes are unreasonably long");
    write_file_header(ram, headers, count, file)?;
    let mut note = notes.into_iter().next().context("the dead kernel's core header has no notes")?;
    place(&mut note, table_end, all_notes.len() as u64);
    file.write_all_at(&all_notes, table_end)?;
    let moved = memory.into_iter().map(moved);
    for (segment, at) in std::iter::once(note).chain(moved).zip((HEADER as u64..).step_by(SEGMENT)) {
        file.write_all_at(&segment.bytes, at)?;
    }
    Ok(())
}

fn write_file_header(ram: &Ram, headers: u64, count: usize, file: &File) -> Result<()> {
    let mut header = [0; HEADER];
    ram.read(headers, &mut header)?;
    header[SEGMENTS..SEGMENTS + 2].copy_from_slice(&(count as u16).to_le_bytes());
    Ok(file.write_all_at(&header, 0)?)
}

fn content(ram: &Ram, note: &Segment) -> Result<Vec<u8>> {
    ensure!(note.size() < 16 * PAGE_SIZE, "a note of the dead kernel is unreasonably long");
    let mut bytes = vec![0; note.size() as usize];
    ram.read(note.offset(), &mut bytes)?;
    Ok(trimmed(&bytes).to_vec())
}

/// Notes up to the empty one that ends them: a page is set aside for each CPU's, and little of it used.
fn trimmed(notes: &[u8]) -> &[u8] {
    let mut end = 0;
    while let Some(header) = notes.get(end..end + 12) {
        let (sizes, _) = header.as_chunks::<4>();
        let [name, description] =
            [sizes[0], sizes[1]].map(|size| (u32::from_le_bytes(size) as usize).next_multiple_of(4));
        if name == 0 || end + 12 + name + description > notes.len() {
            break;
        }
        end += 12 + name + description;
    }
    &notes[..end]
}

/// Has a core call a field by the name that makedumpfile knows; returns whether it had the new name.
pub(crate) fn use_old_name(core: &Path) -> Result<bool> {
    let file = File::options().read(true).write(true).open(core)?;
    let mut notes = vec![0; MEMORY.min(file.metadata()?.len()) as usize];
    file.read_exact_at(&mut notes, 0)?;
    let is_renamed = rename(&mut notes, RENAMED);
    file.write_all_at(&notes, 0)?;
    Ok(is_renamed)
}

/// Replaces a name in the notes by another one of the same length; returns whether it is there.
fn rename(notes: &mut [u8], [new, old]: [&[u8]; 2]) -> bool {
    let found = notes.windows(new.len()).position(|bytes| bytes == new);
    if let Some(at) = found {
        notes[at..at + old.len()].copy_from_slice(old);
    }
    found.is_some()
}

fn place(segment: &mut Segment, offset: u64, size: u64) {
    segment.set_word(8, offset);
    segment.set_word(32, size);
    segment.set_word(40, size);
}

fn moved(mut segment: Segment) -> Segment {
    segment.set_word(8, segment.offset() + MEMORY);
    segment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ranges_of_memory_that_end_within_a_page_cut_one() {
        let segment = |kind: u8, address, size| {
            let mut segment = Segment { bytes: [0; SEGMENT] };
            segment.bytes[0] = kind;
            segment.set_word(24, address);
            segment.set_word(32, size);
            segment.cut_frame()
        };
        assert_eq!(segment(1, 0x1000, 0x9ec00), Some(0x9f));
        assert_eq!(segment(1, 0x1000, 0x9e000), None);
        assert_eq!(segment(4, 0x1000, 0x9ec00), None);
    }

    #[test]
    fn a_renamed_field_gets_the_name_that_makedumpfile_knows() {
        let mut notes = b"OFFSET(page.flags)=0\nOFFSET(page.compound_info)=8\nSIZE(page)=64\n".to_vec();
        assert!(rename(&mut notes, RENAMED));
        assert_eq!(notes, b"OFFSET(page.flags)=0\nOFFSET(page.compound_head)=8\nSIZE(page)=64\n");
        assert!(!rename(&mut notes, RENAMED));
    }

    #[test]
    fn notes_end_at_the_first_without_a_name() {
        let note = [5, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, b'C', b'O', b'R', b'E', 0, 0, 0, 0, 1, 2, 3, 4];
        let mut page = note.to_vec();
        page.resize(256, 0);
        assert_eq!(trimmed(&page), note);
        assert!(trimmed(&[0; 64]).is_empty());
        assert!(trimmed(&[0xff; 64]).is_empty(), "a note longer than its page is not one");
    }
}
