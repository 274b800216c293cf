//! Threads that begin on a processor of their own.
//!
//! Linux sometimes lets a new thread wait on the processor of its maker, and moves it only milliseconds later: on the virtual machine
//! of the benchmarks more often than not.

use std::thread::{self, Scope, ScopedJoinHandle};

use rustix::thread::{sched_getaffinity, sched_getcpu, sched_setaffinity};

/// Starts a thread, at once and on another processor, if there is one.
pub(super) fn spawn<'s, T: Send + 's>(
    scope: &'s Scope<'s, '_>,
    work: impl FnOnce() -> T + Send + 's,
) -> ScopedJoinHandle<'s, T> {
    let here = sched_getcpu();
    let thread = scope.spawn(move || {
        leave(here);
        work()
    });
    // It cannot leave before it runs.
    thread::yield_now();
    thread
}

/// Moves to another processor; later Linux may move the thread to any. Without leave to do that, it stays.
fn leave(processor: usize) {
    if sched_getcpu() != processor {
        return;
    }
    let Ok(all) = sched_getaffinity(None) else { return };
    let mut others = all;
    others.unset(processor);
    if sched_setaffinity(None, &others).is_ok() {
        let _ = sched_setaffinity(None, &all);
    }
}
