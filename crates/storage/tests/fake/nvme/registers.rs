//! The controller's registers and its PCI function, as the driver sees them.

use std::convert::Infallible;

use fixtures::ConfigSpace;
use machine::{Dma, Registers};
use storage::{Addressing, BarRange, DeviceAccess};

use super::World;
use crate::fake::machine::{Memory, Shared};

/// Which block of registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Properties,
    /// With so many bytes.
    Doorbells(u64),
}

/// A block of the controller's registers. Only the accesses that the specification allows are answered.
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
        let mut world = self.world.borrow_mut();
        if world.is_gone() || !world.attached {
            return u32::MAX;
        }
        match (self.kind, offset) {
            (Kind::Properties, 0x00) => world.capabilities() as u32,
            (Kind::Properties, 0x04) => (world.capabilities() >> 32) as u32,
            (Kind::Properties, 0x08) => world.model.version,
            (Kind::Properties, 0x14) => world.configuration,
            (Kind::Properties, 0x1c) => {
                world.looks += 1;
                world.status
            }
            (Kind::Properties, 0x68) => world.model.with_media.expect("there is no CRTO").into(),
            _ => self.illegal(32, offset),
        }
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
        let mut world = self.world.borrow_mut();
        if world.is_gone() {
            return;
        }
        let halves = |whole: &mut u64, half: usize| {
            let shift = half % 8 * 8;
            *whole = *whole & !(0xffff_ffff << shift) | u64::from(value) << shift;
        };
        match (self.kind, offset) {
            (Kind::Properties, 0x14) => world.configure(value),
            (Kind::Properties, 0x24 | 0x28..0x38 | 0x50 | 0x54) if world.is_on() => {
                panic!("{offset:#x} is written while the controller is on")
            }
            (Kind::Properties, 0x24) => world.admin_sizes = value,
            (Kind::Properties, 0x28 | 0x2c) => halves(&mut world.admin_addresses[0], offset - 0x28),
            (Kind::Properties, 0x30 | 0x34) => halves(&mut world.admin_addresses[1], offset - 0x30),
            (Kind::Properties, 0x50 | 0x54) => halves(&mut world.memory_buffer, offset - 0x50),
            (Kind::Doorbells(length), _) => {
                assert!(offset as u64 + 4 <= length, "a doorbell outside of what was mapped");
                let stride = 4 << world.model.stride;
                assert!(offset.is_multiple_of(stride), "there is no doorbell at {offset:#x}");
                let number = offset / stride;
                world.ring(number / 2, number % 2 == 1, u16::try_from(value).unwrap());
            }
            _ => self.illegal(32, offset),
        }
    }

    fn write64(&mut self, offset: usize, _: u64) {
        self.illegal(64, offset)
    }
}

/// The controller's PCI function.
pub(crate) struct FakeAccess {
    world: Shared<World>,
    pub(crate) config: ConfigSpace,
}

impl FakeAccess {
    pub(crate) fn new(world: &Shared<World>) -> Self {
        let (vendor, device) = world.borrow().model.ids;
        let ids = [vendor.to_le_bytes(), device.to_le_bytes()].concat();
        let config = ConfigSpace::new(&[(0x00, &ids), (0x08, &[0x02, 0x02, 0x08, 0x01])]);
        Self { world: world.clone(), config }
    }

    /// The machine.
    pub(crate) fn world(&self) -> Shared<World> {
        self.world.clone()
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
            (0, 0, 0x1000) => Kind::Properties,
            (0, 0x1000, length) => Kind::Doorbells(length),
            _ => return None,
        };
        Some(Block { world: self.world.clone(), kind })
    }

    fn attach(&mut self, addressing: Addressing) -> Result<(), Infallible> {
        let mut world = self.world.borrow_mut();
        world.attached = true;
        world.trace.push(format!("attached: {addressing:?}"));
        Ok(())
    }
}

impl Dma for FakeAccess {
    type Memory = Memory<World>;

    fn allocate(&mut self, len: usize) -> Option<Memory<World>> {
        assert!(self.world.borrow().attached, "no memory before the device is attached");
        Memory::allocate(&self.world, len)
    }
}
