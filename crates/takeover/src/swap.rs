//! The moment of takeover: own invalidation queue, own root pointer, caches forgotten.
//!
//! Legal because old and new tables translate alike: a request that meets the old table, a cached entry or the new
//! table gets the same answer. Whatever can fail is tried before the root pointer is touched: the new queue must
//! have executed a command by then.

use alloc::vec::Vec;

use machine::{Clock, Frames, PAGE_SHIFT, Registers};
use vtd::control::RootTableAddress;
use vtd::queue::QUEUE_OFFSET;
use vtd::registers::{IQH, IQT, RTADDR};

use crate::command::CommandedUnit;
use crate::duplicate::Duplicate;
use crate::failure::{Failure, InForce, Reason};
use crate::found::{Found, OldQueue};
use crate::invalidate::{Scope, Stop};
use crate::mode::Mode;
use crate::queue::Queue;
use crate::unit::{Unit, UnitError};

/// What was found on the way to the new tables, and where they are.
#[derive(Debug)]
pub(crate) struct Swapped {
    /// The state in which the unit was found.
    pub(crate) found: Found,
    /// The root table now in force.
    pub(crate) root: RootTableAddress,
}

/// Makes the unit translate with the copy.
pub(crate) fn swap<R: Registers, C: Clock>(
    unit: &mut CommandedUnit<'_, R, C>,
    copy: &Duplicate,
    frames: &mut impl Frames,
) -> Result<Swapped, Failure> {
    let mut found = look(&unit.unit, copy.old_root);
    found.queue = stop_old_queue(unit, &mut found).map_err(before)?;
    let mode = copy.tables.mode;
    start_invalidation(unit, mode, frames)?;
    let root =
        RootTableAddress::new().with_mode(mode.table_mode()).with_frame(copy.tables.root.get() >> PAGE_SHIFT);
    load_root(unit, copy.old_root, root)?;
    check_root(&unit.unit, root)?;
    unit.forget(Scope::Everything, frames).map_err(after)?;
    // Only now: a fault that the old tables caused until here is evidence as well.
    found.fault_records = unit.unit.take_faults();
    Ok(Swapped { found, root })
}

fn look<R: Registers, C: Clock>(unit: &Unit<'_, R, C>, root: RootTableAddress) -> Found {
    Found {
        status: unit.status(),
        root,
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
    unit: &mut CommandedUnit<'_, R, C>,
    found: &mut Found,
) -> Result<OldQueue, UnitError> {
    if !found.status.qies() {
        return Ok(OldQueue::Off);
    }
    if let Some(Stop { errors, record }) = unit.drain_old_queue() {
        found.faults = found.faults.union(errors);
        found.queue_error = record;
    }
    let (head, tail) = (unit.unit.read(IQH) & QUEUE_OFFSET, unit.unit.read(IQT) & QUEUE_OFFSET);
    unit.queue_off()?;
    Ok(if head == tail { OldQueue::Drained } else { OldQueue::Stuck { head, tail } })
}

/// Starts a queue of our own. In legacy mode, a unit that has none, or whose queue does not start, is told by
/// registers; in scalable mode there is no other way (6.5.1).
fn start_invalidation<R: Registers, C: Clock>(
    unit: &mut CommandedUnit<'_, R, C>,
    mode: Mode,
    frames: &mut impl Frames,
) -> Result<(), Failure> {
    let qi = unit.unit.extended_capability().qi();
    let started = if qi { start_queue(unit, mode, frames)? } else { Err(UnitError::NoQueue) };
    match (started, mode) {
        (Ok(()), _) => Ok(()),
        (Err(_), Mode::Legacy) => {
            unit.unit.check_iotlb().map_err(before)?;
            // As a proof that the registers work: it is legal at any time, and the new root pointer may need it.
            unit.forget(Scope::Everything, frames).map_err(before)
        }
        (Err(error), Mode::Scalable) => Err(before(error)),
    }
}

/// Starts a queue, or says why there is none; then it is off. Fails if the unit can be given no other command.
fn start_queue<R: Registers, C: Clock>(
    unit: &mut CommandedUnit<'_, R, C>,
    mode: Mode,
    frames: &mut impl Frames,
) -> Result<Result<(), UnitError>, Failure> {
    let queue = Queue::new(mode, frames)?;
    match unit.start_queue(queue, frames) {
        Ok(()) => Ok(Ok(())),
        Err(UnitError::NoAnswer(late)) if late.is_of_command() => Err(before(late)),
        Err(error) => {
            // While a queue is on, the registers refuse (6.5.1).
            unit.queue_off().map_err(before)?;
            unit.queue = None;
            Ok(Err(error))
        }
    }
}

/// Loads the new root pointer with translation on (6.6). If the unit does not say that it took it, it is told to go
/// back to the old one, which it then may or may not have.
fn load_root<R: Registers, C: Clock>(
    unit: &mut CommandedUnit<'_, R, C>,
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
