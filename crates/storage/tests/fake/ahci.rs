//! An AHCI controller with disks and other devices at its ports.
//!
//! It is left as a dead kernel leaves it: all ports run, and disks have commands that nobody will look at. It does one command at a
//! time, picked at random, and stops the test at everything that the specification does not allow.

mod commands;
pub(crate) mod model;
pub(crate) mod registers;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use storage::{Allowance, AnyDisk, Place, Pool, StartError};

use self::model::{Attached, Fault, Links, Model};
use self::registers::FakeAccess;
use super::machine::{Device, FakeClock, Machine, Random, Shared};
use super::start_error;

// Bits of a port's command register.
const ST: u32 = 1;
const FRE: u32 = 1 << 4;
const FR: u32 = 1 << 14;
const CR: u32 = 1 << 15;
/// What a driver may write to it: ST, SUD, POD, FRE, ICC = 1.
const WRITABLE: u32 = ST | 2 | 4 | FRE | 1 << 28;
// Bits of a port's interrupt status.
const PCS: u32 = 1 << 6;
const PRCS: u32 = 1 << 22;
const IFS: u32 = 1 << 27;
const TFES: u32 = 1 << 30;
// FISes that a port receives: where they are stored, and their type.
const REGISTER: (u64, u8) = (0x40, 0x34);
const SET_DEVICE_BITS: (u64, u8) = (0x58, 0xa1);
/// DIAG.X of a port's errors.
const EXCHANGED: u32 = 1 << 26;

/// The controller, the memory it shares with the driver, and the time.
pub(crate) struct World {
    model: Model,
    pub(crate) machine: Machine,
    /// What the driver did, in order.
    pub(crate) trace: Vec<String>,
    pub(crate) ports: Vec<Port>,
    control: u32,
    /// PI.
    implemented: u32,
    handoff: u32,
    pub(crate) accesses: usize,
    /// The devices work at each so many-th look at the clock.
    pub(crate) pace: usize,
    /// How often the clock was looked at.
    looks: usize,
    random: Random,
}

/// A port with what is attached to it.
#[derive(Debug, Default)]
pub(crate) struct Port {
    list: u64,
    received: u64,
    events: u32,
    pub(crate) command: u32,
    task_file: u32,
    signature: u32,
    detection: u32,
    link_control: u32,
    errors: u32,
    active: u32,
    pub(crate) issued: u32,
    /// Since when its link is being reset.
    reset_since: Option<Duration>,
    /// The device announces itself at this time.
    announces: Option<Duration>,
    /// The serial number of its disk.
    serial: u16,
    /// An error has stopped it.
    halted: bool,
    /// The disk has commands in its queue that this controller knows nothing of.
    stale: bool,
    /// The content of its disk.
    pub(crate) disk: Vec<u8>,
    /// What survives a loss of power.
    pub(crate) durable: Vec<u8>,
    /// Codes and blocks of the commands that were completed, in order, without IDENTIFY DEVICE.
    pub(crate) done: Vec<(u8, u64)>,
    /// The most commands that were outstanding at a time.
    pub(crate) most: u32,
}

/// A machine with one controller.
pub(crate) fn machine(model: Model) -> Shared<World> {
    let mut ports: Vec<_> = model.ports.iter().map(Port::left_at_work).collect();
    if model.links == Links::Silent {
        for port in &mut ports {
            port.detection = 0;
        }
    }
    Rc::new(RefCell::new(World {
        random: Random(model.seed),
        // BOS, SOOE, OOC.
        handoff: u32::from(model.firmware) * 0b1101,
        implemented: ((1_u64 << model.ports.len()) - 1) as u32,
        control: 1 << 31 | 1 << 1,
        model,
        machine: Machine::default(),
        trace: Vec::new(),
        ports,
        accesses: 0,
        pace: 1,
        looks: 0,
    }))
}

/// The capture kernel's disk.
pub(crate) type FakeDisk = AnyDisk<FakeAccess, FakeClock<World>>;

/// A pool that a test runs out of soon.
pub(crate) const POOL: Pool = Pool { slots: 5, slot_size: 4096 };

/// How long a disk may take for its first steps.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// Starts the controller as the capture kernel does.
pub(crate) fn open(world: &Shared<World>) -> Result<FakeDisk, StartError> {
    open_within(world, PATIENCE)
}

/// Starts the controller as when there is nothing else to try.
pub(crate) fn open_patiently(world: &Shared<World>) -> Result<FakeDisk, StartError> {
    open_within(world, Duration::from_secs(30))
}

fn open_within(world: &Shared<World>, patience: Duration) -> Result<FakeDisk, StartError> {
    let allowance = Allowance { pool: POOL, patience };
    storage::open(&mut FakeAccess::new(world), FakeClock(world.clone()), allowance).map_err(start_error)
}

