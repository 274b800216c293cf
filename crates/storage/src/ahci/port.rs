//! One port: its engines are stopped and started, and its link is reset.

use core::time::Duration;

use machine::{Clock, IoAddress, Registers, TimedOut, rest, wait_until};

use super::spec::{Capabilities, Command, Events, LinkControl, port};
use crate::error::StartError;
use crate::register::Halves;

/// Longest wait for an engine to stop (10.1.2, step 3).
pub(super) const ENGINE_LIMIT: Duration = Duration::from_millis(500);
/// How long a reset of the link is signalled (10.4.2).
const RESET_TIME: Duration = Duration::from_millis(1);
/// Events after which commands do not complete (6.2.2), or may have been lost.
const ERRORS: Events = Events::TASK_FILE
    .union(Events::BUS)
    .union(Events::DATA)
    .union(Events::INTERFACE)
    .union(Events::OVERFLOW)
    .union(Events::LINK_CHANGE)
    .union(Events::CONNECT_CHANGE);

/// Events of a link that breaks down, or of a device that announces itself anew. A reset of the link causes them too.
const BREAKS: Events = Events::LINK_CHANGE.union(Events::CONNECT_CHANGE);

/// A port and its registers.
pub(super) struct Port<R> {
    /// Its number.
    pub(super) number: u8,
    registers: R,
    /// Whether a device was seen there.
    pub(super) has_device: bool,
    /// The break of its link that nobody has been told of.
    broken: Option<Trouble>,
}

/// The longest waits for a device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waits {
    /// Until one that nobody knew of announces itself after a reset of the link.
    pub(super) stranger: Duration,
    /// Until one that was there does.
    pub(super) acquaintance: Duration,
    /// Until one that has announced itself takes commands.
    pub(super) readiness: Duration,
}

/// An error that a port has noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    /// What happened, and the disk's status and error.
    pub(super) code: u32,
    pub(super) cause: Cause,
}

/// Who is to blame for an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The disk did not carry out a command.
    Disk,
    /// The command, its data or the answer was lost on the way.
    Way,
}

/// Where a port finds its memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addresses {
    /// The command list.
    pub(super) list: IoAddress,
    /// The place for received FISes.
    pub(super) received: IoAddress,
}

/// An engine of a port, which accesses memory (10.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Engine {
    /// Works on the command list. It is stopped first.
    List,
    /// Stores received FISes.
    Receive,
}

impl Engine {
    /// The bit that starts it.
    fn start(self) -> Command {
        match self {
            Self::List => Command::START,
            Self::Receive => Command::RECEIVE,
        }
    }

    /// The bit that is set as long as it is at work.
    fn at_work(self) -> Command {
        match self {
            Self::List => Command::RUNNING,
            Self::Receive => Command::RECEIVING,
        }
    }
}

impl<R: Registers> Port<R> {
    /// The port with these registers.
    pub(super) fn new(number: u8, registers: R) -> Self {
        let mut port = Self { number, registers, has_device: false, broken: None };
        port.look_for_device();
        port
    }

    /// Asks an engine to stop. Breaks of the link are noted, before a reset hides them.
    pub(super) fn stop(&mut self, engine: Engine) {
        self.look_for_break();
        let command = self.command() - engine.start();
        port::COMMAND.write(&mut self.registers, command.bits());
    }

    /// Whether an engine stands still.
    pub(super) fn has_stopped(&self, engine: Engine) -> bool {
        !self.command().contains(engine.at_work())
    }

    /// Whether the controller is no longer there: not all bits of this register exist.
    pub(super) fn is_gone(&self) -> bool {
        port::COMMAND.read(&self.registers) == u32::MAX
    }

    /// Resets the link, waits until the device takes commands, and starts the port; gives the device's signature, or `None` if
    /// there is no device. Both engines must stand still.
    pub(super) fn connect(
        &mut self,
        capabilities: Capabilities,
        addresses: Addresses,
        clock: &impl Clock,
        waits: Waits,
    ) -> Result<Option<u32>, StartError> {
        self.look_for_device();
        let Addresses { list, received } = addresses;
        let registers = &mut self.registers;
        port::INTERRUPTS.write(registers, 0);
        port::LIST.write(registers, Halves(list.get()));
        port::RECEIVED.write(registers, Halves(received.get()));
        if capabilities.switching() {
            port::SWITCHING.write(registers, 0);
        }
        // The device's first FIS after the reset must be stored, or it stays busy (10.4.2).
        let idle = Command::SPIN_UP | Command::POWER | Command::RECEIVE;
        port::COMMAND.write(registers, (idle | Command::WAKE).bits());
        self.reset_link(clock);
        if !self.is_connected(clock, waits)? {
            return Ok(None);
        }
        // As long as errors of before are noted, no FIS is taken (3.3.12, DIAG.X).
        self.clear_errors();
        self.wait(clock, waits.readiness, || port::TASK_FILE.read(&self.registers) & port::BUSY == 0)?;
        self.clear_errors();
        port::COMMAND.write(&mut self.registers, (idle | Command::START).bits());
        let signature = port::SIGNATURE.read(&self.registers);
        if self.is_gone() { Err(StartError::Gone) } else { Ok(Some(signature)) }
    }

