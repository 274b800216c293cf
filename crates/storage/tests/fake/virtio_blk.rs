//! A virtio disk, or a virtio SCSI host with disks. It does one request at a time, picks it at random, and looks for new ones only when it was notified.

mod scsi;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use fixtures::ConfigSpace;
use machine::{Dma, Registers};
use storage::{Addressing, Allowance, AnyDisk, BarRange, DeviceAccess, OpenError, Place, Pool, StartError};

use super::machine::{Device, FakeClock, Machine, Memory, Random, Shared};
use super::scsi::{Host, Refusal};
use super::start_error;

/// Bit 32, `VIRTIO_F_VERSION_1`.
pub(crate) const VERSION_1: u64 = 1 << 32;
/// Bit 33, `VIRTIO_F_ACCESS_PLATFORM`.
pub(crate) const ACCESS_PLATFORM: u64 = 1 << 33;
/// Bit 1, `VIRTIO_BLK_F_SIZE_MAX`.
pub(crate) const SIZE_MAX: u64 = 1 << 1;
/// Bit 5, `VIRTIO_BLK_F_RO`.
pub(crate) const RO: u64 = 1 << 5;
/// Bit 6, `VIRTIO_BLK_F_BLK_SIZE`.
pub(crate) const BLK_SIZE: u64 = 1 << 6;
/// Bit 9, `VIRTIO_BLK_F_FLUSH`.
pub(crate) const FLUSH: u64 = 1 << 9;

/// What is wrong with a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// The status does not go to zero.
    StuckReset,
    /// FEATURES_OK does not stay set.
    RefusesFeatures,
    /// It wants physical addresses, once it was given others.
    TurnsPhysical,
    /// The configuration changes at every look.
    NeverSettles,
    /// Nothing completes after so many requests.
    DeadAfter(usize),
    /// Requests on this sector end with this status.
    BadSector(u64, u8),
    /// The used ring names this chain, whatever was asked.
    JunkId(u32),
    /// The used ring tells of this many bytes, whatever was written.
    JunkLen(u32),
    /// Every answer comes twice.
    Repeats,
    /// The used index runs ahead by this much.
    IndexJump(u16),
}

/// What a device is like.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) features: u64,
    pub(crate) sectors: u64,
    pub(crate) blk_size: u32,
    pub(crate) size_max: u32,
    pub(crate) queue_size: u16,
    pub(crate) notify_off: u16,
    /// Asks not to be notified and looks by itself.
    pub(crate) looks_by_itself: bool,
    pub(crate) fault: Fault,
    pub(crate) seed: u64,
    /// It is a SCSI host.
    pub(crate) host: Option<Host>,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            features: VERSION_1 | ACCESS_PLATFORM | BLK_SIZE | FLUSH,
            sectors: 512,
            blk_size: 512,
            size_max: 0,
            queue_size: 256,
            notify_off: 0,
            looks_by_itself: false,
            fault: Fault::None,
            seed: 1,
            host: None,
        }
    }
}

/// The device, the memory it shares with the driver, and the time.
pub(crate) struct World {
    model: Model,
    pub(crate) disk: Vec<u8>,
    /// What survives a loss of power.
    pub(crate) durable: Vec<u8>,
    /// What the driver did, in order.
    pub(crate) trace: Vec<String>,
    /// Requests that were completed, in order: type and sector.
    pub(crate) done: Vec<(u32, u64)>,
    pub(crate) notifications: usize,
    pub(crate) status: u8,
    machine: Machine,
    queue: Queue,
    feature_select: [u32; 2],
    accepted: u64,
    generation: u8,
    random: Random,
}

#[derive(Default)]
struct Queue {
    size: u16,
    addresses: [u64; 3],
    enabled: bool,
    notified: bool,
    available_seen: u16,
    used: u16,
    fetched: Vec<(u16, Chain)>,
}

/// Segments of a request: address, length, whether the device writes.
type Chain = Vec<(u64, usize, bool)>;

/// A machine with one disk.
pub(crate) fn machine(model: Model) -> Shared<World> {
    let disk: Vec<u8> = (0..model.sectors * 512).map(|at| (at / 512) as u8).collect();
    let queue = Queue { size: model.queue_size, ..Queue::default() };
    Rc::new(RefCell::new(World {
        random: Random(model.seed),
        model,
        durable: disk.clone(),
        disk,
        trace: Vec::new(),
        done: Vec::new(),
        notifications: 0,
        status: 0x0f,
        machine: Machine::default(),
        queue,
        feature_select: [0; 2],
        accepted: 0,
        generation: 0,
    }))
}

pub(crate) type FakeDisk = AnyDisk<FakeAccess, FakeClock<World>>;

