//! Commands a unit: writes its registers by their rules, and invalidates its caches by queue or by registers.
//!
//! Each write to the global command register repeats the bits that are on: nothing here can turn translation off.
//! Every wait has a deadline.

use core::time::Duration;

use machine::{Clock, Registers, wait_until};
use vtd::control::{GlobalCommand, GlobalStatus, RootTableAddress};
use vtd::registers::{self, Register};

use crate::queue::Queue;
use crate::surroundings::Limits;
use crate::unit::{NoAnswer, STATUS, Unit};

/// How long a device that works may take to answer: a thousand times what it takes.
const PROMPT: Duration = Duration::from_millis(100);

/// A unit that accepts commands.
#[derive(Debug)]
pub(crate) struct CommandedUnit<'c, R, C> {
    pub(crate) unit: Unit<'c, R, C>,
    /// Bounds each wait for the unit itself.
    pub(crate) deadline: Duration,
    /// How long devices may still keep the takeover waiting, all together.
    patience: Duration,
    /// How often our queue's tail was not what we had written.
    pub(crate) disturbances: u32,
    /// The invalidation queue; `None` while invalidations go through registers.
    pub(crate) queue: Option<Queue>,
}

impl<'c, R: Registers, C: Clock> CommandedUnit<'c, R, C> {
    /// Makes a unit whose invalidations go through registers, with these limits for waits.
    pub(crate) fn new(unit: Unit<'c, R, C>, limits: &Limits) -> Self {
        let (deadline, patience) = (limits.deadline, limits.patience);
        Self { unit, deadline, patience, disturbances: 0, queue: None }
    }

    /// Writes a register at a fixed place.
    pub(crate) fn write(&mut self, register: Register, value: u64) {
        self.unit.write(register, value);
    }

    /// Waits for the unit until `done`, which reads only this unit, returns true.
    pub(crate) fn wait(
        &self,
        register: &'static str,
        wanted: &'static str,
        done: impl FnMut(&Unit<'c, R, C>) -> bool,
    ) -> Result<(), NoAnswer> {
        self.wait_for(self.deadline, register, wanted, done)
    }

    /// The same for at most `limit`.
    pub(crate) fn wait_for(
        &self,
        limit: Duration,
        register: &'static str,
        wanted: &'static str,
        mut done: impl FnMut(&Unit<'c, R, C>) -> bool,
    ) -> Result<(), NoAnswer> {
        wait_until(self.unit.clock(), limit, || done(&self.unit)).map_err(|late| NoAnswer {
            register,
            wanted,
            limit: late.limit,
        })
    }

    /// How long devices may still keep the takeover waiting.
    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    /// Gives `work`, which waits for devices, the time that is left for all of them, and takes what it used off that.
    /// There is always enough time for a device that works.
    pub(crate) fn with_patience<T>(&mut self, work: impl FnOnce(&mut Self, Duration) -> T) -> T {
        let start = self.unit.clock().now();
        let result = work(self, self.patience.max(PROMPT.min(self.deadline)));
        let used = self.unit.clock().now().saturating_sub(start);
        self.patience = self.patience.saturating_sub(used);
        result
    }

    /// Turns the invalidation queue on.
    pub(crate) fn queue_on(&mut self) -> Result<(), NoAnswer> {
        let command = self.keep().with_qie(true);
        self.command(command, "QIES", |status| status.qies())
    }

    /// Turns the invalidation queue off.
    pub(crate) fn queue_off(&mut self) -> Result<(), NoAnswer> {
        let command = self.keep().with_qie(false);
        self.command(command, "QIES clear", |status| !status.qies())
    }

    /// Makes the unit read its tables from `root` (6.6): RTADDR alone changes nothing, SRTP does.
    pub(crate) fn set_root(&mut self, root: RootTableAddress) -> Result<(), NoAnswer> {
        self.write(registers::RTADDR, root.into_bits());
        let command = self.keep().with_srtp(true);
        self.command(command, "RTPS", |status| status.rtps())
    }

    /// Flushes the write buffer on units that buffer the processor's writes, so that table changes arrive in memory
    /// (6.8).
    pub(crate) fn flush_write_buffer(&mut self) -> Result<(), NoAnswer> {
        if !self.unit.capability().rwbf() {
            return Ok(());
        }
        let command = self.keep().with_wbf(true);
        self.command(command, "WBFS clear", |status| !status.wbfs())
    }

    /// The command that changes nothing. It keeps translation on even if the status register is momentarily wrong
    /// about it: only units whose translation is on ever get commands.
    fn keep(&self) -> GlobalCommand {
        self.unit.status().keep().with_te(true)
    }

    /// Gives one command; software must wait for its status before the next (11.4.4).
    fn command(
        &mut self,
        command: GlobalCommand,
        wanted: &'static str,
        done: impl Fn(GlobalStatus) -> bool,
    ) -> Result<(), NoAnswer> {
        self.write(registers::GCMD, u64::from(command.into_bits()));
        self.wait(STATUS, wanted, |unit| done(unit.status()))
    }
}
