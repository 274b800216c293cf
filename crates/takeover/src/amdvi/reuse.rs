//! What the dead kernel made and the unit goes on using, because it does not take another: command buffer, event log and device table
//! where secure nested paging has locked the registers that name them (2.12), or the table alone where its base cannot move in one step or
//! no frames are left side by side for another.
//!
//! All of it is in memory that devices may still write to. A buffer is used from its tail on, and a device table is changed entry by
//! entry ([`Tables::pass_on`](crate::amdvi::tables::Tables::pass_on)); our copy of the table stays what is believed.

use alloc::vec::Vec;

use amdvi::control::{Control, ExclusionBase, Status};
use amdvi::registers::{
    COMMAND_BUFFER, COMMAND_HEAD, COMMAND_TAIL, CONTROL, EVENT_LOG, EXCLUSION_BASE, EXCLUSION_LIMIT,
};
use machine::{Clock, Contended, Frames, OldMemory, PAGE_SHIFT, PhysicalAddress, Range, Registers};

use crate::amdvi::command::{Buffers, CommandedUnit};
use crate::amdvi::log::EventLog;
use crate::amdvi::queue::CommandBuffer;
use crate::amdvi::ring::{Owner, Ring};
use crate::amdvi::swap::obstacle;
use crate::amdvi::unit::{STATUS, Unit};
use crate::hazard::{Danger, HazardPlace, Hazards, Obstacle, Outcome};
use crate::ledger::Told;
use crate::own::OwnMemory;
use crate::patience::Waiting;
use crate::table::page_at;
use crate::unit::UnitError;
use machine::growth::{OutOfMemory, collected};

impl<R: Registers, C> Unit<'_, R, C> {
    /// Whether secure nested paging has locked the registers that name tables and buffers. The one that is tried means nothing while
    /// there is no exclusion range, unless it is locked.
    pub(crate) fn is_locked(&mut self) -> bool {
        let base = ExclusionBase::from_bits(self.read(EXCLUSION_BASE));
        if !self.feature().snp() || base.enabled() {
            return false;
        }
        let before = self.read(EXCLUSION_LIMIT);
        self.write(EXCLUSION_LIMIT, before ^ 1 << PAGE_SHIFT);
        let is_locked = self.read(EXCLUSION_LIMIT) == before;
        self.write(EXCLUSION_LIMIT, before);
        is_locked
    }

    /// The dead kernel's memory that the unit goes on using because registers are locked: its device table, its buffers, and where waits
    /// store; none if they are not.
    pub(crate) fn locked_memory(&mut self) -> Result<Vec<Range<PhysicalAddress>>, OutOfMemory> {
        if !self.is_locked() {
            return Ok(Vec::new());
        }
        let tables = (0..self.control().segments()).map(|number| self.device_table(number).table());
        let rings = [COMMAND_BUFFER, EVENT_LOG].map(|register| Ring::of_old(self.buffer(register)));
        let rings = rings.into_iter().flatten().map(Ring::memory);
        collected(tables.chain(rings).chain(self.store_page().map(page_at)))
    }
}