/// A pool that a test runs out of soon.
pub(crate) const POOL: Pool = Pool { slots: 5, slot_size: 4096 };

/// How long a disk may take for its first steps.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// Brings the disk of a machine up as the capture kernel does, to find out what is on it.
pub(crate) fn start_lean(world: &Shared<World>, pool: Pool) -> Result<FakeDisk, StartError> {
    open(&mut FakeAccess::new(world), pool).map_err(start_error)
}

/// Brings the disk of a machine up as the capture kernel does, to write a dump to it.
pub(crate) fn start(world: &Shared<World>, pool: Pool) -> Result<FakeDisk, StartError> {
    let mut disk = start_lean(world, pool)?;
    disk.fill_pool(&mut FakeAccess { attached: true, ..FakeAccess::new(world) });
    Ok(disk)
}

/// Starts a SCSI host, and does not look for disks yet.
pub(crate) fn start_host(world: &Shared<World>) -> Result<FakeDisk, StartError> {
    let allowance = Allowance { pool: POOL, patience: PATIENCE };
    storage::open(&mut FakeAccess::new(world), FakeClock(world.clone()), allowance).map_err(start_error)
}

/// Has a host refuse so many commands.
pub(crate) fn refuse(world: &Shared<World>, refusal: Refusal, times: usize) {
    if let Some(host) = &mut world.borrow_mut().model.host {
        host.refusals = vec![refusal; times];
    }
}

/// Takes memory for the whole pool.
pub(crate) fn fill_pool(world: &Shared<World>, disk: &mut FakeDisk) {
    disk.fill_pool(&mut FakeAccess { attached: true, ..FakeAccess::new(world) });
}

/// Opens the function that `access` is to.
pub(crate) fn open(access: &mut FakeAccess, pool: Pool) -> Result<FakeDisk, OpenError<Infallible>> {
    let clock = FakeClock(access.world.clone());
    let mut disk = storage::open(access, clock, Allowance { pool, patience: PATIENCE })?;
    assert_eq!(disk.advance(), Some((Place::Only, Ok(()))));
    Ok(disk)
}

/// How long the machine has been at it.
pub(crate) fn elapsed(world: &Shared<World>) -> Duration {
    world.borrow().machine.now
}

/// Makes the disk claim to have so many sectors.
pub(crate) fn claim_sectors(world: &Shared<World>, sectors: u64) {
    world.borrow_mut().model.sectors = sectors;
}

/// Leaves memory for so many bytes.
pub(crate) fn limit_memory(world: &Shared<World>, bytes: usize) {
    world.borrow_mut().machine.memory_left = bytes;
}

impl World {
    fn fetch(&mut self) {
        let [_, available, used] = self.queue.addresses;
        self.machine.device_write_now(used, &u16::from(self.model.looks_by_itself).to_le_bytes());
        assert_eq!(self.machine.device_read_u16(available), 1, "interrupts are not wanted");
        let index = self.machine.device_read_u16(available + 2);
        while self.queue.available_seen != index {
            let entry = u64::from(self.queue.available_seen % self.queue.size);
            let head = self.machine.device_read_u16(available + 4 + 2 * entry);
            let chain = self.chain(head);
            self.queue.fetched.push((head, chain));
            self.queue.available_seen = self.queue.available_seen.wrapping_add(1);
        }
    }

    /// The chain that begins at `head`.
    fn chain(&mut self, head: u16) -> Chain {
        let (mut segments, mut at) = (Vec::new(), head);
        loop {
            assert!(at < self.queue.size, "descriptor {at} is outside the table");
            let bytes = self.machine.device_read(self.queue.addresses[0] + 16 * u64::from(at), 16);
            let address = u64::from_le_bytes(bytes[0..8].try_into().unwrap());
            let len = u32::from_le_bytes(bytes[8..12].try_into().unwrap()) as usize;
            let flags = u16::from_le_bytes(bytes[12..14].try_into().unwrap());
            segments.push((address, len, flags & 2 != 0));
            if flags & 1 == 0 {
                return segments;
            }
            at = u16::from_le_bytes(bytes[14..16].try_into().unwrap());
        }
    }

    /// Whether it says of requests in its hands that they are done: then it finds their descriptors used again.
    fn lies(&self) -> bool {
        matches!(self.model.fault, Fault::IndexJump(_) | Fault::JunkId(_) | Fault::Repeats)
    }

