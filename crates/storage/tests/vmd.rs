//! A disk behind Intel's volume management device: it is found by the device's configuration space, its registers are where the
//! device's windows are, and its requests are the device's.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests may stop at the first surprise, as tests do"
)]

#[allow(dead_code, reason = "a part of it is for the tests of other drivers")]
mod fake;

use std::convert::Infallible;

use fake::machine::{FakeClock, Memory, Shared};
use fake::nvme::model::Model;
use fake::nvme::registers::{Block, FakeAccess};
use fake::nvme::{self, World};
use fixtures::ConfigSpace;
use machine::{BlockDevice, Dma, PhysicalAddress, Range, Registers};
use pci::vmd::{self, FIRST_DOMAIN, VmdError};
use pci::{Device, Function, Vmd};
use storage::{Addressing, Allowance, BarRange, DeviceAccess, Place, StartError};

const CONFIG: u64 = 0x60_0000_0000;
/// The second window, and where the device says that it is.
const WINDOW: u64 = 0x61_0000_0000;
const INSIDE: u64 = 0x70_0000_0000;
/// The registers of the disk in the window.
const REGISTERS: u64 = 0x10_0000;

/// How the disk's function is reached.
struct Access {
    nvme: FakeAccess,
    devices: Vec<Device<ConfigSpace>>,
    vmd: Vmd,
    disk: Device<ConfigSpace>,
    /// The function for which memory was mapped.
    requester: Option<Function>,
}

impl DeviceAccess for Access {
    type Registers = Block;
    type Refusal = Infallible;

    fn config(&self) -> &impl Registers {
        &self.disk.config
    }

    fn map(&mut self, range: BarRange) -> Option<Block> {
        let inside = self.disk.registers(range.bar.into(), range.offset, range.length)?;
        let place = self.vmd.physical(inside)?;
        assert_eq!(place.start.get(), WINDOW + REGISTERS + range.offset, "somebody else's registers");
        self.nvme.map(range)
    }

    fn attach(&mut self, addressing: Addressing) -> Result<(), Infallible> {
        self.requester = Some(vmd::requester(&self.devices, self.disk.function));
        self.nvme.attach(addressing)
    }
}

impl Dma for Access {
    type Memory = Memory<World>;

    fn allocate(&mut self, len: usize) -> Option<Memory<World>> {
        self.nvme.allocate(len)
    }
}

/// The device, with bus numbers from `first_bus` on, and windows at `inside` for the functions behind it.
fn device(first_bus: u8, window: u64, inside: u64) -> Device<ConfigSpace> {
    let setting = [0, 128, 224].iter().position(|first| *first == first_bus).unwrap();
    let config = ConfigSpace::new(&[(0x00, &[0x86, 0x80, 0x7f, 0x46]), (0x09, &[0, 4, 1])]);
    for (at, address) in [(0x10, CONFIG), (0x18, 0x8000_0000), (0x20, window)] {
        config.put(at, &(address | 0b0100).to_le_bytes());
    }
    config.put(0x40, &[1]);
    config.put(0x45, &[setting as u8]);
    let shadow = [0x8000_0000, inside].map(u64::to_le_bytes).concat();
    config.put(0x06, &[0x10]);
    config.put(0x34, &[0x80]);
    config.put(0x80, &[9, 0, 24, 0, 0x57, 0x44, 0x48, 0x53]);
    config.put(0x88, &shadow);
    Device { function: Function { segment: 0, bus: 0x80, devfn: 0x28 }, config }
}

