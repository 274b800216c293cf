//! Restricts programs to some processors: a restricted thread starts the program, which inherits the restriction.
//! Also measures how long processors worked.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::parallel;

/// Some processors.
#[derive(Debug)]
pub(super) struct Processors(CpuSet);

impl Processors {
    /// Two processors, one by one.
    pub(super) fn two() -> Result<[Self; 2]> {
        let usable = sched_getaffinity(None)?;
        let mut numbers = (0..CpuSet::MAX_CPU).filter(|&number| usable.is_set(number)).map(Self::only);
        let two = numbers.next().zip(numbers.next()).map(Into::into);
        two.context("two threads are measured: that needs two processors")
    }

    fn only(number: usize) -> Self {
        let mut set = CpuSet::new();
        set.set(number);
        Self(set)
    }

    /// These and others.
    pub(super) fn and(&self, others: &Self) -> Self {
        let mut all = self.0;
        (0..CpuSet::MAX_CPU).filter(|&number| others.0.is_set(number)).for_each(|number| all.set(number));
        Self(all)
    }

    /// Does some work here and nowhere else, with all programs that it starts.
    pub(super) fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            let there = scope.spawn(|| {
                sched_setaffinity(None, &self.0).context("this processor cannot be had")?;
                work()
            });
            parallel::end(there)
        })
    }
}

/// Seconds in which processors worked for programs that were started and have ended.
pub(super) fn time() -> Result<f64> {
    let used = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let microseconds = (used.user_time() + used.system_time()).num_microseconds();
    Ok(Duration::from_micros(microseconds.try_into()?).as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_run_keeps_to_its_processors() {
        let mut usable = sched_getaffinity(None).unwrap();
        let one = Processors::only((0..CpuSet::MAX_CPU).find(|&number| usable.is_set(number)).unwrap());
        let there = one.run(|| Ok(sched_getaffinity(None)?)).unwrap();
        assert_eq!((there, there.count()), (one.0, 1));
        assert_eq!(one.and(&one).0, one.0);
        usable.clear();
        assert!(Processors(usable).run(|| Ok(())).is_err(), "there is no processor to run on");
    }
}
