//! The heap: all of the crash reservation that nothing else occupies.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::NonNull;

use machine::{PAGE_SIZE, PhysicalAddress, Range};
use talc::{TalcCell, source::Manual};

#[cfg_attr(freestanding, global_allocator)]
static HEAP: Heap = Heap(TalcCell::new(Manual));

/// An allocator without a lock: this kernel runs on one processor, and its exception handlers do not allocate.
struct Heap(TalcCell<Manual>);

// SAFETY: there is one processor, and nothing that interrupts it uses the heap.
unsafe impl Sync for Heap {}

// SAFETY: forwards to an allocator.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is the callee's condition.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is the callee's condition.
        unsafe { self.0.dealloc(start, layout) }
    }

    unsafe fn realloc(&self, start: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise is the callee's condition.
        unsafe { self.0.realloc(start, layout, size) }
    }
}

/// Clears memory and gives it to the heap.
///
/// Clearing is for machines that are emulated: the loader's last code lies in there, and an emulator keeps its translation
/// of it. A store beside such code then takes ten times as long as others do, until one overwrites it.
///
/// # Safety
///
/// `memory` is mapped at its physical address, writable, used by nothing else, and stays so.
pub(crate) unsafe fn claim(memory: Range<PhysicalAddress>) {
    let (start, len) = (memory.start.get() as *mut u8, memory.len() as usize);
    // SAFETY: the caller's promise is the callee's condition.
    unsafe { start.write_bytes(0, len) };
    // SAFETY: the caller's promise is the callee's condition. Memory too small to be of use is left alone.
    let _ = unsafe { HEAP.0.claim(start, len) };
}

/// A block of whole page frames of the heap that nobody uses; it goes back to the heap when this is dropped.
#[derive(Debug)]
pub(crate) struct Unused {
    start: NonNull<u8>,
    layout: Layout,
}

impl Unused {
    /// The largest block that there is, of at most so many page frames.
    pub(crate) fn largest(most: usize) -> Option<Self> {
        let (mut fits, mut too_many) = (0, most.saturating_add(1));
        while too_many - fits > 1 {
            let frames = usize::midpoint(fits, too_many);
            // A block that was only tried goes back at once.
            if Self::of(frames).is_some() {
                fits = frames;
            } else {
                too_many = frames;
            }
        }
        Self::of(fits)
    }

    fn of(frames: usize) -> Option<Self> {
        let size = frames.checked_mul(PAGE_SIZE as usize).filter(|size| *size > 0)?;
        let layout = Layout::from_size_align(size, PAGE_SIZE as usize).ok()?;
        // SAFETY: the layout's size is not zero.
        NonNull::new(unsafe { alloc::alloc::alloc(layout) }).map(|start| Self { start, layout })
    }

    /// The physical addresses.
    pub(crate) fn range(&self) -> Range<PhysicalAddress> {
        let start = self.start.as_ptr() as u64;
        Range::from(start..start + self.layout.size() as u64)
    }
}

impl Drop for Unused {
    fn drop(&mut self) {
        // SAFETY: what `of` has allocated, by the same layout.
        unsafe { alloc::alloc::dealloc(self.start.as_ptr(), self.layout) };
    }
}

/// Physically contiguous page frames of our own memory, for tables and buffers that hardware reads. They are never freed.
///
/// In this kernel, virtual addresses equal physical addresses.
#[derive(Debug)]
pub(crate) struct Pages {
    start: NonNull<u8>,
    range: Range<PhysicalAddress>,
}

impl Pages {
    /// Takes `count` page frames from the heap; their content is unspecified.
    pub(crate) fn allocate(count: usize) -> Option<Self> {
        let size = count.checked_mul(PAGE_SIZE as usize)?;
        let layout = Layout::from_size_align(size.max(1), PAGE_SIZE as usize).ok()?;
        // SAFETY: the layout's size is not zero.
        let start = NonNull::new(unsafe { alloc::alloc::alloc(layout) })?;
        let range = Range::sized(PhysicalAddress::new(start.as_ptr() as u64), size as u64)?;
        Some(Self { start, range })
    }

    /// Page frames that are set aside otherwise than by the heap.
    ///
    /// # Safety
    ///
    /// `count` page frames from `start` on are mapped at their physical address, writable, and used by nothing
    /// else.
    pub(crate) unsafe fn set_aside(start: NonNull<u8>, count: usize) -> Self {
        let address = start.as_ptr() as u64;
        Self { start, range: Range::from(address..address + count as u64 * PAGE_SIZE) }
    }

    /// The page frames in this range, which is not at address zero.
    ///
    /// # Safety
    ///
    /// As for [`set_aside`](Self::set_aside).
    pub(crate) unsafe fn at(range: Range<PhysicalAddress>) -> Self {
        let start = NonNull::new(range.start.get() as *mut u8).unwrap_or(NonNull::dangling());
        Self { start, range }
    }

    /// The physical addresses.
    pub(crate) fn range(&self) -> Range<PhysicalAddress> {
        self.range
    }

    /// The first byte.
    pub(crate) fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_block_is_whole_frames_up_to_what_is_asked_for() {
        for most in [1, 2, 3, 100, 1025] {
            let unused = Unused::largest(most).unwrap();
            assert_eq!(unused.range().len(), most as u64 * PAGE_SIZE, "this host has memory enough");
            assert!(unused.range().start.is_aligned(PAGE_SIZE));
        }
        assert!(Unused::largest(0).is_none());
        // More than there are addresses.
        let largest = Unused::largest(usize::MAX).map(|unused| unused.range().len());
        assert!(largest.is_none_or(|bytes| bytes < 1 << 47), "{largest:?}");
    }
}