impl<R: Registers, C: Clock> CommandedUnit<'_, R, C> {
    /// The dead kernel's memory that the unit goes on using: its device table, if something keeps the unit from another, and its buffers
    /// where the registers are locked. Where hardware ignores a register without a sign, that shows only when it is written.
    pub(crate) fn memory_in_use(&mut self) -> Result<Vec<Range<PhysicalAddress>>, OutOfMemory> {
        let locked = self.unit.locked_memory()?;
        if !locked.is_empty() || obstacle(self).is_none() {
            return Ok(locked);
        }
        collected(self.tables.segments().iter().map(|segment| segment.found.table()))
    }

    /// Whether the unit goes on using the dead kernel's buffers.
    pub(crate) fn reuses_buffers(&self) -> bool {
        self.buffers.as_ref().is_some_and(|buffers| buffers.commands.ring.owner == Owner::Old)
    }

    /// Gives commands through the dead kernel's buffer from now on, and reads its log, if `control`, as it was found, has it on.
    /// Fails if its memory cannot be used.
    pub(crate) fn reuse_buffers(
        &mut self,
        control: Control,
        (old, own): (&impl OldMemory, OwnMemory<'_>),
        frames: &mut impl Frames,
    ) -> Result<(), UnitError> {
        let mut is_usable = |memory| is_usable(memory, (old, own), frames);
        let commands = Ring::of_old(self.unit.buffer(COMMAND_BUFFER)).filter(|ring| is_usable(ring.memory()));
        let commands = commands.ok_or(UnitError::Locked(COMMAND_BUFFER.name))?;
        let log = Ring::of_old(self.unit.buffer(EVENT_LOG)).filter(|_| control.event_log());
        let log = log.filter(|ring| is_usable(ring.memory())).map(|ring| EventLog { ring });
        let store = self.unit.store_page().filter(|page| is_usable(page_at(*page)));
        let tail = commands.place(&self.unit, COMMAND_TAIL);
        let is_at_rest = self.unit.has_fetched_all() && self.unit.status().command_buffer_runs();
        self.buffers = Some(Buffers {
            commands: CommandBuffer::of_old(commands, store, tail),
            log,
            told: Told::Nothing,
        });
        if !is_at_rest {
            return self.restart_old_buffer();
        }
        self.unit.write(CONTROL, self.giving_devices_up(quiet(self.keep())).into_bits());
        Ok(())
    }

    /// Whether the unit has stopped its logs of page requests and guests' interrupts; they are told to by
    /// [`reuse_buffers`](Self::reuse_buffers). Where hardware does not take that, nothing is waited for.
    pub(crate) fn has_stopped_other_logs(&mut self) -> bool {
        let control = self.unit.control();
        let runs = |status: Status| status.ppr_log_runs() || status.ga_log_runs();
        let takes_it = !control.ppr_log() && !control.ga_log();
        !runs(self.unit.status())
            || takes_it && self.wait(STATUS, "logs stopped", |unit| !runs(unit.status())).is_ok()
    }

    /// Goes on with the dead kernel's buffer where somebody else has written its tail, or starts it anew, empty, if it has stopped.
    pub(crate) fn reopen_old_buffer(&mut self) -> Result<(), UnitError> {
        if !self.unit.status().command_buffer_runs() {
            return self.restart_old_buffer();
        }
        let buffers = self.buffers.as_mut().ok_or(UnitError::NoQueue)?;
        buffers.commands.go_on_at(buffers.commands.ring.place(&self.unit, COMMAND_TAIL));
        Ok(())
    }

    fn restart_old_buffer(&mut self) -> Result<(), UnitError> {
        let buffers = self.buffers.as_mut().ok_or(UnitError::NoQueue)?;
        buffers.commands.go_on_at(0);
        let has_log = buffers.log.is_some();
        let off = quiet(self.keep()).with_command_buffer(false);
        self.control(off, "CmdBufRun clear", |status| !status.command_buffer_runs())?;
        self.unit.write(COMMAND_HEAD, 0);
        self.unit.write(COMMAND_TAIL, 0);
        let on = off.with_command_buffer(true).with_event_log(has_log);
        let on = self.giving_devices_up(on);
        Ok(self.control(on, "CmdBufRun", |status| status.command_buffer_runs())?)
    }

    /// Makes the dead kernel's device table say what ours says; returns whether it does. If the memory of some of it cannot be used,
    /// nothing changes. An entry that devices keep writing stays as it is, and is named.
    pub(crate) fn reuse_table(
        &mut self,
        why: Obstacle,
        (old, own): (&impl OldMemory, OwnMemory<'_>),
        frames: &mut impl Frames,
        hazards: &mut Hazards,
    ) -> bool {
        let mut segments = self.tables.segments().iter();
        if !segments.all(|segment| is_usable(segment.found.table(), (old, own), frames)) {
            return false;
        }
        self.told = Told::Tables;
        self.tables.stay_in_place(why);
        for (source, _) in self.tables.slots() {
            if let Err(Contended(entry)) = self.tables.pass_on(source, frames) {
                let danger = Danger::EntryContended(entry);
                hazards.note(HazardPlace::Device(source), danger, Outcome::KeptInPlace);
            }
        }
        true
    }
}

/// The same, without interrupts, and without the logs that nobody reads: the unit itself answers page requests then.
fn quiet(control: Control) -> Control {
    control
        .with_completion_interrupt(false)
        .with_event_interrupt(false)
        .with_ppr_log(false)
        .with_ppr_interrupt(false)
        .with_ga_log(false)
        .with_ga_interrupt(false)
}

/// Takes memory of the dead kernel's into use; returns whether it is all memory, and none of it ours.
fn is_usable(
    memory: Range<PhysicalAddress>,
    (old, own): (&impl OldMemory, OwnMemory<'_>),
    frames: &mut impl Frames,
) -> bool {
    !own.touches(memory) && frames.reuse(old, memory).is_ok()
}
