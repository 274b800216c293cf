//! Page frames that hardware walks: the processor's own page tables and the remapping units' tables.

use core::ops::Range as Indices;
use core::sync::atomic::{AtomicU64, Ordering};

use alloc::vec::Vec;
use core::arch::x86_64::{_mm_clflush, _mm_mfence};
use machine::growth::push;
use machine::{CopyError, Frames, OldMemory, PAGE_SIZE, PhysicalAddress, Position, Range, Table};

use crate::platform::heap::Pages;

/// Bytes in a line of the processor's cache, on every x86-64 processor.
const CACHE_LINE: usize = 64;

/// A fixed number of page frames of our own memory.
#[derive(Debug)]
pub(crate) struct FramePool {
    pages: Pages,
    /// Frames below this one have been handed out at least once.
    unused: PhysicalAddress,
    released: Vec<PhysicalAddress>,
}

impl FramePool {
    /// Sets `count` frames aside; `None` if the heap has fewer.
    pub(crate) fn new(count: usize) -> Option<Self> {
        Pages::allocate(count).map(Self::of)
    }

    /// A pool of these frames.
    pub(crate) fn of(pages: Pages) -> Self {
        Self { unused: pages.range().start, pages, released: Vec::new() }
    }

    /// All of the pool's memory.
    pub(crate) fn range(&self) -> Range<PhysicalAddress> {
        self.pages.range()
    }

    /// The end of the pool, in which no frame was ever handed out.
    pub(crate) fn never_used(&self) -> Range<PhysicalAddress> {
        Range::new(self.unused, self.range().end)
    }

    /// How many frames are handed out.
    pub(crate) fn used(&self) -> usize {
        (self.unused.count_since(self.range().start) / PAGE_SIZE) as usize - self.released.len()
    }

    fn next_unused(&mut self) -> Option<PhysicalAddress> {
        let frame = Some(self.unused).filter(|frame| *frame < self.range().end)?;
        self.unused = frame.saturating_add(PAGE_SIZE);
        Some(frame)
    }

    /// Takes a frame, with the content that its last user left.
    fn take(&mut self) -> Option<PhysicalAddress> {
        self.released.pop().or_else(|| self.next_unused())
    }

    /// A pointer to a frame of this pool that was handed out; any other frame is a bug.
    fn pointer(&self, frame: PhysicalAddress) -> *mut Table {
        let handed_out = Range::new(self.range().start, self.unused);
        let ours = handed_out.contains(frame) && frame.is_aligned(PAGE_SIZE);
        assert!(ours, "{frame:#x} is no frame of this pool");
        self.pages.start().wrapping_add(frame.count_since(self.range().start) as usize).cast()
    }
}

impl Frames for FramePool {
    fn allocate(&mut self) -> Option<PhysicalAddress> {
        let frame = self.take()?;
        self.table_mut(frame).fill(0);
        Some(frame)
    }

    /// The frame is not zeroed first, because that takes as long as the copy.
    fn allocate_copy(
        &mut self,
        old: &impl OldMemory,
        address: PhysicalAddress,
    ) -> Result<PhysicalAddress, CopyError> {
        let frame = self.take().ok_or(CopyError::OutOfFrames)?;
        match old.read_table(address, self.table_mut(frame)) {
            Ok(()) => Ok(frame),
            Err(unreadable) => {
                self.release(frame);
                Err(unreadable.into())
            }
        }
    }

    /// Takes the run from frames that were never handed out; released frames are not contiguous.
    fn allocate_run(&mut self, count: usize) -> Option<PhysicalAddress> {
        let first = self.unused;
        let run = Range::sized(first, count as u64 * PAGE_SIZE);
        let run = run.filter(|run| self.range().covers(*run))?;
        self.unused = run.end;
        for frame in (run.start.get()..run.end.get()).step_by(PAGE_SIZE as usize) {
            self.table_mut(frame.into()).fill(0);
        }
        Some(first)
    }

    fn release(&mut self, frame: PhysicalAddress) {
        self.pointer(frame);
        // If there is no memory to remember the frame, it is lost.
        let _ = push(&mut self.released, frame);
    }

    fn available(&self) -> usize {
        (self.range().len() / PAGE_SIZE) as usize - self.used()
    }

    fn table(&self, frame: PhysicalAddress) -> &Table {
        // SAFETY: a frame of this pool: mapped, page-aligned, and written only through `&mut self`; hardware that walks
        // it sets no more than accessed and dirty bits, which nobody compares.
        unsafe { &*self.pointer(frame) }
    }

    fn table_mut(&mut self, frame: PhysicalAddress) -> &mut Table {
        // SAFETY: as in `table`, and the borrow is exclusive; no hardware uses the frame yet.
        unsafe { &mut *self.pointer(frame) }
    }

