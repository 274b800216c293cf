//! Allocates I/O virtual addresses around those that are already in use.
//!
//! A [`Space`] is the address space of one remapping domain. The caller first [reserves](Space::reserve) everything
//! that must not be handed out: what the dead kernel mapped, MSI windows, RMRRs. Drivers then
//! [allocate](Space::allocate) from the rest.
//!
//! ```
//! use iova::Space;
//! use machine::{IoAddress, Range};
//!
//! # fn main() -> Result<(), Box<dyn core::error::Error>> {
//! let mut space = Space::new(Range::from(0x1000..1 << 39), 8192)?;
//! space.reserve(Range::from(0x1000..0x9000)); // the dead kernel mapped it
//! space.reserve(Range::from(0xFEE0_0000..0xFEF0_0000)); // interrupts
//!
//! let window = space.window();
//! assert_eq!(space.allocate(0x4000, 0x1000, window), Some(IoAddress::new(0x9000)));
//! assert_eq!(space.allocate(0x1000, 0x1000, window), Some(IoAddress::new(0xD000)));
//! space.release(Range::from(0x9000..0xD000))?;
//! assert!(space.is_free(Range::from(0x9000..0xD000)));
//! # Ok(())
//! # }
//! ```
//!
//! A space keeps two sorted lists: the reserved ranges, which only ever grow together, and the live allocations,
//! which come and go. A search walks both lists at once and starts where the last search succeeded (next fit), so a
//! typical allocation looks at two list entries. Page tables are walked in address order, so a typical reservation is
//! an append. A full list never makes a call fail: see [`Space::reserve`].

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_macros))]

extern crate alloc;

mod runs;

use alloc::vec::Vec;
use machine::{IoAddress, Range};
use runs::{Cursor, Runs};

pub use machine::OutOfMemory;

/// The caller released a range that was not allocated, or that was not one allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} was not allocated")]
pub struct NotAllocated(pub Range<IoAddress>);

/// Which I/O virtual addresses of one domain are in use.
#[derive(Debug)]
pub struct Space {
    window: Range<IoAddress>,
    reserved: Runs,
    /// Live allocations: sorted, disjoint, each as [`Space::allocate`] returned it.
    allocated: Vec<Range<IoAddress>>,
    /// Where the next search starts, and what lies there.
    next: IoAddress,
    cursor: Cursor,
}

impl Space {
    /// Makes a space over `window`, the addresses that the domain's width allows. It remembers at most `limit`
    /// separate reserved ranges (at least two).
    ///
    /// It uses 16 bytes for each separate reserved range and for each live allocation.
    pub fn new(window: Range<IoAddress>, limit: usize) -> Result<Self, OutOfMemory> {
        let reserved = Runs::new(limit)?;
        Ok(Self { window, reserved, allocated: Vec::new(), next: window.start, cursor: Cursor::default() })
    }

    /// Makes a space in which nothing is allocated and everything is reserved that is reserved or allocated here.
    pub fn twin(&self) -> Result<Self, OutOfMemory> {
        let reserved = self.reserved.twin()?;
        let mut twin = Self {
            window: self.window,
            reserved,
            allocated: Vec::new(),
            next: self.next,
            cursor: Cursor::default(),
        };
        self.allocated.iter().for_each(|range| twin.reserve(*range));
        Ok(twin)
    }

    /// The addresses that this space manages.
    pub fn window(&self) -> Range<IoAddress> {
        self.window
    }

    /// Keeps `range` from ever being allocated.
    ///
    /// Ranges may come in any order, overlap and repeat; ascending ones are cheapest. Addresses outside the window
    /// are ignored. This cannot fail: when the list reaches its limit, or memory runs out, it also reserves the
    /// smallest gaps between reserved ranges. That is always safe, and [`gaps_closed`](Self::gaps_closed) counts
    /// those gaps.
    pub fn reserve(&mut self, range: Range<IoAddress>) {
        self.reserved.insert(range.intersection(self.window));
    }

    /// Allocates `len` addresses inside `within` that are neither reserved nor allocated, and returns the first.
    ///
    /// `align` is a power of two. Returns `None` if no such range is free, if `len` is zero, or if there is no memory
    /// to record the allocation.
    pub fn allocate(&mut self, len: u64, align: u64, within: Range<IoAddress>) -> Option<IoAddress> {
        let area = within.intersection(self.window);
        if len == 0 || !align.is_power_of_two() || area.is_empty() {
            return None;
        }
        self.allocated.try_reserve(1).ok()?;
        let start = self.find_from_last(len, align, area)?;
        let range = Range::sized(start, len)?;
        #[cfg_attr(not(test), expect(clippy::disallowed_methods, reason = "memory is taken before"))]
        self.allocated.insert(self.cursor.allocated, range);
        self.next = range.end;
        Some(start)
    }

    /// Frees a whole allocation. Reserved addresses stay reserved.
    pub fn release(&mut self, range: Range<IoAddress>) -> Result<(), NotAllocated> {
        let found = self.allocated.binary_search(&range).map_err(|_| NotAllocated(range))?;
        self.allocated.remove(found);
        Ok(())
    }

