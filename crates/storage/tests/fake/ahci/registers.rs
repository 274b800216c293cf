//! The controller's registers and its PCI function, as the driver sees them.

use std::convert::Infallible;
use std::time::Duration;

use fixtures::ConfigSpace;
use machine::{Dma, Registers};
use storage::{Addressing, BarRange, DeviceAccess};

use super::model::{Fault, Model};
use super::{CR, FR, FRE, Port, ST, WRITABLE, World};
use crate::fake::machine::{Memory, Shared};

impl World {
    fn set_control(&mut self, value: u32) {
        self.trace.push(format!("GHC = {value:#x}"));
        assert_eq!(value & 2, 0, "no interrupts are wanted");
        if value & 1 != 0 && self.model.fault != Fault::Unstoppable {
            for port in &mut self.ports {
                let (disk, durable) = (std::mem::take(&mut port.disk), std::mem::take(&mut port.durable));
                let (task_file, stale) = (0x7f, port.stale);
                *port = Port { task_file, stale, disk, durable, ..Port::default() };
            }
            if matches!(self.model.fault, Fault::ListKeepsRunning | Fault::ReceiveKeepsRunning) {
                self.model.fault = Fault::None;
            }
            // What firmware has written is forgotten.
            (self.control, self.implemented) = (0, 0);
        } else {
            let enabled = value & 1 << 31 != 0 && self.model.fault != Fault::NeverEnabled;
            self.control = u32::from(enabled) << 31 | value & 1;
        }
    }

    fn read(&mut self, block: Kind, offset: usize) -> u32 {
        if self.is_gone() {
            return u32::MAX;
        }
        let Model { queuing, wide_addresses, slots, firmware, .. } = self.model;
        let Kind::Port(number) = block else {
            let ports = self.ports.len() as u32;
            return match offset {
                0x00 => {
                    u32::from(wide_addresses) << 31
                        | u32::from(queuing) << 30
                        | 1 << 16
                        | (slots - 1) << 8
                        | ports.saturating_sub(1)
                }
                0x04 => self.control,
                0x0c => self.implemented,
                0x24 => u32::from(firmware),
                0x28 => self.handoff,
                _ => panic!("read of {offset:#x}"),
            };
        };
        assert_eq!(self.control >> 31, 1, "ports are used when AE is set");
        if self.implemented >> number & 1 == 0 {
            return 0;
        }
        let value = {
            let port = &self.ports[number];
            match offset {
                0x10 => port.events,
                0x18 => port.command,
                0x20 => port.task_file,
                0x24 => port.signature,
                0x28 => port.detection | 0x120,
                0x2c => port.link_control,
                0x30 => port.errors,
                0x34 => port.active,
                0x38 => port.issued,
                _ => panic!("read of {offset:#x} of a port"),
            }
        };
        let fault = self.model.fault;
        match fault {
            Fault::Junk(each) if self.random.below(each) == 0 => self.random.below(1 << 31) as u32,
            _ => value,
        }
    }

    fn write(&mut self, block: Kind, offset: usize, value: u32) {
        if self.is_gone() {
            return;
        }
        let Kind::Port(number) = block else {
            match offset {
                0x04 => self.set_control(value),
                0x0c => self.implemented = value,
                0x28 => {
                    self.trace.push(format!("BOHC = {value:#x}"));
                    let is_told = value & 0b100 != 0 && self.model.fault != Fault::FirmwareStays;
                    self.handoff = value & !u32::from(is_told);
                }
                _ => panic!("write of {offset:#x}"),
            }
            return;
        };
        let (now, slowness) = (self.machine.now, self.model.slowness);
        let lies = matches!(self.model.fault, Fault::Junk(_) | Fault::IdentifyJunk(_));
        let port = &mut self.ports[number];
        if matches!(offset, 0x00 | 0x08 | 0x18 | 0x2c | 0x34 | 0x38) {
            let name = ["CLB", "", "FB", "", "IS", "IE", "CMD", "", "", "", "", "SCTL", "SERR", "SACT", "CI"];
            self.trace.push(format!("port {number} {} = {value:#x}", name[offset / 4]));
        }
        match offset {
            0x00 | 0x04 => {
                assert!(port.command & (ST | CR) == 0 || lies, "the list is in use");
                set_half(&mut port.list, offset, value);
            }
            0x08 | 0x0c => {
                assert!(port.command & (FRE | FR) == 0 || lies, "the memory is in use");
                set_half(&mut port.received, offset - 8, value);
            }
            0x10 => port.events &= !value,
            0x14 => assert_eq!(value, 0, "no interrupts are wanted"),
            0x18 => {
                let value = value & WRITABLE;
                assert!(value & FRE != 0 || port.command & (ST | CR) == 0 || lies, "the list goes first");
                if value & ST != 0 && port.command & ST == 0 {
                    assert!(port.command & FR != 0 || lies, "FISes are received first");
                    assert!(port.task_file & 0x88 == 0 && port.detection == 3 || lies, "the device is ready");
                }
                if value & ST == 0 {
                    port.forget_commands();
                }
                let running = (value & ST) << 15 | (value & FRE) << 10 | port.command & (CR | FR);
                // The link is woken at once.
                port.command = value & 0xffff | running;
            }
            0x2c => {
                match (port.link_control & 0xf, value & 0xf) {
                    (0, 1) => {
                        assert!(
                            port.command & ST == 0 || lies,
                            "the link is reset while the port stands still"
                        );
                        port.reset_since = Some(now);
                        (port.detection, port.task_file, port.announces) = (0, 0x80, None);
                        port.stale = false;
                    }
                    (1, 0) => {
                        let end = port.reset_since.take().unwrap() + Duration::from_millis(1);
                        assert!(now >= end, "COMRESET takes a millisecond");
                        port.announces = Some(now + slowness);
                    }
                    (before, after) => assert!(lies, "DET from {before} to {after}"),
                }
                port.link_control = value;
            }
            0x30 => port.errors &= !value,
            0x34 => {
                assert!(port.command & ST != 0 || lies);
                port.active |= value;
            }
            0x38 => {
                assert!(port.command & ST != 0 || lies, "commands are for a port that runs");
                assert!(port.issued & value == 0 || lies, "a slot is issued twice");
                port.issued |= value;
                port.most = port.most.max((port.issued | port.active).count_ones());
            }
            0x40 => assert_eq!(value, 0),
            _ => panic!("write of {offset:#x} of a port"),
        }
    }
}