/// Moves on to the first disk that can be used, and takes memory for the whole pool.
pub(crate) fn start(world: &Shared<World>) -> Result<FakeDisk, StartError> {
    let mut disk = open(world)?;
    let mut last = StartError::Gone;
    while let Some((_, usable)) = disk.advance() {
        match usable {
            Ok(()) => {
                disk.fill_pool(&mut FakeAccess::attached(world));
                return Ok(disk);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// What there is at all ports, disk or not.
pub(crate) fn survey(disk: &mut FakeDisk) -> Vec<(Place, Result<(), StartError>)> {
    std::iter::from_fn(|| disk.advance()).collect()
}

/// How long the machine has been at it.
pub(crate) fn elapsed(world: &Shared<World>) -> Duration {
    world.borrow().machine.now
}

/// Changes what is wrong with the controller.
pub(crate) fn break_by(world: &Shared<World>, fault: Fault) {
    world.borrow_mut().model.fault = fault;
}

/// How often the driver has accessed registers.
pub(crate) fn accesses(world: &Shared<World>) -> usize {
    world.borrow().accesses
}

/// Where shared memory begins.
pub(crate) fn put_memory_at(world: &Shared<World>, base: u64) {
    world.borrow_mut().machine.base = base;
}

/// The last port's disk.
pub(crate) fn last(world: &World) -> &Port {
    world.ports.last().unwrap()
}

impl Port {
    fn left_at_work(attached: &Attached) -> Self {
        let mut port =
            Self { command: ST | FRE | CR | FR, list: 0xdead_0000, received: 0xdead_1000, ..Self::default() };
        match attached {
            Attached::Nothing => return Self { task_file: 0x7f, ..port },
            Attached::Packet | Attached::Multiplier => {}
            Attached::Disk(disk) => {
                let bytes = disk.blocks * u64::from(disk.block_size);
                port.disk = (0..bytes).map(|at| (at / u64::from(disk.block_size)) as u8).collect();
                port.durable.clone_from(&port.disk);
                (port.issued, port.stale) = (0b101, true);
            }
        }
        Self { detection: 3, task_file: 0xd0, ..port }
    }

    fn forget_commands(&mut self) {
        (self.issued, self.active, self.halted) = (0, 0, false);
    }
}

impl World {
    fn is_gone(&mut self) -> bool {
        self.accesses += 1;
        matches!(self.model.fault, Fault::GoneAfter(accesses) if self.accesses > accesses)
    }

    fn work_on(&mut self, number: usize) {
        let fault = self.model.fault;
        let port = &mut self.ports[number];
        let keeps = |which| fault == which || fault == Fault::Unstoppable;
        if port.command & ST == 0 && !keeps(Fault::ListKeepsRunning) {
            port.command &= !CR;
        }
        if port.command & FRE == 0 && !keeps(Fault::ReceiveKeepsRunning) {
            port.command &= !FR;
        }
        if port.announces.is_some_and(|time| self.machine.now >= time) {
            self.announce(number);
        }
        let port = &self.ports[number];
        let ready: Vec<u32> = (0..32).filter(|slot| (port.issued | port.active) >> slot & 1 != 0).collect();
        if port.command & ST != 0 && !port.halted && port.list != 0xdead_0000 && !ready.is_empty() {
            let pick = self.random.below(ready.len());
            self.execute(number, ready[pick]);
        }
    }

    /// The link comes up, then the device sends its first FIS.
    fn announce(&mut self, number: usize) {
        let (attached, fault) = (self.model.ports[number].clone(), self.model.fault);
        let port = &mut self.ports[number];
        let signature = match attached {
            Attached::Nothing => return,
            Attached::Packet => 0xeb14_0101,
            Attached::Multiplier => 0x9669_0101,
            Attached::Disk(_) => 0x0000_0101,
        };
        if port.detection == 0 {
            port.detection = if fault == Fault::LinkStaysDown { 1 } else { 3 };
            (port.errors, port.events) = (EXCHANGED, PCS | PRCS);
            return;
        }
        if port.detection == 3 && port.errors & EXCHANGED == 0 && port.command & FRE != 0 {
            (port.announces, port.signature) = (None, signature);
            port.task_file = if fault == Fault::StaysBusy { 0xd0 } else { 0x0150 };
            let received = port.received + 0x40;
            self.machine.device_write(received, &[0x34; 20]);
        }
    }

    fn break_link(&mut self, number: usize, slowness: Duration) {
        let port = &mut self.ports[number];
        port.done.push((0, 0));
        (port.stale, port.detection) = (true, 0);
        self.model.slowness = slowness;
        self.fail(number, 0x80, IFS | PRCS);
    }

    fn lose_power(&mut self, number: usize, slowness: Duration) {
        let port = &mut self.ports[number];
        port.done.push((0, 0));
        port.disk.clone_from(&port.durable);
        self.model.slowness = slowness;
        self.fail(number, 0x80, PCS | PRCS);
    }
}

impl Device for World {
    fn machine(&mut self) -> &mut Machine {
        &mut self.machine
    }

    fn work(&mut self) {
        self.looks += 1;
        if self.looks.is_multiple_of(self.pace) {
            (0..self.ports.len()).for_each(|number| self.work_on(number));
        }
    }
}
