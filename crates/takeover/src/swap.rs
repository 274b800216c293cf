//! The moment of takeover: own invalidation queue, own root pointer, caches forgotten.
//!
//! Legal because old and new tables translate alike: a request that meets the old table, a cached entry or the new
//! table gets the same answer. Whatever can fail is tried before the root pointer is touched: the new queue must
//! have executed a command by then.

use alloc::vec::Vec;

use machine::{Clock, Frames, PAGE_SHIFT, Registers};
use vtd::control::{GlobalStatus, RootTableAddress};
use vtd::fault::{FaultRecord, FaultStatus, PageRequestStatus};
use vtd::queue::{QUEUE_OFFSET, QueueAddress, QueueErrorRecord};
use vtd::registers::{IQH, IQT, RTADDR};

use crate::duplicate::Duplicate;
use crate::failure::{Failure, InForce, Reason};
use crate::invalidate::{Invalidator, Queue, Scope, Stop, drain};
use crate::mode::Mode;
use crate::unit::{Unit, UnitError};

/// The state in which a unit was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Global status.
    pub status: GlobalStatus,
    /// The old root table.
    pub root: RootTableAddress,
    /// Fault status: errors of the old queue, and faults that the old kernel had not handled.
    pub faults: FaultStatus,
    /// The first faults recorded until the takeover was done: they are evidence, and were cleared.
    pub fault_records: Vec<FaultRecord>,
    /// The old invalidation queue.
    pub queue: OldQueue,
    /// What the unit recorded of an error of that queue; its fields are valid with the bits of `faults`.
    pub queue_error: QueueErrorRecord,
    /// The old queue of page requests, which is left as it was found: the unit answers for us when it is full.
    pub page_requests: PageRequestStatus,
}

/// In which state the old kernel's invalidation queue was when it was turned off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldQueue {
    /// It was not on.
    Off,
    /// It had done all its work.
    Drained,
    /// It had stopped, or did not finish in time.
    Stuck {
        /// IQH at the end.
        head: u64,
        /// IQT at the end.
        tail: u64,
    },
}

/// A unit that translates with our tables, and what was found on the way.
#[derive(Debug)]
pub struct Swapped {
    /// The state in which the unit was found.
    pub found: Found,
    /// The root table now in force.
    pub root: RootTableAddress,
    pub(crate) invalidator: Invalidator,
}

/// Makes the unit translate with the copy.
pub fn swap<R: Registers, C: Clock>(
    unit: &mut Unit<'_, R, C>,
    copy: &Duplicate,
    frames: &mut impl Frames,
) -> Result<Swapped, Failure> {
    let mut found = look(unit);
    found.queue = stop_old_queue(unit, &mut found).map_err(before)?;
    let mode = copy.tables.mode;
    let mut invalidator = start_invalidator(unit, mode, frames)?;
    let root =
        RootTableAddress::new().with_mode(mode.table_mode()).with_frame(copy.tables.root >> PAGE_SHIFT);
    load_root(unit, found.root, root)?;
    check_root(unit, root)?;
    invalidator.forget(unit, frames, Scope::Everything).map_err(after)?;
    // Only now: a fault that the old tables caused until here is evidence as well.
    found.fault_records = unit.take_faults();
    Ok(Swapped { found, root, invalidator })
}

fn look<R: Registers, C: Clock>(unit: &Unit<'_, R, C>) -> Found {
    Found {
        status: unit.status(),
        root: unit.root_table(),
        faults: unit.fault_status(),
        fault_records: Vec::new(),
        queue: OldQueue::Off,
        queue_error: unit.queue_error(),
        page_requests: unit.page_requests(),
    }
}

fn before(error: impl Into<UnitError>) -> Failure {
    Failure { reason: Reason::Unit(error.into()), in_force: InForce::Old }
}

fn after(error: UnitError) -> Failure {
    Failure { reason: Reason::Unit(error), in_force: InForce::New }
}

