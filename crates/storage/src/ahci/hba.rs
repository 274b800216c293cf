//! The controller as a whole: it is taken from whoever had it, and reset if a port does not stop.

use alloc::vec::Vec;
use core::time::Duration;

use machine::growth::push;
use machine::{Clock, Registers};

use super::port::{ENGINE_LIMIT, Engine, Port, wait_or_gone};
use super::spec::{self, Capabilities, Control, Handoff, host, port};
use crate::access::{BarRange, DeviceAccess};
use crate::error::StartError;

/// Longest wait for firmware to let go of the controller (10.6.3).
const HANDOFF_LIMIT: Duration = Duration::from_secs(2);
/// Longest wait for a reset of the controller (10.4.3).
const RESET_LIMIT: Duration = Duration::from_secs(1);

/// A controller (host bus adapter) whose ports stand still, except those that were connected.
pub(super) struct Hba<R> {
    registers: R,
    pub(super) capabilities: Capabilities,
    /// The ports that there are; those where a device is known come first.
    pub(super) ports: Vec<Port<R>>,
    /// The same as bits, as firmware has noted them.
    present: u32,
    /// Whether a port did not stop even by a reset: memory that it knows cannot be used for another.
    is_lost: bool,
}

/// The registers of the whole controller.
pub(super) const REGISTERS: BarRange = BarRange { bar: spec::BAR, offset: 0, length: host::SIZE };

impl<R: Registers> Hba<R> {
    /// Takes the controller over from the dead kernel or from firmware, whatever it is doing, and stops all ports (10.1.2).
    pub(super) fn take<A: DeviceAccess<Registers = R>>(
        access: &mut A,
        registers: R,
        clock: &impl Clock,
    ) -> Result<Self, StartError> {
        let capabilities = host::CAPABILITIES.read(&registers);
        if capabilities == u32::MAX {
            return Err(StartError::Gone);
        }
        let capabilities = Capabilities::from_bits(capabilities);
        let mut hba = Self { registers, capabilities, ports: Vec::new(), present: 0, is_lost: false };
        hba.ask_firmware(clock)?;
        hba.enable(clock)?;
        hba.present = host::PORTS.read(&hba.registers);
        if hba.present == 0 {
            return Err(StartError::Unusable("a controller none of whose ports was implemented by firmware"));
        }
        hba.ports = map_ports(access, usable_ports(hba.present, capabilities))?;
        hba.stop_ports(0..hba.ports.len(), clock)?;
        Ok(hba)
    }

    /// Tells firmware to let go (10.6). If it does not answer, it has no part in the machine any more.
    fn ask_firmware(&mut self, clock: &impl Clock) -> Result<(), StartError> {
        let has_handoff = host::CAPABILITIES_2.read(&self.registers) & host::HAS_HANDOFF != 0;
        let owner = Handoff::from_bits_retain(host::HANDOFF.read(&self.registers));
        if !has_handoff || !owner.contains(Handoff::FIRMWARE) {
            return Ok(());
        }
        // Without its notice, firmware would not learn of the request.
        let request = (owner | Handoff::SYSTEM) - Handoff::CHANGED;
        host::HANDOFF.write(&mut self.registers, request.bits());
        let busy = (Handoff::FIRMWARE | Handoff::BUSY).bits();
        let answer = self.wait(clock, HANDOFF_LIMIT, |hba| host::HANDOFF.read(&hba.registers) & busy == 0);
        if matches!(answer, Err(StartError::Stuck(_))) { Ok(()) } else { answer }
    }

    /// Has the controller listen to these registers, and send no interrupts.
    fn enable(&mut self, clock: &impl Clock) -> Result<(), StartError> {
        self.wait(clock, RESET_LIMIT, |hba| {
            host::CONTROL.write(&mut hba.registers, Control::AHCI.bits());
            hba.control().contains(Control::AHCI)
        })
    }

