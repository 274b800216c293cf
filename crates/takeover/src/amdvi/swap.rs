//! The swap: starts a command buffer and an event log of our own, loads the base of our own device table, and invalidates the
//! caches.
//!
//! The swap is legal because old and new tables translate alike: a request gets the same answer from the old table, a
//! cached entry and the new table. Everything that can fail is tried before the base changes: by then, the new buffer must have
//! executed a command. Its frames are taken before anything of the old state changes.
//!
//! Where hardware does not take a new base, or not in one step, or there is no room for a table, the dead kernel's device table stays in
//! force and is made to say what ours says, entry by entry; where it takes no buffers either, the dead kernel's are used on
//! ([`reuse`](crate::amdvi::reuse)). The report names what stays, and what does not hold because of it. A unit whose table another unit
//! had too gets what replaced that, or finds it changed already.

use amdvi::control::{Control, DeviceTableBase};
use amdvi::registers::{COMMAND_BUFFER, CONTROL, DEVICE_TABLE};
use machine::{Clock, Frames, OldMemory, PAGE_SIZE, Registers};

use crate::amdvi::command::CommandedUnit;
use crate::amdvi::found::Found;
use crate::amdvi::log;
use crate::amdvi::unit::{Unit, table_register};
use crate::command::{Scope, Swapped};
use crate::failure::{Failure, InForce, Reason};
use crate::hazard::{Danger, HazardPlace, Hazards, Obstacle, Outcome};
use crate::ledger::Told;
use crate::own::OwnMemory;
use crate::report;
use crate::surroundings::Surroundings;
use crate::unit::UnitError;

