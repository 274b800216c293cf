//! Page frames that hardware walks: the processor's own page tables and the remapping units' tables.

use core::ops::Range as Indices;
use core::sync::atomic::{AtomicU64, Ordering};

use alloc::vec::Vec;
use core::arch::x86_64::{_mm_clflush, _mm_mfence};
use machine::growth::push;
use machine::{
    Contended, CopyError, Frames, OldMemory, PAGE_SIZE, PhysicalAddress, Position, Range, Table, Unreadable,
};

use crate::platform::heap::Pages;
use crate::platform::write_protection::store_past;

/// Bytes in a line of the processor's cache, on every x86-64 processor.
const CACHE_LINE: usize = 64;

/// A fixed number of page frames of our own memory.
#[derive(Debug)]
pub(crate) struct FramePool {
    pages: Pages,
    /// Frames below this one have been handed out at least once.
    unused: PhysicalAddress,
    released: Vec<PhysicalAddress>,
    /// Frames below 4 GiB, where the others are above.
    pub(crate) low: Option<LowFrames>,
    /// The dead kernel's memory that hardware goes on using where it is.
    reused: Vec<Range<PhysicalAddress>>,
}

/// Frames that are handed out in runs, and never taken back.
#[derive(Debug)]
pub(crate) struct LowFrames {
    pages: Pages,
    unused: PhysicalAddress,
}

impl LowFrames {
    /// These pages, of which nothing was handed out.
    pub(crate) fn of(pages: Pages) -> Self {
        Self { unused: pages.range().start, pages }
    }

    fn take(&mut self, count: usize) -> Option<Range<PhysicalAddress>> {
        let run = Range::sized(self.unused, count as u64 * PAGE_SIZE);
        let run = run.filter(|run| self.pages.range().covers(*run))?;
        self.unused = run.end;
        Some(run)
    }

    fn used(&self) -> usize {
        (self.unused.count_since(self.pages.range().start) / PAGE_SIZE) as usize
    }

    fn has_handed_out(&self, frame: PhysicalAddress) -> bool {
        Range::new(self.pages.range().start, self.unused).contains(frame)
    }
}

impl FramePool {
    /// Sets `count` frames aside; `None` if the heap has fewer.
    pub(crate) fn new(count: usize) -> Option<Self> {
        Pages::allocate(count).map(Self::of)
    }

    /// A pool of these frames.
    pub(crate) fn of(pages: Pages) -> Self {
        Self { unused: pages.range().start, pages, released: Vec::new(), low: None, reused: Vec::new() }
    }

    /// All of the pool's memory.
    pub(crate) fn range(&self) -> Range<PhysicalAddress> {
        self.pages.range()
    }

    /// The ends of the pool and of the low frames, in which no frame was ever handed out.
    pub(crate) fn never_used(&self) -> [Range<PhysicalAddress>; 2] {
        let low = self.low.as_ref().map(|low| Range::new(low.unused, low.pages.range().end));
        [Range::new(self.unused, self.range().end), low.unwrap_or_default()]
    }

    /// How many frames are handed out.
    pub(crate) fn used(&self) -> usize {
        self.used_of_pool() + self.low.as_ref().map_or(0, LowFrames::used)
    }

