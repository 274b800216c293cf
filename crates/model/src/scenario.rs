//! A description of a machine at the moment its kernel dies.

use crate::answer::{Access, Direction, Requester};
use crate::damage::Damage;
use crate::habits::Habits;
use crate::machine::Machine;
use crate::memory::{Kind, Memory};
use crate::old_kernel::OldKernel;
use crate::unit::Unit;
use crate::walk::Traits;
use crate::witness::Engine;
use crate::world::{Meddling, World};
use fastrand::Rng;
use machine::Range;
use vtd::control::TableMode;
use vtd::paging::Permission;
use vtd::paging::{AddressWidth, Level};

/// A machine at the moment its kernel dies.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// All chance on the machine comes from here.
    pub seed: u64,
    /// What is where in physical memory.
    pub memory: Vec<(Range, Kind)>,
    /// What the remapping unit can do.
    pub traits: Traits,
    /// How it behaves after the panic.
    pub habits: Habits,
    /// How the old kernel's tables are laid out: legacy or scalable.
    pub mode: TableMode,
    /// What the old kernel's invalidation queue was doing.
    pub queue: OldQueue,
    /// The old kernel's domains.
    pub domains: Vec<Domain>,
    /// The functions that have a context entry.
    pub functions: Vec<Function>,
    /// What happened to the tables before the panic.
    pub damage: Vec<Damage>,
    /// What happens to them while the capture kernel reads.
    pub meddling: Vec<Meddling>,
}

/// What the old kernel's invalidation queue was doing when it died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldQueue {
    /// It was not used: invalidation by registers.
    Off,
    /// All was done.
    Idle,
    /// So many waits were still to be done.
    Busy(u32),
    /// It had stopped at a descriptor that it could not execute.
    Stopped,
}

/// A domain: an address space with an id.
#[derive(Clone, Debug)]
pub struct Domain {
    /// The domain-id.
    pub id: u16,
    /// The width of its addresses.
    pub width: AddressWidth,
    /// What it maps.
    pub mappings: Vec<Mapping>,
    /// Another domain of the same width, by index, whose tables below the top are linked in where there is room.
    pub shares_with: Option<usize>,
}

/// One page of some size that is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// I/O virtual address, aligned to the page.
    pub iova: u64,
    /// Physical address, aligned to the page.
    pub memory: u64,
    /// The page's size, as the level of its leaf.
    pub level: Level,
    /// What it allows.
    pub permission: Permission,
}

/// A function of a device, and what it goes on doing.
#[derive(Clone, Debug)]
pub struct Function {
    /// Its source-id.
    pub source: u16,
    /// What its context entry says.
    pub attached: Attached,
    /// Where it reads and writes.
    pub works_at: Vec<u64>,
    /// The processes that it works for, each under a PASID of its own; in scalable mode only.
    pub processes: Vec<Process>,
}

/// A process that a function works for.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its PASID, which is not [`RID_PASID`] and fits a directory of 128 entries.
    pub pasid: u32,
    /// What the PASID table says.
    pub attached: Attached,
    /// Where the function reads and writes on its behalf.
    pub works_at: Vec<u64>,
}

/// The PASID of requests without one, on units that have a choice.
pub const RID_PASID: u32 = 3;

/// What a function's context entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// It uses this domain, by index.
    To(usize),
    /// Its addresses are physical; the domain-id is only a tag.
    PassThrough(u16),
}

impl Scenario {
    /// Builds the machine: writes the tables, brings the unit up as the old kernel did, lets devices warm its caches.
    ///
    /// # Panics
    ///
    /// If the description cannot be built: mappings that overlap, too little memory for the tables.
    pub fn machine(&self) -> Machine {
        let mut old = OldKernel::new(self);
        old.write_tables();
        for damage in &self.damage {
            damage.apply(&old.tables, &mut old.memory);
        }
        let mut unit = old.bring_up();
        warm_up(&mut unit, &old.memory, self);
        let engines = vec![self.engine(&unit, &old.memory)];
        unit.die_with(self.habits.clone());
        let mut world = World::new(old.memory, vec![unit], Rng::with_seed(self.seed));
        world.engines = engines;
        world.meddling.clone_from(&self.meddling);
        Machine::new(world)
    }

    /// All requesters, what is said of each, and where it reads and writes.
    pub fn requesters(&self) -> impl Iterator<Item = (Requester, Attached, &[u64])> {
        self.functions.iter().flat_map(|function| {
            let source = function.source;
            let own = (Requester { source, pasid: None }, function.attached, &function.works_at[..]);
            let others = function.processes.iter().map(move |process| {
                (Requester { source, pasid: Some(process.pasid) }, process.attached, &process.works_at[..])
            });
            std::iter::once(own).chain(others)
        })
    }

    /// Everything that devices do.
    pub fn accesses(&self) -> impl Iterator<Item = Access> + '_ {
        let both = [Direction::Read, Direction::Write];
        let both_ways =
            move |requester: Requester, iova| both.map(|direction| requester.access(iova, direction));
        self.requesters().flat_map(move |(requester, _, works_at)| {
            works_at.iter().flat_map(move |iova| both_ways(requester, *iova))
        })
    }

    fn engine(&self, unit: &Unit, memory: &Memory) -> Engine {
        let answered = |access| (access, unit.cold_answer(memory, access));
        Engine { unit: 0, accesses: self.accesses().map(answered).collect() }
    }
}

/// Lets devices fill the caches, and record a fault or two.
fn warm_up(unit: &mut Unit, memory: &Memory, scenario: &Scenario) {
    for access in scenario.accesses() {
        unit.answer(memory, access);
    }
}
