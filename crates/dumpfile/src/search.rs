//! Finds VMCOREINFO in a dead kernel's memory, for dumps without its note: a hypervisor that dumps a guest may not know where
//! the guest keeps it.
//!
//! Linux keeps the note itself in memory from its start on (`kernel/vmcore_info.c`). Memory may hold others too, of kernels that ran
//! before a restart, so that only one counts through which the kernel's own names are found.

use machine::{OldMemory, PAGE_SIZE, PhysicalAddress, Range};
use vmcore::{Kernel, Ram, VmcoreInfo};

/// Most memory that is searched, from its end on, where Linux allocates first.
const MOST: u64 = 64 << 30;
/// Bytes that are read together.
const PIECE: u64 = 64 * PAGE_SIZE;
/// The longest text that Linux may keep there is a page; later kernels may need more.
const LONGEST: u32 = 16 * PAGE_SIZE as u32;
/// The words before the name: its length, and (after the length of the text) the type of the note.
const NAME: &[u8; 12] = b"VMCOREINFO\0\0";
/// Bytes of the note before the text.
const BEFORE_TEXT: usize = 12 + NAME.len();

/// Returns the text of the kernel's VMCOREINFO, if it is found.
pub(crate) fn vmcoreinfo(memory: &impl OldMemory, ram: &Ram) -> Option<Vec<u8>> {
    let ranges: Vec<_> = ram.ranges().collect();
    let mut left = MOST;
    for range in ranges.into_iter().rev() {
        let start = range.end.get().saturating_sub(left).max(range.start.get());
        left -= range.end.get() - start;
        let found = pieces(Range::from(start..range.end.get())).find_map(|piece| in_piece(memory, piece));
        if found.is_some() || left == 0 {
            return found;
        }
    }
    None
}

/// The pieces of a range, the last one first.
fn pieces(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let starts = (0..range.len().div_ceil(PIECE)).rev().map(move |piece| range.start + piece * PIECE);
    starts.map(move |start| Range::from(start..range.end.min(start + PIECE)))
}

fn in_piece(memory: &impl OldMemory, piece: Range<u64>) -> Option<Vec<u8>> {
    let mut bytes = vec![0; piece.len() as usize];
    if memory.read(piece.start.into(), &mut bytes).is_ok() {
        return in_bytes(memory, piece.start, &bytes);
    }
    let mut page = [0; PAGE_SIZE as usize];
    (piece.start..piece.end).step_by(page.len()).find_map(|start| {
        memory.read_page(start / PAGE_SIZE, &mut page).ok()?;
        in_bytes(memory, start, &page)
    })
}

/// Looks for notes that begin in `bytes`, which are at `start`.
fn in_bytes(memory: &impl OldMemory, start: u64, bytes: &[u8]) -> Option<Vec<u8>> {
    let starts = (0..bytes.len()).step_by(4);
    let mut notes = starts.filter_map(|at| Some((at as u64, text_len(bytes[at..].first_chunk()?)?)));
    notes.find_map(|(at, len)| text(memory, (start + at + BEFORE_TEXT as u64).into(), len))
}

/// The length of the text behind the beginning of a note, if it is VMCOREINFO's.
fn text_len(note: &[u8; BEFORE_TEXT]) -> Option<u32> {
    let (words, name) = note.split_at(12);
    let word = |at: usize| words[at..].first_chunk().map_or(0, |word| u32::from_le_bytes(*word));
    let is_note = word(0) == 11 && word(8) == 0 && name == NAME;
    Some(word(4)).filter(|len| is_note && (1..=LONGEST).contains(len))
}

/// Reads a text that leads to the names of the kernel whose release it gives.
fn text(memory: &impl OldMemory, address: PhysicalAddress, len: u32) -> Option<Vec<u8>> {
    let mut text = vec![0; len as usize];
    memory.read(address, &mut text).ok()?;
    let info = VmcoreInfo::new(&text);
    let names = Kernel::new(info).utsname(memory)?;
    (info.os_release().is_some() && names.release() == info.os_release()).then_some(text)
}
