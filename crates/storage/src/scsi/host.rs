//! A SCSI host of any kind as a [`Controller`]: gives commands to units, and decides by their answers.

use alloc::vec::Vec;
use core::time::Duration;

use machine::growth::filled;
use machine::{BlockError, Clock, DmaMemory, Registers, TimedOut, wait_until};

use super::adapter::{Adapter, Answer, Command, Data, Direction, Unit};
use super::cache::Cache;
use super::command::{self, Cdb};
use super::tour::{Step, Tour};
use super::verdict::{Purpose, Verdict, judge};
use crate::disk::{Completion, Controller, Found, UNASKED};
use crate::error::StartError;
use crate::slots::Request;

/// The slot of commands besides requests.
const FIRST_SLOT: usize = 0;
/// How often a command is given to the disk that was not done for a passing reason, such as a reset before it.
const TRIES: u8 = 6;
/// How many units may be silent before the host is given up: each costs as much time as the driver has patience.
const MOST_SILENT: u8 = 4;

/// A SCSI host.
pub struct Host<R, M> {
    adapter: Adapter<R, M>,
    slots: Vec<Slot>,
    pub(super) tour: Tour,
    /// The disk that requests go to.
    pub(super) disk: Option<Disk>,
    /// What was written to it.
    pub(super) cache: Cache,
    patience: Duration,
    /// Most bytes that one command moves.
    pub(super) most: usize,
    state: State,
    /// Units that did not answer.
    silent: u8,
}

/// What can be done with a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Up,
    /// It was reset because a unit was silent.
    Down,
    /// It cannot be trusted, or was reset too often.
    Lost,
}

/// A disk that requests go to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Disk {
    pub(super) unit: Unit,
    pub(super) block_size: u64,
}

/// What became of the command in a slot.
#[derive(Clone, Copy, Debug)]
struct Slot {
    /// The command, while the host has it.
    command: Option<Command>,
    purpose: Purpose,
    /// How often it may be given to the unit again.
    tries: u8,
}

/// An unused slot.
const UNUSED: Slot = Slot { command: None, purpose: Purpose::Question, tries: 0 };

/// Why a command gave nothing.
pub(super) enum Failure {
    /// The unit did not answer in time.
    Silent(TimedOut),
    /// The host cannot be trusted.
    Lost(BlockError),
    /// The unit refused.
    Refused(BlockError),
}

impl<R: Registers, M: DmaMemory> Host<R, M> {
    /// Wraps an adapter that was started. It takes `slots` commands, for targets up to `last_target`, each of which moves `most`
    /// bytes at most. Each of the first commands to a unit must be answered within `patience`.
    pub(crate) fn new(
        adapter: Adapter<R, M>,
        slots: usize,
        last_target: u8,
        most: usize,
        patience: Duration,
    ) -> Result<Self, StartError> {
        let slots = filled(UNUSED, slots).map_err(|_| StartError::NoMemory)?;
        let tour = Tour::up_to(last_target);
        Ok(Self {
            adapter,
            slots,
            tour,
            disk: None,
            cache: Cache::default(),
            patience,
            most,
            state: State::Up,
            silent: 0,
        })
    }

    /// Puts a command on the queue.
    fn put(&mut self, slot: usize, command: Command, purpose: Purpose) {
        self.slots[slot] = Slot { command: Some(command), purpose, tries: TRIES };
        self.adapter.put(slot, &command);
    }

    /// Takes one answer, if there is one, and gives the command to the unit again if need be.
    fn take_answer(&mut self) -> Result<Option<Completion>, BlockError> {
        let Some(Answer { slot, outcome }) = self.adapter.take()? else { return Ok(None) };
        let Some(&Slot { command: Some(command), purpose, tries }) = self.slots.get(slot) else {
            return Err(BlockError::Device(UNASKED));
        };
        let result = match judge(outcome, purpose, command.data, &mut self.cache) {
            Verdict::Ended(result) => result,
            Verdict::Retry(error) if tries <= 1 => Err(error),
            verdict @ (Verdict::Retry(_) | Verdict::Again) => {
                self.slots[slot].tries -= u8::from(verdict != Verdict::Again);
                self.adapter.put(slot, &command);
                self.adapter.notify();
                return Ok(None);
            }
        };
        self.slots[slot] = UNUSED;
        Ok(Some(Completion { slot, result }))
    }

