//! Threads that keep to a processor each.
//!
//! Linux sometimes lets a new thread wait on the processor of its maker, or one that slept on that of whoever woke it, and moves it only
//! milliseconds later: on the virtual machine of the benchmarks more often than not.

use std::thread::{self, Scope, ScopedJoinHandle};

use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

/// The calling thread, which keeps to its processor once it has started another, until this is dropped.
///
/// Without leave to keep to one, threads run where Linux wants.
pub(super) struct Apart {
    /// Where the calling thread might run before.
    all: CpuSet,
    /// Processors that no thread keeps to.
    free: CpuSet,
}

impl Apart {
    /// Alone so far.
    pub(super) fn new() -> Self {
        let all = sched_getaffinity(None).unwrap_or_default();
        Self { all, free: all }
    }

    /// Starts a thread, at once, on a processor of its own; on any, if there is none left.
    pub(super) fn spawn<'s, T: Send + 's>(
        &mut self,
        scope: &'s Scope<'s, '_>,
        work: impl FnOnce() -> T + Send + 's,
    ) -> ScopedJoinHandle<'s, T> {
        if self.free == self.all {
            keep_to(&self.take(sched_getcpu()));
        }
        let next = (0..CpuSet::MAX_CPU).find(|&processor| self.free.is_set(processor));
        let place = next.map_or(self.all, |processor| self.take(processor));
        let thread = scope.spawn(move || {
            keep_to(&place);
            work()
        });
        // It cannot leave before it runs.
        thread::yield_now();
        thread
    }

    /// A processor that from now on is not free; all, if it never was.
    fn take(&mut self, processor: usize) -> CpuSet {
        if !self.free.is_set(processor) {
            return self.all;
        }
        self.free.unset(processor);
        let mut only = CpuSet::new();
        only.set(processor);
        only
    }
}

/// The calling thread may run where it might before.
impl Drop for Apart {
    fn drop(&mut self) {
        keep_to(&self.all);
    }
}

fn keep_to(processors: &CpuSet) {
    let _ = sched_setaffinity(None, processors);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thread_has_a_processor_and_gives_it_back() {
        let before = sched_getaffinity(None).unwrap();
        let mut apart = Apart::new();
        assert_eq!(sched_getaffinity(None).unwrap(), before, "nobody else is there");
        let others: Vec<_> = thread::scope(|scope| {
            let places = (0..before.count()).map(|_| {
                let there = apart.spawn(scope, || sched_getaffinity(None).unwrap());
                there.join().unwrap()
            });
            places.collect()
        });
        let (last, others) = others.split_last().unwrap();
        assert_eq!(*last, before, "there are no more processors than that");
        let mut left = before;
        for place in others.iter().chain([&sched_getaffinity(None).unwrap()]) {
            let mut processors = (0..CpuSet::MAX_CPU).filter(|&processor| place.is_set(processor));
            let (own, more) = (processors.next().unwrap(), processors.next());
            assert!(left.is_set(own) && more.is_none(), "a thread keeps to {own} and {more:?}");
            left.unset(own);
        }
        assert_eq!(left.count(), 0);
        drop(apart);
        assert_eq!(sched_getaffinity(None).unwrap(), before);
    }
}
