//! The part of the reservation that this kernel leaves to a fallback kernel, and the fallback kernel itself, which the loader put
//! into it.
//!
//! This kernel's heap is no larger than it must be on this machine, and all in one piece: the fallback kernel is told that this piece
//! and the image are not its own, because the remapping units' tables are there. Everything else of the reservation is never written
//! here before the fallback kernel is put to its place.

use core::slice;

use handoff::{Fallback, FallbackError};
use machine::{PAGE_SIZE, PhysicalAddress, Range};

use crate::platform::boot_params::BootParams;
use crate::platform::copy;
use crate::platform::free_parts::for_each_free_part;
use crate::platform::memory::Pieces;

/// Large pages of the processor: what begins and ends with one costs the fallback kernel no small ones.
const LARGE_PAGE: u64 = 2 << 20;

/// The fallback kernel, and the room for it.
#[derive(Debug)]
pub(crate) struct Room {
    /// The fallback as the loader put it there: a page that describes it, its kernel and its initramfs.
    container: Range<PhysicalAddress>,
    /// This kernel's heap, which is the fallback's no more than the image is.
    heap: Range<PhysicalAddress>,
    /// Memory of the reservation in which there is nothing.
    free: Pieces,
}

/// Why there is no fallback kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoRoom {
    /// The loader put nothing there.
    #[error("none was loaded")]
    NotLoaded,
    /// What the loader put there cannot be read.
    #[error("it cannot be read")]
    Unreadable,
    /// What the loader put there is no fallback kernel.
    #[error(transparent)]
    Damaged(#[from] FallbackError),
    /// The reservation is too small.
    #[error("the reservation has no room for this kernel beside it")]
    TooSmall,
}

impl Room {
    /// Finds the fallback kernel among `free`, the pages of the reservation that are not the image, and sets a heap apart.
    /// `image` is the length of the image in bytes.
    ///
    /// Neither the heap nor exceptions can be used yet; the loader's tables map all of the reservation.
    pub(crate) fn find(params: &BootParams, free: &Pieces, image: u64) -> Result<Self, NoRoom> {
        let container = params.initramfs().ok_or(NoRoom::NotLoaded)?;
        if !free.iter().any(|piece| piece.covers(container)) {
            return Err(NoRoom::Unreadable);
        }
        let mut header = [0; Fallback::HEADER];
        copy::read_physical(container.start, &mut header).map_err(|_| NoRoom::Unreadable)?;
        let fallback = Fallback::parse(&header, container.len())?;
        let mut occupied = params.loaded().clone();
        // What is one too many is not known of the loader, whose list is shorter.
        let _ = occupied.try_push(container);
        let empty = without(free, &occupied);
        let heap = heap_in(&empty, fallback.kept.saturating_sub(image)).ok_or(NoRoom::TooSmall)?;
        Ok(Self { container, heap, free: without(&empty, &[heap]) })
    }

    /// The heap.
    pub(crate) fn heap(&self) -> Range<PhysicalAddress> {
        self.heap
    }

    /// Where the fallback kernel's parts begin.
    pub(crate) fn start(&self) -> PhysicalAddress {
        self.container.start
    }

    /// The page that describes the fallback kernel, and the length of all of it.
    pub(crate) fn header(&self) -> Result<(&[u8; Fallback::HEADER], u64), NoRoom> {
        let header = self.bytes(0..Fallback::HEADER as u64).and_then(|bytes| bytes.first_chunk());
        Ok((header.ok_or(NoRoom::Unreadable)?, self.container.len()))
    }

    /// A part of the fallback kernel, counted from the page that describes it; `None` if it goes on beyond the end.
    pub(crate) fn bytes(&self, part: core::ops::Range<u64>) -> Option<&[u8]> {
        let start = self.container.start.saturating_add(part.start);
        let range = Range::sized(start, part.end.checked_sub(part.start)?)?;
        if !self.container.covers(range) {
            return None;
        }
        // SAFETY: a part of the reservation, which is mapped as this kernel's own from its first tables on, in which nothing was
        // written since the loader filled it, and which no device reaches. Any bytes are valid.
        Some(unsafe { slice::from_raw_parts(range.start.get() as *const u8, range.len() as usize) })
    }

    /// Where so many bytes fit that begin at a multiple of `alignment`; the highest piece that has room for them.
    pub(crate) fn place(&self, bytes: u64, alignment: u64) -> Option<Range<PhysicalAddress>> {
        self.free.iter().rev().find_map(|piece| first_in(*piece, bytes, alignment))
    }

    /// Copies a part of the fallback kernel to `place`; returns whether it is free and large enough.
    pub(crate) fn put(&mut self, part: core::ops::Range<u64>, place: Range<PhysicalAddress>) -> bool {
        let is_free = self.free.iter().any(|piece| piece.covers(place));
        let Some(bytes) = self.bytes(part).filter(|bytes| is_free && bytes.len() as u64 <= place.len())
        else {
            return false;
        };
        let to = place.start.get() as *mut u8;
        // SAFETY: inside a free piece, which is mapped as this kernel's own and writable, and in which no object lies; the source is
        // elsewhere, in the container, which is no free piece.
        unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        true
    }
}

/// The parts of these pieces that nothing in `occupied` touches.
fn without(pieces: &[Range<PhysicalAddress>], occupied: &[Range<PhysicalAddress>]) -> Pieces {
    let mut free = Pieces::new();
    for &piece in pieces {
        // If there are more than anywhere, some memory is not used.
        for_each_free_part(piece, occupied, &mut |part| {
            let _ = free.try_push(part);
        });
    }
    free
}

/// The heap of at least so many bytes: at the start of the highest piece in which it fits.
fn heap_in(free: &[Range<PhysicalAddress>], bytes: u64) -> Option<Range<PhysicalAddress>> {
    free.iter().rev().find_map(|piece| first_in(*piece, bytes.next_multiple_of(PAGE_SIZE), LARGE_PAGE))
}

fn first_in(piece: Range<PhysicalAddress>, bytes: u64, alignment: u64) -> Option<Range<PhysicalAddress>> {
    let start = piece.start.align_up(alignment);
    Range::sized(start, bytes)
        .filter(|range| start >= piece.start && !range.is_empty() && piece.covers(*range))
}
