//! VMware's paravirtual SCSI host. It does one request at a time, picks it at random, and looks for new ones only when it was notified.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use fixtures::ConfigSpace;
use machine::{Dma, Registers};
use storage::{Addressing, Allowance, AnyDisk, BarRange, DeviceAccess, Pool, StartError};

use super::machine::{Device, FakeClock, Machine, Memory, Random, Shared};
use super::scsi::{Done, Host, Parts, Refusal};
use super::start_error;

/// What is wrong with a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// All registers read as ones.
    Gone,
    /// It does not take the rings.
    RefusesRings,
    /// Nothing completes after so many requests.
    DeadAfter(usize),
    /// Completions are of this context, whatever was asked.
    JunkContext(u64),
    /// Every answer comes twice.
    Repeats,
    /// The index of completions runs ahead by this much.
    IndexJump(u32),
    /// Completions have this code of the host.
    HostStatus(u16),
}

/// What a device is like.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) host: Host,
    pub(crate) fault: Fault,
    pub(crate) seed: u64,
    /// The BAR with the registers.
    pub(crate) bar: u8,
}

impl Default for Model {
    fn default() -> Self {
        Self { host: Host::default(), fault: Fault::None, seed: 1, bar: 0 }
    }
}

/// The device, the memory it shares with the driver, and the time.
pub(crate) struct World {
    model: Model,
    pub(crate) disk: Vec<u8>,
    pub(crate) durable: Vec<u8>,
    /// What the driver did, in order.
    pub(crate) trace: Vec<String>,
    /// Commands that were done, in order: code and block.
    pub(crate) done: Vec<(u32, u64)>,
    machine: Machine,
    /// The command that waits for its words.
    command: Option<(u32, Vec<u32>)>,
    status: u32,
    rings: Option<Rings>,
    notified: bool,
    fetched: Vec<Vec<u8>>,
    random: Random,
}

/// Device addresses, and the device's position.
#[derive(Clone, Copy, Debug)]
struct Rings {
    state: u64,
    requests: u64,
    completions: u64,
    consumed: u32,
    produced: u32,
}

/// A machine with one host, which has the dead kernel's rings.
pub(crate) fn machine(model: Model) -> Shared<World> {
    let disk: Vec<u8> = (0..512 * 512_u32).map(|at| (at / 512) as u8).collect();
    Rc::new(RefCell::new(World {
        random: Random(model.seed),
        model,
        durable: disk.clone(),
        disk,
        trace: Vec::new(),
        done: Vec::new(),
        machine: Machine::default(),
        command: None,
        status: 0,
        rings: Some(Rings { state: 0xdead_0000, requests: 0, completions: 0, consumed: 0, produced: 0 }),
        notified: false,
        fetched: Vec::new(),
    }))
}

pub(crate) type FakeDisk = AnyDisk<FakeAccess, FakeClock<World>>;

/// A pool that a test runs out of soon.
pub(crate) const POOL: Pool = Pool { slots: 5, slot_size: 4096 };

/// How long a unit may take for its first answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// Starts a host, and does not look for disks yet.
pub(crate) fn start(world: &Shared<World>) -> Result<FakeDisk, StartError> {
    start_with(world, POOL)
}

/// The same with another pool.
pub(crate) fn start_with(world: &Shared<World>, pool: Pool) -> Result<FakeDisk, StartError> {
    let allowance = Allowance { pool, patience: PATIENCE };
    storage::open(&mut FakeAccess::new(world), FakeClock(world.clone()), allowance).map_err(start_error)
}

/// Takes memory for the whole pool.
pub(crate) fn fill_pool(world: &Shared<World>, disk: &mut FakeDisk) {
    disk.fill_pool(&mut FakeAccess { attached: true, ..FakeAccess::new(world) });
}

/// Has a host refuse so many commands.
pub(crate) fn refuse(world: &Shared<World>, refusal: Refusal, times: usize) {
    world.borrow_mut().model.host.refusals = vec![refusal; times];
}

/// Makes the host wrong from now on.
pub(crate) fn break_it(world: &Shared<World>, fault: Fault) {
    world.borrow_mut().model.fault = fault;
}

/// How long the machine has been at it.
pub(crate) fn elapsed(world: &Shared<World>) -> Duration {
    world.borrow().machine.now
}

