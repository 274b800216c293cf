//! Time and deadlines: every wait in Holdover goes through [`wait_until`].

use core::time::Duration;

/// A clock that never goes back.
pub trait Clock {
    /// Time since some fixed start.
    fn now(&self) -> Duration;
}

/// A condition did not become true within its time limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no answer within {} ms", limit.as_millis())]
pub struct TimedOut {
    /// The limit of the wait.
    pub limit: Duration,
}

/// Polls `done` until it returns true, for at most `limit`.
///
/// `wait_until` polls once more after the limit has passed. If a hypervisor or a long SMI paused the processor, an answer
/// that arrived in the meantime therefore does not become a timeout.
pub fn wait_until(
    clock: &impl Clock,
    limit: Duration,
    mut done: impl FnMut() -> bool,
) -> Result<(), TimedOut> {
    let start = clock.now();
    loop {
        if done() {
            return Ok(());
        }
        if clock.now().saturating_sub(start) >= limit {
            return if done() { Ok(()) } else { Err(TimedOut { limit }) };
        }
        core::hint::spin_loop();
    }
}

/// Lets this much time pass.
pub fn rest(clock: &impl Clock, time: Duration) {
    // No condition comes true: this always ends by its limit.
    let _ = wait_until(clock, time, || false);
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;

    struct Ticking(Cell<u64>);

    impl Clock for Ticking {
        fn now(&self) -> Duration {
            self.0.set(self.0.get() + 1);
            Duration::from_millis(self.0.get())
        }
    }

    #[test]
    fn a_condition_that_never_comes_true_ends_at_the_limit() {
        let limit = Duration::from_millis(10);
        assert_eq!(wait_until(&Ticking(Cell::new(0)), limit, || false), Err(TimedOut { limit }));
    }

    #[test]
    fn a_rest_lasts_as_long_as_was_asked() {
        let clock = Ticking(Cell::new(0));
        rest(&clock, Duration::from_millis(10));
        assert!(clock.0.get() > 10);
    }

    #[test]
    fn an_answer_that_came_while_the_processor_was_away_counts() {
        let asked = Cell::new(0);
        let late = || asked.replace(asked.get() + 1) > 0;
        assert_eq!(wait_until(&Ticking(Cell::new(0)), Duration::ZERO, late), Ok(()));
    }
}
