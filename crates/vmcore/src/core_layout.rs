//! Computes the layout of an ELF core that is to hold some of a dead kernel's memory.
//!
//! ```text
//! Elf64_Ehdr │ Elf64_Phdr: notes, pieces of memory │ room for more │ notes │ pages, from a multiple of 4096 on
//! ```
//!
//! Omitted pages are in no segment, so a reader that asks for one learns that it is not there. A page is stored once
//! even where segments overlap: the kernel image has virtual addresses of its own besides those of the memory that it
//! lies in.

use alloc::vec::Vec;

use machine::growth::push;
use machine::{ByteOffset, PAGE_SIZE, Pfn, PhysicalAddress, Position, Range};
use zerocopy::IntoBytes;

use crate::header::{FileHeader, ProgramHeader};
use crate::{OutOfMemory, Ram, Segment};

/// Most segments of a new core: the format counts in 16 bits, of which the highest value has another meaning (`PN_XNUM`).
const MOST_SEGMENTS: usize = 60_000;
/// Room for segments that are cut in two because a page could not be read.
const ROOM: usize = 4_000;

/// The layout of an ELF core.
#[derive(Clone, Debug)]
pub struct CoreLayout<'a> {
    /// The dead kernel's segments: they give memory its virtual addresses.
    segments: &'a [Segment],
    /// What is stored, ascending and disjoint.
    pieces: Vec<Piece>,
    notes: Range<ByteOffset>,
}

/// A range of memory that is stored in one piece.
#[derive(Clone, Copy, Debug)]
struct Piece {
    physical: Range<PhysicalAddress>,
    /// Offset of its first byte.
    stored_at: u64,
}

/// The unreadable pages split the core into more pieces than it has room to describe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unreadable pages leave the memory in too many pieces for an ELF core")]
pub struct TooManyPieces;

impl<'a> CoreLayout<'a> {
    /// Computes the layout for the page frames `kept` of memory that lies in `segments`, and for notes.
    ///
    /// If that makes too many pieces, the smallest gaps between them are stored too.
    pub fn new(segments: &'a [Segment], kept: &Ram, notes_len: usize) -> Result<Self, OutOfMemory> {
        let mut layout = Self { segments, pieces: Vec::new(), notes: Range::default() };
        let mut gap = 0;
        layout.place(kept, gap)?;
        while layout.pieces_in_segments() > MOST_SEGMENTS {
            gap = 2 * gap + PAGE_SIZE;
            layout.place(kept, gap)?;
        }
        let headers = 1 + layout.pieces_in_segments() + ROOM;
        let notes_at = (size_of::<FileHeader>() + headers * size_of::<ProgramHeader>()) as u64;
        layout.notes = Range::from(notes_at..notes_at + notes_len as u64);
        let first_page = layout.notes.end.get().next_multiple_of(PAGE_SIZE);
        for piece in &mut layout.pieces {
            piece.stored_at += first_page;
        }
        Ok(layout)
    }

    /// Places each piece after the one before; gaps of `gap` bytes or less do not separate pieces.
    fn place(&mut self, kept: &Ram, gap: u64) -> Result<(), OutOfMemory> {
        self.pieces.clear();
        let mut end = 0;
        for physical in kept.ranges() {
            match self.pieces.last_mut() {
                Some(last) if physical.start.count_since(last.physical.end) <= gap => {
                    last.physical.end = physical.end;
                }
                _ => push(&mut self.pieces, Piece { physical, stored_at: end })?,
            }
            end = self.pieces.last().map_or(0, |last| last.stored_at + last.physical.len());
        }
        Ok(())
    }

    fn pieces_in_segments(&self) -> usize {
        self.segments.iter().map(|segment| overlapping(&self.pieces, segment.physical).count()).sum()
    }

    /// Where the notes begin.
    pub fn notes_at(&self) -> u64 {
        self.notes.start.get()
    }

    /// Where a page frame is stored, if it is.
    pub fn page_at(&self, pfn: u64) -> Option<u64> {
        let address = Pfn::new(pfn).address();
        let after = self.pieces.partition_point(|piece| piece.physical.end <= address);
        let piece = self.pieces.get(after).filter(|piece| piece.physical.contains(address))?;
        Some(piece.stored_at + address.count_since(piece.physical.start))
    }

    /// Size of the core in bytes.
    pub fn size(&self) -> u64 {
        self.pieces.last().map_or(self.notes.end.get(), |last| last.stored_at + last.physical.len())
    }

    /// The core's header and program headers, which say nothing of the page frames `missing`.
    #[cfg_attr(
        not(test),
        expect(clippy::disallowed_methods, reason = "cores are laid out on hosts, which have memory")
    )]
    pub fn headers(&self, missing: &Ram) -> Result<Vec<u8>, TooManyPieces> {
        let pieces: Vec<_> = self.pieces.iter().flat_map(|piece| piece.without(missing)).collect();
        let mut loads: Vec<_> = self.segments.iter().flat_map(|segment| parts(&pieces, segment)).collect();
        // Some readers assume that all headers end where the first segment begins.
        loads.sort_unstable_by_key(|load| load.stored_at);
        let count = u16::try_from(1 + loads.len()).map_err(|_| TooManyPieces)?;
        let mut bytes = FileHeader::new(count).as_bytes().to_vec();
        bytes.extend(ProgramHeader::of_notes(self.notes).as_bytes());
        for load in &loads {
            bytes.extend(ProgramHeader::of_memory(load).as_bytes());
        }
        if bytes.len() as u64 <= self.notes.start.get() { Ok(bytes) } else { Err(TooManyPieces) }
    }
}

impl Piece {
    /// The parts that remain without the page frames `missing`.
    fn without(self, missing: &Ram) -> impl Iterator<Item = Self> {
        let Self { physical, stored_at } = self;
        let frames = physical.frames();
        let end = Range::new(frames.end, frames.end);
        let mut start = physical.start;
        missing.within(frames).chain([end]).filter_map(move |hole| {
            let left = Range::new(start, hole.start.address());
            start = hole.end.address();
            let stored_at = stored_at + left.start.count_since(physical.start);
            (!left.is_empty()).then_some(Self { physical: left, stored_at })
        })
    }
}

/// Those of some pieces that have a part in `physical`.
fn overlapping(pieces: &[Piece], physical: Range<PhysicalAddress>) -> impl Iterator<Item = &Piece> {
    let first = pieces.partition_point(|piece| piece.physical.end <= physical.start);
    pieces[first..].iter().take_while(move |piece| piece.physical.start < physical.end)
}

/// The parts of a segment that are stored.
fn parts(pieces: &[Piece], segment: &Segment) -> impl Iterator<Item = Segment> {
    let whole = *segment;
    overlapping(pieces, whole.physical).map(move |piece| {
        let physical = piece.physical.intersection(whole.physical);
        let offset = physical.start.count_since(whole.physical.start);
        Segment {
            physical,
            virtual_start: whole.virtual_start.get().wrapping_add(offset).into(),
            stored_at: piece.stored_at + physical.start.count_since(piece.physical.start),
            stored_len: physical.len(),
        }
    })
}
