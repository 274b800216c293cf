//! A heap of which one allocation fails.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// What happens to memory at the allocation that was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// That allocation fails.
    LacksOne,
    /// That allocation fails, and so do all that follow.
    Ends,
}

/// What this thread's allocations come to.
#[derive(Clone, Copy)]
struct Plan {
    memory: Memory,
    /// How many are left before one fails.
    left: u64,
    failed: bool,
}

thread_local! {
    static PLAN: Cell<Option<Plan>> = const { Cell::new(None) };
}

#[global_allocator]
static HEAP: Failing = Failing;

struct Failing;

// SAFETY: it is the system's allocator, but for allocations that fail.
unsafe impl GlobalAlloc for Failing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if fails() {
            return core::ptr::null_mut();
        }
        // SAFETY: the caller's promise is the callee's condition.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is the callee's condition.
        unsafe { System.dealloc(start, layout) }
    }

    unsafe fn realloc(&self, start: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if fails() {
            return core::ptr::null_mut();
        }
        // SAFETY: the caller's promise is the callee's condition.
        unsafe { System.realloc(start, layout, size) }
    }
}

/// Counts an allocation, and says whether it fails.
fn fails() -> bool {
    let Some(mut plan) = PLAN.get() else { return false };
    let fails = plan.left == 0 && (!plan.failed || plan.memory == Memory::Ends);
    plan.left = plan.left.saturating_sub(1);
    plan.failed |= fails;
    PLAN.set(Some(plan));
    fails
}

/// Does something whose allocation number `nth`, from 0, fails. Says whether there was one.
pub(crate) fn with_memory<T>(memory: Memory, nth: u64, story: &mut impl FnMut() -> T) -> (T, bool) {
    PLAN.set(Some(Plan { memory, left: nth, failed: false }));
    let ended = story();
    (ended, PLAN.take().is_some_and(|plan| plan.failed))
}

/// Does something for which there is memory.
pub(crate) fn sheltered<T>(work: impl FnOnce() -> T) -> T {
    let plan = PLAN.take();
    let done = work();
    PLAN.set(plan);
    done
}
