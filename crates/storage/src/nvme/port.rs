//! The registers of a controller: turns it off and on, and rings its doorbells.

use core::time::Duration;

use machine::{Clock, IoAddress, Registers, rest, wait_until};

use super::quirks::Quirks;
use super::spec::{Capabilities, Configuration, ReadyTimeouts, Status, completion, register, submission};
use crate::access::{Allowance, BarRange, DeviceAccess};
use crate::error::StartError;
use crate::register::Halves;

/// The controller's properties.
const PROPERTIES: BarRange = BarRange { bar: 0, offset: 0, length: register::SIZE };

/// Polls without an answer before the driver looks whether the controller still is there.
const EARLIEST_LOOK: u32 = 16;

/// The registers of one controller.
pub(super) struct Port<R> {
    properties: R,
    quirks: Quirks,
    /// What limits the waits for the controller to turn off or on, and for the answer to an admin command.
    allowance: Allowance,
    /// Polls without an answer since the last one.
    fruitless: u32,
}

/// The doorbells of a controller (PCIe 3.1.2).
pub(super) struct Doorbells<R> {
    registers: R,
    /// Bytes between two doorbells.
    stride: usize,
}

/// Device addresses of a pair of queues, and the entries that each of them has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct QueueAddresses {
    pub(super) submission: IoAddress,
    pub(super) completion: IoAddress,
    pub(super) entries: u16,
}

impl<R: Registers> Port<R> {
    /// Maps the controller's properties.
    pub(super) fn map<A: DeviceAccess<Registers = R>>(
        access: &mut A,
        quirks: Quirks,
        allowance: Allowance,
    ) -> Result<Self, StartError> {
        let properties = access.map(PROPERTIES).ok_or(StartError::Unmapped(PROPERTIES))?;
        Ok(Self { properties, quirks, allowance, fruitless: 0 })
    }

    /// The longest wait for the answer to an admin command.
    pub(super) fn patience(&self) -> Duration {
        self.allowance.patience
    }

    /// What the controller can do. Only what this driver can work with is returned.
    pub(super) fn capabilities(&self) -> Result<Capabilities, StartError> {
        let capabilities = self.read_capabilities();
        // Where there is no device, they read as ones.
        self.status()?;
        if !capabilities.nvm_command_set() {
            return Err(StartError::Unusable("a controller without the NVM command set"));
        }
        if capabilities.smallest_page() > 0 {
            return Err(StartError::Unusable("a controller whose smallest memory page is above 4 KiB"));
        }
        Ok(capabilities)
    }

    fn read_capabilities(&self) -> Capabilities {
        Capabilities::from_bits(register::CAPABILITIES.read(&self.properties).0)
    }

    /// The entries that each queue can have; 1 is useless.
    pub(super) fn most_entries(&self, capabilities: Capabilities) -> u16 {
        match (capabilities.most_entries(), self.quirks.entries) {
            (0, Some(entries)) => entries,
            (most, _) => most.saturating_add(1),
        }
    }

    /// The version of the specification that the controller keeps to.
    pub(super) fn version(&self) -> u32 {
        register::VERSION.read(&self.properties)
    }

    fn status(&self) -> Result<Status, StartError> {
        let status = Status::from_bits(register::STATUS.read(&self.properties));
        if status == Status::GONE { Err(StartError::Gone) } else { Ok(status) }
    }

    fn configuration(&self) -> Configuration {
        Configuration::from_bits(register::CONFIGURATION.read(&self.properties))
    }

    fn configure(&mut self, configuration: Configuration) {
        register::CONFIGURATION.write(&mut self.properties, configuration.into_bits());
    }

    /// Turns the controller off (3.7.2): it forgets its queues and stops touching memory.
    ///
    /// It may be in any state. One that is being turned on may not be turned off before it is ready (3.1.3.5, EN): if it may take
    /// longer than patience allows, it is left alone. A shutdown that was asked for is forgotten, because a controller that was
    /// shut down must be turned off before it works again.
    pub(super) fn turn_off(&mut self, clock: &impl Clock) -> Result<(), StartError> {
        if self.is_turning_on()? {
            let ready = self.wait_for(clock, |status| status.ready() || status.fatal());
            self.unless_overdue(ready)?;
        }
        self.switch_off(clock)
    }

    fn is_turning_on(&self) -> Result<bool, StartError> {
        let status = self.status()?;
        Ok(self.configuration().enabled() && !status.ready() && !status.fatal())
    }

    /// Gives the result of a wait, but no error if the controller has taken longer than it may: it will never be ready, and nothing
    /// remains but to turn it off as it is.
    fn unless_overdue(&self, result: Result<(), StartError>) -> Result<(), StartError> {
        match result {
            Err(StartError::Stuck(_)) if self.limit() >= self.told_limit() => Ok(()),
            result => result,
        }
    }

    fn switch_off(&mut self, clock: &impl Clock) -> Result<(), StartError> {
        let configuration = self.configuration();
        if configuration.enabled() || configuration.shutdown() != 0 {
            self.configure(configuration.with_enabled(false).with_shutdown(0));
            rest(clock, self.quirks.rest);
        }
        self.wait_for(clock, |status| !status.ready())
    }