    /// Has a unit do a command, and waits for it.
    pub(super) fn execute(
        &mut self,
        unit: Unit,
        cdb: Cdb,
        data: Option<Data>,
        clock: &impl Clock,
    ) -> Result<(), Failure> {
        self.put(FIRST_SLOT, Command { unit, cdb, data }, Purpose::Question);
        self.adapter.notify();
        let mut answer = Ok(None);
        let waited = wait_until(clock, self.patience, || {
            answer = self.take_answer();
            answer != Ok(None)
        });
        if let Err(timed_out) = waited {
            self.leave_silent(clock);
            return Err(Failure::Silent(timed_out));
        }
        match answer {
            Ok(Some(Completion { result, .. })) => result.map_err(Failure::Refused),
            Ok(None) => Err(Failure::Refused(BlockError::TimedOut)),
            Err(error) => {
                self.lose(clock);
                Err(Failure::Lost(error))
            }
        }
    }

    /// Has a unit do a command that gives `N` bytes, at most the size of a slot.
    pub(super) fn ask<const N: usize>(
        &mut self,
        unit: Unit,
        cdb: Cdb,
        buffer: &mut M,
        clock: &impl Clock,
    ) -> Result<[u8; N], Failure> {
        let mut bytes = [0; N];
        buffer.write(0, &bytes);
        let data = Data { address: buffer.device_address(), len: N as u32, direction: Direction::FromUnit };
        self.execute(unit, cdb, Some(data), clock)?;
        buffer.read(0, &mut bytes);
        Ok(bytes)
    }

    /// Resets the host, because a unit is silent: it must let go of the command's memory.
    fn leave_silent(&mut self, clock: &impl Clock) {
        self.silent += 1;
        self.reset(if self.silent < MOST_SILENT { State::Down } else { State::Lost }, clock);
    }

    /// Gives the host up.
    fn lose(&mut self, clock: &impl Clock) {
        self.reset(State::Lost, clock);
    }

    fn reset(&mut self, state: State, clock: &impl Clock) {
        self.state = state;
        self.disk = None;
        self.adapter.reset(clock);
        self.slots.fill(UNUSED);
    }

    /// Brings the host up again after it was reset, and goes on with the tour where it was.
    fn restart(&mut self, clock: &impl Clock) -> Result<(), StartError> {
        let restarted = self.adapter.restart(clock);
        match restarted {
            Ok(()) => self.state = State::Up,
            Err(_) => self.lose(clock),
        }
        restarted
    }
}

impl From<Failure> for StartError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Silent(timed_out) => Self::Stuck(timed_out),
            Failure::Refused(BlockError::Gone) => Self::Gone,
            Failure::Refused(BlockError::Reserved) => Self::Reserved,
            Failure::Lost(error) | Failure::Refused(error) => Self::Unidentified(error),
        }
    }
}

impl<R: Registers, M: DmaMemory> Controller for Host<R, M> {
    type Memory = M;

    fn next_disk(&mut self, buffer: &mut M, clock: &impl Clock) -> Option<Found> {
        (self.disk, self.cache) = (None, Cache::default());
        loop {
            match self.state {
                State::Up => {}
                State::Down if !self.tour.is_over() => {
                    if let Err(error) = self.restart(clock) {
                        return Some(Found { place: self.tour.next().place(), geometry: Err(error) });
                    }
                }
                State::Down | State::Lost => return None,
            }
            match self.step(buffer, clock) {
                Step::Found(found) => return Some(found),
                Step::Nothing => {}
                Step::Over => return None,
            }
        }
    }

    fn submit(&mut self, slot: usize, request: Request, buffer: &M) {
        let Some(Disk { unit, block_size }) = self.disk else { return };
        let range = request.range();
        let (block, count) = (range.start.get() / block_size, (range.len() / block_size) as u32);
        let data =
            |direction| Some(Data { address: buffer.device_address(), len: range.len() as u32, direction });
        let (cdb, data, purpose) = match request {
            Request::Flush => (command::SYNCHRONIZE_CACHE, None, Purpose::Flush),
            Request::Read(_) => (command::read(block, count), data(Direction::FromUnit), Purpose::Read),
            Request::Write(_) => (command::write(block, count), data(Direction::ToUnit), Purpose::Write),
        };
        self.put(slot, Command { unit, cdb, data }, purpose);
    }

    fn notify(&mut self) {
        self.adapter.notify();
    }

    fn poll(&mut self, _: &impl Clock) -> Result<Option<Completion>, BlockError> {
        let answer = self.take_answer();
        if answer.is_err() {
            self.state = State::Lost;
        }
        answer
    }

    fn stop(&mut self, clock: &impl Clock) {
        match self.state {
            State::Up => self.leave_silent(clock),
            State::Down => {}
            State::Lost => self.lose(clock),
        }
    }
}
