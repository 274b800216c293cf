//! An NVMe controller. It carries out one command at a time, picks it at random among those that it was told of, and insists on
//! what the specification leaves undefined.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use fixtures::ConfigSpace;
use machine::{Dma, Registers};
use storage::{Addressing, Allowance, AnyDisk, BarRange, DeviceAccess, Place, Pool, StartError};

use super::machine::{Device, FakeClock, Machine, Memory, Random, Shared};
use super::start_error;

const PAGE: usize = 4096;

/// What is wrong with a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// It does not turn off.
    NeverOff,
    /// It does not turn on.
    NeverOn,
    /// It fails when it is turned on.
    FailsToTurnOn,
    /// It is gone after so many accesses to its registers and pieces of work.
    GoneAfter(usize),
    /// Admin commands are not answered from this one on.
    SilentFrom(usize),
    /// Each admin command with this opcode, and these low bits of CDW10 if it identifies something, ends with this status.
    Refuses(u8, Option<u8>, u16),
    /// It says of itself or of its disk, at this offset of every structure, this byte.
    Claims(usize, u8),
    /// It answers what identifies something, and writes nothing.
    SaysNothing,
    /// Its list of namespaces always begins with this one.
    Lists(u32),
    /// The answers to admin commands name another.
    AnswersAnother,
    /// Nothing completes after so many requests.
    DeadAfter(usize),
    /// It fails as a whole after so many requests.
    FailsAfter(usize),
    /// Requests on this block end with this status, of which bit 14 is DNR.
    BadBlock(u64, u16),
    /// The first so many requests end with this status.
    FailsAtFirst(usize, u16),
    /// Requests end with this status until so much time has passed.
    UnreadyUntil(Duration, u16),
    /// Commands that identify something do.
    AdminUnreadyUntil(Duration, u16),
    /// Requests to this namespace are not answered.
    SilentNamespace(u32),
    /// Answers name this request, whatever was asked.
    JunkId(u16),
    /// Every answer comes twice.
    Repeats,
    /// After each answer, so many entries of the completion queue have the phase of new ones.
    PhaseAhead(u16),
}

/// How the dead kernel left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// Nobody has used it since the reset.
    Off,
    /// At work, with so many requests pending.
    Busy(usize),
    /// It was turned on, and is not ready yet.
    TurningOn,
    /// It was turned off, and still is at work.
    TurningOff,
    /// It was turned on, and has failed.
    Failed,
    /// It was turned on, and has failed before it was ready.
    FailedToTurnOn,
    /// It was told of a shutdown, which is under way.
    ShuttingDown,
    /// It was shut down.
    ShutDown,
}

/// A namespace.
#[derive(Clone, Debug)]
pub(crate) struct Namespace {
    pub(crate) blocks: u64,
    /// Bytes in a block: 2ⁿ.
    pub(crate) shift: u8,
    pub(crate) metadata: u16,
    pub(crate) protection: u8,
    pub(crate) write_protected: bool,
    /// The number of its format.
    pub(crate) format: u8,
}

impl Default for Namespace {
    fn default() -> Self {
        Self { blocks: 512, shift: 9, metadata: 0, protection: 0, write_protected: false, format: 0 }
    }
}

/// What a controller is like.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) ids: (u16, u16),
    pub(crate) version: u32,
    /// CAP.MQES.
    pub(crate) most_entries: u16,
    /// CAP.TO.
    pub(crate) timeout: u8,
    /// CRTO.CRWMT, if the controller has CRTO.
    pub(crate) with_media: Option<u16>,
    /// CAP.DSTRD.
    pub(crate) stride: u8,
    /// CAP.CSS.
    pub(crate) command_sets: u8,
    /// CAP.MPSMIN.
    pub(crate) smallest_page: u8,
    pub(crate) most_data: u8,
    pub(crate) cached: bool,
    pub(crate) namespaces: BTreeMap<u32, Namespace>,
    /// How long it takes to turn on or off.
    pub(crate) slowness: Duration,
    pub(crate) left: Left,
    pub(crate) fault: Fault,
    pub(crate) seed: u64,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            ids: (0x1b36, 0x0010),
            version: 0x0001_0400,
            most_entries: 1023,
            timeout: 30,
            with_media: None,
            stride: 0,
            command_sets: 1,
            smallest_page: 0,
            most_data: 5,
            cached: true,
            namespaces: [(1, Namespace::default())].into(),
            slowness: Duration::from_millis(30),
            left: Left::Busy(3),
            fault: Fault::None,
            seed: 1,
        }
    }
}

