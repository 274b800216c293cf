//! Starts each thread on a processor of its own.
//!
//! Linux sometimes starts a new thread on the processor of the thread that created it, where it waits, and moves it
//! only milliseconds later. On the virtual machine of the benchmarks this happens more often than not.

use std::io;
use std::thread::{self, Builder, Scope, ScopedJoinHandle};

use rustix::thread::{sched_getaffinity, sched_getcpu, sched_setaffinity};

/// Starts a thread at once, on another processor if there is one. The host may refuse: users have a limit of threads.
pub(super) fn spawn<'s, T: Send + 's>(
    scope: &'s Scope<'s, '_>,
    work: impl FnOnce() -> T + Send + 's,
) -> io::Result<ScopedJoinHandle<'s, T>> {
    let here = sched_getcpu();
    let spawned = Builder::new().spawn_scoped(scope, move || {
        leave(here);
        work()
    });
    // The new thread cannot move before it runs.
    thread::yield_now();
    spawned
}

/// Moves this thread to another processor. Linux may move it again later. The thread stays if the host does not allow the
/// move.
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