    /// Turns the controller on, with these admin queues (3.5.1).
    ///
    /// A failure that it showed before it was turned on says nothing of how it is now. A controller that is not ready when patience
    /// ends, and may take longer, stays as it is: it has no command that touches memory.
    pub(super) fn turn_on(&mut self, clock: &impl Clock, admin: QueueAddresses) -> Result<(), StartError> {
        let failed_before = self.status()?.fatal();
        self.hide_memory_buffer();
        self.set_admin_queues(admin);
        let off = Configuration::new()
            .with_submission_entry(submission::SHIFT)
            .with_completion_entry(completion::SHIFT);
        self.configure(off.with_enabled(true));
        let turned_on = self.wait_until_on(clock, failed_before);
        if turned_on == Err(StartError::Failed)
            || turned_on.is_err() && self.unless_overdue(turned_on).is_ok()
        {
            // The error is told that came first.
            let _ = self.switch_off(clock);
        }
        turned_on
    }

    fn set_admin_queues(&mut self, QueueAddresses { submission, completion, entries }: QueueAddresses) {
        let last = u32::from(entries.saturating_sub(1));
        register::ADMIN_QUEUE_SIZES.write(&mut self.properties, last << 16 | last);
        register::ADMIN_SUBMISSION.write(&mut self.properties, Halves(submission.get()));
        register::ADMIN_COMPLETION.write(&mut self.properties, Halves(completion.get()));
    }

    fn wait_until_on(&self, clock: &impl Clock, failed_before: bool) -> Result<(), StartError> {
        self.wait_for(clock, |status| status.ready() || status.fatal() && !failed_before)?;
        if self.status()?.ready() { Ok(()) } else { Err(StartError::Failed) }
    }

    /// Takes the controller's own memory away from device addresses, where it may hide the memory that is shared with it.
    fn hide_memory_buffer(&mut self) {
        if self.read_capabilities().memory_buffer() {
            register::MEMORY_BUFFER_SPACE.write(&mut self.properties, Halves(0));
        }
    }

    /// Waits until the controller shows what is wanted, for as long as it says that it may take, and patience allows.
    fn wait_for(&self, clock: &impl Clock, wanted: impl Fn(Status) -> bool) -> Result<(), StartError> {
        let mut status = Ok(Status::new());
        wait_until(clock, self.limit(), || {
            status = self.status();
            status.is_err() || status.is_ok_and(&wanted)
        })?;
        status.map(drop)
    }

    /// The longest wait for the controller to turn on or off.
    fn limit(&self) -> Duration {
        self.allowance.limit(self.told_limit())
    }

    /// CAP.TO, or CRTO where the controller has it and it is longer (3.1.3.21). CAP.TO may change with CC, and 0 of it is none.
    fn told_limit(&self) -> Duration {
        const UNIT: Duration = Duration::from_millis(500);
        let capabilities = self.read_capabilities();
        let mut told = u16::from(capabilities.timeout());
        if capabilities.ready_with_media() {
            let timeouts = ReadyTimeouts::from_bits(register::READY_TIMEOUTS.read(&self.properties));
            told = told.max(timeouts.with_media());
        }
        UNIT * (u32::from(told) + 1)
    }

    /// Notices that the controller has answered.
    pub(super) fn was_answered(&mut self) {
        self.fruitless = 0;
    }

    /// Looks whether a controller that does not answer still works.
    ///
    /// A register is slow to read, and the read may hold the device up. The driver therefore looks when twice as many polls were
    /// in vain as at the last look.
    pub(super) fn check_alive(&mut self) -> Result<(), StartError> {
        self.fruitless = self.fruitless.saturating_add(1);
        if self.fruitless < EARLIEST_LOOK || !self.fruitless.is_power_of_two() {
            return Ok(());
        }
        let status = self.status()?;
        if status.ready() && !status.fatal() { Ok(()) } else { Err(StartError::Failed) }
    }
}

impl<R: Registers> Doorbells<R> {
    /// Maps the doorbells of queues 0 to `last`.
    pub(super) fn map<A: DeviceAccess<Registers = R>>(
        access: &mut A,
        capabilities: Capabilities,
        last: u16,
    ) -> Result<Self, StartError> {
        let stride = 4 << capabilities.doorbell_stride();
        let range = BarRange { bar: 0, offset: register::SIZE, length: (u64::from(last) + 1) * 2 * stride };
        let registers = access.map(range).ok_or(StartError::Unmapped(range))?;
        Ok(Self { registers, stride: stride as usize })
    }

    /// Tells the controller where the submissions of a queue end.
    pub(super) fn ring_submission(&mut self, queue: u16, tail: u16) {
        self.registers.write32(2 * usize::from(queue) * self.stride, tail.into());
    }

    /// Tells the controller up to where the completions of a queue were taken.
    pub(super) fn ring_completion(&mut self, queue: u16, head: u16) {
        self.registers.write32((2 * usize::from(queue) + 1) * self.stride, head.into());
    }
}
