//! An NVMe controller. It carries out one command at a time, picks it at random among those that it was told of, and insists on
//! what the specification leaves undefined.

mod commands;
pub(crate) mod model;
mod queues;
pub(crate) mod registers;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use storage::{Allowance, AnyDisk, Place, Pool, StartError};

use self::commands::word;
use self::model::{Fault, Left, Model, Namespace};
use self::queues::Queue;
use self::registers::FakeAccess;
use super::machine::{Device, FakeClock, Machine, Random, Shared};
use super::start_error;

const PAGE: usize = 4096;

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
    let clock = FakeClock(access.world());
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
