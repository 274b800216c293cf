//! The time that the search may spend on one function, and on one disk: each of a driver's steps has a deadline of its own, but their
//! sum has none.
//!
//! Drivers wait by a clock that knows of the budget. When that is used up, the clock leaps at each look, so that each wait, whatever
//! its limit, ends after one poll: a driver needs to know nothing of budgets.

use core::time::Duration;

use machine::Clock;

use crate::platform::shared::Shared;
use crate::watchdogs::WaitClock;

/// How far the clock leaps: longer than any wait.
const LEAP: Duration = Duration::from_secs(3600);

/// The budget of the function that is being looked at.
static BUDGET: Shared<Budget> = Shared::none();

/// How patient the search is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Patience {
    /// Time limit for each of a disk's first steps.
    pub(super) step: Duration,
    /// For what is done before a function's first disk, and then for each disk.
    pub(super) disk: Duration,
    /// For a function with all its disks.
    pub(super) function: Duration,
}

impl Patience {
    /// While there are other disks to try, so that a dead one costs little time.
    pub(super) const HASTE: Self = Self::seconds(2, 6, 20);
    /// After all other disks were tried. A host whose storage is in trouble, which may be why the kernel died, lets its guests wait.
    /// A controller that tells how long it takes to be ready may take it twice, off and on: NVMe's at most 128 s.
    pub(super) const PATIENT: Self = Self::seconds(30, 280, 320);

    const fn seconds(step: u64, disk: u64, function: u64) -> Self {
        let [step, disk, function] =
            [Duration::from_secs(step), Duration::from_secs(disk), Duration::from_secs(function)];
        Self { step, disk, function }
    }
}

/// The clock of the disk drivers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SearchClock;

impl Clock for SearchClock {
    fn now(&self) -> Duration {
        let now = WaitClock.now();
        BUDGET.with(|budget| budget.look(now)).unwrap_or(now)
    }
}

/// Begins to look at a function.
pub(super) fn begin_function(patience: Patience) {
    let now = WaitClock.now();
    let leapt = BUDGET.with(|budget| budget.leapt).unwrap_or_default();
    BUDGET.set(Budget::new(now, leapt, patience));
}

/// Begins to look at the function's next disk; whether there is time for it.
pub(super) fn begin_disk() -> bool {
    let now = WaitClock.now();
    BUDGET.with(|budget| budget.begin_disk(now)).unwrap_or(true)
}

/// Ends the search: the disk that was found has all the time that it needs.
pub(super) fn end() {
    BUDGET.with(Budget::end);
}

/// Time that is limited.
#[derive(Clone, Copy, Debug)]
struct Budget {
    patience: Patience,
    /// When the disk's time ends; `None` once a disk was found.
    disk: Option<Duration>,
    /// When the function's time ends.
    function: Duration,
    /// How far the clock has leapt by now. It never goes back.
    leapt: Duration,
}

impl Budget {
    fn new(now: Duration, leapt: Duration, patience: Patience) -> Self {
        let disk = Some(now.saturating_add(patience.disk));
        Self { patience, disk, function: now.saturating_add(patience.function), leapt }
    }

    fn begin_disk(&mut self, now: Duration) -> bool {
        self.disk = Some(now.saturating_add(self.patience.disk).min(self.function));
        now < self.function
    }

    fn end(&mut self) {
        self.disk = None;
    }

    /// What the clock shows.
    fn look(&mut self, now: Duration) -> Duration {
        if self.disk.is_some_and(|end| now >= end) {
            self.leapt = self.leapt.saturating_add(LEAP);
        }
        now.saturating_add(self.leapt)
    }
}

#[cfg(test)]
mod tests {
    use core::cell::{Cell, RefCell};

    use machine::wait_until;

    use super::*;

    /// A clock that a millisecond passes by at each look, and its budget.
    struct Limited {
        millis: Cell<u64>,
        budget: RefCell<Budget>,
    }

    impl Limited {
        fn new() -> Self {
            Self::with(Patience::HASTE)
        }

        fn with(patience: Patience) -> Self {
            let budget = RefCell::new(Budget::new(Duration::ZERO, Duration::ZERO, patience));
            Self { millis: Cell::new(0), budget }
        }

        fn true_time(&self) -> Duration {
            Duration::from_millis(self.millis.get())
        }

        /// A step that is never done.
        fn wait(&self, limit: Duration) {
            wait_until(self, limit, || false).unwrap_err();
        }
    }

    impl Clock for Limited {
        fn now(&self) -> Duration {
            self.millis.set(self.millis.get() + 1);
            self.budget.borrow_mut().look(self.true_time())
        }
    }

    #[test]
    fn many_steps_that_fail_take_no_longer_than_the_disk_may() {
        let clock = Limited::new();
        (0..1000).for_each(|_| clock.wait(Patience::HASTE.step));
        let most = Patience::HASTE.disk + Duration::from_secs(3);
        assert!(clock.true_time() < most, "{:?}", clock.true_time());
    }

    #[test]
    fn many_disks_take_no_longer_than_the_function_may() {
        let clock = Limited::new();
        let mut disks = 0;
        while clock.budget.borrow_mut().begin_disk(clock.true_time()) {
            disks += 1;
            (0..10).for_each(|_| clock.wait(Patience::HASTE.step));
        }
        assert!(disks > 2 && clock.true_time() < Patience::HASTE.function + Duration::from_secs(1));
    }

    /// NVMe 3.1.3.1, TO: 255 units of half a second.
    #[test]
    fn a_controller_that_takes_as_long_as_it_may_tell_is_turned_off_and_on() {
        let clock = Limited::with(Patience::PATIENT);
        let told = Duration::from_millis(127_500);
        (0..2).for_each(|_| clock.wait(told));
        assert!(clock.true_time() >= told * 2, "{:?}", clock.true_time());
    }

    #[test]
    fn a_disk_that_was_found_has_all_the_time_that_it_needs() {
        let clock = Limited::new();
        clock.budget.borrow_mut().end();
        clock.wait(Duration::from_secs(30));
        assert!(clock.true_time() >= Duration::from_secs(30));
    }
}