    /// Resets the link (COMRESET), and from then on keeps it from sleeping. The limit of its speed stays.
    fn reset_link(&mut self, clock: &impl Clock) {
        const NEITHER_PARTIAL_NOR_SLUMBER: u8 = 3;
        let before = LinkControl::from_bits(port::LINK_CONTROL.read(&self.registers));
        let awake =
            LinkControl::new().with_speed(before.speed()).with_not_to_sleep(NEITHER_PARTIAL_NOR_SLUMBER);
        port::LINK_CONTROL.write(&mut self.registers, awake.with_reset(1).into_bits());
        // The specification wants this much time to pass.
        rest(clock, RESET_TIME);
        port::LINK_CONTROL.write(&mut self.registers, awake.into_bits());
    }

    /// Waits for a device to announce itself, and then for the link.
    fn is_connected(&self, clock: &impl Clock, waits: Waits) -> Result<bool, StartError> {
        let announcement = if self.has_device { waits.acquaintance } else { waits.stranger };
        let is_there = || matches!(self.detection(), port::DETECTED | port::CONNECTED);
        match self.wait(clock, announcement, is_there) {
            Err(StartError::Stuck(_)) => return Ok(false),
            other => other?,
        }
        self.wait(clock, waits.readiness, || self.detection() == port::CONNECTED)?;
        Ok(true)
    }

    /// Notices a device that is there, before its link is reset or breaks down.
    fn look_for_device(&mut self) {
        self.has_device |= matches!(self.detection(), port::DETECTED | port::CONNECTED);
    }

    /// Notices that the link has broken down, even if it works again.
    fn look_for_break(&mut self) {
        let events = self.events();
        if events.intersects(BREAKS) || self.detection() != port::CONNECTED {
            self.broken.get_or_insert(self.trouble(events));
        }
    }

    /// Takes the break of the link that was noticed when the port was stopped: the device may have been without power. A reset
    /// of the link by this driver is none.
    pub(super) fn take_break(&mut self) -> Option<Trouble> {
        self.broken.take()
    }

    /// What the port detects on its link.
    fn detection(&self) -> u32 {
        port::LINK.read(&self.registers) & port::DETECTION
    }

    /// Clears all errors and events; a bit of an event may stay for as long as its error is noted (3.3.5).
    fn clear_errors(&mut self) {
        port::LINK_ERRORS.write(&mut self.registers, u32::MAX);
        port::EVENTS.write(&mut self.registers, u32::MAX);
    }

    /// Has the port work on the commands of these slots. `queued` are those of them that the disk queues.
    pub(super) fn issue(&mut self, slots: u32, queued: u32) {
        if queued != 0 {
            port::ACTIVE.write(&mut self.registers, queued);
        }
        port::ISSUED.write(&mut self.registers, slots);
    }

    /// The slots whose commands are not done.
    pub(super) fn pending(&self) -> u32 {
        port::ISSUED.read(&self.registers) | port::ACTIVE.read(&self.registers)
    }

    /// An error that has happened.
    pub(super) fn error(&self) -> Option<Trouble> {
        let errors = self.events() & ERRORS;
        (!errors.is_empty()).then(|| self.trouble(errors))
    }

    /// What has happened to the port.
    fn events(&self) -> Events {
        let events = port::EVENTS.read(&self.registers);
        // All ones are no events, but a controller that is gone.
        Events::from_bits_truncate(if events == u32::MAX { 0 } else { events })
    }

    /// Describes events that are errors.
    fn trouble(&self, errors: Events) -> Trouble {
        let task_file = port::TASK_FILE.read(&self.registers) & port::STATUS_AND_ERROR;
        let is_of_disk = errors == Events::TASK_FILE && task_file & port::DAMAGED_ON_LINK == 0;
        let cause = if is_of_disk { Cause::Disk } else { Cause::Way };
        Trouble { code: errors.bits() | task_file, cause }
    }

    /// Waits for the registers to say something, or to be gone.
    fn wait(&self, clock: &impl Clock, limit: Duration, done: impl Fn() -> bool) -> Result<(), StartError> {
        wait_or_gone(clock, limit, || self.is_gone(), done)
    }

    fn command(&self) -> Command {
        Command::from_bits_retain(port::COMMAND.read(&self.registers))
    }
}

/// Waits until `done`, and no longer than the device is there.
pub(super) fn wait_or_gone(
    clock: &impl Clock,
    limit: Duration,
    is_gone: impl Fn() -> bool,
    mut done: impl FnMut() -> bool,
) -> Result<(), StartError> {
    let mut gone = false;
    let waited: Result<(), TimedOut> = wait_until(clock, limit, || {
        gone = is_gone();
        gone || done()
    });
    if gone { Err(StartError::Gone) } else { Ok(waited?) }
}