/// Lets the old kernel's queue finish what it can and turns it off; notes errors that it had meanwhile.
///
/// A queue that has stopped with an error, or that does not finish, is turned off as it is: what was left in it is
/// made up for when everything is forgotten.
fn stop_old_queue<R: Registers, C: Clock>(
    unit: &mut Unit<'_, R, C>,
    found: &mut Found,
) -> Result<OldQueue, UnitError> {
    if !found.status.qies() {
        return Ok(OldQueue::Off);
    }
    if let Some(Stop { errors, record }) = drain(unit) {
        found.faults = found.faults.union(errors);
        found.queue_error = record;
    }
    let (head, tail) = (unit.read(IQH) & QUEUE_OFFSET, unit.read(IQT) & QUEUE_OFFSET);
    unit.queue_off()?;
    Ok(if head == tail { OldQueue::Drained } else { OldQueue::Stuck { head, tail } })
}

/// Starts a queue of our own. In legacy mode, a unit that has none, or whose queue does not start, is told by
/// registers; in scalable mode there is no other way (6.5.1).
fn start_invalidator<R: Registers, C: Clock>(
    unit: &mut Unit<'_, R, C>,
    mode: Mode,
    frames: &mut impl Frames,
) -> Result<Invalidator, Failure> {
    let qi = unit.extended_capability().qi();
    let started = if qi { start_queue(unit, mode, frames)? } else { Err(UnitError::NoQueue) };
    match (started, mode) {
        (Ok(queue), _) => Ok(Invalidator::Queue(queue)),
        (Err(_), Mode::Legacy) => {
            unit.check_iotlb().map_err(before)?;
            let mut registers = Invalidator::Registers;
            // As a proof that they work: it is legal at any time, and the new root pointer may need it.
            registers.forget(unit, frames, Scope::Everything).map_err(before)?;
            Ok(registers)
        }
        (Err(error), Mode::Scalable) => Err(before(error)),
    }
}

/// A queue that works, or why there is none; then it is off. Fails if the unit can be given no other command.
fn start_queue<R: Registers, C: Clock>(
    unit: &mut Unit<'_, R, C>,
    mode: Mode,
    frames: &mut impl Frames,
) -> Result<Result<Queue, UnitError>, Failure> {
    // Scalable mode demands wide descriptors (6.5.2).
    let mut queue = Queue::new(QueueAddress::new().with_wide(mode == Mode::Scalable), frames)?;
    match queue.start(unit, frames) {
        Ok(()) => Ok(Ok(queue)),
        Err(UnitError::NoAnswer(late)) if late.is_of_command() => Err(before(late)),
        Err(error) => {
            // While a queue is on, the registers refuse (6.5.1).
            unit.queue_off().map_err(before)?;
            Ok(Err(error))
        }
    }
}

/// Loads the new root pointer with translation on (6.6). If the unit does not say that it took it, it is told to go
/// back to the old one, which it then may or may not have.
fn load_root<R: Registers, C: Clock>(
    unit: &mut Unit<'_, R, C>,
    old: RootTableAddress,
    new: RootTableAddress,
) -> Result<(), Failure> {
    unit.flush_write_buffer().map_err(before)?;
    unit.set_root(new).map_err(|late| {
        let in_force = if unit.set_root(old).is_ok() { InForce::Old } else { InForce::Unknown };
        Failure { reason: UnitError::from(late).into(), in_force }
    })
}

/// A unit that does not show what was written may have taken anything, though it said that it took the root.
fn check_root<R: Registers, C: Clock>(
    unit: &Unit<'_, R, C>,
    written: RootTableAddress,
) -> Result<(), Failure> {
    let found = unit.read(RTADDR);
    if found == written.into_bits() {
        return Ok(());
    }
    let reason = UnitError::RootNotTaken { written: written.into_bits(), found }.into();
    Err(Failure { reason, in_force: InForce::Unknown })
}