impl World {
    /// Whether it says of requests in its hands that they are done: then it finds their memory used again.
    fn lies(&self) -> bool {
        matches!(self.model.fault, Fault::IndexJump(_) | Fault::JunkContext(_) | Fault::Repeats)
    }

    fn word(&mut self, address: u64) -> u32 {
        u32::from_le_bytes(self.machine.device_read(address, 4).try_into().unwrap())
    }

    fn command(&mut self, code: u32) {
        self.status = u32::MAX - 1;
        self.command = match code {
            1 => {
                self.trace.push(String::from("reset"));
                (self.rings, self.notified, self.status) = (None, false, 0);
                self.fetched.clear();
                None
            }
            3 => Some((3, Vec::new())),
            _ => panic!("command {code}"),
        };
    }

    fn command_word(&mut self, word: u32) {
        let Some((3, words)) = &mut self.command else { panic!("a word for no command") };
        words.push(word);
        if words.len() < 2 + 2 * 65 {
            return;
        }
        let long = |at: usize| (u64::from(words[at]) | u64::from(words[at + 1]) << 32) << 12;
        assert_eq!(words[..2], [1, 1], "one page each");
        let (state, requests, completions) = (long(2), long(4), long(4 + 64));
        self.command = None;
        if self.model.fault == Fault::RefusesRings {
            self.status = u32::MAX;
            return;
        }
        self.trace.push(String::from("rings"));
        self.status = 0;
        // The device tells how many entries there are, as powers of two.
        self.machine.device_write(state + 8, &5_u32.to_le_bytes());
        self.machine.device_write(state + 20, &7_u32.to_le_bytes());
        self.rings = Some(Rings { state, requests, completions, consumed: 0, produced: 0 });
    }

    fn fetch(&mut self) {
        let Some(mut rings) = self.rings else { return };
        let produced = self.word(rings.state);
        while rings.consumed != produced {
            let entry = rings.requests + 128 * u64::from(rings.consumed % 32);
            let descriptor = self.machine.device_read(entry, 128);
            self.fetched.push(descriptor);
            rings.consumed = rings.consumed.wrapping_add(1);
        }
        self.machine.device_write_now(rings.state + 4, &rings.consumed.to_le_bytes());
        self.rings = Some(rings);
    }

    fn complete(&mut self, descriptor: &[u8]) {
        let long = |at: usize| u64::from_le_bytes(descriptor[at..at + 8].try_into().unwrap());
        let word = |at: usize| u32::from_le_bytes(descriptor[at..at + 4].try_into().unwrap());
        let (context, address, len, sense_at, sense_len) = (long(0), long(8), long(16), long(24), word(32));
        let data = match word(36) {
            4 => None,
            8 => Some((address, len as usize, true)),
            16 => Some((address, len as usize, false)),
            flags => panic!("flags {flags:#x}"),
        };
        let cdb_len = match descriptor[40] >> 5 {
            0 => 6,
            1 | 2 => 10,
            5 => 12,
            _ => 16,
        };
        assert_eq!((descriptor[56], descriptor[65], descriptor[66]), (cdb_len, 0x20, 0));
        assert!(descriptor[59..65].iter().chain(&descriptor[68..]).all(|byte| *byte == 0));
        let unit = u16::from_be_bytes([descriptor[57] & 0x3f, descriptor[58]]);
        assert_eq!(descriptor[57] & 0xc0 != 0, unit > 255, "the flat method is for large numbers");
        let lies = self.lies();
        let Self { model, machine, disk, durable, done, .. } = self;
        let parts = Parts { host: &mut model.host, machine, disk, durable, done, lies };
        let Some(answer) = parts.execute((descriptor[67], unit), &descriptor[40..56], data) else { return };
        let Done { response, status, sense, moved } = answer;
        self.machine.device_write(sense_at, &sense[..sense.len().min(sense_len as usize)]);
        let asked = data.map_or(0, |(_, len, _)| len);
        let code = match (response, self.model.fault) {
            (_, Fault::HostStatus(code)) => code,
            (0, _) if moved < asked && status == 0 => 0x12,
            (0, _) => 0,
            // No such target.
            (3, _) => 0x11,
            // Reset.
            (4, _) => 0x25,
            _ => 0x30,
        };
        self.answer(context, sense.len() as u32, code, status);
    }