    /// Stops a port.
    pub(super) fn stop_port(&mut self, index: usize, clock: &impl Clock) -> Result<(), StartError> {
        self.stop_ports(index..index + 1, clock)
    }

    /// Whether no port accesses memory.
    pub(super) fn is_usable(&self) -> bool {
        !self.is_lost
    }

    /// Stops ports; by a reset of the controller, if one does not stop otherwise.
    fn stop_ports(&mut self, ports: core::ops::Range<usize>, clock: &impl Clock) -> Result<(), StartError> {
        let ports = &mut self.ports[ports];
        let mut stopped = stop_engines(ports, Engine::List, clock);
        if stopped.is_ok() {
            stopped = stop_engines(ports, Engine::Receive, clock);
        }
        if matches!(stopped, Err(StartError::Stuck(_))) {
            stopped = self.reset(clock);
        }
        self.is_lost |= stopped.is_err();
        stopped
    }

    /// Resets the controller: all ports stop, and their links are down (10.4.3). Some controllers forget which ports they have.
    fn reset(&mut self, clock: &impl Clock) -> Result<(), StartError> {
        let reset = Control::AHCI | Control::RESET;
        host::CONTROL.write(&mut self.registers, reset.bits());
        self.wait(clock, RESET_LIMIT, |hba| !hba.control().contains(Control::RESET))?;
        self.enable(clock)?;
        if host::PORTS.read(&self.registers) != self.present {
            host::PORTS.write(&mut self.registers, self.present);
        }
        Ok(())
    }

    fn control(&self) -> Control {
        Control::from_bits_retain(host::CONTROL.read(&self.registers))
    }

    /// Waits for the registers to say something, or to be gone.
    fn wait(
        &mut self,
        clock: &impl Clock,
        limit: Duration,
        mut done: impl FnMut(&mut Self) -> bool,
    ) -> Result<(), StartError> {
        let is_done = || done(self) || host::CAPABILITIES.read(&self.registers) == u32::MAX;
        wait_or_gone(clock, limit, || false, is_done)?;
        if host::CAPABILITIES.read(&self.registers) == u32::MAX { Err(StartError::Gone) } else { Ok(()) }
    }
}

/// Stops an engine of all these ports, which takes them no longer than it takes one.
fn stop_engines<R: Registers>(
    ports: &mut [Port<R>],
    engine: Engine,
    clock: &impl Clock,
) -> Result<(), StartError> {
    for port in &mut *ports {
        port.stop(engine);
    }
    let is_gone = || ports.iter().any(Port::is_gone);
    wait_or_gone(clock, ENGINE_LIMIT, is_gone, || ports.iter().all(|port| port.has_stopped(engine)))
}

/// The ports by their bits. A controller that has more of them than it can have has the first ones.
fn usable_ports(present: u32, capabilities: Capabilities) -> u32 {
    let most = u32::from(capabilities.ports_less_one()) + 1;
    if present.count_ones() <= most { present } else { u32::MAX >> (32 - most) }
}

/// Maps these ports: first those where a device is known, since each of the others costs a wait for one.
fn map_ports<A: DeviceAccess>(access: &mut A, present: u32) -> Result<Vec<Port<A::Registers>>, StartError> {
    let (mut known, mut others) = (Vec::new(), Vec::new());
    for number in (0..32).filter(|number| present >> number & 1 != 0) {
        let offset = host::SIZE + port::SIZE * u64::from(number);
        let range = BarRange { bar: spec::BAR, offset, length: port::SIZE };
        let registers = access.map(range).ok_or(StartError::Unmapped(range))?;
        let port = Port::new(number, registers);
        let ports = if port.has_device { &mut known } else { &mut others };
        push(ports, port).map_err(|_| StartError::NoMemory)?;
    }
    for port in others {
        push(&mut known, port).map_err(|_| StartError::NoMemory)?;
    }
    Ok(known)
}
