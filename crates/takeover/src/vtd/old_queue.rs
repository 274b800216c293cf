//! The old kernel's invalidation queue: waits until the unit has done what the old kernel asked for (6.5.2).
//!
//! A unit that has fetched all descriptors (IQH = IQT) is not done with them: only the status that the last wait writes
//! says so. The takeover reads that wait and its status in the old kernel's memory, and believes them no further than to
//! stop waiting.

use machine::{Clock, OldMemory, PhysicalAddress, Registers};
use vtd::fault::FaultStatus;
use vtd::queue::{Descriptor, DescriptorType, QUEUE_OFFSET, QueueAddress, QueueErrorRecord, Wait};
use vtd::registers::{IQA, IQH, IQT};

use crate::patience::{Awaited, Waiting};
use crate::vtd::command::CommandedUnit;
use crate::vtd::unit::Unit;

/// How many devices may leave the old kernel's invalidations unanswered before the takeover gives its queue up.
const SILENT_DEVICES: usize = 16;

/// The status of a wait that Linux has seen done (`QI_FREE`); until it is done, the status is `QI_IN_USE`, 1.
const SEEN: u32 = 0;

/// What became of the old kernel's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Drained {
    /// Why it stopped the last time, if it did.
    pub(crate) stop: Option<Stop>,
    /// IQH and IQT at the end.
    pub(crate) head: u64,
    pub(crate) tail: u64,
    /// Whether the unit is done with all that it fetched.
    pub(crate) is_done: bool,
}

/// Why a queue stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    pub(crate) errors: FaultStatus,
    pub(crate) record: QueueErrorRecord,
}

/// The last wait of the old kernel's queue.
#[derive(Clone, Copy, Debug)]
struct LastWait {
    /// Where it reports that it is done.
    status: PhysicalAddress,
    /// What it writes there.
    data: u32,
}

impl LastWait {
    /// Reads it in the old kernel's memory; `None` if the last descriptor is no wait that reports there.
    fn read<R: Registers, C>(unit: &Unit<'_, R, C>, old: &impl OldMemory) -> Option<Self> {
        let queue = QueueAddress::from_bits(unit.read(IQA));
        let step = queue.descriptor_bytes();
        let tail = unit.read(IQT) & QUEUE_OFFSET;
        let last = tail.checked_sub(step).unwrap_or(queue.bytes() - step);
        let word = |offset| old.read_u64(queue.address().saturating_add(last + offset)).ok();
        let descriptor = Descriptor([word(0)?, word(8)?, 0, 0]);
        let wait = Wait::from_bits(descriptor.0[0]);
        let reports = descriptor.kind() == DescriptorType::WAIT && wait.write();
        reports.then(|| Self { status: PhysicalAddress::new(descriptor.0[1] & !3), data: wait.data() })
    }

    /// Whether its status says that it is still pending. Where nothing can be read, there is nothing to wait for.
    fn is_pending(self, old: &impl OldMemory) -> bool {
        let mut status = [0; 4];
        let read = old.read(self.status, &mut status);
        read.is_ok() && ![SEEN, self.data].contains(&u32::from_le_bytes(status))
    }
}

impl<R: Registers, C: Clock> CommandedUnit<'_, R, C> {
    /// Waits until the unit is done with the old kernel's queue, or has stopped for good.
    ///
    /// When a device does not answer (ITE), the waits that were pending are aborted; once the error is cleared, the
    /// unit fetches the rest. A malformed descriptor (IQE) would have to be replaced, and the takeover never writes
    /// old memory (6.5.2.10).
    pub(crate) fn drain_old_queue(&mut self, old: &impl OldMemory) -> Drained {
        let mut stop = None;
        let mut is_done = false;
        for _ in 0..SILENT_DEVICES {
            let errors = self.await_old_queue(old);
            if errors == FaultStatus::new() {
                is_done = !LastWait::read(&self.unit, old).is_some_and(|last| last.is_pending(old));
                break;
            }
            stop = Some(Stop { errors, record: self.unit.queue_error() });
            if errors.iqe() {
                break;
            }
            let aborted_all = self.is_fetched();
            self.go_on_without_device();
            if aborted_all {
                is_done = true;
                break;
            }
        }
        let (head, tail) = (self.unit.read(IQH) & QUEUE_OFFSET, self.unit.read(IQT) & QUEUE_OFFSET);
        Drained { stop, head, tail, is_done }
    }

    /// Waits until everything is done, a limit has passed, or the queue has stopped; returns why it stopped.
    ///
    /// A unit that has fetched everything may be waiting for a device. That takes longer than its own commands.
    fn await_old_queue(&mut self, old: &impl OldMemory) -> FaultStatus {
        let errors = self.with_unit_time(|unit, limit| unit.wait_for_head(limit));
        let last = LastWait::read(&self.unit, old).filter(|_| self.is_fetched());
        let Some(last) = last.filter(|_| errors == FaultStatus::new()) else { return errors };
        let wait = |unit: &mut Self, limit| unit.wait_for_report(last, limit, old);
        if self.unit.extended_capability().dt() {
            self.with_patience(Awaited::Device, wait).unwrap_or_default()
        } else {
            self.with_unit_time(wait)
        }
    }

    fn wait_for_report(
        &self,
        last: LastWait,
        limit: core::time::Duration,
        old: &impl OldMemory,
    ) -> FaultStatus {
        self.wait_or_stop(limit, "last wait", |_| !last.is_pending(old))
    }

    /// Waits until the unit has fetched everything or the queue has stopped; returns why it stopped.
    pub(crate) fn wait_for_head(&self, limit: core::time::Duration) -> FaultStatus {
        self.wait_or_stop(limit, "IQH", is_fetched)
    }

    /// Waits until `done`, or until the queue has stopped; returns why it stopped.
    fn wait_or_stop(
        &self,
        limit: core::time::Duration,
        what: &'static str,
        done: impl Fn(&Unit<'_, R, C>) -> bool,
    ) -> FaultStatus {
        let mut errors = FaultStatus::new();
        // Late or done: the registers show which.
        let _ = self.wait_for(limit, what, "its end", |unit| {
            errors = unit.queue_stops();
            done(unit) || errors != FaultStatus::new()
        });
        errors
    }

    fn is_fetched(&self) -> bool {
        is_fetched(&self.unit)
    }
}

/// Whether the unit has fetched all descriptors of its queue.
fn is_fetched<R: Registers, C>(unit: &Unit<'_, R, C>) -> bool {
    unit.read(IQH) & QUEUE_OFFSET == unit.read(IQT) & QUEUE_OFFSET
}