/// The content of a namespace.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub(crate) disk: Vec<u8>,
    /// What survives a loss of power.
    pub(crate) durable: Vec<u8>,
}

/// A request that was completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) opcode: u8,
    pub(crate) namespace: u32,
    pub(crate) block: u64,
    pub(crate) blocks: u64,
}

/// The controller, the memory it shares with the driver, and the time.
pub(crate) struct World {
    model: Model,
    pub(crate) contents: BTreeMap<u32, Content>,
    /// What the driver did, in order.
    pub(crate) trace: Vec<String>,
    /// Requests that were completed, in order.
    pub(crate) done: Vec<Done>,
    /// Rings of the doorbell of requests.
    pub(crate) notifications: usize,
    /// How often CSTS was read.
    pub(crate) looks: usize,
    pub(crate) configuration: u32,
    pub(crate) status: u32,
    /// Its own memory is among device addresses.
    pub(crate) memory_buffer: u64,
    attached: bool,
    machine: Machine,
    /// When it has turned on or off.
    turning: Option<Duration>,
    /// Requests of the dead kernel that are pending.
    old_requests: usize,
    admin_sizes: u32,
    admin_addresses: [u64; 2],
    queues: [Option<Queue>; 2],
    admin_commands: usize,
    events: usize,
    random: Random,
}

struct Queue {
    submission: u64,
    completion: u64,
    entries: u16,
    /// The next command to fetch.
    head: u16,
    /// The next completion to write, and the phase of new ones.
    answered: u16,
    phase: bool,
    /// Up to where the driver took completions.
    taken: u16,
    fetched: Vec<Vec<u8>>,
}

impl Queue {
    fn new(submission: u64, completion: u64, entries: u16) -> Self {
        assert!(entries >= 2, "a queue has two entries at least");
        assert!(
            submission.is_multiple_of(4096) && completion.is_multiple_of(4096),
            "queues begin with pages"
        );
        let (head, answered, phase, taken, fetched) = (0, 0, true, 0, Vec::new());
        Self { submission, completion, entries, head, answered, phase, taken, fetched }
    }
}

/// A machine with one controller.
pub(crate) fn machine(model: Model) -> Shared<World> {
    let content = |namespace: &Namespace| {
        let disk: Vec<u8> = (0..namespace.blocks << namespace.shift).map(|at| (at / 512) as u8).collect();
        Content { durable: disk.clone(), disk }
    };
    let contents = model.namespaces.iter().map(|(&id, namespace)| (id, content(namespace))).collect();
    // SHN is in bits 15:14 of CC, SHST in bits 3:2 of CSTS.
    let (configuration, status, turning, old_requests) = match model.left {
        Left::Off => (0, 0, None, 0),
        Left::Busy(requests) => (0x0046_0001, 1, None, requests),
        Left::TurningOn => (0x0046_0001, 0, Some(model.slowness), 0),
        Left::TurningOff => (0x0046_0000, 1, Some(model.slowness), 0),
        Left::Failed => (0x0046_0001, 3, None, 2),
        Left::FailedToTurnOn => (0x0046_0001, 2, None, 0),
        Left::ShuttingDown => (0x0046_4001, 0b0101, None, 1),
        Left::ShutDown => (0x0046_4001, 0b1001, None, 0),
    };
    Rc::new(RefCell::new(World {
        random: Random(model.seed),
        model,
        contents,
        trace: Vec::new(),
        done: Vec::new(),
        notifications: 0,
        looks: 0,
        configuration,
        status,
        memory_buffer: 0x3,
        attached: false,
        machine: Machine::default(),
        turning,
        old_requests,
        admin_sizes: 0,
        admin_addresses: [0; 2],
        queues: [None, None],
        admin_commands: 0,
        events: 0,
    }))
}

pub(crate) type FakeDisk = AnyDisk<FakeAccess, FakeClock<World>>;

/// A pool that a test runs out of soon; a slot has four pages.
pub(crate) const POOL: Pool = Pool { slots: 5, slot_size: 4 * PAGE };