    fn load(&self, frame: PhysicalAddress, index: usize) -> u64 {
        let table: *mut u64 = self.pointer(frame).cast();
        assert!(index < machine::ENTRIES);
        // SAFETY: an aligned entry of a frame of this pool; atomic because hardware may be writing it.
        unsafe { AtomicU64::from_ptr(table.add(index)) }.load(Ordering::Acquire)
    }

    fn store(&mut self, frame: PhysicalAddress, index: usize, entry: u64) {
        let table: *mut u64 = self.pointer(frame).cast();
        assert!(index < machine::ENTRIES);
        // SAFETY: an aligned entry of a frame of this pool; the single atomic store is what a walker may see.
        unsafe { AtomicU64::from_ptr(table.add(index)) }.store(entry, Ordering::Release);
    }

    fn publish(&mut self, frame: PhysicalAddress, entries: Indices<usize>) {
        let table: *mut u8 = self.pointer(frame).cast();
        let bytes = entries.start * 8..entries.end.min(machine::ENTRIES) * 8;
        for line in (bytes.start / CACHE_LINE)..bytes.end.div_ceil(CACHE_LINE) {
            // SAFETY: an address within the frame; flushing a cache line changes no memory.
            unsafe { _mm_clflush(table.wrapping_add(line * CACHE_LINE)) };
        }
        // SAFETY: every x86-64 processor has the instruction. It orders the flushes before later stores, among them the
        // store to a register that makes hardware look.
        unsafe { _mm_mfence() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use machine::Unreadable;

    #[test]
    fn the_pool_hands_out_zeroed_frames_up_to_its_budget() {
        let mut pool = FramePool::new(2).unwrap();
        let first = pool.allocate().unwrap();
        pool.table_mut(first)[7] = 1;
        pool.store(first, 8, 2);
        assert_eq!(pool.table(first)[7..9], [1, 2]);
        assert_eq!((pool.load(first, 8), pool.load(first, 9)), (2, 0));
        assert!(pool.allocate().is_some());
        assert_eq!((pool.available(), pool.allocate()), (0, None));

        pool.release(first);
        assert_eq!(pool.available(), 1);
        assert_eq!(pool.allocate(), Some(first));
        assert_eq!(*pool.table(first), [0; 512]);
    }

    /// A page of sevens at address 0, and nothing else.
    struct Sevens;

    impl OldMemory for Sevens {
        fn read(&self, address: PhysicalAddress, into: &mut [u8]) -> Result<(), Unreadable> {
            Err(Unreadable { address, len: into.len() as u64 })
        }

        fn read_table(&self, address: PhysicalAddress, into: &mut Table) -> Result<(), Unreadable> {
            into[..100].fill(7);
            if address > PhysicalAddress::default() {
                return Err(Unreadable { address, len: PAGE_SIZE });
            }
            into.fill(7);
            Ok(())
        }
    }

    #[test]
    fn what_a_copy_that_failed_left_in_a_frame_is_not_seen() {
        let mut pool = FramePool::new(1).unwrap();
        let unreadable = Unreadable { address: 0x1000.into(), len: PAGE_SIZE };
        assert_eq!(pool.allocate_copy(&Sevens, 0x1000.into()), Err(CopyError::Unreadable(unreadable)));
        let frame = pool.allocate().unwrap();
        assert_eq!(*pool.table(frame), [0; 512]);
        assert_eq!(pool.allocate_copy(&Sevens, 0.into()), Err(CopyError::OutOfFrames));
        pool.release(frame);
        assert_eq!(pool.allocate_copy(&Sevens, 0.into()), Ok(frame));
        assert_eq!(*pool.table(frame), [7; 512]);
    }

    #[test]
    fn frames_of_a_run_lie_side_by_side() {
        let mut pool = FramePool::new(5).unwrap();
        let single = pool.allocate().unwrap();
        let run = pool.allocate_run(3).unwrap();
        assert_eq!(run, single.saturating_add(PAGE_SIZE));
        assert_eq!((pool.available(), pool.allocate_run(2)), (1, None));
        assert_eq!(pool.never_used(), Range::new(run.saturating_add(3 * PAGE_SIZE), pool.range().end));
        pool.release(run.saturating_add(PAGE_SIZE));
        assert_eq!(pool.never_used().len(), PAGE_SIZE, "a frame that was used is none of them");
        assert_eq!(pool.allocate(), Some(run.saturating_add(PAGE_SIZE)));
    }

    #[test]
    #[should_panic(expected = "no frame of this pool")]
    fn a_frame_that_was_not_handed_out_is_refused() {
        let pool = FramePool::new(2).unwrap();
        pool.table(pool.range().start);
    }

    #[test]
    fn publishing_any_part_of_a_frame_stays_inside_it() {
        let mut pool = FramePool::new(1).unwrap();
        let frame = pool.allocate().unwrap();
        pool.publish(frame, 0..512);
        pool.publish(frame, 511..9999);
        pool.publish(frame, 3..3);
    }
}
