//! Invalidates a unit's caches: by a queue of our own (6.5.2), or by registers where there is none (6.5.1).

use machine::{Clock, Frames, Registers};
use vtd::control::{ContextCommand, Granularity, IotlbCommand};
use vtd::fault::FaultStatus;
use vtd::queue::{
    ContextCacheInvalidation, Descriptor, IotlbInvalidation, PasidCacheInvalidation, QUEUE_OFFSET,
    QueueErrorRecord,
};
use vtd::registers::{CCMD, FSTS, IOTLB_FROM_IRO, IQA, IQH, IQT};

use crate::command::CommandedUnit;
use crate::queue::Queue;
use crate::unit::{Unit, UnitError};

/// How many devices may leave the old kernel's invalidations unanswered before the takeover gives its queue up.
const SILENT_DEVICES: usize = 16;

/// What to invalidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Everything, PASID cache included.
    Everything,
    /// All translations of a domain.
    Domain(u16),
}

impl<R: Registers, C: Clock> CommandedUnit<'_, R, C> {
    /// Invalidates the unit's caches; returns when the unit has done so.
    pub(crate) fn forget(&mut self, scope: Scope, frames: &mut impl Frames) -> Result<(), UnitError> {
        match self.queue {
            Some(_) => self.forget_by_queue(scope, frames),
            None => self.forget_by_registers(scope),
        }
    }

    /// Makes changes or removals of entries visible to the unit; when this returns, its caches hold nothing of the
    /// old entries.
    pub(crate) fn entries_changed(
        &mut self,
        scope: Scope,
        frames: &mut impl Frames,
    ) -> Result<(), UnitError> {
        self.flush_write_buffer()?;
        self.forget(scope, frames)
    }

    /// Makes entries that became present visible to the unit: in caching mode it may have cached that they are not
    /// (6.1), and a unit that buffers writes may not see them yet (6.8). Other units need nothing.
    pub(crate) fn entries_appeared(
        &mut self,
        scope: Scope,
        frames: &mut impl Frames,
    ) -> Result<(), UnitError> {
        self.flush_write_buffer()?;
        if self.unit.capability().cm() { self.forget(scope, frames) } else { Ok(()) }
    }

    /// Invalidates a device's TLB, and returns when the device has confirmed. The unit's own caches must be
    /// invalidated first, or the device could fetch the old translation again (6.5.2.5).
    ///
    /// Only a queue can reach a device. If a device does not answer, the queue still works for others afterwards:
    /// either the unit gives up on the device (ITE), and the error is cleared; or the device blocks the queue, and
    /// the queue is restarted.
    pub(crate) fn forget_in_device(
        &mut self,
        request: Descriptor,
        frames: &mut impl Frames,
    ) -> Result<(), UnitError> {
        let answer = self.submit(&[request], frames);
        match answer {
            Err(UnitError::QueueStopped(errors)) if !errors.iqe() => self.go_on_without_device(),
            Err(UnitError::NoQueue) | Ok(()) => {}
            Err(_) => self.restart_queue(frames)?,
        }
        answer
    }

    /// Installs this queue, while the unit's queue is off, and executes a wait as a proof that it works (6.5.2).
    pub(crate) fn start_queue(
        &mut self,
        mut queue: Queue,
        frames: &mut impl Frames,
    ) -> Result<(), UnitError> {
        queue.rewind();
        self.write(FSTS, u64::from(FaultStatus::QUEUE_ERRORS.into_bits()));
        self.write(IQT, 0);
        self.write(IQA, queue.address().into_bits());
        self.queue = Some(queue);
        self.queue_on()?;
        self.submit(&[], frames)
    }

    fn restart_queue(&mut self, frames: &mut impl Frames) -> Result<(), UnitError> {
        self.queue_off()?;
        let queue = self.queue.take().ok_or(UnitError::NoQueue)?;
        self.start_queue(queue, frames)
    }

    fn forget_by_queue(&mut self, scope: Scope, frames: &mut impl Frames) -> Result<(), UnitError> {
        let capability = self.unit.capability();
        let translations =
            IotlbInvalidation::new().with_drain_reads(capability.drd()).with_drain_writes(capability.dwd());
        let translations = match scope {
            Scope::Everything => {
                self.forget_contexts_by_queue(frames)?;
                translations.with_granularity(Granularity::GLOBAL)
            }
            Scope::Domain(domain) => translations.with_granularity(Granularity::DOMAIN).with_domain(domain),
        };
        self.submit(&[translations.into()], frames)
    }

    /// Invalidates the context cache before the PASID cache before translations: each is filled from the one before,
    /// so the next may only be invalidated when the wait after the last has been executed (6.5.3).
    fn forget_contexts_by_queue(&mut self, frames: &mut impl Frames) -> Result<(), UnitError> {
        let contexts = ContextCacheInvalidation::new().with_granularity(Granularity::GLOBAL);
        self.submit(&[contexts.into()], frames)?;
        if !self.queue.as_ref().is_some_and(|queue| queue.address().wide()) {
            return Ok(());
        }
        let pasids = PasidCacheInvalidation::new().with_granularity(PasidCacheInvalidation::GLOBAL);
        self.submit(&[pasids.into()], frames)
    }

    /// Submits descriptors and waits until they are done.
    fn submit(&mut self, descriptors: &[Descriptor], frames: &mut impl Frames) -> Result<(), UnitError> {
        let queue = self.queue.as_mut().ok_or(UnitError::NoQueue)?;
        queue.append(descriptors, frames);
        let tail = queue.tail_bytes();
        self.flush_write_buffer()?;
        self.write(IQT, tail);
        self.await_queue(frames)
    }

    fn await_queue(&self, frames: &impl Frames) -> Result<(), UnitError> {
        let queue = self.queue.as_ref().ok_or(UnitError::NoQueue)?;
        let mut stopped = FaultStatus::new();
        self.wait("invalidation wait", "its status", |unit| {
            stopped = queue_stops(unit);
            stopped != FaultStatus::new() || queue.is_done(frames)
        })?;
        if stopped == FaultStatus::new() { Ok(()) } else { Err(UnitError::QueueStopped(stopped)) }
    }

    fn forget_by_registers(&mut self, scope: Scope) -> Result<(), UnitError> {
        let request = IotlbCommand::new();
        let request = match scope {
            Scope::Everything => {
                self.forget_contexts_by_register()?;
                request.with_request(Granularity::GLOBAL)
            }
            Scope::Domain(domain) => request.with_request(Granularity::DOMAIN).with_domain(domain),
        };
        self.forget_translations_by_register(request)
    }

    /// CCMD: starts the command, waits until ICC is clear, and checks that something was done (6.5.1.1).
    fn forget_contexts_by_register(&mut self) -> Result<(), UnitError> {
        let command = ContextCommand::new().with_request(Granularity::GLOBAL);
        let read = |unit: &Unit<'_, R, C>| ContextCommand::from_bits(unit.read(CCMD));
        self.write(CCMD, command.with_invalidate(true).into_bits());
        self.wait("CCMD", "ICC clear", |unit| !read(unit).invalidate())?;
        done(read(&self.unit).done(), "CCMD")
    }

    /// IOTLB: the same with IVT; drains requests in flight (6.5.1.2).
    fn forget_translations_by_register(&mut self, command: IotlbCommand) -> Result<(), UnitError> {
        let capability = self.unit.capability();
        let command = command
            .with_drain_reads(capability.drd())
            .with_drain_writes(capability.dwd())
            .with_invalidate(true);
        let read = |unit: &Unit<'_, R, C>| IotlbCommand::from_bits(unit.read_iotlb());
        self.unit.write_iotlb(IOTLB_FROM_IRO, command.into_bits());
        self.wait("IOTLB", "IVT clear", |unit| !read(unit).invalidate())?;
        done(read(&self.unit).done(), "IOTLB")
    }

    /// Waits until the unit has fetched all descriptors of the old kernel's queue, or has stopped for good. Returns
    /// the reason of its last stop, if it stopped.
    ///
    /// When a device does not answer (ITE), the waits that were pending are aborted; once the error is cleared, the
    /// unit fetches the rest. A malformed descriptor (IQE) would have to be replaced, and the takeover never writes
    /// old memory (6.5.2.10).
    pub(crate) fn drain_old_queue(&mut self) -> Option<Stop> {
        let mut last = None;
        for _ in 0..SILENT_DEVICES {
            let errors = self.wait_for_head();
            if errors == FaultStatus::new() {
                break;
            }
            last = Some(Stop { errors, record: self.unit.queue_error() });
            if errors.iqe() {
                break;
            }
            self.go_on_without_device();
        }
        last
    }

    /// Waits until the unit has fetched everything or the queue has stopped; returns why it stopped.
    fn wait_for_head(&self) -> FaultStatus {
        let mut errors = FaultStatus::new();
        // Late or done: the registers show which.
        let _ = self.wait("IQH", "IQT", |unit| {
            errors = queue_stops(unit);
            let at_tail = unit.read(IQH) & QUEUE_OFFSET == unit.read(IQT) & QUEUE_OFFSET;
            at_tail || errors != FaultStatus::new()
        });
        errors
    }

    /// Clears the error of a device that did not answer: pending waits are aborted, the rest goes on (6.5.2.10).
    fn go_on_without_device(&mut self) {
        self.write(FSTS, u64::from(FaultStatus::new().with_ite(true).into_bits()));
    }
}

/// Why a queue stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    pub(crate) errors: FaultStatus,
    pub(crate) record: QueueErrorRecord,
}

/// The errors on which the queue has stopped. A wrong answer of a device (ICE) stops nothing.
fn queue_stops<R: Registers, C: Clock>(unit: &Unit<'_, R, C>) -> FaultStatus {
    unit.fault_status().only(FaultStatus::QUEUE_STOPS)
}

fn done(granularity: Granularity, register: &'static str) -> Result<(), UnitError> {
    if granularity == Granularity::RESERVED { Err(UnitError::NotInvalidated(register)) } else { Ok(()) }
}
