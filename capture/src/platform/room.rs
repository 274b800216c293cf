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
use crate::platform::memory::{Pieces, low_part};

/// Large pages of the processor: what begins and ends with one costs the fallback kernel no small ones.
const LARGE_PAGE: u64 = 2 << 20;

/// The fallback kernel, and the room for it.
#[derive(Debug)]
pub(crate) struct Room {
    /// The fallback as the loader put it there: a page that describes it, its kernel and its initramfs.
    container: Range<PhysicalAddress>,
    /// This kernel's heap, which is the fallback's no more than the image is.
    heap: Range<PhysicalAddress>,
    /// The part of it below 4 GiB that this kernel keeps for device tables besides, where the image is above.
    low: Range<PhysicalAddress>,
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
    /// The image is at `image`.
    ///
    /// Neither the heap nor exceptions can be used yet; the loader's tables map all of the reservation.
    pub(crate) fn find(
        params: &BootParams,
        free: &Pieces,
        image: Range<PhysicalAddress>,
    ) -> Result<Self, NoRoom> {
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
        let heap = heap_in(&empty, fallback.kept.saturating_sub(image.len())).ok_or(NoRoom::TooSmall)?;
        let low = low_part(&without(&empty, &[heap]), image);
        Ok(Self { container, heap, low, free: without(&empty, &[heap, low]) })
    }

    /// The heap.
    pub(crate) fn heap(&self) -> Range<PhysicalAddress> {
        self.heap
    }

    /// The part below 4 GiB that is for device tables; empty if the heap is there.
    pub(crate) fn low(&self) -> Range<PhysicalAddress> {
        self.low
    }