/// How long a controller may take for its first steps.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// Brings the controller of a machine up, before its first namespace.
pub(crate) fn open(world: &Shared<World>, pool: Pool) -> Result<FakeDisk, StartError> {
    open_with(&mut FakeAccess::new(world), pool)
}

/// Brings up the controller that `access` is to.
pub(crate) fn open_with(access: &mut FakeAccess, pool: Pool) -> Result<FakeDisk, StartError> {
    open_within(access, Allowance { pool, patience: PATIENCE })
}

/// Brings up the controller of a machine as when there is nothing else to try.
pub(crate) fn open_patiently(world: &Shared<World>) -> Result<FakeDisk, StartError> {
    open_within(&mut FakeAccess::new(world), Allowance { pool: POOL, patience: Duration::from_secs(30) })
}

fn open_within(access: &mut FakeAccess, allowance: Allowance) -> Result<FakeDisk, StartError> {
    let clock = FakeClock(access.world.clone());
    storage::open(access, clock, allowance).map_err(start_error)
}

/// Brings the first namespace up as the capture kernel does, to write a dump to it.
pub(crate) fn start(world: &Shared<World>, pool: Pool) -> Result<FakeDisk, StartError> {
    let mut disk = open(world, pool)?;
    disk.fill_pool(&mut FakeAccess::new(world));
    match disk.advance() {
        Some((Place::Namespace(_), Ok(()))) => Ok(disk),
        Some((_, Err(error))) => Err(error),
        other => panic!("{other:?}"),
    }
}

/// How long the machine has been at it.
pub(crate) fn elapsed(world: &Shared<World>) -> Duration {
    world.borrow().machine.now
}

/// Leaves memory for so many bytes.
pub(crate) fn limit_memory(world: &Shared<World>, bytes: usize) {
    world.borrow_mut().machine.memory_left = bytes;
}