    fn complete(&mut self, head: u16, chain: &[(u64, usize, bool)]) {
        if self.model.host.is_some() {
            return self.complete_command(head, chain);
        }
        let [(header, 16, false), data @ .., (status, 1, true)] = chain else {
            assert!(self.lies(), "no header, data and status: {chain:?}");
            return self.answer(head, 0);
        };
        let header = self.machine.device_read(*header, 16);
        let kind = u32::from_le_bytes(header[0..4].try_into().unwrap());
        let sector = u64::from_le_bytes(header[8..16].try_into().unwrap());
        let mut written = 1;
        let mut result = 0;
        if let Fault::BadSector(bad, status) = self.model.fault
            && data.iter().any(|&(_, len, _)| (sector..sector + len as u64 / 512).contains(&bad))
        {
            result = status;
        }
        let at = sector as usize * 512;
        match (kind, data) {
            (0, &[(address, len, true)]) => {
                let bytes = self.disk[at..at + len].to_vec();
                self.machine.device_write(address, &bytes);
                written += len as u32;
            }
            (1, &[(address, len, false)]) if result == 0 => {
                let bytes = self.machine.device_read(address, len);
                self.disk[at..at + len].copy_from_slice(&bytes);
            }
            (1, &[(_, _, false)]) => {}
            (4, []) if self.accepted & FLUSH != 0 => self.durable.clone_from(&self.disk),
            _ if self.lies() => result = 1,
            _ => panic!("request of type {kind} with {data:?}"),
        }
        if self.model.features & SIZE_MAX != 0 {
            assert!(data.iter().all(|&(_, len, _)| len <= self.model.size_max as usize));
        }
        self.machine.device_write(*status, &[result]);
        self.done.push((kind, sector));
        self.answer(head, written);
    }

    fn answer(&mut self, head: u16, written: u32) {
        let (id, len, times) = match self.model.fault {
            Fault::JunkId(id) => (id, written, 1),
            Fault::JunkLen(len) => (u32::from(head), len, 1),
            Fault::Repeats => (u32::from(head), written, 2),
            _ => (u32::from(head), written, 1),
        };
        let ring = self.queue.addresses[2];
        for _ in 0..times {
            let entry = ring + 4 + 8 * u64::from(self.queue.used % self.queue.size);
            self.machine.device_write(entry, &id.to_le_bytes());
            self.machine.device_write(entry + 4, &len.to_le_bytes());
            self.queue.used = self.queue.used.wrapping_add(1);
        }
        if let Fault::IndexJump(ahead) = self.model.fault {
            self.queue.used = self.queue.used.wrapping_add(ahead);
        }
        self.machine.device_write_now(ring + 2, &self.queue.used.to_le_bytes());
    }

    fn set_status(&mut self, status: u8) {
        const FEATURES_OK: u8 = 8;
        self.trace.push(format!("status = {status:#04x}"));
        match (status, self.model.fault) {
            (0, Fault::StuckReset) => {}
            (0, _) => {
                self.status = 0;
                self.queue = Queue { size: self.model.queue_size, ..Queue::default() };
            }
            (_, Fault::RefusesFeatures) => self.status = status & !FEATURES_OK,
            _ => self.status = status,
        }
    }
}

impl Device for World {
    fn machine(&mut self) -> &mut Machine {
        &mut self.machine
    }

    fn work(&mut self) {
        const DRIVER_OK: u8 = 4;
        if !self.queue.enabled || self.status & DRIVER_OK == 0 {
            return;
        }
        if self.queue.notified {
            self.queue.notified = false;
            self.fetch();
        }
        let dead = matches!(self.model.fault, Fault::DeadAfter(requests) if self.done.len() >= requests);
        if !self.queue.fetched.is_empty() && !dead {
            let pick = self.random.below(self.queue.fetched.len());
            let (head, chain) = self.queue.fetched.swap_remove(pick);
            self.complete(head, &chain);
        }
    }

    fn stored(&mut self) {
        if self.queue.enabled && self.model.looks_by_itself {
            self.fetch();
        }
    }
}

/// Which block of registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Common,
    Notify,
    Device,
}

