//! The device that must be at work, so that a takeover shows something.

use super::Expectation;
use crate::machines::scenario::device::Device;
use crate::witnesses::trace::Traced;
use crate::witnesses::{Problem, Witness};

/// The device that must be at work in the trace; without it a crash would show nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Active {
    /// This device, after the swap.
    Device(Device),
    /// The victim of damage: it faults at the damaged tables, or goes through them.
    Victim,
}

impl Active {
    fn is_seen(self, traced: &Traced) -> bool {
        match self {
            Self::Device(device) => traced.active_after_swap.contains_key(device.name),
            Self::Victim => traced.faults_of_victim + traced.translations_of_victim > 0,
        }
    }

    fn complaint(self) -> String {
        match self {
            Self::Device(device) => format!("{} was not at work after the swap", device.name),
            Self::Victim => "the damaged tables were never used".to_owned(),
        }
    }
}

impl Expectation {
    /// Complains if nothing shows that the device was at work.
    pub(super) fn inactive(&self, traced: Option<&Traced>) -> Option<Problem> {
        let rested = self.active.filter(|active| !traced.is_some_and(|traced| active.is_seen(traced)))?;
        Some(Problem { witness: Witness::Trace, what: rested.complaint() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crashes::damage::Damage;

    #[test]
    fn who_must_be_active_and_was_not_traced_is_a_problem() {
        let slow = Expectation::takeover().and_active(Device::SLOW_DISK);
        let damaged = Expectation::takeover().and_damage(Damage::TableInRegisters);
        let resting = Expectation::takeover().and_damage(Damage::DiskContext);
        let mut traced = Traced::default();
        assert!(slow.inactive(None).is_some() && damaged.inactive(None).is_some());
        assert!(slow.inactive(Some(&traced)).is_some() && damaged.inactive(Some(&traced)).is_some());
        assert!(resting.inactive(Some(&traced)).is_none());
        traced.active_after_swap.insert(Device::SLOW_DISK.name.to_owned(), 1);
        traced.faults_of_victim = 1;
        assert!(slow.inactive(Some(&traced)).is_none() && damaged.inactive(Some(&traced)).is_none());
    }
}
