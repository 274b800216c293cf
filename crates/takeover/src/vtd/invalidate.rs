//! Invalidates a unit's caches: by a queue of our own (6.5.2), or by registers where there is none (6.5.1).

use core::time::Duration;

use machine::{Clock, Frames, Registers, SourceId};
use vtd::control::{ContextCommand, Granularity, IotlbCommand};
use vtd::fault::FaultStatus;
use vtd::queue::{
    ContextCacheInvalidation, Descriptor, IotlbInvalidation, PasidCacheInvalidation, QUEUE_OFFSET,
};
use vtd::registers::{CCMD, FSTS, IOTLB_FROM_IRO, IQA, IQT};

use crate::command::Scope;
use crate::ledger::Told;
use crate::patience::{Awaited, Waiting};
use crate::surroundings::DeviceTlb;
use crate::unit::UnitError;
use crate::vtd::command::CommandedUnit;
use crate::vtd::device_tlb::everything_in;
use crate::vtd::queue::Queue;
use crate::vtd::unit::Unit;

/// How often descriptors are sent at most, when others break their wait off: devices that do not answer the old kernel,
/// and its processors.
const TRIES: usize = 16;

/// How long a queue may take to come to rest before it is turned off to be started anew.
const REST: Duration = Duration::from_millis(100);

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
    /// the queue is started anew.
    pub(crate) fn forget_in_device(
        &mut self,
        tlb: DeviceTlb,
        awaited: Awaited,
        pasid: Option<u32>,
        frames: &mut impl Frames,
    ) -> Result<(), UnitError> {
        let request = everything_in(tlb, pasid, self.unit.extended_capability());
        let answer = self.with_patience(awaited, |unit, limit| {
            let answer = unit.ask(tlb.source, request, limit, frames);
            match answer {
                Err(UnitError::NoAnswer(late)) if !late.is_of_command() => unit.reopen_queue()?,
                _ => {}
            }
            answer
        });
        answer.unwrap_or(Err(UnitError::NoTimeLeft))
    }

    /// Sends a request to a device until the device answers, or the unit says that this device does not. An error that
    /// names nobody may be about another device: after the second, it is taken to be about this one.
    fn ask(
        &mut self,
        source: SourceId,
        request: Descriptor,
        limit: Duration,
        frames: &mut impl Frames,
    ) -> Result<(), UnitError> {
        let mut unnamed = 0;
        self.submit_until(&[request], limit, frames, |unit, error| {
            let silent = match error {
                UnitError::QueueStopped(errors) if !errors.iqe() => unit.queue_error().silent(),
                UnitError::QueueStopped(_) => SourceId::default(),
                _ => return false,
            };
            unnamed += usize::from(silent == SourceId::default());
            silent == source || unnamed > 1
        })
    }

    /// Installs this queue, while the unit's queue is off, and executes a wait as a proof that it works (6.5.2).
    pub(crate) fn start_queue(&mut self, queue: Queue, frames: &mut impl Frames) -> Result<(), UnitError> {
        self.open_queue(queue)?;
        self.submit(&[], frames)
    }

    fn open_queue(&mut self, mut queue: Queue) -> Result<(), UnitError> {
        queue.rewind();
        if self.told == Told::Nothing {
            self.told = Told::Queue(queue.frames());
        }
        self.write(FSTS, u64::from(FaultStatus::QUEUE_ERRORS.into_bits()));
        self.write(IQT, 0);
        self.write(IQA, queue.address().into_bits());
        self.queue = Some(queue);
        Ok(self.queue_on()?)
    }

    /// Starts our queue anew, at its first descriptor.
    fn reopen_queue(&mut self) -> Result<(), UnitError> {
        self.wait_for_head(REST.min(self.waits().deadline));
        self.queue_off()?;
        let queue = self.queue.take().ok_or(UnitError::NoQueue)?;
        self.open_queue(queue)
    }

    fn forget_by_queue(&mut self, scope: Scope, frames: &mut impl Frames) -> Result<(), UnitError> {
        let capability = self.unit.capability();
        let translations =
            IotlbInvalidation::new().with_drain_reads(capability.drd()).with_drain_writes(capability.dwd());
        let translations = match scope {
            Scope::Everything | Scope::Device(_) => {
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
        self.with_unit_time(|unit, limit| unit.submit_until(descriptors, limit, frames, |_, _| false))
    }

    /// Submits descriptors until they are done, `limit` has passed, or `is_final` says that an error is about them.
    ///
    /// Others can break a wait off. The unit gives up on a device that left an earlier request unanswered, and aborts all
    /// waits with it (ITE, 6.5.2.10); or a processor of the old kernel, in the middle of an invalidation of its own, writes
    /// the queue's tail. Then it is not known what was done, and everything is sent again.
    fn submit_until(
        &mut self,
        descriptors: &[Descriptor],
        limit: Duration,
        frames: &mut impl Frames,
        mut is_final: impl FnMut(&Unit<'_, R, C>, UnitError) -> bool,
    ) -> Result<(), UnitError> {
        let start = self.unit.clock().now();
        let mut tries = TRIES;
        loop {
            let spent = self.unit.clock().now().saturating_sub(start);
            let Err(error) = self.submit_once(descriptors, limit.saturating_sub(spent), frames) else {
                return Ok(());
            };
            tries -= 1;
            let ends = tries == 0 || spent >= limit || is_final(&self.unit, error);
            self.mend_queue(error)?;
            if ends {
                return Err(error);
            }
        }
    }

    /// Makes the queue work again after an error that is no fault of the queue; returns any other error.
    fn mend_queue(&mut self, error: UnitError) -> Result<(), UnitError> {
        match error {
            UnitError::QueueStopped(errors) if !errors.iqe() => {
                self.go_on_without_device();
                Ok(())
            }
            UnitError::QueueStopped(_) | UnitError::QueueDisturbed => self.reopen_queue(),
            error => Err(error),
        }
    }

    fn submit_once(
        &mut self,
        descriptors: &[Descriptor],
        limit: Duration,
        frames: &mut impl Frames,
    ) -> Result<(), UnitError> {
        let queue = self.queue.as_mut().ok_or(UnitError::NoQueue)?;
        if tail(&self.unit) != queue.tail_bytes() {
            self.disturbances += 1;
            return Err(UnitError::QueueDisturbed);
        }
        queue.append(descriptors, frames);
        let tail = queue.tail_bytes();
        self.flush_write_buffer()?;
        self.write(IQT, tail);
        self.await_queue(limit, frames)
    }

    fn await_queue(&mut self, limit: Duration, frames: &impl Frames) -> Result<(), UnitError> {
        let queue = self.queue.as_ref().ok_or(UnitError::NoQueue)?;
        let mut end = Ok(());
        self.wait_for(limit, "invalidation wait", "its status", |unit| {
            end = if queue.is_done(frames) { Ok(()) } else { interruption(unit, queue) };
            end.is_err() || queue.is_done(frames)
        })?;
        self.disturbances += u32::from(end == Err(UnitError::QueueDisturbed));
        end
    }

    fn forget_by_registers(&mut self, scope: Scope) -> Result<(), UnitError> {
        let request = IotlbCommand::new();
        let request = match scope {
            Scope::Everything | Scope::Device(_) => {
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

    /// Clears the error of a device that did not answer: pending waits are aborted, the rest goes on (6.5.2.10).
    pub(crate) fn go_on_without_device(&mut self) {
        self.write(FSTS, u64::from(FaultStatus::new().with_ite(true).into_bits()));
    }
}

fn done(granularity: Granularity, register: &'static str) -> Result<(), UnitError> {
    if granularity == Granularity::RESERVED { Err(UnitError::NotInvalidated(register)) } else { Ok(()) }
}

/// IQT: the end of the queue.
fn tail<R: Registers, C>(unit: &Unit<'_, R, C>) -> u64 {
    unit.read(IQT) & QUEUE_OFFSET
}

/// What keeps the unit from executing our queue to its end.
fn interruption<R: Registers, C>(unit: &Unit<'_, R, C>, queue: &Queue) -> Result<(), UnitError> {
    let errors = unit.queue_stops();
    if tail(unit) != queue.tail_bytes() {
        Err(UnitError::QueueDisturbed)
    } else if errors != FaultStatus::new() {
        Err(UnitError::QueueStopped(errors))
    } else {
        Ok(())
    }
}
