//! A core file's content as the dead kernel's memory.

use alloc::vec::Vec;

use machine::{OldMemory, PAGE_SIZE, Range, Table, Unreadable};

use crate::bitmap;
use crate::{CoreHeader, OutOfMemory, Ram};

/// Memory by physical address, as a core file holds it.
///
/// `F` is the file: its "addresses" are offsets. Where segments overlap, the first one counts.
#[derive(Clone, Debug)]
pub struct CoreFile<F> {
    file: F,
    /// In ascending order, disjoint.
    pieces: Vec<Piece>,
    /// What segments have in memory and not in the file: it was left out when the file was written.
    left_out: Ram,
}

/// A range of memory that is in the file in one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Piece {
    physical: Range,
    /// Offset of its first byte.
    stored_at: u64,
}

impl<F: OldMemory> CoreFile<F> {
    /// `header` is the one that `file` begins with.
    pub fn new(file: F, header: &CoreHeader) -> Result<Self, OutOfMemory> {
        let mut pieces = Vec::new();
        for segment in header.segments() {
            pieces.try_reserve(1)?;
            let physical = Range { end: segment.physical.start + segment.stored_len, ..segment.physical };
            pieces.push(Piece { physical, stored_at: segment.stored_at });
        }
        pieces.sort_unstable();
        make_disjoint(&mut pieces);
        let left_out = header
            .segments()
            .iter()
            .map(|segment| Range { start: segment.physical.start + segment.stored_len, ..segment.physical });
        Ok(Self { file, pieces, left_out: Ram::from_ranges(left_out)? })
    }

    /// The file.
    pub fn file(&self) -> &F {
        &self.file
    }

    /// First offset after everything that the file should hold.
    pub fn expected_len(&self) -> u64 {
        self.pieces
            .iter()
            .map(|piece| piece.stored_at.saturating_add(piece.physical.len()))
            .max()
            .unwrap_or(0)
    }

    /// The parts of `whole` that the file has, in ascending order.
    fn within(&self, whole: Range) -> impl Iterator<Item = Range> {
        let first = self.pieces.partition_point(|piece| piece.physical.end <= whole.start);
        let later = self.pieces[first..].iter().map(move |piece| piece.physical.intersection(whole));
        later.take_while(|part| !part.is_empty())
    }

    /// Where `address` is in the file, and how many bytes from there on.
    fn locate(&self, address: u64) -> Option<Range> {
        let after = self.pieces.partition_point(|piece| piece.physical.end <= address);
        let piece = self.pieces.get(after).filter(|piece| piece.physical.contains(address))?;
        let start = piece.stored_at.checked_add(address - piece.physical.start)?;
        Range::sized(start, piece.physical.end - address)
    }
}

impl<F: OldMemory> OldMemory for CoreFile<F> {
    fn read(&self, mut address: u64, mut into: &mut [u8]) -> Result<(), Unreadable> {
        while !into.is_empty() {
            let unreadable = Unreadable { address, len: into.len() as u64 };
            let place = self.locate(address).ok_or(unreadable)?;
            let (now, later) = into.split_at_mut(into.len().min(place.len() as usize));
            self.file.read(place.start, now).map_err(|_| unreadable)?;
            (address, into) = (address.wrapping_add(now.len() as u64), later);
        }
        Ok(())
    }

    fn read_table(&self, address: u64, into: &mut Table) -> Result<(), Unreadable> {
        match self.locate(address) {
            Some(place) if place.len() >= PAGE_SIZE => {
                self.file.read_table(place.start, into).map_err(|_| Unreadable { address, len: PAGE_SIZE })
            }
            _ => Err(Unreadable { address, len: PAGE_SIZE }),
        }
    }

    /// What of a page is no RAM reads as zeros, as with makedumpfile. At least a part must be RAM.
    fn read_page(&self, pfn: u64, page: &mut [u8; PAGE_SIZE as usize]) -> Result<(), Unreadable> {
        let frame = Unreadable { address: pfn.saturating_mul(PAGE_SIZE), len: PAGE_SIZE };
        if self.read(frame.address, page).is_ok() {
            return Ok(());
        }
        let whole = Range::sized(frame.address, PAGE_SIZE).ok_or(frame)?;
        page.fill(0);
        let mut parts = self.within(whole).peekable();
        parts.peek().ok_or(frame)?;
        for part in parts {
            let (start, end) = (part.start - whole.start, part.end - whole.start);
            self.read(part.start, &mut page[start as usize..end as usize])?;
        }
        Ok(())
    }

    fn keep_saved(&self, first_pfn: u64, bits: &mut [u8]) {
        let left_out = self.left_out.within(bitmap::window(first_pfn, bits));
        for pfn in left_out.flat_map(|frames| frames.start..frames.end) {
            let is_here = self.within(Range::new(pfn * PAGE_SIZE, (pfn + 1) * PAGE_SIZE)).next().is_some();
            if !is_here {
                bitmap::clear(bits, pfn - first_pfn, pfn - first_pfn + 1);
            }
        }
    }
}

/// Cuts from each piece, in ascending order, what those before it have.
fn make_disjoint(pieces: &mut Vec<Piece>) {
    let mut covered = 0;
    for piece in pieces.iter_mut() {
        piece.cut_front(covered);
        covered = covered.max(piece.physical.end);
    }
    pieces.retain(|piece| !piece.physical.is_empty());
}

impl Piece {
    fn cut_front(&mut self, end: u64) {
        let cut = end.saturating_sub(self.physical.start).min(self.physical.len());
        self.physical.start += cut;
        self.stored_at = self.stored_at.saturating_add(cut);
    }
}