    fn used_of_pool(&self) -> usize {
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
        let low = self.low.as_ref().filter(|low| low.has_handed_out(frame));
        let ours = (handed_out.contains(frame) || low.is_some()) && frame.is_aligned(PAGE_SIZE);
        assert!(ours, "{frame:#x} is no frame of this pool");
        if let Some(LowFrames { pages, .. }) = low {
            return pages.start().wrapping_add(frame.count_since(pages.range().start) as usize).cast();
        }
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

    fn allocate_run_below(&mut self, count: usize, limit: PhysicalAddress) -> Option<PhysicalAddress> {
        if self.range().end <= limit {
            return self.allocate_run(count);
        }
        let run = self.low.as_mut().filter(|low| low.pages.range().end <= limit)?.take(count)?;
        for frame in (run.start.get()..run.end.get()).step_by(PAGE_SIZE as usize) {
            self.table_mut(frame.into()).fill(0);
        }
        Some(run.start)
    }

    fn release(&mut self, frame: PhysicalAddress) {
        self.pointer(frame);
        if self.low.as_ref().is_some_and(|low| low.has_handed_out(frame)) {
            return;
        }
        // If there is no memory to remember the frame, it is lost.
        let _ = push(&mut self.released, frame);
    }

    fn available(&self) -> usize {
        (self.range().len() / PAGE_SIZE) as usize - self.used_of_pool()
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
        let is_reused =
            frame.is_aligned(PAGE_SIZE) && self.reused.iter().any(|memory| memory.contains(frame));
        let table: *mut u64 = if is_reused { frame.get() as *mut u64 } else { self.pointer(frame).cast() };
        assert!(index < machine::ENTRIES);
        // SAFETY: an aligned entry of a frame of this pool, or of a page that could be read; atomic because hardware may be writing it.
        unsafe { AtomicU64::from_ptr(table.add(index)) }.load(Ordering::Acquire)
    }

    fn store(&mut self, frame: PhysicalAddress, index: usize, entry: u64) {
        let table: *mut u64 = self.pointer(frame).cast();
        assert!(index < machine::ENTRIES);
        // SAFETY: an aligned entry of a frame of this pool; the single atomic store is what a walker may see.
        unsafe { AtomicU64::from_ptr(table.add(index)) }.store(entry, Ordering::Release);
    }

    fn reuse(&mut self, old: &impl OldMemory, memory: Range<PhysicalAddress>) -> Result<(), Unreadable> {
        let unusable = Unreadable { address: memory.start, len: memory.len() };
        let mut bytes = [0; 512];
        // All of it: a machine check in what is bad would end everything later.
        for at in (memory.start.get()..memory.end.get()).step_by(bytes.len()) {
            old.read(at.into(), &mut bytes)?;
        }
        push(&mut self.reused, memory).map_err(|_| unusable)
    }

    fn store_pair(&mut self, address: PhysicalAddress, words: [u64; 2]) -> Result<(), Contended> {
        let pair = Range::new(address, address.saturating_add(16));
        let is_reused = self.reused.iter().any(|memory| memory.covers(pair));
        assert!(address.is_aligned(16) && is_reused, "{address:#x} is in no memory that is used where it is");
        // SAFETY: memory of the dead kernel's, which could be read and so is mapped; nothing of this kernel's is there.
        let is_stored =
            unsafe { store_past(address.get(), u128::from(words[1]) << 64 | u128::from(words[0])) };
        if is_stored { Ok(()) } else { Err(Contended(address)) }
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
    use crate::platform::memory::Mapped;

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
        let rest = Range::new(run.saturating_add(3 * PAGE_SIZE), pool.range().end);
        assert_eq!(pool.never_used(), [rest, Range::default()]);
        pool.release(run.saturating_add(PAGE_SIZE));
        assert_eq!(pool.never_used()[0].len(), PAGE_SIZE, "a frame that was used is none of them");
        assert_eq!(pool.allocate(), Some(run.saturating_add(PAGE_SIZE)));
    }

    #[test]
    fn memory_that_is_used_where_it_is_can_be_changed_in_pairs() {
        let mut pool = FramePool::new(1).unwrap();
        let page = Pages::allocate(1).unwrap();
        let start = page.range().start;
        // SAFETY: the page, which is this test's.
        unsafe { page.start().write_bytes(0, PAGE_SIZE as usize) };
        pool.reuse(&Mapped, page.range()).unwrap();
        pool.store_pair(start.saturating_add(32), [4, 5]).unwrap();
        assert_eq!([3, 4, 5, 6].map(|index| pool.load(start, index)), [0, 4, 5, 0]);
        assert!(pool.reuse(&Sevens, page.range()).is_err(), "it cannot be read");
    }

    #[test]
    fn low_frames_are_handed_out_in_runs_below_a_limit() {
        let block = Pages::allocate(8).unwrap().range();
        let limit = block.start.saturating_add(4 * PAGE_SIZE);
        // SAFETY: two halves of a block that is this test's.
        let [low, high] = [Range::new(block.start, limit), Range::new(limit, block.end)]
            .map(|half| unsafe { Pages::at(half) });
        let mut pool = FramePool::of(high);
        assert_eq!(pool.allocate_run_below(2, limit), None);
        pool.low = Some(LowFrames::of(low));
        assert_eq!(pool.allocate_run_below(3, limit), Some(block.start));
        assert_eq!(pool.allocate_run_below(2, limit), None, "there are four");
        assert_eq!(pool.allocate_run_below(1, block.start), None, "they are above that");
        assert_eq!(pool.allocate_run(2), Some(limit), "others are above");
        let last = block.start.saturating_add(2 * PAGE_SIZE);
        assert_eq!(*pool.table(last), [0; 512]);
        pool.store(last, 511, 7);
        assert_eq!((pool.load(last, 511), pool.used(), pool.available()), (7, 5, 2));
        assert_eq!(pool.never_used()[1], Range::new(last.saturating_add(PAGE_SIZE), limit));
        pool.release(last);
        assert_eq!((pool.used(), pool.available()), (5, 2), "it is not handed out again");
        let others = limit.saturating_add(2 * PAGE_SIZE);
        assert_eq!(pool.allocate_run_below(2, block.end), Some(others), "all are below that limit");
    }

    #[test]
    #[should_panic(expected = "is used where it is")]
    fn other_memory_is_not_written() {
        let mut pool = FramePool::new(1).unwrap();
        let frame = pool.allocate().unwrap();
        let _ = pool.store_pair(frame, [1, 2]);
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
