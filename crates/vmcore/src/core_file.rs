//! A core file's content as the dead kernel's memory.

use alloc::vec::Vec;

use machine::growth::push;
use machine::{ENTRIES, OldMemory, PAGE_SIZE, Pfn, PhysicalAddress, Position, Range, Table, Unreadable};

use crate::bitmap;
use crate::{CoreHeader, Medium, OutOfMemory, Ram};

/// Memory by physical address, as a core file holds it.
///
/// `F` is the file. Where segments overlap, the first one counts.
#[derive(Clone, Debug)]
pub struct CoreFile<F> {
    file: F,
    /// In ascending order, disjoint.
    pieces: Vec<Piece>,
    /// Memory that segments describe but the file does not have, because it was omitted when the file was written.
    left_out: Ram,
}

/// A range of memory that is in the file in one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Piece {
    physical: Range<PhysicalAddress>,
    /// Offset of its first byte.
    stored_at: u64,
}

impl<F: Medium> CoreFile<F> {
    /// `header` is the one that `file` begins with.
    pub fn new(file: F, header: &CoreHeader) -> Result<Self, OutOfMemory> {
        let mut pieces = Vec::new();
        for segment in header.segments() {
            let physical = Range { end: segment.stored_end(), ..segment.physical };
            push(&mut pieces, Piece { physical, stored_at: segment.stored_at })?;
        }
        pieces.sort_unstable();
        make_disjoint(&mut pieces);
        let left_out =
            header.segments().iter().map(|segment| Range { start: segment.stored_end(), ..segment.physical });
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
    fn within(&self, whole: Range<PhysicalAddress>) -> impl Iterator<Item = Range<PhysicalAddress>> {
        let first = self.pieces.partition_point(|piece| piece.physical.end <= whole.start);
        let later = self.pieces[first..].iter().map(move |piece| piece.physical.intersection(whole));
        later.take_while(|part| !part.is_empty())
    }

    /// Where `address` is in the file, and how many bytes from there on.
    fn locate(&self, address: PhysicalAddress) -> Option<Range<u64>> {
        let after = self.pieces.partition_point(|piece| piece.physical.end <= address);
        let piece = self.pieces.get(after).filter(|piece| piece.physical.contains(address))?;
        let start = piece.stored_at.checked_add(address.count_since(piece.physical.start))?;
        Range::sized(start, piece.physical.end.count_since(address))
    }
}

impl<F: Medium> OldMemory for CoreFile<F> {
    fn read(&self, mut address: PhysicalAddress, mut into: &mut [u8]) -> Result<(), Unreadable> {
        while !into.is_empty() {
            let unreadable = Unreadable { address, len: into.len() as u64 };
            let place = self.locate(address).ok_or(unreadable)?;
            let (now, later) = into.split_at_mut(into.len().min(place.len() as usize));
            self.file.read_at(place.start, now).map_err(|_| unreadable)?;
            (address, into) = (address.saturating_add(now.len() as u64), later);
        }
        Ok(())
    }

    fn read_table(&self, address: PhysicalAddress, into: &mut Table) -> Result<(), Unreadable> {
        let unreadable = Unreadable { address, len: PAGE_SIZE };
        let place = self.locate(address).filter(|place| place.len() >= PAGE_SIZE).ok_or(unreadable)?;
        let mut bytes = [[0; 8]; ENTRIES];
        self.file.read_at(place.start, bytes.as_flattened_mut()).map_err(|_| unreadable)?;
        *into = bytes.map(u64::from_le_bytes);
        Ok(())
    }

    /// The part of a page that is not RAM reads as zeros, as with makedumpfile. At least a part must be RAM.
    fn read_page(&self, pfn: u64, page: &mut [u8; PAGE_SIZE as usize]) -> Result<(), Unreadable> {
        let frame = Unreadable { address: Pfn::new(pfn).address(), len: PAGE_SIZE };
        if self.read(frame.address, page).is_ok() {
            return Ok(());
        }
        let whole = Range::sized(frame.address, PAGE_SIZE).ok_or(frame)?;
        page.fill(0);
        let mut parts = self.within(whole).peekable();
        parts.peek().ok_or(frame)?;
        for part in parts {
            let (start, end) = (part.start.count_since(whole.start), part.end.count_since(whole.start));
            self.read(part.start, &mut page[start as usize..end as usize])?;
        }
        Ok(())
    }

    fn keep_saved(&self, first_pfn: u64, bits: &mut [u8]) {
        let first = Pfn::new(first_pfn);
        let left_out = self.left_out.within(bitmap::window(first, bits));
        for pfn in left_out.flat_map(|frames| frames.start.get()..frames.end.get()) {
            let frame = Range::<Pfn>::from(pfn..pfn + 1);
            if self.within(frame.memory()).next().is_none() {
                bitmap::clear(bits, first, frame);
            }
        }
    }
}

/// Removes from each piece, in ascending order, the memory that earlier pieces have.
fn make_disjoint(pieces: &mut Vec<Piece>) {
    let mut covered = PhysicalAddress::default();
    for piece in pieces.iter_mut() {
        piece.cut_front(covered);
        covered = covered.max(piece.physical.end);
    }
    pieces.retain(|piece| !piece.physical.is_empty());
}

impl Piece {
    fn cut_front(&mut self, end: PhysicalAddress) {
        let cut = end.count_since(self.physical.start).min(self.physical.len());
        self.physical.start = self.physical.start.saturating_add(cut);
        self.stored_at = self.stored_at.saturating_add(cut);
    }
}
