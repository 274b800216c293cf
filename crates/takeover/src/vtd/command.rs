//! Commands a unit: writes its registers by their rules, and invalidates its caches by queue or by registers.
//!
//! Each write to the global command register repeats the bits that are on: nothing here can turn translation off.
//! Every wait has a deadline.

use core::time::Duration;

use machine::{Clock, Registers, wait_until};
use vtd::control::{GlobalCommand, GlobalStatus, RootTableAddress};
use vtd::registers::{self, Register};

use crate::ledger::Told;
use crate::patience::{Awaited, Patience, Purse};
use crate::surroundings::Limits;
use crate::unit::NoAnswer;
use crate::vtd::queue::Queue;
use crate::vtd::tables::Tables;
use crate::vtd::unit::{STATUS, Unit};

/// A unit that accepts commands.
#[derive(Debug)]
pub(crate) struct CommandedUnit<'c, R, C> {
    pub(crate) unit: Unit<'c, R, C>,
    /// Bounds each wait for the unit itself.
    pub(crate) deadline: Duration,
    /// How long the unit and devices may still keep the takeover waiting, all together.
    purse: Purse,
    /// How often our queue's tail was not what we had written.
    pub(crate) disturbances: u32,
    /// Which of our frames the unit may use.
    pub(crate) told: Told,
    /// The invalidation queue; `None` while invalidations go through registers.
    pub(crate) queue: Option<Queue>,
    /// The queue that the swap starts.
    pub(crate) spare_queue: Option<Queue>,
    /// Tables of our own above the page tables: none before the census.
    pub(crate) tables: Tables,
}

impl<'c, R: Registers, C: Clock> CommandedUnit<'c, R, C> {
    /// Makes a unit whose invalidations go through registers, with these limits for waits.
    pub(crate) fn new(unit: Unit<'c, R, C>, limits: &Limits) -> Self {
        let (deadline, purse) = (limits.deadline, Purse::new(limits.patience));
        Self {
            unit,
            deadline,
            purse,
            disturbances: 0,
            told: Told::Nothing,
            queue: None,
            spare_queue: None,
            tables: Tables::none(),
        }
    }

    /// Writes a register at a fixed place.
    pub(crate) fn write(&mut self, register: Register, value: u64) {
        self.unit.write(register, value);
    }

    /// Waits for the unit until `done`, which reads only this unit, returns true.
    pub(crate) fn wait(
        &mut self,
        register: &'static str,
        wanted: &'static str,
        done: impl FnMut(&Unit<'c, R, C>) -> bool,
    ) -> Result<(), NoAnswer> {
        self.with_unit_time(|unit, limit| unit.wait_for(limit, register, wanted, done))
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

    /// How long the unit and devices may still keep takeovers waiting.
    pub(crate) fn patience(&self) -> Patience {
        self.purse.left
    }

    /// Gives `work`, which waits for the unit, the time for one wait.
    pub(crate) fn with_unit_time<T>(&mut self, work: impl FnOnce(&mut Self, Duration) -> T) -> T {
        let limit = self.purse.limit(Awaited::Unit, self.deadline).unwrap_or_default();
        self.timed(Awaited::Unit, |unit| work(unit, limit))
    }

    /// Gives `work`, which waits for a device, the time that is left for such; returns `None` if there is none.
    pub(crate) fn with_patience<T>(
        &mut self,
        awaited: Awaited,
        work: impl FnOnce(&mut Self, Duration) -> T,
    ) -> Option<T> {
        let limit = self.purse.limit(awaited, self.deadline)?;
        Some(self.timed(awaited, |unit| work(unit, limit)))
    }

    /// Does `work`, and takes the time that it used off what is left for such.
    fn timed<T>(&mut self, awaited: Awaited, work: impl FnOnce(&mut Self) -> T) -> T {
        let start = self.unit.clock().now();
        let result = work(self);
        let used = self.unit.clock().now().saturating_sub(start);
        self.purse.pay(awaited, used);
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
        self.told = Told::Tables;
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
