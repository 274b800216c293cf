//! An AHCI controller with disks and other devices at its ports.
//!
//! It is left as a dead kernel leaves it: all ports run, and disks have commands that nobody will look at. It does one command at a
//! time, picked at random, and stops the test at everything that the specification does not allow.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use fixtures::ConfigSpace;
use machine::{Dma, Registers};
use storage::{Addressing, Allowance, AnyDisk, BarRange, DeviceAccess, Place, Pool, StartError};

use super::machine::{Device, FakeClock, Machine, Memory, Random, Shared};
use super::start_error;

/// What is at a port.
#[derive(Clone, Debug)]
pub(crate) enum Attached {
    Nothing,
    Packet,
    Multiplier,
    Disk(DiskModel),
}

/// What a disk is like.
#[derive(Clone, Debug)]
pub(crate) struct DiskModel {
    pub(crate) blocks: u64,
    pub(crate) block_size: u32,
    /// Queued commands at a time; 0 if it has no queue.
    pub(crate) depth: u32,
    pub(crate) locked: bool,
    pub(crate) long_addresses: bool,
    pub(crate) long_flush: bool,
    pub(crate) cache: Cache,
}

/// A disk's volatile cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cache {
    /// Writes are done before they are durable.
    On,
    Off,
}

/// A disk of 512 blocks with a queue of 32 commands.
pub(crate) const DISK: DiskModel = DiskModel {
    blocks: 512,
    block_size: 512,
    depth: 32,
    locked: false,
    long_addresses: true,
    long_flush: true,
    cache: Cache::On,
};

/// What is wrong with a controller, or with its disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// The command engine does not stop, until the controller is reset.
    ListKeepsRunning,
    /// The other engine does not stop, until the controller is reset.
    ReceiveKeepsRunning,
    /// No engine stops, and the controller does not reset itself.
    Unstoppable,
    /// It does not listen to these registers.
    NeverEnabled,
    /// Firmware does not let go.
    FirmwareStays,
    /// A device is there, and the link stays down.
    LinkStaysDown,
    /// The disk is busy after a reset, for ever.
    StaysBusy,
    /// IDENTIFY DEVICE does not end.
    IdentifyHangs,
    /// IDENTIFY DEVICE fails.
    IdentifyFails,
    /// IDENTIFY DEVICE gives random words.
    IdentifyJunk(u64),
    /// No request completes after so many.
    DeadAfter(usize),
    /// Requests for this block fail.
    BadBlock(u64),
    /// The link breaks at this request, and works again when it was reset, after so much time.
    LinkBreaks(usize, Duration),
    /// The disk loses its power at this request, and with it what is in its cache; it is there again at once, and announces itself
    /// so much time after a reset of the link.
    PowerFails(usize, Duration),
    /// The link breaks at each request.
    LinkAlwaysBreaks,
    /// What the disk sends at the end of a command is not stored.
    StoresNothing,
    /// IDENTIFY DEVICE is lost on the way once.
    IdentifyLost,
    /// The disk is replaced by another of its kind at this request.
    Swapped(usize),
    /// The disk is pulled at this request.
    Pulled(usize),
    /// All registers are ones after so many accesses.
    GoneAfter(usize),
    /// Each so many-th read of a port's register gives random bits.
    Junk(usize),
}

/// What the links of devices say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Links {
    /// The devices are there.
    Up,
    /// Nothing.
    Silent,
}