/// Behind it: a root port, and the disk on the next bus, whose registers are at `bar`.
fn access(vmd: Device<ConfigSpace>, port_bus: u8, bar: u64) -> Result<Access, VmdError> {
    let world = nvme::machine(Model::default());
    let nvme = FakeAccess::new(&world);
    nvme.config.put(0x10, &(bar | 0b0100).to_le_bytes());
    let port = ConfigSpace::new(&[(0x00, &[0x86, 0x80]), (0x0E, &[1]), (0x19, &[port_bus + 1; 2])]);
    let (disk_config, nobody) = (nvme.config.clone(), ConfigSpace::new(&[(0, &[0xff; 4])]));
    let mut devices = vec![vmd];
    let read = Vmd::read(&devices[0], FIRST_DOMAIN, |_| None::<ConfigSpace>)?;
    let open = |range: Range<PhysicalAddress>| {
        let bus = (range.start.get() - CONFIG) >> 20;
        let (port, disk, nobody) = (port.clone(), disk_config.clone(), nobody.clone());
        Some(move |offset| {
            Some(match (bus, offset) {
                (0, 0) => port.clone(),
                (1, 0) => disk.clone(),
                _ => nobody.clone(),
            })
        })
    };
    read.scan(open, &mut devices);
    let disk = devices.iter().find(|device| storage::has_driver(device.identity())).cloned().unwrap();
    Ok(Access { nvme, devices, vmd: read, disk, requester: None })
}

fn open(access: &mut Access, world: &Shared<World>) -> Result<impl BlockDevice + use<>, StartError> {
    let allowance = Allowance { pool: nvme::POOL, patience: nvme::PATIENCE };
    let mut disk = storage::open(access, FakeClock(world.clone()), allowance).map_err(fake::start_error)?;
    assert_eq!(disk.advance(), Some((Place::Namespace(1), Ok(()))));
    Ok(disk)
}

#[test]
fn a_disk_is_opened_with_the_devices_windows_and_requester_id() {
    for (first_bus, name) in [(0, "10000:01:00.0"), (128, "10000:81:00.0"), (224, "10000:e1:00.0")] {
        let mut access = access(device(first_bus, WINDOW, INSIDE), first_bus, INSIDE + REGISTERS).unwrap();
        assert_eq!(access.disk.function.to_string(), name);
        let world = access.nvme.world();
        let mut disk = open(&mut access, &world).unwrap();
        assert_eq!(access.requester, Some(access.devices[0].function), "the disk has no id of its own");
        disk.write(0, &[7; 4096]).unwrap();
        disk.flush().unwrap();
        assert_eq!(world.borrow().contents[&1].durable[..4096], [7; 4096]);
    }
}

/// Windows that are not where the device says, registers outside of them: the disk is not touched.
#[test]
fn registers_that_are_not_in_a_window_are_an_error() {
    let wrong = [
        (device(224, WINDOW, INSIDE + 0x100_0000_0000), INSIDE + REGISTERS),
        (device(224, WINDOW, INSIDE), 0x4000_0000),
        (device(224, WINDOW, INSIDE), INSIDE),
    ];
    for (number, (vmd, bar)) in wrong.into_iter().enumerate() {
        let mut access = access(vmd, 224, bar).unwrap();
        let world = access.nvme.world();
        let refused = open(&mut access, &world).err();
        assert!(matches!(refused, Some(StartError::Unmapped(_))), "{number}: {refused:?}");
        assert_eq!((access.requester, world.borrow().trace.len()), (None, 0));
    }
}

/// With the wrong offset, bridges lead to buses that the device does not have.
#[test]
fn a_wrong_bus_offset_finds_no_disk() {
    let vmd = device(224, WINDOW, INSIDE);
    let read = Vmd::read(&vmd, FIRST_DOMAIN, |_| None::<ConfigSpace>).unwrap();
    let port = ConfigSpace::new(&[(0x00, &[0x86, 0x80]), (0x0E, &[1]), (0x19, &[1, 1])]);
    let mut found = Vec::new();
    let open = |range: Range<PhysicalAddress>| {
        assert_eq!(range.start.get(), CONFIG, "a bus that nobody has");
        let port = port.clone();
        Some(move |offset| (offset == 0).then(|| port.clone()))
    };
    read.scan(open, &mut found);
    assert_eq!(found.len(), 1, "the port alone");
}
