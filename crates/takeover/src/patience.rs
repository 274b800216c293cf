//! How long units and devices may keep takeovers waiting, all together.
//!
//! What a unit or a device leaves of that time serves the units after it, so that the takeover of a machine ends in time
//! however many units it has, and whatever the dead kernel's contexts name.

use core::time::Duration;

use machine::{Clock, wait_until};

use crate::surroundings::Limits;
use crate::unit::NoAnswer;

/// How long what works may take to answer: a thousand times what it takes. There is always that much time.
pub(crate) const PROMPT: Duration = Duration::from_millis(100);

/// How long the devices of each unit may take when there is no time left for any: enough for four that do not answer.
const RESERVE: Duration = Duration::from_secs(1);

/// How long the waits of takeovers may take, all together. What one takeover leaves is for the next
/// ([`Takeover::patience`](crate::Takeover::patience), [`Refusal::patience`](crate::Refusal::patience)).
///
/// With the default, the takeovers of 16 units wait five minutes at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For units, to do what they are told. One unit may use all of it, up to [`Limits::deadline`](crate::Limits::deadline)
    /// for each wait. Once it is used up, a wait takes a tenth of a second at most.
    pub units: Duration,
    /// For devices with a device-TLB, to answer an invalidation. One device may use all of it: PCI Express allows a device a
    /// minute, and half a minute more (ATS, section 10.3.1 of revision 5).
    pub devices: Duration,
    /// For further devices when that is used up, a tenth of a second for each; those that answer take nearly none of it. When
    /// this is used up as well, the devices of each unit get one more second. Those that are left then count as silent without
    /// being told.
    pub others: Duration,
    /// The same for devices on buses where another one did not answer: functions of one card fail together.
    pub siblings: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            units: Duration::from_secs(60),
            devices: Duration::from_secs(90),
            // One device on each of 256 buses: its time, and the time to start the queue anew.
            others: Duration::from_secs(52),
            // A hundred devices.
            siblings: Duration::from_secs(20),
        }
    }
}

/// Whom a takeover waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Awaited {
    /// The unit itself.
    Unit,
    /// A device; nothing bad is known of its bus.
    Device,
    /// A device on a bus where another one did not answer.
    Sibling,
    /// A device that has answered before.
    Answering,
}

/// What is left of the patience, as one takeover uses it.
#[derive(Debug)]
pub(crate) struct Purse {
    pub(crate) left: Patience,
    /// What is left for devices of this unit when nothing else is.
    reserve: Duration,
}

impl Purse {
    pub(crate) fn new(left: Patience) -> Self {
        Self { left, reserve: RESERVE }
    }

    /// How long one wait may take, which may take `deadline` if nothing else limits it; `None` if there is no time for it at
    /// all.
    pub(crate) fn limit(&self, awaited: Awaited, deadline: Duration) -> Option<Duration> {
        let prompt = PROMPT.min(deadline);
        let Patience { units, devices, others, siblings } = self.left;
        match awaited {
            Awaited::Unit => Some(units.clamp(prompt, deadline)),
            _ if !devices.is_zero() => Some(devices.max(prompt)),
            Awaited::Answering => Some(prompt),
            Awaited::Device => Some(prompt).filter(|_| !others.is_zero() || !self.reserve.is_zero()),
            Awaited::Sibling => Some(prompt).filter(|_| !siblings.is_zero()),
        }
    }

    /// Takes the time of one wait off.
    pub(crate) fn pay(&mut self, awaited: Awaited, used: Duration) {
        let Patience { units, devices, others, siblings } = &mut self.left;
        let purse = match awaited {
            Awaited::Unit => units,
            _ if !devices.is_zero() => devices,
            Awaited::Answering => return,
            Awaited::Device if others.is_zero() => &mut self.reserve,
            Awaited::Device => others,
            Awaited::Sibling => siblings,
        };
        *purse = purse.saturating_sub(used);
    }
}

/// The waits of one takeover.
#[derive(Debug)]
pub(crate) struct Waits {
    /// Bounds each wait for the unit itself.
    pub(crate) deadline: Duration,
    /// How long the unit and devices may still keep the takeover waiting, all together.
    purse: Purse,
}

impl Waits {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { deadline: limits.deadline, purse: Purse::new(limits.patience) }
    }
}

/// Who waits for a unit of one architecture, and pays for it with the patience.
pub(crate) trait Waiting {
    /// The unit, whose registers tell whether it has done what it was told.
    type Unit;