/// Makes the unit translate with its tables of our own, or with those of the dead kernel's that say the same, and gives it the buffers
/// that were taken for it.
pub(crate) fn swap<R: Registers, C: Clock>(
    unit: &mut CommandedUnit<'_, R, C>,
    (old, surroundings): (&impl OldMemory, &Surroundings<'_>),
    frames: &mut impl Frames,
    hazards: &mut Hazards,
) -> Result<Swapped, Failure> {
    let own = surroundings.own_memory();
    let mut found = look(&unit.unit);
    found.queue = unit.drain_old_queue();
    let control = found.control;
    open_buffers(unit, &mut found, (old, own), frames).map_err(|error| before(unit, control, error))?;
    // Proves that commands are executed.
    unit.submit(&core::iter::empty(), frames).map_err(|error| before(unit, control, error))?;
    if unit.reuses_buffers() {
        hazards.note(HazardPlace::Unit, Danger::BuffersInPlace, Outcome::KeptInPlace);
        if !unit.has_stopped_other_logs() {
            hazards.note(HazardPlace::Unit, Danger::LogsInPlace, Outcome::KeptInPlace);
        }
    }
    let base = bring_into_force(unit, control, (old, own), frames, hazards)?;
    note_exclusion(unit, surroundings, hazards);
    note_without_entry(unit, surroundings, hazards);
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

/// Gives the unit the buffers of our own; where the hardware has locked the registers that name them, the dead kernel's are used.
fn open_buffers<R: Registers, C: Clock>(
    unit: &mut CommandedUnit<'_, R, C>,
    found: &mut Found,
    memory: (&impl OldMemory, OwnMemory<'_>),
    frames: &mut impl Frames,
) -> Result<(), UnitError> {
    if unit.unit.is_locked() {
        return unit.reuse_buffers(found.control, memory, frames);
    }
    unit.stop_old_buffers()?;
    found.events = log::unread(&unit.unit, memory.0);
    match unit.start_buffers() {
        Err(UnitError::Locked(register)) if register == COMMAND_BUFFER.name => {
            // They are still in the log.
            found.events.clear();
            unit.reuse_buffers(found.control, memory, frames)
        }
        other => other,
    }
}

/// The failure before the base changed: the control register gets what it held, so that devices and the other kernel's
/// software find the unit as it was, if it still takes that.
fn before<R: Registers, C: Clock>(
    unit: &mut CommandedUnit<'_, R, C>,
    control: Control,
    reason: impl Into<Reason>,
) -> Failure {
    unit.unit.write(CONTROL, control.into_bits());
    Failure { reason: reason.into(), in_force: InForce::Old }
}

fn after(error: UnitError) -> Failure {
    Failure { reason: Reason::Unit(error), in_force: InForce::New }
}

/// Brings what our device table says into force: by its base, or in the dead kernel's table. Returns the base that is in force.
fn bring_into_force<R: Registers, C: Clock>(
    unit: &mut CommandedUnit<'_, R, C>,
    control: Control,
    memory: (&impl OldMemory, OwnMemory<'_>),
    frames: &mut impl Frames,
    hazards: &mut Hazards,
) -> Result<DeviceTableBase, Failure> {
    if let Some(why) = unit.tables.in_place {
        return Ok(stay(unit, why, hazards));
    }
    let locked = UnitError::Locked(DEVICE_TABLE.name);
    let obstacle = match obstacle(unit) {
        Some(obstacle) => obstacle,
        None => match load_tables(unit) {
            Err(Failure { reason: Reason::Unit(error), .. }) if error == locked => Obstacle::Locked,
            loaded => return loaded,
        },
    };
    if unit.reuse_table(obstacle, memory, frames, hazards) {
        return Ok(stay(unit, obstacle, hazards));
    }
    match obstacle {
        Obstacle::Locked => Err(before(unit, control, locked)),
        Obstacle::NoRun { pages } => Err(before(unit, control, Reason::DeviceTable { pages })),
        Obstacle::Halves { old, new } => {
            hazards.note(HazardPlace::Unit, Danger::BaseInHalves { old, new }, Outcome::Duplicated);
            load_tables(unit)
        }
    }
}

/// Notes that the dead kernel's device table stays in force, which says what ours says, perhaps for other units too; returns its base.
fn stay<R: Registers, C: Clock>(
    unit: &mut CommandedUnit<'_, R, C>,
    why: Obstacle,
    hazards: &mut Hazards,
) -> DeviceTableBase {
    unit.told = Told::Tables;
    let base = unit.unit.device_table(0);
    let danger = Danger::TableInPlace { table: base.table().start, why };
    hazards.note(HazardPlace::Unit, danger, Outcome::KeptInPlace);
    base
}

/// What is known beforehand to keep the unit from our device table: the same lock as for buffers, no table that hardware could take, or
/// a base that would change in both halves of the register.
pub(crate) fn obstacle<R: Registers, C: Clock>(unit: &CommandedUnit<'_, R, C>) -> Option<Obstacle> {
    if unit.reuses_buffers() {
        return Some(Obstacle::Locked);
    }
    unit.tables.segments().iter().find_map(|segment| {
        let (old, base) = (segment.found.table(), segment.base);
        let Some(new) = base else {
            return Some(Obstacle::NoRun { pages: (old.len() / PAGE_SIZE) as usize });
        };
        let (old, new) = (old.start, new.table().start);
        (old.get() >> 32 != new.get() >> 32).then_some(Obstacle::Halves { old, new })
    })
}

/// Notes that requests to our memory pass, whatever the tables say, if the exclusion range has some of it. Firmware has it in memory of its
/// own.
fn note_exclusion<R: Registers, C: Clock>(
    unit: &CommandedUnit<'_, R, C>,
    surroundings: &Surroundings<'_>,
    hazards: &mut Hazards,
) {
    let excluded = unit.unit.exclusion();
    if surroundings.own_memory().touches(excluded) {
        hazards.note(HazardPlace::Unit, Danger::ReachesOwnMemory(excluded.start), Outcome::KeptInPlace);
    }
}

/// Notes the devices that there are, and for which the table in force has no entry.
fn note_without_entry<R: Registers, C: Clock>(
    unit: &CommandedUnit<'_, R, C>,
    surroundings: &Surroundings<'_>,
    hazards: &mut Hazards,
) {
    for tlb in surroundings.device_tlbs.iter().filter(|tlb| unit.tables.slot_of(tlb.source).is_none()) {
        hazards.note(HazardPlace::Device(tlb.source), Danger::NoEntry, Outcome::KeptInPlace);
    }
}

/// Loads the base of the new device table with translation on, each segment by one write of 64 bits, and reads it back; returns
/// that of the first segment.
fn load_tables<R: Registers, C: Clock>(
    unit: &mut CommandedUnit<'_, R, C>,
) -> Result<DeviceTableBase, Failure> {
    unit.told = Told::Tables;
    let mut loaded = DeviceTableBase::new();
    for index in 0.. {
        let Some(segment) = unit.tables.segments().get(index) else { break };
        let (register, base) = (table_register(segment.number), segment.base.unwrap_or_default());
        if register == DEVICE_TABLE {
            loaded = base;
        }
        let failure = |error: UnitError| Failure { reason: error.into(), in_force: InForce::Unknown };
        unit.name(register, base.into_bits()).map_err(failure)?;
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