/// Changes what is wrong with the controller.
pub(crate) fn break_by(world: &Shared<World>, fault: Fault) {
    let mut world = world.borrow_mut();
    (world.model.fault, world.events) = (fault, 0);
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

impl World {
    /// Counts an access or a piece of work; tells whether the device is gone by now.
    fn is_gone(&mut self) -> bool {
        self.events += 1;
        matches!(self.model.fault, Fault::GoneAfter(events) if self.events > events)
    }

    fn is_on(&self) -> bool {
        self.configuration & 1 != 0
    }

    fn is_ready(&self) -> bool {
        self.status & 1 != 0
    }

    fn capabilities(&self) -> u64 {
        let model = &self.model;
        u64::from(model.most_entries)
            | 1 << 16
            | u64::from(model.timeout) << 24
            | u64::from(model.stride) << 32
            | u64::from(model.command_sets) << 37
            | u64::from(model.smallest_page) << 48
            | u64::from(model.smallest_page) << 52
            | 1 << 57
            | u64::from(model.with_media.is_some()) << 59
    }

    /// CC is written.
    fn configure(&mut self, value: u32) {
        let was_on = self.is_on();
        self.configuration = value;
        self.trace.push(format!("CC = {value:#010x}"));
        match (was_on, self.is_on()) {
            (false, true) => self.turn_on(),
            (true, false) => self.turn_off(),
            _ => {}
        }
        if value & 0xc000 == 0 {
            self.status &= !0b1100;
        }
    }

    fn turn_on(&mut self) {
        assert!(!self.is_ready(), "turned on while it is not off yet: undefined");
        assert_eq!(
            self.configuration & 0x00ff_ffff,
            0x0046_0001,
            "entries of 64 and 16 bytes, pages of 4096"
        );
        assert_eq!(self.memory_buffer, 0, "its own memory hides some of the driver's");
        let (submission, completion) = ((self.admin_sizes & 0xfff) as u16, (self.admin_sizes >> 16) as u16);
        assert_eq!(submission, completion);
        self.trace.push(format!("admin queues of {}", submission + 1));
        let [submissions, completions] = self.admin_addresses;
        self.queues = [Some(Queue::new(submissions, completions, submission + 1)), None];
        match self.model.fault {
            Fault::NeverOn => {}
            Fault::FailsToTurnOn => self.status |= 2,
            _ => self.turning = Some(self.machine.now + self.model.slowness),
        }
    }

    fn turn_off(&mut self) {
        let never_ready = matches!(self.model.fault, Fault::NeverOn | Fault::FailsToTurnOn);
        let may_be_turned_off = self.is_ready() || self.status & 2 != 0 || never_ready;
        assert!(may_be_turned_off, "turned off while it is not on yet: undefined");
        if self.old_requests > 0 {
            self.trace.push(format!("{} old requests forgotten", self.old_requests));
        }
        self.old_requests = 0;
        self.queues = [None, None];
        if self.model.fault != Fault::NeverOff {
            self.turning = Some(self.machine.now + self.model.slowness);
        }
    }

    /// What a doorbell is rung with.
    fn ring(&mut self, queue: usize, is_completion: bool, value: u16) {
        assert!(self.is_on(), "a doorbell of a controller that is off");
        let lies = self.lies();
        let machine = &mut self.machine;
        let queue_ = self.queues[queue].as_mut().expect("a doorbell of a queue that is there");
        assert!(value < queue_.entries, "a doorbell is rung past the end of its queue");
        if is_completion {
            let untaken = |taken: u16| (queue_.answered + queue_.entries - taken) % queue_.entries;
            assert!(lies || untaken(value) <= untaken(queue_.taken), "completions were taken that are none");
            queue_.taken = value;
            return;
        }
        while queue_.head != value {
            let command = machine.device_read(queue_.submission + 64 * u64::from(queue_.head), 64);
            queue_.fetched.push(command);
            queue_.head = (queue_.head + 1) % queue_.entries;
        }
        self.notifications += usize::from(queue == 1);
    }

    /// Whether the driver may have been led astray.
    fn lies(&self) -> bool {
        matches!(self.model.fault, Fault::JunkId(_) | Fault::Repeats | Fault::PhaseAhead(_))
    }

    /// Pages of a command's data, each with the bytes that are in it.
    fn pages(&mut self, command: &[u8], len: usize) -> Vec<(u64, usize)> {
        let (first, second) = (long(command, 24), long(command, 32));
        let count = len.div_ceil(PAGE);
        let mut pages = vec![first];
        match count {
            0 | 1 => assert_eq!(second, 0, "PRP2 is reserved"),
            2 => pages.push(second),
            _ => {
                let bytes = 8 * (count - 1);
                assert!(second % 4096 + bytes as u64 <= 4096, "the list crosses a page");
                let list = self.machine.device_read(second, bytes);
                pages.extend((0..count - 1).map(|entry| long(&list, 8 * entry)));
            }
        }
        assert!(pages.iter().all(|page| page.is_multiple_of(4096)), "pages begin with pages: {pages:x?}");
        let in_page = |number: usize| (len - number * PAGE).min(PAGE);
        pages.into_iter().enumerate().map(|(number, page)| (page, in_page(number))).collect()
    }

    fn write_data(&mut self, command: &[u8], bytes: &[u8]) {
        let mut at = 0;
        for (page, len) in self.pages(command, bytes.len()) {
            self.machine.device_write(page, &bytes[at..at + len]);
            at += len;
        }
    }

    fn read_data(&mut self, command: &[u8], len: usize) -> Vec<u8> {
        let pages = self.pages(command, len);
        pages.into_iter().flat_map(|(page, len)| self.machine.device_read(page, len)).collect()
    }

    fn administer(&mut self, command: &[u8]) -> Option<u16> {
        self.admin_commands += 1;
        let (opcode, argument) = (command[0], word(command, 40));
        let namespace = word(command, 4);
        match self.model.fault {
            Fault::SilentFrom(first) if self.admin_commands > first => return None,
            Fault::Refuses(refused, low, status)
                if refused == opcode && low.is_none_or(|low| low == argument as u8) =>
            {
                self.trace.push(format!("refused {opcode:#04x} {argument:#x}"));
                return Some(status);
            }
            Fault::AdminUnreadyUntil(time, status) if opcode == 6 && self.machine.now < time => {
                return Some(status);
            }
            _ => {}
        }
        match opcode {
            0x05 => self.create_completion_queue(command),
            0x01 => self.create_submission_queue(command),
            0x06 => return Some(self.identify(command, argument, namespace)),
            0x09 => {
                assert_eq!((argument, word(command, 44)), (7, 0), "one queue of each kind");
                self.trace.push(String::from("one queue of each kind"));
            }
            _ => panic!("admin command {opcode:#x}"),
        }
        Some(0)
    }

    fn create_completion_queue(&mut self, command: &[u8]) {
        let (size, flags) = (word(command, 40), word(command, 44));
        assert_eq!((size & 0xffff, flags), (1, 1), "queue 1, contiguous, without interrupts");
        let entries = self.checked_entries(size);
        self.queues[1] = Some(Queue::new(0, long(command, 24), entries));
        self.trace.push(format!("completion queue of {entries}"));
    }

    fn create_submission_queue(&mut self, command: &[u8]) {
        let (size, flags) = (word(command, 40), word(command, 44));
        assert_eq!((size & 0xffff, flags & !6), (1, 1 << 16 | 1), "queue 1, answered in 1, contiguous");
        let entries = self.checked_entries(size);
        let completion = self.queues[1].as_ref().expect("the completion queue comes first").completion;
        self.queues[1] = Some(Queue::new(long(command, 24), completion, entries));
        self.trace.push(format!("submission queue of {entries}"));
    }

    fn checked_entries(&self, size: u32) -> u16 {
        let quirk = [(0x144d, 0xa821), (0x144d, 0xa822)].contains(&self.model.ids);
        let most = if quirk { 64 } else { u32::from(self.model.most_entries) + 1 };
        let entries = (size >> 16) + 1;
        assert!((2..=most).contains(&entries), "a queue of {entries} entries");
        entries as u16
    }

    fn identify(&mut self, command: &[u8], structure: u32, namespace: u32) -> u16 {
        let mut told = vec![0; 4096];
        match structure {
            0 => {
                self.trace.push(format!("identify namespace {namespace}"));
                if let Some(found) = self.model.namespaces.get(&namespace) {
                    describe(found, &mut told);
                }
            }
            1 => {
                self.trace.push(String::from("identify controller"));
                let last = self.model.namespaces.keys().max().copied().unwrap_or(0);
                (told[77], told[111]) = (self.model.most_data, u8::from(self.model.version >= 0x0001_0400));
                (told[512], told[513]) = (0x66, 0x44);
                told[516..520].copy_from_slice(&last.to_le_bytes());
                told[525] = u8::from(self.model.cached);
            }
            2 if self.model.version < 0x0001_0100 => return 0x02,
            2 => {
                self.trace.push(format!("namespaces above {namespace}"));
                let above = self.model.namespaces.keys().filter(|&&id| id > namespace);
                let mut list: Vec<u32> = above.copied().collect();
                if let Fault::Lists(first) = self.model.fault {
                    list.insert(0, first);
                }
                for (entry, id) in list.into_iter().enumerate() {
                    told[4 * entry..4 * entry + 4].copy_from_slice(&id.to_le_bytes());
                }
            }
            _ => panic!("structure {structure}"),
        }
        if let Fault::Claims(offset, byte) = self.model.fault {
            told[offset] = byte;
        }
        if self.model.fault != Fault::SaysNothing {
            self.write_data(command, &told);
        }
        0
    }

    fn transfer(&mut self, command: &[u8]) -> u16 {
        let (opcode, namespace) = (command[0], word(command, 4));
        let Some(shift) = self.model.namespaces.get(&namespace).map(|namespace| namespace.shift) else {
            panic!("a request to namespace {namespace}, which is not there");
        };
        let (block, blocks) = match opcode {
            0 => (0, 0),
            _ => (long(command, 40), u64::from(word(command, 48) & 0xffff) + 1),
        };
        self.done.push(Done { opcode, namespace, block, blocks });
        match self.model.fault {
            Fault::FailsAtFirst(requests, status) if self.done.len() <= requests => return status,
            Fault::UnreadyUntil(time, status) if self.machine.now < time => return status,
            _ => {}
        }
        if let Fault::BadBlock(bad, status) = self.model.fault
            && (block..block + blocks).contains(&bad)
        {
            return status;
        }
        let (start, len) = ((block << shift) as usize, (blocks << shift) as usize);
        if (1..32).contains(&self.model.most_data) {
            assert!(len <= PAGE << self.model.most_data, "{len} bytes are more than one command may move");
        }
        match opcode {
            0 => {
                let content = self.contents.get_mut(&namespace).unwrap();
                content.durable.clone_from(&content.disk);
            }
            1 => {
                let bytes = self.read_data(command, len);
                self.contents.get_mut(&namespace).unwrap().disk[start..start + len].copy_from_slice(&bytes);
            }
            2 => {
                let bytes = self.contents[&namespace].disk[start..start + len].to_vec();
                self.write_data(command, &bytes);
            }
            _ => panic!("request {opcode:#x}"),
        }
        0
    }

    fn answer(&mut self, queue: usize, command: &[u8], status: u16) {
        let id = u16::from_le_bytes([command[2], command[3]]);
        let (id, times) = match self.model.fault {
            Fault::AnswersAnother if queue == 0 => (id.wrapping_add(1), 1),
            Fault::JunkId(junk) if queue == 1 => (junk, 1),
            Fault::Repeats if queue == 1 => (id, 2),
            _ => (id, 1),
        };
        for _ in 0..times {
            self.complete(queue, id, status);
        }
        if let (1, Fault::PhaseAhead(entries)) = (queue, self.model.fault) {
            for ahead in 0..entries {
                self.complete(queue, ahead.wrapping_mul(7), 0);
            }
        }
    }

    fn complete(&mut self, number: usize, id: u16, status: u16) {
        let lies = self.lies();
        let queue = self.queues[number].as_mut().unwrap();
        let next = (queue.answered + 1) % queue.entries;
        assert!(lies || next != queue.taken, "no room for a completion");
        let entry = queue.completion + 16 * u64::from(queue.answered);
        let ending = u32::from(id) | u32::from(queue.phase) << 16 | u32::from(status) << 17;
        queue.answered = next;
        queue.phase ^= next == 0;
        // What a command has moved is there before its completion is.
        self.machine.device_write(entry, &[0xee; 12]);
        self.machine.device_write_now(entry + 12, &ending.to_le_bytes());
    }

    fn work_on_requests(&mut self) {
        match self.model.fault {
            Fault::DeadAfter(requests) if self.done.len() >= requests => return,
            Fault::FailsAfter(requests) if self.done.len() >= requests => return self.status |= 2,
            _ => {}
        }
        let Some(waiting) = self.queues[1].as_ref().map(|queue| queue.fetched.len()).filter(|&len| len > 0)
        else {
            return;
        };
        let pick = self.random.below(waiting);
        let command = self.queues[1].as_mut().unwrap().fetched.swap_remove(pick);
        if self.model.fault == Fault::SilentNamespace(word(&command, 4)) {
            return;
        }
        let status = self.transfer(&command);
        self.answer(1, &command, status);
    }

    fn turn(&mut self) {
        if self.turning.is_some_and(|at| self.machine.now >= at) {
            self.turning = None;
            // Turning off also ends a failure.
            self.status = self.status & !3 | u32::from(self.is_on());
        }
    }
}

fn describe(namespace: &Namespace, told: &mut [u8]) {
    told[..8].copy_from_slice(&namespace.blocks.to_le_bytes());
    told[26] = namespace.format & 0xf | namespace.format >> 4 << 5;
    told[29] = namespace.protection;
    told[99] = u8::from(namespace.write_protected);
    // The other formats are of no use.
    let format = 128 + 4 * usize::from(namespace.format);
    told[format..format + 2].copy_from_slice(&namespace.metadata.to_le_bytes());
    told[format + 2] = namespace.shift;
}

impl Device for World {
    fn machine(&mut self) -> &mut Machine {
        &mut self.machine
    }

    fn work(&mut self) {
        if self.is_gone() {
            return;
        }
        self.turn();
        if !self.is_on() || !self.is_ready() || self.status & 2 != 0 {
            return;
        }
        // The dead kernel's requests go on until it is turned off.
        self.old_requests = self.old_requests.saturating_sub(self.events % 2);
        if let Some(command) = self.queues[0].as_mut().and_then(|queue| queue.fetched.pop())
            && let Some(status) = self.administer(&command)
        {
            self.answer(0, &command, status);
        }
        self.work_on_requests();
    }
}

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
