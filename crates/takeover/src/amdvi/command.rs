//! Commands a unit: writes its registers by their rules.
//!
//! Each write to the control register repeats the bits that are on: nothing here can turn translation off. Every wait has a
//! deadline.

use core::time::Duration;

use amdvi::control::{Control, InvalidationTimeout, Status};
use amdvi::registers::{self, CONTROL, Register};
use machine::{Clock, Frames, Registers};

use crate::amdvi::log::EventLog;
use crate::amdvi::queue::CommandBuffer;
use crate::amdvi::ring::Ring;
use crate::amdvi::tables::Tables;
use crate::amdvi::unit::Unit;
use crate::failure::Reason;
use crate::ledger::Told;
use crate::patience::{Waiting, Waits};
use crate::surroundings::Limits;
use crate::table::{new_tables, page_at};
use crate::unit::{NoAnswer, UnitError};

/// The longest InvTimeOut that is set here: a second, as Linux sets (3.4.3).
const MOST_PATIENT: InvalidationTimeout = InvalidationTimeout(4);

/// Frames of the command buffer, of where its waits report, and of the log.
pub(crate) const QUEUE_FRAMES: usize = 2 * Ring::FRAMES + 1;

/// A unit that accepts commands.
#[derive(Debug)]
pub(crate) struct CommandedUnit<'c, R, C> {
    pub(crate) unit: Unit<'c, R, C>,
    waits: Waits,
    /// How often our buffer's tail was not what we had written.
    pub(crate) disturbances: u32,
    /// Which of our frames the unit may use.
    pub(crate) told: Told,
    /// The command buffer and the log that the swap starts, or that are in use.
    pub(crate) buffers: Option<Buffers>,
    /// Tables of our own above the page tables: none before the census.
    pub(crate) tables: Tables,
}

/// A command buffer and an event log: of our own, or the dead kernel's where hardware takes no others.
#[derive(Debug)]
pub(crate) struct Buffers {
    pub(crate) commands: CommandBuffer,
    /// None if it is the dead kernel's and cannot be read.
    pub(crate) log: Option<EventLog>,
    pub(crate) told: Told,
}

impl<'c, R: Registers, C: Clock> Waiting for CommandedUnit<'c, R, C> {
    type Unit = Unit<'c, R, C>;

    fn unit(&self) -> &Self::Unit {
        &self.unit
    }

    fn clock(&self) -> &impl Clock {
        self.unit.clock()
    }

    fn waits(&self) -> &Waits {
        &self.waits
    }

    fn waits_mut(&mut self) -> &mut Waits {
        &mut self.waits
    }
}

impl<'c, R: Registers, C: Clock> CommandedUnit<'c, R, C> {
    /// Makes a unit with these limits for waits.
    pub(crate) fn new(unit: Unit<'c, R, C>, limits: &Limits) -> Self {
        let waits = Waits::new(limits);
        let tables = Tables::default();
        Self { unit, waits, disturbances: 0, told: Told::Nothing, buffers: None, tables }
    }

    /// Takes the frames of the command buffer and the log that the swap starts.
    pub(crate) fn take_queue(&mut self, frames: &mut impl Frames) -> Result<(), Reason> {
        let mut taken = |count| new_tables(count, frames).ok_or(Reason::OutOfFrames);
        let (buffer, store, log) = (taken(Ring::FRAMES)?, taken(1)?, taken(Ring::FRAMES)?);
        let (commands, log) = (CommandBuffer::new(buffer, store), EventLog::new(log));
        let told = Told::Queue([commands.ring.memory(), page_at(store), log.ring.memory()]);
        self.buffers = Some(Buffers { commands, log: Some(log), told });
        Ok(())
    }

    /// Whether another unit was found with the device table that ours replaces, and can use ours; or must, because the dead kernel's has
    /// been changed where it is.
    pub(crate) fn has_table_of(&self, other: &Self) -> bool {
        self.tables.replace_those_of(&other.unit)
            && (self.knows_as_much(other) || self.tables.in_place.is_some())
    }

    /// Uses the tables of another unit.
    pub(crate) fn share_tables(&mut self, other: &Self) -> Result<(), Reason> {
        if !self.unit.control().enabled() {
            return Err(Reason::TranslationOff);
        }
        if !self.knows_as_much(other) {
            return Err(Reason::OtherModes);
        }
        self.tables = other.tables.lent()?;
        Ok(())
    }

