//! The swap: starts a command buffer and an event log of our own, loads the base of our own device table, and invalidates the
//! caches.
//!
//! The swap is legal because old and new tables translate alike: a request gets the same answer from the old table, a
//! cached entry and the new table. Everything that can fail is tried before the base changes: by then, the new buffer must have
//! executed a command. Its frames are taken before anything of the old state changes.

use amdvi::control::{Control, DeviceTableBase};
use amdvi::registers::{CONTROL, DEVICE_TABLE};
use machine::{Clock, Frames, OldMemory, Registers};

use crate::amdvi::command::CommandedUnit;
use crate::amdvi::found::Found;
use crate::amdvi::log;
use crate::amdvi::unit::{Unit, table_register};
use crate::command::{Scope, Swapped};
use crate::failure::{Failure, InForce, Reason};
use crate::ledger::Told;
use crate::report;
use crate::unit::UnitError;

/// Makes the unit translate with its tables of our own, and gives it the buffers that were taken for it.
pub(crate) fn swap<R: Registers, C: Clock>(
    unit: &mut CommandedUnit<'_, R, C>,
    old: &impl OldMemory,
    frames: &mut impl Frames,
) -> Result<Swapped, Failure> {
    let mut found = look(&unit.unit);
    found.queue = unit.drain_old_queue();
    unit.stop_old_buffers().map_err(|late| before(unit, found.control, late))?;
    found.events = log::unread(&unit.unit, old);
    unit.start_buffers().map_err(|error| before(unit, found.control, error))?;
    // Proves that commands are executed.
    unit.submit(&core::iter::empty(), frames).map_err(|error| before(unit, found.control, error))?;
    let base = load_tables(unit)?;
    unit.forget(Scope::Everything, frames).map_err(after)?;
    // Only now, because events under the old tables are evidence too.
    take_events(unit, &mut found, frames);
    Ok(Swapped { found: report::Found::AmdVi(found), root: base.into_bits() })
}

fn look<R: Registers, C: Clock>(unit: &Unit<'_, R, C>) -> Found {
    Found {
        control: unit.control(),
        status: unit.status(),
        device_table: unit.device_table(0),
        events: alloc::vec::Vec::new(),
        queue: report::OldQueue::Off,
    }
}

/// The failure before the base changed: the control register gets what it held, so that devices and the other kernel's
/// software find the unit as it was, if it still takes that.
fn before<R: Registers, C: Clock>(
    unit: &mut CommandedUnit<'_, R, C>,
    control: Control,
    error: impl Into<UnitError>,
) -> Failure {
    unit.unit.write(CONTROL, control.into_bits());
    Failure { reason: Reason::Unit(error.into()), in_force: InForce::Old }
}

fn after(error: UnitError) -> Failure {
    Failure { reason: Reason::Unit(error), in_force: InForce::New }
}

/// Loads the base of the new device table with translation on, each segment by one write of 64 bits, and reads it back; returns
/// that of the first segment.
fn load_tables<R: Registers, C: Clock>(
    unit: &mut CommandedUnit<'_, R, C>,
) -> Result<DeviceTableBase, Failure> {
    unit.told = Told::Tables;
    let mut loaded = DeviceTableBase::new();
    for index in 0.. {
        let Some(segment) = unit.tables.segments().nth(index) else { break };
        let register = table_register(segment.number);
        if register == DEVICE_TABLE {
            loaded = segment.base;
        }
        let failure = |error: UnitError| Failure { reason: error.into(), in_force: InForce::Unknown };
        unit.name(register, segment.base.into_bits()).map_err(failure)?;
    }
    Ok(loaded)
}

/// Adds what our log has to the evidence, and empties it.
fn take_events<R: Registers, C: Clock>(
    unit: &mut CommandedUnit<'_, R, C>,
    found: &mut Found,
    frames: &impl Frames,
) {
    unit.for_each_event(frames, |event| log::keep(event, &mut found.events));
}
