//! A value that all of this kernel shares.

use core::cell::RefCell;

/// A value, or none yet. There is no lock: this kernel runs on one processor. A handler that reports the exception of an access to such
/// a value finds it in use, and goes without it; no handler that uses one returns to what it interrupted.
pub(crate) struct Shared<T>(RefCell<Option<T>>);

// SAFETY: there is one processor. What interrupts it and uses such a value never returns, so that each use either ends before the next
// begins or is seen by the cell's count.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// No value yet.
    pub(crate) const fn none() -> Self {
        Self(RefCell::new(None))
    }

    /// Replaces the value. Does nothing while it is used.
    pub(crate) fn set(&self, value: T) {
        if let Ok(mut shared) = self.0.try_borrow_mut() {
            *shared = Some(value);
        }
    }

    /// Uses the value; `None` if there is none, or while it is used already.
    pub(crate) fn with<U>(&self, work: impl FnOnce(&mut T) -> U) -> Option<U> {
        self.0.try_borrow_mut().ok()?.as_mut().map(work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_used_by_one_at_a_time() {
        let shared = Shared::none();
        assert_eq!(shared.with(|value: &mut u8| *value), None);
        shared.set(1);
        assert_eq!(shared.with(|_| shared.with(|value| *value)), Some(None));
        assert_eq!(shared.with(|value| *value), Some(1));
    }
}
