//! Commands a unit: writes its registers by their rules, and invalidates its caches by queue or by registers.
//!
//! Each write to the global command register repeats the bits that are on: nothing here can turn translation off.
//! Every wait has a deadline.

use machine::{Clock, Registers};
use vtd::control::{GlobalCommand, GlobalStatus, RootTableAddress};
use vtd::registers::{self, Register};

use crate::ledger::Told;
use crate::patience::{Waiting, Waits};
use crate::surroundings::Limits;
use crate::unit::NoAnswer;
use crate::vtd::queue::Queue;
use crate::vtd::tables::Tables;
use crate::vtd::unit::{STATUS, Unit};

/// A unit that accepts commands.
#[derive(Debug)]
pub(crate) struct CommandedUnit<'c, R, C> {
    pub(crate) unit: Unit<'c, R, C>,
    waits: Waits,
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
    /// Makes a unit whose invalidations go through registers, with these limits for waits.
    pub(crate) fn new(unit: Unit<'c, R, C>, limits: &Limits) -> Self {
        let waits = Waits::new(limits);
        Self {
            unit,
            waits,
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