    fn unit(&self) -> &Self::Unit;
    fn clock(&self) -> &impl Clock;
    fn waits(&self) -> &Waits;
    fn waits_mut(&mut self) -> &mut Waits;

    /// Waits for the unit until `done`, which reads only this unit, returns true.
    fn wait(
        &mut self,
        register: &'static str,
        wanted: &'static str,
        done: impl FnMut(&Self::Unit) -> bool,
    ) -> Result<(), NoAnswer> {
        self.with_unit_time(|unit, limit| unit.wait_for(limit, register, wanted, done))
    }

    /// The same for at most `limit`.
    fn wait_for(
        &self,
        limit: Duration,
        register: &'static str,
        wanted: &'static str,
        mut done: impl FnMut(&Self::Unit) -> bool,
    ) -> Result<(), NoAnswer> {
        let waited = wait_until(self.clock(), limit, || done(self.unit()));
        waited.map_err(|late| NoAnswer { register, wanted, limit: late.limit })
    }

    /// How long the unit and devices may still keep takeovers waiting.
    fn patience(&self) -> Patience {
        self.waits().purse.left
    }

    /// Gives `work`, which waits for the unit, the time for one wait.
    fn with_unit_time<T>(&mut self, work: impl FnOnce(&mut Self, Duration) -> T) -> T {
        let limit = self.limit(Awaited::Unit).unwrap_or_default();
        self.timed(Awaited::Unit, |unit| work(unit, limit))
    }

    /// Gives `work`, which waits for a device, the time that is left for such; returns `None` if there is none.
    fn with_patience<T>(
        &mut self,
        awaited: Awaited,
        work: impl FnOnce(&mut Self, Duration) -> T,
    ) -> Option<T> {
        let limit = self.limit(awaited)?;
        Some(self.timed(awaited, |unit| work(unit, limit)))
    }

    /// How long one wait may take.
    fn limit(&self, awaited: Awaited) -> Option<Duration> {
        let Waits { deadline, purse } = self.waits();
        purse.limit(awaited, *deadline)
    }

    /// Does `work`, and takes the time that it used off what is left for such.
    fn timed<T>(&mut self, awaited: Awaited, work: impl FnOnce(&mut Self) -> T) -> T {
        let start = self.clock().now();
        let result = work(self);
        let used = self.clock().now().saturating_sub(start);
        self.waits_mut().purse.pay(awaited, used);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(10);

    fn purse(units: u64, devices: u64, others: u64, siblings: u64) -> Purse {
        let [units, devices, others, siblings] = [units, devices, others, siblings].map(Duration::from_secs);
        Purse::new(Patience { units, devices, others, siblings })
    }

    #[test]
    fn a_unit_gets_what_is_left_and_always_a_moment() {
        let mut purse = purse(12, 0, 0, 0);
        let limits = [(); 3].map(|()| {
            let limit = purse.limit(Awaited::Unit, LONG).unwrap_or_default();
            purse.pay(Awaited::Unit, limit);
            limit
        });
        assert_eq!(limits, [LONG, Duration::from_secs(2), PROMPT]);
    }

    #[test]
    fn one_device_may_use_all_that_is_for_devices_and_the_others_are_asked_in_passing() {
        let mut purse = purse(0, 90, 1, 1);
        assert_eq!(purse.limit(Awaited::Sibling, LONG), Some(Duration::from_secs(90)));
        purse.pay(Awaited::Device, Duration::from_secs(91));
        assert_eq!(purse.limit(Awaited::Device, LONG), Some(PROMPT));
        purse.pay(Awaited::Sibling, Duration::from_secs(1));
        assert_eq!(purse.limit(Awaited::Sibling, LONG), None);
        assert_eq!(purse.limit(Awaited::Device, LONG), Some(PROMPT));
    }

    #[test]
    fn when_no_time_is_left_the_devices_of_each_unit_get_another_second() {
        let mut purse = purse(0, 0, 0, 0);
        for _ in 0..4 {
            assert_eq!(purse.limit(Awaited::Device, LONG), Some(PROMPT));
            purse.pay(Awaited::Device, Duration::from_millis(250));
        }
        assert_eq!(purse.limit(Awaited::Device, LONG), None);
        assert_eq!(purse.limit(Awaited::Answering, LONG), Some(PROMPT));
    }
}