fn set_half(field: &mut u64, offset: usize, value: u32) {
    let shift = 8 * offset;
    *field = *field & !(0xffff_ffff << shift) | u64::from(value) << shift;
}

/// Which block of registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Host,
    Port(usize),
}

/// A block of the controller's registers. Only accesses of 32 bits are answered.
pub(crate) struct Block {
    world: Shared<World>,
    kind: Kind,
}

impl Block {
    fn illegal(&self, width: u32, offset: usize) -> ! {
        panic!("{width}-bit access to {:?} at {offset:#x}", self.kind)
    }
}

impl Registers for Block {
    fn read8(&self, offset: usize) -> u8 {
        self.illegal(8, offset)
    }

    fn read16(&self, offset: usize) -> u16 {
        self.illegal(16, offset)
    }

    fn read32(&self, offset: usize) -> u32 {
        self.world.borrow_mut().read(self.kind, offset)
    }

    fn read64(&self, offset: usize) -> u64 {
        self.illegal(64, offset)
    }

    fn write8(&mut self, offset: usize, _: u8) {
        self.illegal(8, offset)
    }

    fn write16(&mut self, offset: usize, _: u16) {
        self.illegal(16, offset)
    }

    fn write32(&mut self, offset: usize, value: u32) {
        self.world.borrow_mut().write(self.kind, offset, value);
    }

    fn write64(&mut self, offset: usize, _: u64) {
        self.illegal(64, offset)
    }
}

/// The controller's PCI function. Device addresses of memory have nothing to do with where it is.
pub(crate) struct FakeAccess {
    world: Shared<World>,
    config: ConfigSpace,
    attached: bool,
}

impl FakeAccess {
    pub(crate) fn new(world: &Shared<World>) -> Self {
        let config = ConfigSpace::new(&[(0, &[0x86, 0x80, 0x22, 0x29]), (8, &[2, 0x01, 0x06, 0x01])]);
        Self { world: world.clone(), config, attached: false }
    }

    /// The function once it is attached.
    pub(super) fn attached(world: &Shared<World>) -> Self {
        Self { attached: true, ..Self::new(world) }
    }
}

impl DeviceAccess for FakeAccess {
    type Registers = Block;
    type Refusal = Infallible;

    fn config(&self) -> &impl Registers {
        &self.config
    }

    fn map(&mut self, range: BarRange) -> Option<Block> {
        let kind = match (range.bar, range.offset, range.length) {
            (5, 0, 0x100) => Kind::Host,
            (5, 0x100.., 0x80) => Kind::Port((range.offset - 0x100) as usize / 0x80),
            _ => return None,
        };
        Some(Block { world: self.world.clone(), kind })
    }

    fn attach(&mut self, addressing: Addressing) -> Result<(), Infallible> {
        self.attached = true;
        self.world.borrow_mut().trace.push(format!("attached: {addressing:?}"));
        Ok(())
    }
}

impl Dma for FakeAccess {
    type Memory = Memory<World>;

    fn allocate(&mut self, len: usize) -> Option<Memory<World>> {
        assert!(self.attached, "no memory before the device is attached");
        Memory::allocate(&self.world, len)
    }
}
