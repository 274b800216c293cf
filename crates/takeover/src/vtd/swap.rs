//! The swap: starts our own invalidation queue, loads our own root pointer, and invalidates the caches.
//!
//! The swap is legal because old and new tables translate alike: a request gets the same answer from the old table, a
//! cached entry and the new table. Everything that can fail is tried before the root pointer changes: by then, the
//! new queue must have executed a command. Its frames are taken before anything of the old state changes.

use alloc::vec::Vec;

use machine::{Clock, Frames, OldMemory, PAGE_SHIFT, Registers};
use vtd::control::RootTableAddress;
use vtd::registers::RTADDR;

use crate::command::{Scope, Swapped};
use crate::failure::{Failure, InForce, Reason};
use crate::report::{self, OldQueue};
use crate::unit::UnitError;
use crate::vtd::command::CommandedUnit;
use crate::vtd::found::Found;
use crate::vtd::mode::Mode;
use crate::vtd::old_queue::{Drained, Stop};
use crate::vtd::queue::Queue;
use crate::vtd::unit::Unit;

/// Takes the frames of the queue that the swap starts; `None` if the unit has none.
pub(crate) fn own_queue<R: Registers, C: Clock>(
    unit: &Unit<'_, R, C>,
    frames: &mut impl Frames,
) -> Result<Option<Queue>, Reason> {
    let mode = Mode::of(unit).filter(|_| unit.status().tes() && unit.extended_capability().qi());
    mode.map(|mode| Queue::new(mode, frames)).transpose()
}

/// Makes the unit translate with its tables of our own, and gives it the queue that was taken for it.
pub(crate) fn swap<R: Registers, C: Clock>(
    unit: &mut CommandedUnit<'_, R, C>,
    old: &impl OldMemory,
    frames: &mut impl Frames,
) -> Result<Swapped, Failure> {
    let mut found = look(&unit.unit);
    found.queue = stop_old_queue(unit, &mut found, old).map_err(before)?;
    let (mode, queue) = (unit.tables.mode, unit.spare_queue.take());
    start_invalidation(unit, mode, queue, frames)?;
    let root = unit.tables.root.get() >> PAGE_SHIFT;
    let root = RootTableAddress::new().with_mode(mode.table_mode()).with_frame(root);
    load_root(unit, found.root, root)?;
    check_root(&unit.unit, root)?;
    unit.forget(Scope::Everything, frames).map_err(after)?;
    // Only now, because faults under the old tables are evidence too.
    found.fault_records = unit.unit.take_faults();
    Ok(Swapped { found: report::Found::Vtd(found), root: root.into_bits() })
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

/// Lets the old kernel's queue finish what it can, and turns it off; notes its errors.
///
/// A queue that has stopped with an error, or that does not finish, is turned off as it is: the global invalidation
/// later covers what it left undone.
fn stop_old_queue<R: Registers, C: Clock>(
    unit: &mut CommandedUnit<'_, R, C>,
    found: &mut Found,
    old: &impl OldMemory,
) -> Result<OldQueue, UnitError> {
    if !found.status.qies() {
        return Ok(OldQueue::Off);
    }
    let Drained { stop, head, tail, is_done } = unit.drain_old_queue(old);
    if let Some(Stop { errors, record }) = stop {
        found.faults = found.faults.union(errors);
        found.queue_error = record;
    }
    unit.queue_off()?;
    Ok(if head == tail && is_done { OldQueue::Drained } else { OldQueue::Stuck { head, tail } })
}

/// Starts a queue of our own. In legacy mode, registers replace a queue that is missing or does not start; scalable
/// mode has no other way (6.5.1).
fn start_invalidation<R: Registers, C: Clock>(
    unit: &mut CommandedUnit<'_, R, C>,
    mode: Mode,
    queue: Option<Queue>,
    frames: &mut impl Frames,
) -> Result<(), Failure> {
    let started = queue.map(|queue| start_queue(unit, queue, frames)).transpose()?;
    let started = started.unwrap_or(Err(UnitError::NoQueue));
    match (started, mode) {
        (Ok(()), _) => Ok(()),
        (Err(_), Mode::Legacy) => {
            unit.unit.check_iotlb().map_err(before)?;
            // Proves that the registers work: it is legal at any time, and the new root pointer may need it.
            unit.forget(Scope::Everything, frames).map_err(before)
        }
        (Err(error), Mode::Scalable) => Err(before(error)),
    }
}

/// Starts a queue, or says why that failed; the queue is off then. Returns an error if the unit can take no other
/// command.
fn start_queue<R: Registers, C: Clock>(
    unit: &mut CommandedUnit<'_, R, C>,
    queue: Queue,
    frames: &mut impl Frames,
) -> Result<Result<(), UnitError>, Failure> {
    match unit.start_queue(queue, frames) {
        Ok(()) => Ok(Ok(())),
        Err(UnitError::NoAnswer(late)) if late.is_of_command() => Err(before(late)),
        Err(error) => {
            // While a queue is on, the unit refuses register-based invalidation (6.5.1).
            unit.queue_off().map_err(before)?;
            unit.queue = None;
            Ok(Err(error))
        }
    }
}

/// Loads the new root pointer with translation on (6.6). If the unit does not confirm, the old root pointer is loaded
/// again; whether that happened then stays unknown.
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

/// Reads RTADDR back. If it does not hold what was written, the unit may use any table, though it confirmed the
/// command.
fn check_root<R: Registers, C: Clock>(
    unit: &Unit<'_, R, C>,
    written: RootTableAddress,
) -> Result<(), Failure> {
    let found = unit.read(RTADDR);
    if found == written.into_bits() {
        return Ok(());
    }
    let reason = UnitError::NotTaken { register: "RTADDR", written: written.into_bits(), found }.into();
    Err(Failure { reason, in_force: InForce::Unknown })
}
