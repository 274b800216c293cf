//! Invalidates a unit's caches, and those of devices, by commands in its buffer (2.4).

use core::time::Duration;

use amdvi::command::{Command, DeviceTlbInvalidation, PagesInvalidation};
use amdvi::control::Status;
use amdvi::event::{Event, EventCode};
use amdvi::registers::{COMMAND_TAIL, EVENT_HEAD, EVENT_TAIL, STATUS};
use machine::{Clock, Frames, Registers, SourceId};

use crate::amdvi::command::CommandedUnit;
use crate::amdvi::queue::{BATCH, CommandBuffer};
use crate::amdvi::tags::Tag;
use crate::amdvi::unit::Unit;
use crate::command::Scope;
use crate::patience::{Awaited, Waiting};
use crate::surroundings::DeviceTlb;
use crate::unit::UnitError;

/// How often commands are sent at most, when processors of the dead kernel break them off.
const TRIES: usize = 16;

/// How often a device is told at most, when it is not known whether it answered.
const TELLINGS: usize = 3;

/// What the log says of a device that was told to invalidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    /// Nothing: the device has answered.
    Nothing,
    /// It has not answered.
    Silence,
    /// The log was full, and may lack that.
    TooMuch,
}

impl<R: Registers, C: Clock> CommandedUnit<'_, R, C> {
    /// Invalidates the unit's caches; returns when the unit has done so.
    pub(crate) fn forget(&mut self, scope: Scope, frames: &mut impl Frames) -> Result<(), UnitError> {
        match scope {
            Scope::Everything => {
                self.forget_entries(frames)?;
                self.forget_translations(frames)
            }
            Scope::Device(source) => {
                self.submit(&[Command::invalidate_device_table_entry(source)].into_iter(), frames)?;
                self.forget_translations(frames)
            }
            Scope::Domain(domain) => self.forget_tags(&[(domain, None), (domain, Some(0))], frames),
        }
    }

    /// Makes changes of entries visible to the unit; when this returns, its caches hold nothing of the old entries.
    pub(crate) fn entries_changed(
        &mut self,
        scope: Scope,
        frames: &mut impl Frames,
    ) -> Result<(), UnitError> {
        self.forget(scope, frames)
    }

    /// Makes entries that became present visible to the unit, which may have cached that they are not (NpCache, 3.2.1).
    pub(crate) fn entries_appeared(
        &mut self,
        scope: Scope,
        frames: &mut impl Frames,
    ) -> Result<(), UnitError> {
        self.forget(scope, frames)
    }

    /// Invalidates the entries of all devices that the table has one for, each by itself: there are units, of software, that
    /// notice a change from untranslated requests to tables only then.
    fn forget_entries(&mut self, frames: &mut impl Frames) -> Result<(), UnitError> {
        let tables = core::mem::take(&mut self.tables);
        let mut commands = tables.slots().map(|(source, _)| Command::invalidate_device_table_entry(source));
        let mut forgotten = Ok(());
        while forgotten.is_ok() && commands.clone().next().is_some() {
            forgotten = self.submit(&commands.clone().take(BATCH), frames);
            commands.by_ref().take(BATCH).for_each(drop);
        }
        drop(commands);
        self.tables = tables;
        forgotten
    }

    /// Invalidates all translations: by one command where the unit has it (2.4.8), else those of each domain by itself.
    fn forget_translations(&mut self, frames: &mut impl Frames) -> Result<(), UnitError> {
        if self.unit.feature().ia() {
            return self.submit(&[Command::INVALIDATE_IOMMU_ALL].into_iter(), frames);
        }
        let tags = core::mem::take(&mut self.tables.tags);
        let forgotten = tags.list().chunks(BATCH).try_for_each(|tags| self.forget_tags(tags, frames));
        self.tables.tags = tags;
        forgotten
    }

    /// Invalidates the translations that are cached under these tags, [`BATCH`] at most. Guest tables are nothing to units that
    /// do not know them: commands about them would be malformed.
    fn forget_tags(&mut self, tags: &[Tag], frames: &mut impl Frames) -> Result<(), UnitError> {
        let has_guests = self.unit.feature().gt();
        let known = tags.iter().filter(move |(_, pasid)| pasid.is_none() || has_guests);
        self.submit(&known.copied().map(forgetting), frames)
    }

    /// Has a device invalidate all that it keeps for a PASID, or for requests without one; returns when it has confirmed (2.4.4).
    ///
    /// If a device does not answer, the unit gives up on it, logs that, and goes on: in time, so that such a device costs others
    /// nothing.
    pub(crate) fn forget_in_device(
        &mut self,
        tlb: DeviceTlb,
        awaited: Awaited,
        pasid: Option<u32>,
        frames: &mut impl Frames,
    ) -> Result<(), UnitError> {
        let request = DeviceTlbInvalidation::new()
            .with_source(tlb.source)
            .with_queue(tlb.physical)
            .with_max_pending(tlb.depth)
            .of_everything(pasid);
        // Blocked requests of others may fill the log meanwhile; then it is not known whether the device answered.
        for _ in 0..TELLINGS {
            self.empty_log()?;
            // Reading the log takes time too, the device's.
            let heard = self.with_patience(awaited, |unit, limit| {
                unit.ask(request, limit, frames)?;
                Ok(unit.heard_of(tlb.source, frames))
            });
            match heard.unwrap_or(Err(UnitError::NoTimeLeft))? {
                Heard::Nothing => return Ok(()),
                Heard::Silence => return Err(UnitError::DeviceSilent),
                Heard::TooMuch => {}
            }
        }
        Err(UnitError::DeviceUnheard)
    }

    /// Sends a request to a device, which the unit gives up before `limit` has passed; if it blocks the buffer all the same, the
    /// buffer is started anew.
    fn ask(&mut self, request: Command, limit: Duration, frames: &mut impl Frames) -> Result<(), UnitError> {
        self.give_devices_up_within(limit)?;
        let answer = self.submit_until(&[request].into_iter(), limit, frames);
        match answer {
            Err(UnitError::NoAnswer(late)) if !late.is_of_command() => self.reopen_buffers()?,
            _ => {}
        }
        answer
    }

    /// What the log says of a device that was told to invalidate.
    fn heard_of(&mut self, source: SourceId, frames: &impl Frames) -> Heard {
        let mut silent = false;
        self.for_each_event(frames, |event| {
            silent |= event.low.code() == EventCode::IOTLB_INV_TIMEOUT && event.low.source() == source;
        });
        match self.unit.status().event_overflow() {
            _ if silent => Heard::Silence,
            true => Heard::TooMuch,
            false if self.buffers.as_ref().is_none_or(|buffers| buffers.log.is_none()) => Heard::TooMuch,
            false => Heard::Nothing,
        }
    }

    /// Empties the log at once, since events may come faster than they can be read, and starts ours anew if it was full.
    fn empty_log(&mut self) -> Result<(), UnitError> {
        self.unit.write(EVENT_HEAD, self.unit.read(EVENT_TAIL));
        if self.reuses_buffers() {
            return Ok(());
        }
        if self.unit.status().event_overflow() { Ok(self.restart_log()?) } else { Ok(()) }
    }

    /// Takes all events out of the log, as many as it has room for.
    pub(crate) fn for_each_event(&mut self, frames: &impl Frames, mut visit: impl FnMut(Event)) {
        let Some(log) = self.buffers.as_ref().and_then(|buffers| buffers.log.as_ref()) else { return };
        for _ in 0..log.ring.entries() {
            let Some(event) = log.next(&mut self.unit, frames) else { return };
            visit(event);
        }
    }

    /// Starts the buffers anew: ours at their first entries.
    pub(crate) fn reopen_buffers(&mut self) -> Result<(), UnitError> {
        if self.reuses_buffers() {
            return self.reopen_old_buffer();
        }
        self.stop_old_buffers()?;
        self.start_buffers()
    }

    /// Submits commands, [`BATCH`] at most, and waits until they are done.
    pub(crate) fn submit(
        &mut self,
        commands: &(impl Iterator<Item = Command> + Clone),
        frames: &mut impl Frames,
    ) -> Result<(), UnitError> {
        self.with_unit_time(|unit, limit| unit.submit_until(commands, limit, frames))
    }

    /// Submits commands until they are done, or `limit` has passed. A processor of the old kernel, in the middle of an
    /// invalidation of its own, may write the buffer's tail: then it is not known what was done, and everything is sent again.
    fn submit_until(
        &mut self,
        commands: &(impl Iterator<Item = Command> + Clone),
        limit: Duration,
        frames: &mut impl Frames,
    ) -> Result<(), UnitError> {
        let start = self.unit.clock().now();
        for tries in (0..TRIES).rev() {
            let spent = self.unit.clock().now().saturating_sub(start);
            let Err(error) = self.submit_once(commands.clone(), limit.saturating_sub(spent), frames) else {
                return Ok(());
            };
            if !matches!(error, UnitError::QueueDisturbed | UnitError::CommandsStopped) {
                return Err(error);
            }
            self.disturbances += u32::from(error == UnitError::QueueDisturbed);
            self.reopen_buffers()?;
            if tries == 0 || spent >= limit {
                return Err(error);
            }
        }
        Err(UnitError::NoQueue)
    }

    fn submit_once(
        &mut self,
        commands: impl Iterator<Item = Command> + Clone,
        limit: Duration,
        frames: &mut impl Frames,
    ) -> Result<(), UnitError> {
        let buffers = self.buffers.as_mut().ok_or(UnitError::NoQueue)?;
        if self.unit.offset(COMMAND_TAIL) != buffers.commands.tail_bytes() {
            return Err(UnitError::QueueDisturbed);
        }
        buffers.commands.append(commands, frames)?;
        let (tail, is_signalled) = (buffers.commands.tail_bytes(), buffers.commands.is_signalled());
        if is_signalled {
            self.unit.write(STATUS, Status::new().with_completion_interrupt(true).into_bits());
        }
        self.unit.write(COMMAND_TAIL, tail);
        self.await_commands(limit, frames)
    }

    fn await_commands(&self, limit: Duration, frames: &impl Frames) -> Result<(), UnitError> {
        let commands = &self.buffers.as_ref().ok_or(UnitError::NoQueue)?.commands;
        let mut end = Ok(());
        self.wait_for(limit, "completion wait", "its store", |unit| {
            end = if commands.is_done(unit, frames) { Ok(()) } else { interruption(unit, commands) };
            end.is_err() || commands.is_done(unit, frames)
        })?;
        end
    }
}

/// The command that forgets the translations that are cached under a tag: of a domain's host tables, or of the guest tables of a
/// PASID (2.4.3).
fn forgetting((domain, pasid): Tag) -> Command {
    let invalidation = PagesInvalidation::new().with_domain(domain);
    pasid.map_or(invalidation.of_everything(), |pasid| invalidation.of_guest(pasid))
}

/// What keeps the unit from executing our commands to their end.
fn interruption<R: Registers, C>(unit: &Unit<'_, R, C>, commands: &CommandBuffer) -> Result<(), UnitError> {
    if unit.offset(COMMAND_TAIL) != commands.tail_bytes() {
        Err(UnitError::QueueDisturbed)
    } else if !unit.status().command_buffer_runs() {
        Err(UnitError::CommandsStopped)
    } else {
        Ok(())
    }
}
