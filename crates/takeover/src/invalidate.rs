//! Making a unit forget what it has cached: by a queue of our own (6.5.2), or by registers where there is none
//! (6.5.1).

use machine::{Clock, ENTRIES, Frames, PAGE_SHIFT, Registers};
use vtd::control::{ContextCommand, Granularity, IotlbCommand};
use vtd::fault::FaultStatus;
use vtd::queue::{
    ContextCacheInvalidation, Descriptor, IotlbInvalidation, PasidCacheInvalidation, QUEUE_OFFSET,
    QueueAddress, QueueErrorRecord, Wait,
};
use vtd::registers::{CCMD, FSTS, IOTLB_FROM_IRO, IQA, IQH, IQT};

use crate::failure::Reason;
use crate::unit::{Unit, UnitError};

/// Word of the status frame that waits write to.
const STATUS: usize = 0;
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

/// The way in which a unit is told to forget.
#[derive(Debug)]
pub(crate) enum Invalidator {
    /// Through CCMD and IOTLB.
    Registers,
    /// Through a queue.
    Queue(Queue),
}

impl Invalidator {
    /// Makes the unit forget; returns when it has.
    pub(crate) fn forget<R: Registers, C: Clock>(
        &mut self,
        unit: &mut Unit<'_, R, C>,
        frames: &mut impl Frames,
        scope: Scope,
    ) -> Result<(), UnitError> {
        match self {
            Self::Registers => forget_by_registers(unit, scope),
            Self::Queue(queue) => queue.forget(unit, frames, scope),
        }
    }

    /// Makes a device forget what it keeps itself, and returns when it says that it has. The unit must have
    /// forgotten before, or the device could ask it again (6.5.2.5).
    ///
    /// Only a queue can tell a device.
    pub(crate) fn forget_in_device<R: Registers, C: Clock>(
        &mut self,
        unit: &mut Unit<'_, R, C>,
        frames: &mut impl Frames,
        request: Descriptor,
    ) -> Result<(), UnitError> {
        match self {
            Self::Registers => Err(UnitError::NoQueue),
            Self::Queue(queue) => queue.forget_in_device(unit, frames, request),
        }
    }
}

/// An invalidation queue of one page, and a frame for the status that waits write.
#[derive(Debug)]
pub(crate) struct Queue {
    address: QueueAddress,
    status: u64,
    /// Word at which the next descriptor goes.
    tail: usize,
    /// Status data of the last wait: never zero, never twice the same in a row.
    sequence: u32,
}

impl Queue {
    /// Takes frames for a queue of `wide` or narrow descriptors.
    pub(crate) fn new(address: QueueAddress, frames: &mut impl Frames) -> Result<Self, Reason> {
        let queue = frames.allocate().ok_or(Reason::OutOfFrames)?;
        let Some(status) = frames.allocate() else {
            frames.release(queue);
            return Err(Reason::OutOfFrames);
        };
        Ok(Self { address: address.with_frame(queue >> PAGE_SHIFT), status, tail: 0, sequence: 0 })
    }

    /// Makes this the unit's queue, which must be off, and has it execute a wait as a proof that it works (6.5.2).
    pub(crate) fn start<R: Registers, C: Clock>(
        &mut self,
        unit: &mut Unit<'_, R, C>,
        frames: &mut impl Frames,
    ) -> Result<(), UnitError> {
        frames.publish(self.address.address(), 0..ENTRIES);
        frames.publish(self.status, 0..ENTRIES);
        unit.write(FSTS, u64::from(FaultStatus::QUEUE_ERRORS.into_bits()));
        unit.write(IQT, 0);
        unit.write(IQA, self.address.into_bits());
        unit.queue_on()?;
        self.submit(unit, frames, &[])
    }