/// What a controller is like.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) ports: Vec<Attached>,
    pub(crate) queuing: bool,
    pub(crate) wide_addresses: bool,
    /// Commands in a list.
    pub(crate) slots: u32,
    /// Firmware owns it, and is told of a request if BOHC.SOOE is set.
    pub(crate) firmware: bool,
    /// What the links say before they are reset.
    pub(crate) links: Links,
    /// How long devices take to announce themselves after a reset of the link.
    pub(crate) slowness: Duration,
    pub(crate) fault: Fault,
    pub(crate) seed: u64,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            ports: vec![Attached::Nothing, Attached::Nothing, Attached::Disk(DISK)],
            queuing: true,
            wide_addresses: true,
            slots: 32,
            firmware: false,
            links: Links::Up,
            slowness: Duration::ZERO,
            fault: Fault::None,
            seed: 1,
        }
    }
}

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
                disk.fill_pool(&mut FakeAccess { attached: true, ..FakeAccess::new(world) });
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

    fn execute(&mut self, number: usize, slot: u32) {
        let (list, fault) = (self.ports[number].list, self.model.fault);
        let header = self.machine.device_read(list + 32 * u64::from(slot), 16);
        let word = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let flags = word(&header, 0);
        assert_eq!(flags & 0xffbf, 5, "a FIS of 20 bytes, no port of a multiplier");
        let table = u64::from_le_bytes(header[8..16].try_into().unwrap());
        assert!(table.is_multiple_of(128) && list.is_multiple_of(1024));
        let fis = self.machine.device_read(table, 20);
        assert_eq!(fis[..2], [0x27, 0x80]);
        let region = (flags >> 16 != 0).then(|| {
            assert_eq!(flags >> 16, 1);
            let region = self.machine.device_read(table + 0x80, 16);
            let address = u64::from_le_bytes(region[..8].try_into().unwrap());
            (address, word(&region, 12) as usize + 1, flags & 0x40 != 0)
        });
        let code = fis[2];
        let block = u64::from_le_bytes([fis[4], fis[5], fis[6], fis[8], fis[9], fis[10], 0, 0]);
        let (features, count) =
            (u16::from_le_bytes([fis[3], fis[11]]), u16::from_le_bytes([fis[12], fis[13]]));
        let Attached::Disk(model) = self.model.ports[number].clone() else { panic!("a command for no disk") };
        let is_queued = matches!(code, 0x60 | 0x61);
        if code != 0xec && matches!(fault, Fault::IdentifyJunk(_)) {
            return self.fail(number, 0x0451, TFES);
        }
        let port = &mut self.ports[number];
        let others = (port.issued | port.active) & !(1 << slot);
        let is_alone = others == 0 || is_queued && port.issued & !port.active == 0;
        if is_queued != (port.active >> slot & 1 != 0) || !is_alone {
            // A driver that was told lies takes commands for done.
            assert!(matches!(fault, Fault::Junk(_)), "queued commands have a bit in SACT, others are alone");
            return self.fail(number, 0x0451, TFES);
        }
        if port.stale {
            return self.fail(number, 0x0451, TFES);
        }
        if code != 0xec {
            match fault {
                Fault::LinkBreaks(at, slowness) if port.done.len() == at => {
                    return self.break_link(number, slowness);
                }
                Fault::PowerFails(at, slowness) if port.done.len() == at => {
                    return self.lose_power(number, slowness);
                }
                Fault::LinkAlwaysBreaks => {
                    port.stale = true;
                    return self.fail(number, 0x80, IFS);
                }
                Fault::Swapped(at) if port.done.len() == at => {
                    port.done.push((0, 0));
                    port.serial += 1;
                    return self.fail(number, 0x80, PCS | PRCS);
                }
                Fault::Pulled(at) if port.done.len() == at => {
                    self.model.ports[number] = Attached::Nothing;
                    self.ports[number].detection = 0;
                    return self.fail(number, 0x7f, PRCS);
                }
                Fault::DeadAfter(requests) if port.done.len() >= requests => return,
                _ => {}
            }
        }
        let blocks = match code {
            0x60 | 0x61 => {
                assert_eq!(u32::from(count), slot << 3, "the tag");
                assert!(slot < model.depth && self.model.queuing);
                features
            }
            _ => count,
        };
        if let Fault::BadBlock(bad) = fault
            && (block..block + u64::from(blocks)).contains(&bad)
        {
            let queued = self.ports[number].active != 0;
            self.ports[number].stale = queued;
            return self.fail(number, 0x4051, TFES);
        }
        let at = block as usize * model.block_size as usize;
        let len = usize::from(blocks) * model.block_size as usize;
        match (code, region) {
            (0xec, Some((address, 512, false))) => return self.identify(number, slot, address, &model),
            (0x25 | 0x60, Some((address, size, false))) => {
                assert_eq!((size, fis[7]), (len, 0x40));
                let bytes = self.ports[number].disk[at..at + len].to_vec();
                self.machine.device_write(address, &bytes);
            }
            (0x35 | 0x61, Some((address, size, true))) => {
                assert_eq!((size, fis[7]), (len, 0x40));
                let bytes = self.machine.device_read(address, len);
                self.ports[number].disk[at..at + len].copy_from_slice(&bytes);
                if model.cache == Cache::Off {
                    self.flush(number);
                }
            }
            (0xea, None) if model.long_flush => self.flush(number),
            (0xe7, None) if !model.long_flush => self.flush(number),
            _ => panic!("command {code:#x} with {region:?}"),
        }
        self.ports[number].done.push((code, block));
        self.complete(number, slot);
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

    fn flush(&mut self, number: usize) {
        let port = &mut self.ports[number];
        port.durable.clone_from(&port.disk);
    }

    fn complete(&mut self, number: usize, slot: u32) {
        let port = &mut self.ports[number];
        let fis = if port.active >> slot & 1 != 0 { SET_DEVICE_BITS } else { REGISTER };
        (port.issued, port.active) = (port.issued & !(1 << slot), port.active & !(1 << slot));
        port.events |= 1;
        self.store(number, fis);
    }

    /// Stores a FIS of the disk, of which drivers need the type only.
    fn store(&mut self, number: usize, (place, code): (u64, u8)) {
        if self.model.fault != Fault::StoresNothing {
            let received = self.ports[number].received;
            self.machine.device_write_now(received + place, &[code, 0, 0, 0]);
        }
    }

    fn fail(&mut self, number: usize, task_file: u32, events: u32) {
        let port = &mut self.ports[number];
        (port.task_file, port.halted) = (task_file, true);
        port.events |= events;
        if events == TFES {
            self.store(number, REGISTER);
        }
    }

    fn identify(&mut self, number: usize, slot: u32, address: u64, model: &DiskModel) {
        let mut words = [0_u16; 256];
        let mut put = |at: usize, value: u16| words[at] = value;
        put(10, self.ports[number].serial);
        put(75, model.depth.saturating_sub(1) as u16);
        put(76, if model.depth > 0 { 1 << 8 } else { 0 });
        put(83, 0x4000 | u16::from(model.long_addresses) << 10 | u16::from(model.long_flush) << 13);
        put(85, u16::from(model.cache == Cache::On) << 5);
        put(87, 0x4000);
        (0..4).for_each(|word| put(100 + word, (model.blocks >> (16 * word)) as u16));
        if model.block_size != 512 {
            put(106, 0x4000 | 1 << 12);
            put(117, (model.block_size / 2) as u16);
        }
        put(128, if model.locked { 0b111 } else { 0b001 });
        match self.model.fault {
            Fault::IdentifyHangs => return,
            Fault::IdentifyFails => return self.fail(number, 0x0451, TFES),
            Fault::IdentifyLost => {
                self.model.fault = Fault::None;
                return self.fail(number, 0x80, IFS);
            }
            Fault::IdentifyJunk(seed) => {
                let mut random = seed;
                for word in &mut words {
                    random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    *word = if random >> 60 == 0 { (random >> 33) as u16 } else { *word };
                }
            }
            _ => {}
        }
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.machine.device_write(address, &bytes);
        self.complete(number, slot);
    }

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
