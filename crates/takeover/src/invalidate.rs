//! Making a unit forget what it has cached: by a queue of our own (6.5.2), or by registers where there is none
//! (6.5.1).

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

/// How many devices may leave requests of the old kernel unanswered before its queue is given up.
const SILENT_DEVICES: usize = 16;

/// What is to be forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Everything, PASID cache included.
    Everything,
    /// All translations of a domain.
    Domain(u16),
}

impl<R: Registers, C: Clock> CommandedUnit<'_, R, C> {
    /// Makes the unit forget; returns when it has.
    pub(crate) fn forget(&mut self, scope: Scope, frames: &mut impl Frames) -> Result<(), UnitError> {
        match self.queue {
            Some(_) => self.forget_by_queue(scope, frames),
            None => self.forget_by_registers(scope),
        }
    }

    /// Makes the unit see that entries were replaced or removed; when this returns, it has forgotten what they were.
    pub(crate) fn entries_changed(
        &mut self,
        scope: Scope,
        frames: &mut impl Frames,
    ) -> Result<(), UnitError> {
        self.flush_write_buffer()?;
        self.forget(scope, frames)
    }

    /// Makes the unit see entries that became present: in caching mode it may hold that they are not (6.1), and a unit
    /// that buffers writes may not see them yet (6.8). No other needs to be told.
    pub(crate) fn entries_appeared(
        &mut self,
        scope: Scope,
        frames: &mut impl Frames,
    ) -> Result<(), UnitError> {
        self.flush_write_buffer()?;
        if self.unit.capability().cm() { self.forget(scope, frames) } else { Ok(()) }
    }

    /// Makes a device forget what it keeps itself, and returns when it says that it has. The unit must have
    /// forgotten before, or the device could ask it again (6.5.2.5).
    ///
    /// Only a queue can tell a device. A device that does not answer leaves the queue working for others: either the
    /// unit gives up on it (ITE), which is cleared, or it keeps the queue waiting, which is then started anew.
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

    /// Makes this the unit's queue, which must be off, and has it execute a wait as a proof that it works (6.5.2).
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

    /// Context cache before PASID cache before translations: each is filled from the one before, so the next may
    /// only be emptied when the wait after the last has been executed (6.5.3).
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

    /// CCMD: start, wait until ICC is clear, and see that something was done (6.5.1.1).
    fn forget_contexts_by_register(&mut self) -> Result<(), UnitError> {
        let command = ContextCommand::new().with_request(Granularity::GLOBAL);
        let read = |unit: &Unit<'_, R, C>| ContextCommand::from_bits(unit.read(CCMD));
        self.write(CCMD, command.with_invalidate(true).into_bits());
        self.wait("CCMD", "ICC clear", |unit| !read(unit).invalidate())?;
        done(read(&self.unit).done(), "CCMD")
    }

    /// IOTLB: the same with IVT, draining what is under way (6.5.1.2).
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

    /// Waits until the unit has fetched all that the old kernel queued, or has stopped for good; returns why it stopped
    /// last on the way, if it did.
    ///
    /// A device that did not answer (ITE) costs the requests that waited for it; once that is cleared the rest is
    /// fetched. A descriptor that makes no sense (IQE) would have to be replaced, and old memory is not written
    /// (6.5.2.10).
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

    /// Waits until all is fetched or the queue has stopped; returns why it stopped.
    fn wait_for_head(&self) -> FaultStatus {
        let mut errors = FaultStatus::new();
        // Late or done, both show in the registers.
        let _ = self.wait("IQH", "IQT", |unit| {
            errors = queue_stops(unit);
            let at_tail = unit.read(IQH) & QUEUE_OFFSET == unit.read(IQT) & QUEUE_OFFSET;
            at_tail || errors != FaultStatus::new()
        });
        errors
    }

    /// Clears the error that a device did not answer: what waited for it is aborted, the rest goes on (6.5.2.10).
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

/// The errors upon which the queue has stopped. That a device answered in a wrong way (ICE) stops nothing.
fn queue_stops<R: Registers, C: Clock>(unit: &Unit<'_, R, C>) -> FaultStatus {
    unit.fault_status().only(FaultStatus::QUEUE_STOPS)
}

fn done(granularity: Granularity, register: &'static str) -> Result<(), UnitError> {
    if granularity == Granularity::RESERVED { Err(UnitError::NotInvalidated(register)) } else { Ok(()) }
}