    /// Whether every address of `range` is inside the window and neither reserved nor allocated.
    pub fn is_free(&self, range: Range<IoAddress>) -> bool {
        let mut cursor = Cursor::default();
        self.window.covers(range) && cursor.obstacle(self.reserved.list(), &self.allocated, range).is_none()
    }

    /// The reserved ranges: ascending, none touching the next.
    pub fn reserved(&self) -> &[Range<IoAddress>] {
        self.reserved.list()
    }

    /// The live allocations, ascending.
    pub fn allocated(&self) -> &[Range<IoAddress>] {
        &self.allocated
    }

    /// How many gaps between reserved ranges were reserved too because the list was full.
    pub fn gaps_closed(&self) -> u64 {
        self.reserved.gaps_closed()
    }

    /// Searches `area` from where the last search ended, then the part before that.
    fn find_from_last(&mut self, len: u64, align: u64, area: Range<IoAddress>) -> Option<IoAddress> {
        let resumed = Range::new(self.next.max(area.start), area.end);
        self.find(len, align, resumed).or_else(|| self.find(len, align, area))
    }

    /// First fit in `area`; leaves the cursor there.
    fn find(&mut self, len: u64, align: u64, area: Range<IoAddress>) -> Option<IoAddress> {
        let mut start = next_multiple(area.start, align)?;
        loop {
            let wanted = Range::sized(start, len)?;
            if !area.covers(wanted) {
                return None;
            }
            match self.cursor.obstacle(self.reserved.list(), &self.allocated, wanted) {
                None => return Some(start),
                Some(obstacle) => start = next_multiple(obstacle.end, align)?,
            }
        }
    }
}

/// The first multiple of `align` that is not before `address`, if there is one.
fn next_multiple(address: IoAddress, align: u64) -> Option<IoAddress> {
    address.get().checked_next_multiple_of(align).map(IoAddress::new)
}

/// The example in README.md, which is compiled too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(test)]
mod tests {
    use super::*;

    const fn range(start: u64, end: u64) -> Range<IoAddress> {
        Range::new(IoAddress::new(start), IoAddress::new(end))
    }

    const ANYWHERE: Range<IoAddress> = range(0, u64::MAX);

    #[test]
    fn what_was_reserved_is_never_handed_out_nor_released() {
        let mut space = Space::new(range(0, 0x4000), 8).unwrap();
        space.reserve(range(0x1000, 0x3000));
        assert_eq!(space.allocate(0x1000, 0x1000, ANYWHERE), Some(IoAddress::new(0)));
        assert_eq!(space.allocate(0x1000, 0x1000, ANYWHERE), Some(IoAddress::new(0x3000)));
        assert_eq!(space.allocate(0x1000, 0x1000, ANYWHERE), None);
        assert!(space.release(range(0x1000, 0x2000)).is_err());
        assert_eq!(space.release(range(0, 0x1000)), Ok(()));
        assert_eq!(space.allocate(0x1000, 0x1000, ANYWHERE), Some(IoAddress::new(0)));
    }

    #[test]
    fn a_reservation_over_a_live_allocation_outlives_it() {
        let mut space = Space::new(range(0, 0x2000), 8).unwrap();
        let start = space.allocate(0x1000, 0x1000, ANYWHERE).unwrap();
        space.reserve(Range::new(start, start.saturating_add(0x1000)));
        space.release(Range::new(start, start.saturating_add(0x1000))).unwrap();
        assert!(!space.is_free(Range::new(start, start.saturating_add(0x1000))));
    }

    #[test]
    fn a_twin_keeps_free_what_is_in_use_and_goes_its_own_way() {
        let mut space = Space::new(range(0, 0x4000), 8).unwrap();
        space.reserve(range(0, 0x1000));
        assert_eq!(space.allocate(0x1000, 0x1000, ANYWHERE), Some(IoAddress::new(0x1000)));
        let mut twin = space.twin().unwrap();
        assert_eq!(twin.reserved(), [range(0, 0x2000)]);
        assert_eq!(twin.allocate(0x1000, 0x1000, ANYWHERE), Some(IoAddress::new(0x2000)));
        assert_eq!(space.allocate(0x1000, 0x1000, ANYWHERE), Some(IoAddress::new(0x2000)));
    }

    #[test]
    fn a_request_that_makes_no_sense_is_refused() {
        let mut space = Space::new(range(0, 1 << 48), 8).unwrap();
        assert_eq!(space.allocate(0, 0x1000, ANYWHERE), None);
        assert_eq!(space.allocate(0x1000, 0x1001, ANYWHERE), None);
        assert_eq!(space.allocate(u64::MAX, 1, ANYWHERE), None);
        assert_eq!(space.allocate(0x1000, 1 << 63, range(1, u64::MAX)), None);
        assert_eq!(space.allocate(0x1000, 0x1000, range(5, 3)), None);
    }

    #[test]
    fn an_allocation_stays_inside_the_range_asked_for() {
        let mut space = Space::new(range(0, 1 << 48), 8).unwrap();
        let low = range(0x10_0000, 0x10_2000);
        assert_eq!(space.allocate(0x2000, 0x1000, low), Some(IoAddress::new(0x10_0000)));
        assert_eq!(space.allocate(0x1000, 0x1000, low), None);
        assert_eq!(space.allocate(0x1000, 0x20_0000, ANYWHERE), Some(IoAddress::new(0x20_0000)));
    }
}