    fn forget<R: Registers, C: Clock>(
        &mut self,
        unit: &mut Unit<'_, R, C>,
        frames: &mut impl Frames,
        scope: Scope,
    ) -> Result<(), UnitError> {
        let translations = IotlbInvalidation::new()
            .with_drain_reads(unit.capability().drd())
            .with_drain_writes(unit.capability().dwd());
        let translations = match scope {
            Scope::Everything => {
                self.forget_contexts(unit, frames)?;
                translations.with_granularity(Granularity::GLOBAL)
            }
            Scope::Domain(domain) => translations.with_granularity(Granularity::DOMAIN).with_domain(domain),
        };
        self.submit(unit, frames, &[translations.into()])
    }

    /// A device that does not answer leaves the queue working for others: either the unit gives up on it (ITE), which
    /// is cleared, or it keeps the queue waiting, which is then started anew.
    fn forget_in_device<R: Registers, C: Clock>(
        &mut self,
        unit: &mut Unit<'_, R, C>,
        frames: &mut impl Frames,
        request: Descriptor,
    ) -> Result<(), UnitError> {
        let answer = self.submit(unit, frames, &[request]);
        match answer {
            Err(UnitError::QueueStopped(errors)) if !errors.iqe() => go_on_without_device(unit),
            Err(_) => self.restart(unit, frames)?,
            Ok(()) => {}
        }
        answer
    }

    fn restart<R: Registers, C: Clock>(
        &mut self,
        unit: &mut Unit<'_, R, C>,
        frames: &mut impl Frames,
    ) -> Result<(), UnitError> {
        unit.queue_off()?;
        self.tail = 0;
        self.start(unit, frames)
    }

    /// Context cache before PASID cache before translations: each is filled from the one before, so the next may
    /// only be emptied when the wait after the last has been executed (6.5.3).
    fn forget_contexts<R: Registers, C: Clock>(
        &mut self,
        unit: &mut Unit<'_, R, C>,
        frames: &mut impl Frames,
    ) -> Result<(), UnitError> {
        let contexts = ContextCacheInvalidation::new().with_granularity(Granularity::GLOBAL);
        self.submit(unit, frames, &[contexts.into()])?;
        if !self.address.wide() {
            return Ok(());
        }
        let pasids = PasidCacheInvalidation::new().with_granularity(PasidCacheInvalidation::GLOBAL);
        self.submit(unit, frames, &[pasids.into()])
    }

    /// Submits descriptors and waits until they are done.
    fn submit<R: Registers, C: Clock>(
        &mut self,
        unit: &mut Unit<'_, R, C>,
        frames: &mut impl Frames,
        descriptors: &[Descriptor],
    ) -> Result<(), UnitError> {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        let wait = Wait::new().with_write(true).with_fence(true).with_data(self.sequence);
        for descriptor in descriptors.iter().chain([&wait.reporting_to(self.status)]) {
            self.push(frames, *descriptor);
        }
        unit.flush_write_buffer()?;
        unit.write(IQT, self.tail as u64 * 8);
        self.await_status(unit, frames)
    }

    fn push(&mut self, frames: &mut impl Frames, descriptor: Descriptor) {
        let words = self.address.descriptor_bytes() as usize / 8;
        for (offset, word) in descriptor.0.iter().take(words).enumerate() {
            frames.store(self.address.address(), self.tail + offset, *word);
        }
        frames.publish(self.address.address(), self.tail..self.tail + words);
        self.tail = (self.tail + words) % ENTRIES;
    }

    fn await_status<R: Registers, C: Clock>(
        &self,
        unit: &Unit<'_, R, C>,
        frames: &impl Frames,
    ) -> Result<(), UnitError> {
        let mut stopped = FaultStatus::new();
        unit.wait("invalidation wait", "its status", |unit| {
            stopped = queue_stops(unit);
            stopped != FaultStatus::new() || frames.load(self.status, STATUS) as u32 == self.sequence
        })?;
        if stopped == FaultStatus::new() { Ok(()) } else { Err(UnitError::QueueStopped(stopped)) }
    }
}

/// The errors upon which the queue has stopped. That a device answered in a wrong way (ICE) stops nothing.
fn queue_stops<R: Registers, C: Clock>(unit: &Unit<'_, R, C>) -> FaultStatus {
    unit.fault_status().only(FaultStatus::QUEUE_STOPS)
}

