//! Runs work on many things, a few at a time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, ScopedJoinHandle};

use anyhow::{Result, anyhow};

/// Does the work on each of `items`, in their order, on `workers` of them at a time.
pub(crate) fn for_each<T: Sync>(items: &[T], workers: usize, work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            work(item);
        }
    };
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(work);
        }
    });
}

/// Does two things at the same time.
pub(crate) fn both<T: Send>(
    first: impl FnOnce() -> Result<T> + Send,
    second: impl FnOnce() -> Result<T>,
) -> (Result<T>, Result<T>) {
    thread::scope(|scope| {
        let first = scope.spawn(first);
        let second = second();
        (end(first), second)
    })
}

/// What comes of a thread.
pub(crate) fn end<T>(thread: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|_| Err(anyhow!("a thread of the bench panicked")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_worked_on_once() {
        let done = [const { AtomicUsize::new(0) }; 5];
        for_each(&[0, 1, 2, 3, 4], 3, |item: &usize| {
            done[*item].fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(done.map(AtomicUsize::into_inner), [1; 5]);
    }

    #[test]
    fn one_of_both_may_fail_or_panic_and_the_other_is_done() {
        let (first, second) = both(|| panic!("a mistake"), || Ok(2));
        assert_eq!((first.is_err(), second.unwrap()), (true, 2));
        let (first, second) = both(|| Ok(1), || Err(anyhow!("a problem")));
        assert_eq!((first.unwrap(), second.is_err()), (1, true));
    }
}