/// A block of the device's registers. Only the accesses that the specification allows are answered.
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
        let mut world = self.world.borrow_mut();
        match (self.kind, offset) {
            (Kind::Common, 20) => world.status,
            (Kind::Common, 21) => {
                if world.model.fault == Fault::NeverSettles {
                    world.generation = world.generation.wrapping_add(1);
                }
                world.generation
            }
            _ => self.illegal(8, offset),
        }
    }

    fn read16(&self, offset: usize) -> u16 {
        let world = self.world.borrow();
        match (self.kind, offset) {
            (Kind::Common, 24) => world.queue.size,
            (Kind::Common, 30) => world.model.notify_off,
            (Kind::Device, 30) if world.model.host.is_some() => world.last_target(),
            _ => self.illegal(16, offset),
        }
    }

    fn read32(&self, offset: usize) -> u32 {
        let world = self.world.borrow();
        match (self.kind, offset) {
            (Kind::Common, 4) => (world.model.features >> (32 * world.feature_select[0])) as u32,
            (Kind::Device, _) if world.model.host.is_some() => world.host_configuration(offset),
            (Kind::Device, 0) => world.model.sectors as u32,
            (Kind::Device, 4) => (world.model.sectors >> 32) as u32,
            (Kind::Device, 8) => world.model.size_max,
            (Kind::Device, 20) => world.model.blk_size,
            _ => self.illegal(32, offset),
        }
    }

    fn read64(&self, offset: usize) -> u64 {
        self.illegal(64, offset)
    }

    fn write8(&mut self, offset: usize, value: u8) {
        assert_eq!((self.kind, offset), (Kind::Common, 20), "8-bit write");
        self.world.borrow_mut().set_status(value);
    }

    fn write16(&mut self, offset: usize, value: u16) {
        let mut world = self.world.borrow_mut();
        match (self.kind, offset) {
            (Kind::Common, 22) => assert_eq!(value, world.request_queue(), "the queue for requests"),
            (Kind::Common, 24) => {
                assert!(value.is_power_of_two() && value <= world.model.queue_size);
                world.queue.size = value;
                world.trace.push(format!("queue size = {value}"));
            }
            (Kind::Common, 28) => {
                world.queue.enabled = value == 1;
                world.trace.push(String::from("queue enabled"));
            }
            (Kind::Notify, at) if at == 4 * usize::from(world.model.notify_off) => {
                assert_eq!(value, world.request_queue());
                assert!(!world.model.looks_by_itself || world.notifications < 2, "notified against its wish");
                world.queue.notified = true;
                world.notifications += 1;
            }
            _ => self.illegal(16, offset),
        }
    }

    fn write32(&mut self, offset: usize, value: u32) {
        let mut world = self.world.borrow_mut();
        match (self.kind, offset) {
            (Kind::Common, 0) => world.feature_select[0] = value,
            (Kind::Common, 8) => world.feature_select[1] = value,
            (Kind::Common, 12) => {
                let shift = 32 * world.feature_select[1];
                world.accepted = world.accepted & !(0xffff_ffff << shift) | u64::from(value) << shift;
                let accepted = world.accepted;
                assert_eq!(accepted & !world.model.features, 0, "accepted what was not offered");
                world.trace.push(format!("features = {accepted:#x}"));
            }
            (Kind::Common, 32..56) => {
                let (part, half) = ((offset - 32) / 8, (offset - 32) % 8 * 8);
                let address = &mut world.queue.addresses[part];
                *address = *address & !(0xffff_ffff << half) | u64::from(value) << half;
            }
            _ => self.illegal(32, offset),
        }
    }

    fn write64(&mut self, offset: usize, _: u64) {
        self.illegal(64, offset)
    }
}

/// The disk's PCI function. Device addresses of memory have nothing to do with where it is.
pub(crate) struct FakeAccess {
    world: Shared<World>,
    pub(crate) config: ConfigSpace,
    attached: bool,
}

impl FakeAccess {
    pub(crate) fn new(world: &Shared<World>) -> Self {
        let config = ConfigSpace::new(&[
            (0x00, &[0xf4, 0x1a, 0x42, 0x10, 0x07, 0x05, 0x10, 0x00]),
            (0x34, &[0x40]),
            (0x40, &[0x09, 0x50, 0x10, 0x01, 4, 0, 0, 0, 0, 0x00, 0, 0, 0, 0x10, 0, 0]),
            (0x50, &[0x09, 0x60, 0x10, 0x04, 4, 0, 0, 0, 0, 0x20, 0, 0, 0, 0x10, 0, 0]),
            (0x60, &[0x09, 0x00, 0x14, 0x02, 4, 0, 0, 0, 0, 0x30, 0, 0, 64, 0, 0, 0, 4, 0, 0, 0]),
        ]);
        if world.borrow().model.host.is_some() {
            config.put(0x02, &[0x48, 0x10]);
        }
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
        let kind = match (range.bar, range.offset) {
            (4, 0) => Kind::Common,
            (4, 0x2000) => Kind::Device,
            (4, 0x3000) => Kind::Notify,
            _ => return None,
        };
        Some(Block { world: self.world.clone(), kind })
    }

    fn attach(&mut self, addressing: Addressing) -> Result<(), Infallible> {
        self.attached = true;
        let mut world = self.world.borrow_mut();
        world.trace.push(format!("attached: {addressing:?}"));
        if world.model.fault == Fault::TurnsPhysical {
            world.model.features &= !ACCESS_PLATFORM;
        }
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

/// Sectors that were written, without repetition.
pub(crate) fn sectors_written(world: &Shared<World>) -> BTreeSet<u64> {
    world.borrow().done.iter().filter(|&&(kind, _)| kind == 1).map(|&(_, sector)| sector).collect()
}