    /// Whether tables of one unit mean the same to the other, and both heed guest tables alike.
    fn knows_as_much(&self, other: &Self) -> bool {
        let modes = |unit: &Unit<'_, R, C>| {
            let (feature, control) = (unit.feature(), unit.control());
            let guest_tables = control.guest_translation().then(|| control.guest_cr3_address());
            (feature.host_levels(), feature.guest_levels(), feature.gt(), guest_tables)
        };
        modes(&self.unit) == modes(&other.unit)
    }

    /// The control register as it is. Translation stays on even if the register is momentarily wrong about it: only units whose
    /// translation is on ever get commands.
    pub(crate) fn keep(&self) -> Control {
        self.unit.control().with_enabled(true)
    }

    /// The same control, with a limit for devices that ends before a wait for the unit does.
    pub(crate) fn giving_devices_up(&self, control: Control) -> Control {
        giving_devices_up(control, self.waits.deadline)
    }

    /// Sees to it that the unit gives up a device that does not answer before a wait of `limit` for it ends. Fails where the unit takes
    /// no limit for devices: a device that does not answer would block the buffer for ever.
    pub(crate) fn give_devices_up_within(&mut self, limit: Duration) -> Result<(), UnitError> {
        let found = self.keep();
        let wanted = giving_devices_up(found, limit);
        if wanted == found {
            return Ok(());
        }
        self.unit.write(CONTROL, wanted.into_bits());
        let taken = self.unit.control().invalidation_timeout();
        if taken == wanted.invalidation_timeout() { Ok(()) } else { Err(UnitError::NeverGivesUp) }
    }

    /// Writes the control register, and waits until the status shows the effect.
    pub(crate) fn control(
        &mut self,
        control: Control,
        wanted: &'static str,
        done: impl Fn(Status) -> bool,
    ) -> Result<(), NoAnswer> {
        self.unit.write(CONTROL, control.into_bits());
        self.wait(crate::amdvi::unit::STATUS, wanted, |unit| done(unit.status()))
    }

    /// Writes a register that names memory of ours, and reads it back: where the hardware locks such registers, it ignores
    /// writes (SNP, 2.12).
    pub(crate) fn name(&mut self, register: Register, written: u64) -> Result<(), UnitError> {
        let before = self.unit.read(register);
        self.unit.write(register, written);
        match self.unit.read(register) {
            found if found == written => Ok(()),
            found if found == before => Err(UnitError::Locked(register.name)),
            found => Err(UnitError::NotTaken { register: register.name, written, found }),
        }
    }

    /// Stops the unit's use of the old kernel's command buffer and logs: all that it writes to memory of its own accord. Logs of
    /// page requests and of guests' interrupts stay off; when the first is off, the unit itself answers page requests.
    pub(crate) fn stop_old_buffers(&mut self) -> Result<(), NoAnswer> {
        let control = self
            .keep()
            .with_command_buffer(false)
            .with_event_log(false)
            .with_event_interrupt(false)
            .with_completion_interrupt(false)
            .with_dual_event_log(0)
            .with_ppr_log(false)
            .with_ppr_interrupt(false)
            .with_dual_ppr_log(0)
            .with_ga_log(false)
            .with_ga_interrupt(false);
        self.control(control, "CmdBufRun clear", |status| !status.command_buffer_runs())?;
        self.wait(crate::amdvi::unit::STATUS, "logs stopped", |unit| {
            let status = unit.status();
            !(status.event_log_runs() || status.ppr_log_runs() || status.ga_log_runs())
        })
    }

    /// Starts our log anew, empty, after it was full (2.5.1).
    pub(crate) fn restart_log(&mut self) -> Result<(), NoAnswer> {
        self.control(self.keep().with_event_log(false), "EventLogRun clear", |status| {
            !status.event_log_runs()
        })?;
        self.unit.write(registers::STATUS, Status::new().with_event_overflow(true).into_bits());
        self.unit.write(registers::EVENT_HEAD, 0);
        self.unit.write(registers::EVENT_TAIL, 0);
        self.control(self.keep().with_event_log(true), "EventLogRun", |status| status.event_log_runs())
    }

    /// Gives the unit the command buffer and the log of our own, both empty, while none is in use, and turns them on.
    pub(crate) fn start_buffers(&mut self) -> Result<(), UnitError> {
        let Some(Buffers { commands, log: Some(log), told }) = &mut self.buffers else {
            return Err(UnitError::NoQueue);
        };
        commands.go_on_at(0);
        let (commands, log) = (commands.ring.base().into_bits(), log.ring.base().into_bits());
        if self.told == Told::Nothing {
            self.told = *told;
        }
        self.unit.write(registers::STATUS, Status::CLEARABLE.into_bits());
        self.name(registers::COMMAND_BUFFER, commands)?;
        self.name(registers::EVENT_LOG, log)?;
        for register in
            [registers::COMMAND_HEAD, registers::COMMAND_TAIL, registers::EVENT_HEAD, registers::EVENT_TAIL]
        {
            self.unit.write(register, 0);
        }
        let on = self.keep().with_command_buffer(true).with_event_log(true);
        let control = self.giving_devices_up(on);
        self.control(control, "CmdBufRun", |status| status.command_buffer_runs())?;
        Ok(self.wait(crate::amdvi::unit::STATUS, "EventLogRun", |unit| unit.status().event_log_runs())?)
    }
}

/// The same, with a limit for devices that ends before a wait of `limit` does: a device that does not answer an invalidation blocks
/// the buffer until the unit gives it up (2.4.4). The old kernel's limit stays if it is as short.
fn giving_devices_up(control: Control, limit: Duration) -> Control {
    let is_short = |code: InvalidationTimeout| code.time().is_some_and(|time| time <= limit / 2);
    let found = control.invalidation_timeout();
    let shorter = (InvalidationTimeout::SHORTEST.0..=MOST_PATIENT.0).rev().map(InvalidationTimeout);
    let code = [found].into_iter().chain(shorter).find(|code| is_short(*code));
    control.with_invalidation_timeout(code.unwrap_or(InvalidationTimeout::SHORTEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_gives_devices_up_before_a_wait_for_them_ends() {
        let with = |code, limit| {
            let control =
                Control::new().with_enabled(true).with_invalidation_timeout(InvalidationTimeout(code));
            let short = giving_devices_up(control, Duration::from_millis(limit));
            assert_eq!(short.with_invalidation_timeout(InvalidationTimeout(code)), control);
            short.invalidation_timeout().0
        };
        assert_eq!([0, 1, 2, 3, 4, 5, 6, 7].map(|code| with(code, 90_000)), [4, 1, 2, 3, 4, 5, 4, 4]);
        assert_eq!([0, 1, 4, 6, 7].map(|code| with(code, 10_000)), [4, 1, 4, 4, 4]);
        assert_eq!([0, 1, 4].map(|code| with(code, 100)), [2, 1, 2]);
        assert_eq!([0, 6].map(|code| with(code, 0)), [1, 1]);
    }
}