fn forget_by_registers<R: Registers, C: Clock>(
    unit: &mut Unit<'_, R, C>,
    scope: Scope,
) -> Result<(), UnitError> {
    match scope {
        Scope::Everything => {
            forget_contexts(unit)?;
            forget_translations(unit, IotlbCommand::new().with_request(Granularity::GLOBAL))
        }
        Scope::Domain(domain) => forget_translations(
            unit,
            IotlbCommand::new().with_request(Granularity::DOMAIN).with_domain(domain),
        ),
    }
}

/// CCMD: start, wait until ICC is clear, and see that something was done (6.5.1.1).
fn forget_contexts<R: Registers, C: Clock>(unit: &mut Unit<'_, R, C>) -> Result<(), UnitError> {
    let command = ContextCommand::new().with_request(Granularity::GLOBAL);
    let read = |unit: &Unit<'_, R, C>| ContextCommand::from_bits(unit.read(CCMD));
    unit.write(CCMD, command.with_invalidate(true).into_bits());
    unit.wait("CCMD", "ICC clear", |unit| !read(unit).invalidate())?;
    done(read(unit).done(), "CCMD")
}

/// IOTLB: the same with IVT, draining what is under way (6.5.1.2).
fn forget_translations<R: Registers, C: Clock>(
    unit: &mut Unit<'_, R, C>,
    command: IotlbCommand,
) -> Result<(), UnitError> {
    let command = command
        .with_drain_reads(unit.capability().drd())
        .with_drain_writes(unit.capability().dwd())
        .with_invalidate(true);
    unit.write_iotlb(IOTLB_FROM_IRO, command.into_bits());
    unit.wait("IOTLB", "IVT clear", |unit| !IotlbCommand::from_bits(unit.read_iotlb()).invalidate())?;
    done(IotlbCommand::from_bits(unit.read_iotlb()).done(), "IOTLB")
}

fn done(granularity: Granularity, register: &'static str) -> Result<(), UnitError> {
    if granularity == Granularity::RESERVED { Err(UnitError::NotInvalidated(register)) } else { Ok(()) }
}

/// Why a queue stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    pub(crate) errors: FaultStatus,
    pub(crate) record: QueueErrorRecord,
}

/// Waits until the unit has fetched all that the old kernel queued, or has stopped for good; returns why it stopped
/// last on the way, if it did.
///
/// A device that did not answer (ITE) costs the requests that waited for it; once that is cleared the rest is fetched.
/// A descriptor that makes no sense (IQE) would have to be replaced, and old memory is not written (6.5.2.10).
pub(crate) fn drain<R: Registers, C: Clock>(unit: &mut Unit<'_, R, C>) -> Option<Stop> {
    let mut last = None;
    for _ in 0..SILENT_DEVICES {
        let errors = wait_for_head(unit);
        if errors == FaultStatus::new() {
            break;
        }
        last = Some(Stop { errors, record: unit.queue_error() });
        if errors.iqe() {
            break;
        }
        go_on_without_device(unit);
    }
    last
}

/// Waits until all is fetched or the queue has stopped; returns why it stopped.
fn wait_for_head<R: Registers, C: Clock>(unit: &Unit<'_, R, C>) -> FaultStatus {
    let mut errors = FaultStatus::new();
    // Late or done, both show in the registers.
    let _ = unit.wait("IQH", "IQT", |unit| {
        errors = queue_stops(unit);
        let at_tail = unit.read(IQH) & QUEUE_OFFSET == unit.read(IQT) & QUEUE_OFFSET;
        at_tail || errors != FaultStatus::new()
    });
    errors
}

/// Clears the error that a device did not answer: what waited for it is aborted, the rest goes on (6.5.2.10).
fn go_on_without_device<R: Registers, C: Clock>(unit: &mut Unit<'_, R, C>) {
    unit.write(FSTS, u64::from(FaultStatus::new().with_ite(true).into_bits()));
}