    fn answer(&mut self, context: u64, sense_len: u32, code: u16, status: u8) {
        let Some(mut rings) = self.rings else { return };
        let (context, times) = match self.model.fault {
            Fault::JunkContext(junk) => (junk, 1),
            Fault::Repeats => (context, 2),
            _ => (context, 1),
        };
        for _ in 0..times {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&context.to_le_bytes());
            bytes[16..20].copy_from_slice(&sense_len.to_le_bytes());
            bytes[20..22].copy_from_slice(&code.to_le_bytes());
            bytes[22] = status;
            let entry = rings.completions + 32 * u64::from(rings.produced % 128);
            self.machine.device_write(entry, &bytes);
            rings.produced = rings.produced.wrapping_add(1);
        }
        if let Fault::IndexJump(ahead) = self.model.fault {
            rings.produced = rings.produced.wrapping_add(ahead);
        }
        self.machine.device_write_now(rings.state + 12, &rings.produced.to_le_bytes());
        self.rings = Some(rings);
    }
}

impl Device for World {
    fn machine(&mut self) -> &mut Machine {
        &mut self.machine
    }

    fn work(&mut self) {
        if self.notified {
            self.notified = false;
            self.fetch();
        }
        let dead = matches!(self.model.fault, Fault::DeadAfter(requests) if self.done.len() >= requests);
        if !self.fetched.is_empty() && !dead {
            let pick = self.random.below(self.fetched.len());
            let descriptor = self.fetched.swap_remove(pick);
            self.complete(&descriptor);
        }
    }
}

/// The device's registers. Only accesses of 32 bits are answered.
pub(crate) struct Block(Shared<World>);

impl Registers for Block {
    fn read8(&self, offset: usize) -> u8 {
        panic!("8-bit read at {offset:#x}")
    }

    fn read16(&self, offset: usize) -> u16 {
        panic!("16-bit read at {offset:#x}")
    }

    fn read32(&self, offset: usize) -> u32 {
        let world = self.0.borrow();
        match offset {
            _ if world.model.fault == Fault::Gone => u32::MAX,
            0x0008 => world.status,
            0x100c => 0,
            _ => panic!("32-bit read at {offset:#x}"),
        }
    }

    fn read64(&self, offset: usize) -> u64 {
        panic!("64-bit read at {offset:#x}")
    }

    fn write8(&mut self, offset: usize, _: u8) {
        panic!("8-bit write at {offset:#x}")
    }

    fn write16(&mut self, offset: usize, _: u16) {
        panic!("16-bit write at {offset:#x}")
    }

    fn write32(&mut self, offset: usize, value: u32) {
        let mut world = self.0.borrow_mut();
        match offset {
            _ if world.model.fault == Fault::Gone => {}
            0x0000 => world.command(value),
            0x0004 => world.command_word(value),
            0x2010 => assert_eq!(value, 0, "no interrupt is wanted"),
            0x3014 => world.notified = true,
            0x4018 => {
                world.trace.retain(|line| line != "kick for transfers");
                world.trace.push(String::from("kick for transfers"));
                world.notified = true;
            }
            _ => panic!("32-bit write at {offset:#x}"),
        }
    }

    fn write64(&mut self, offset: usize, _: u64) {
        panic!("64-bit write at {offset:#x}")
    }
}

/// The host's PCI function.
pub(crate) struct FakeAccess {
    world: Shared<World>,
    config: ConfigSpace,
    attached: bool,
}

impl FakeAccess {
    fn new(world: &Shared<World>) -> Self {
        let config = ConfigSpace::new(&[(0x00, &[0xad, 0x15, 0xc0, 0x07, 0x07, 0x05, 0x10, 0x00])]);
        Self { world: world.clone(), config, attached: false }
    }
}

impl DeviceAccess for FakeAccess {
    type Registers = Block;
    type Refusal = Infallible;

    fn config(&self) -> &impl Registers {
        &self.config
    }

    fn map(&mut self, range: BarRange) -> Option<Block> {
        let wanted = BarRange { bar: self.world.borrow().model.bar, offset: 0, length: 0x8000 };
        (range == wanted).then(|| Block(self.world.clone()))
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