    /// What of the heap and the low part stays this kernel's when the fallback kernel gets `unused`, of which nobody uses anything.
    pub(crate) fn kept(&self, unused: &[Range<PhysicalAddress>]) -> Pieces {
        without(&[self.heap, self.low], unused)
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

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    /// Where the loader put things in the reservation of [`Reservation`].
    const PARAMS: u64 = 9 * MIB;
    const CONTAINER: u64 = 2 * MIB;
    const COMMAND_LINE: &str = "nr_cpus=1";

    /// A reservation of 16 MiB, in memory of the test's own.
    struct Reservation(Vec<u8>);

    impl Reservation {
        /// One with a fallback kernel of 4 MiB, for which this kernel keeps so many bytes.
        fn with_fallback(kept: u64) -> Self {
            let reservation = Self(vec![0; 18 << 20]);
            let fallback =
                Fallback { kept, kernel: 3 * MIB, initramfs: MIB - 4096, command_line: COMMAND_LINE };
            reservation.write(CONTAINER, &fallback.header().unwrap());
            reservation.write(CONTAINER + 4096, b"kernel");
            reservation
        }

        fn start(&self) -> u64 {
            (self.0.as_ptr() as u64).next_multiple_of(LARGE_PAGE)
        }

        fn range(&self, range: core::ops::Range<u64>) -> Range<PhysicalAddress> {
            Range::from(self.start() + range.start..self.start() + range.end)
        }

        fn write(&self, at: u64, bytes: &[u8]) {
            let to = (self.start() + at) as *mut u8;
            // SAFETY: memory of the vector, which nothing else refers to.
            unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        }

        /// What the loader hands over: that page, and an initramfs of so many bytes.
        fn params(&self, initramfs: u64) -> BootParams {
            let mut page = [0; 4096];
            let container = self.start() + CONTAINER;
            for (at, number) in
                [(0x218, container), (0x0C0, container >> 32), (0x21C, initramfs), (0x0C4, initramfs >> 32)]
            {
                page[at..at + 4].copy_from_slice(&(number as u32).to_le_bytes());
            }
            let start = self.start() + PARAMS;
            BootParams::copy(start, |address, into| {
                let at = address.checked_sub(start).filter(|at| *at < 4096);
                at.map(|at| into.copy_from_slice(&page[at as usize..][..into.len()])).is_some()
            })
        }

        /// The room in all of it.
        fn room(&self, initramfs: u64) -> Result<Room, NoRoom> {
            self.room_beside(initramfs, Range::default())
        }

        /// The same, with memory below 4 GiB besides.
        fn room_beside(&self, initramfs: u64, low: Range<PhysicalAddress>) -> Result<Room, NoRoom> {
            let free = Pieces::from_iter([low, self.range(0..16 * MIB)]);
            Room::find(&self.params(initramfs), &free, self.range(16 * MIB..17 * MIB))
        }
    }

    #[test]
    fn the_heap_lies_beside_all_that_the_loader_put_there() {
        let reservation = Reservation::with_fallback(5 * MIB);
        let room = reservation.room(4 * MIB).unwrap();
        assert_eq!(room.heap(), reservation.range(10 * MIB..14 * MIB), "what is kept, without the image");
        assert_eq!(room.start().get(), reservation.start() + CONTAINER);
        let taken = [(2 * MIB)..(6 * MIB), PARAMS..PARAMS + 4096, (10 * MIB)..(14 * MIB)];
        let taken = taken.map(|range| reservation.range(range));
        assert!(!room.free.iter().any(|free| taken.iter().any(|taken| free.overlaps(*taken))));
        assert_eq!(room.free.iter().map(|free| free.len()).sum::<u64>(), 8 * MIB - 4096);
        let unused = [(11 * MIB)..(12 * MIB), (13 * MIB)..(14 * MIB)].map(|range| reservation.range(range));
        let kept = [(10 * MIB)..(11 * MIB), (12 * MIB)..(13 * MIB)].map(|range| reservation.range(range));
        assert_eq!((&room.kept(&unused)[..], &room.kept(&[])[..]), (&kept[..], &[room.heap()][..]));
        let (header, length) = room.header().unwrap();
        assert_eq!(Fallback::parse(header, length).unwrap().command_line, COMMAND_LINE);
    }

    /// A table below 4 GiB does not move above in one step.
    #[test]
    fn some_low_memory_is_kept_for_device_tables() {
        let reservation = Reservation::with_fallback(5 * MIB);
        assert!(reservation.start() > 4 << 30, "where this host has memory");
        let low = Range::from(0x1000_0000..0x1200_0000);
        let room = reservation.room_beside(4 * MIB, low).unwrap();
        let (kept, left) = (Range::from(0x1000_0000..0x1080_0000), Range::from(0x1080_0000..0x1200_0000));
        assert_eq!((room.low(), room.free[0]), (kept, left));
        let unused = Range::from(0x1020_0000..0x1080_0000);
        assert_eq!(room.kept(&[unused])[..], [room.heap(), Range::from(0x1000_0000..0x1020_0000)]);
        assert!(reservation.room(4 * MIB).unwrap().low().is_empty());
    }

    #[test]
    fn what_is_no_fallback_leaves_all_of_the_reservation_to_this_kernel() {
        let reservation = Reservation::with_fallback(4 * MIB);
        let why = |initramfs| reservation.room(initramfs).unwrap_err();
        assert_eq!(why(0), NoRoom::NotLoaded);
        assert_eq!(why(3 * MIB), NoRoom::Damaged(FallbackError::Damaged), "cut off");
        assert_eq!(why(15 * MIB), NoRoom::Unreadable, "it goes on beyond the reservation");
        assert_eq!(why(u64::MAX), NoRoom::NotLoaded, "beyond all addresses");
        reservation.write(CONTAINER + 100, &[1]);
        assert_eq!(why(4 * MIB), NoRoom::Damaged(FallbackError::Damaged));
        reservation.write(CONTAINER, b"070701");
        assert_eq!(why(4 * MIB), NoRoom::Damaged(FallbackError::NoFallback), "an archive");
        for kept in [9 * MIB, 1 << 40, u64::MAX] {
            let greedy = Reservation::with_fallback(kept);
            assert_eq!(greedy.room(4 * MIB).unwrap_err(), NoRoom::TooSmall, "{kept:#x}");
        }
    }

    #[test]
    fn the_kernel_is_put_where_nothing_else_is() {
        let reservation = Reservation::with_fallback(5 * MIB);
        let mut room = reservation.room(4 * MIB).unwrap();
        assert_eq!(room.place(2 * MIB, 2 * MIB), Some(reservation.range(14 * MIB..16 * MIB)));
        assert_eq!(room.place(3 * MIB, 2 * MIB), Some(reservation.range(6 * MIB..9 * MIB)));
        assert_eq!(room.place(4 * MIB, 2 * MIB), None);
        assert_eq!(room.place(u64::MAX, 2 * MIB), None);
        let part = 4096..4102;
        for taken in [2 * MIB, 5 * MIB, 10 * MIB, 20 * MIB] {
            assert!(!room.put(part.clone(), reservation.range(taken..taken + 4096)), "{taken:#x}");
        }
        assert!(!room.put(part.clone(), reservation.range(14 * MIB..14 * MIB + 5)), "too short");
        assert!(!room.put(4 * MIB..4 * MIB + 4096, reservation.range(14 * MIB..16 * MIB)), "no such part");
        let place = room.place(2 * MIB, 2 * MIB).unwrap();
        assert!(room.put(part, place));
        assert_eq!(
            &reservation.0[(place.start.get() - reservation.0.as_ptr() as u64) as usize..][..6],
            b"kernel"
        );
    }

    #[test]
    fn no_part_goes_beyond_the_container() {
        let reservation = Reservation::with_fallback(5 * MIB);
        let room = reservation.room(4 * MIB).unwrap();
        assert_eq!(room.bytes(4096..4102), Some(&b"kernel"[..]));
        assert_eq!(room.bytes(4 * MIB..4 * MIB).map(<[u8]>::len), Some(0));
        for part in [0..4 * MIB + 1, 4 * MIB..4 * MIB + 1, u64::MAX - 1..u64::MAX] {
            assert_eq!(room.bytes(part), None);
        }
        #[expect(clippy::reversed_empty_ranges, reason = "what a damaged header may say")]
        let backwards = 5..4;
        assert_eq!(room.bytes(backwards), None);
    }
}
