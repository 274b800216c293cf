//! Work on many things, a few at a time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

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
}
