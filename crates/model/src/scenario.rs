//! A description of a machine at the moment its kernel dies, and how the old kernel came to leave it so.

use crate::answer::{Access, Direction};
use crate::damage::Damage;
use crate::habits::Habits;
use crate::machine::Machine;
use crate::memory::{Kind, Memory};
use crate::unit::Unit;
use crate::walk::Traits;
use crate::witness::Engine;
use crate::world::{Meddling, World};
use fastrand::Rng;
use machine::{PAGE_SIZE, Range};
use std::collections::BTreeMap;
use vtd::context::{ContextEntry, ContextHigh, ContextLow, TranslationType};
use vtd::control::{GlobalCommand, GlobalStatus, RootTableAddress};
use vtd::paging::{AddressWidth, Level};
use vtd::queue::{ContextCacheInvalidation, Descriptor, QueueAddress, Wait};
use vtd::registers::{GCMD, GSTS, IQA, IQT, RTADDR};
use vtd::root::ContextTablePointer;
use vtd::second_stage::{Permission, SecondStageEntry};

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
}

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

    /// Everything that devices do.
    pub fn accesses(&self) -> impl Iterator<Item = Access> + '_ {
        let both = [Direction::Read, Direction::Write];
        let of = move |function: &Function, iova| {
            both.map(|direction| Access { source: function.source, iova, direction })
        };
        self.functions
            .iter()
            .flat_map(move |function| function.works_at.iter().flat_map(move |iova| of(function, *iova)))
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

/// The tables of the old kernel, for whoever wants to damage them.
#[derive(Clone, Debug, Default)]
pub struct OldTables {
    /// The root table.
    pub root: u64,
    /// The context tables by bus.
    pub contexts: BTreeMap<u8, u64>,
    /// The page tables, each with its level.
    pub paging: Vec<(u64, Level)>,
    /// The capture kernel's memory, a register block and a hole: addresses that no table should name.
    pub forbidden: Vec<u64>,
}

/// The old kernel, as far as remapping is concerned.
struct OldKernel<'a> {
    scenario: &'a Scenario,
    memory: Memory,
    tables: OldTables,
    rng: Rng,
    used: std::collections::BTreeSet<u64>,
}

impl<'a> OldKernel<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        let memory = Memory::new(scenario.memory.clone());
        let memory = if scenario.traits.capability.rwbf() { memory.with_write_buffer() } else { memory };
        let rng = Rng::with_seed(scenario.seed ^ 0x01D);
        Self { scenario, memory, tables: OldTables::default(), rng, used: [0].into() }
    }

    /// A page of old memory that nothing uses yet.
    fn page(&mut self) -> u64 {
        let ranges: Vec<Range> = self.memory.ranges(Kind::Old).collect();
        loop {
            let range = ranges[self.rng.usize(..ranges.len())];
            let page = range.start + self.rng.u64(..range.len() / PAGE_SIZE) * PAGE_SIZE;
            if self.used.insert(page) {
                return page;
            }
        }
    }

    fn write_tables(&mut self) {
        self.tables.root = self.page();
        let tops: Vec<u64> = self.scenario.domains.iter().map(|domain| self.write_domain(domain)).collect();
        self.link_shared_tables(&tops);
        for function in &self.scenario.functions {
            self.write_context(function, &tops);
        }
        let forbidden = [Kind::Capture, Kind::Mmio].into_iter().flat_map(|kind| self.memory.ranges(kind));
        let last = self.scenario.memory.iter().map(|(range, _)| range.end).max().unwrap_or(0);
        self.tables.forbidden = forbidden.map(|range| range.start).chain([last + PAGE_SIZE]).collect();
    }

    /// Writes a domain's tables and returns its top table.
    fn write_domain(&mut self, domain: &Domain) -> u64 {
        let top = top(domain);
        let table = self.paging_table(top);
        for mapping in &domain.mappings {
            self.map(table, top, mapping);
        }
        table
    }

    fn paging_table(&mut self, level: Level) -> u64 {
        let page = self.page();
        self.tables.paging.push((page, level));
        page
    }

    fn map(&mut self, mut table: u64, mut level: Level, mapping: &Mapping) {
        while let Some(below) = level.below().filter(|_| level > mapping.level) {
            let at = table + level.index(mapping.iova) as u64 * 8;
            let entry = SecondStageEntry(self.memory.read(at).unwrap_or(0));
            assert!(!entry.present() || !entry.is_leaf(level), "mappings overlap at {:#x}", mapping.iova);
            table = if entry.present() { entry.address() } else { self.paging_table(below) };
            let entry = SecondStageEntry::table(table).0 | self.ignored_bits();
            self.memory.write(at, entry);
            level = below;
        }
        let leaf = SecondStageEntry::leaf(level, mapping.memory, mapping.permission).0 | self.ignored_bits();
        self.memory.write(table + level.index(mapping.iova) as u64 * 8, leaf);
    }

    /// Bits 61:52 of a paging entry mean nothing to hardware (9.8).
    fn ignored_bits(&mut self) -> u64 {
        self.rng.u64(..1 << 10) << 52
    }

    /// Links tables of other domains into top tables wherever those have nothing.
    fn link_shared_tables(&mut self, tops: &[u64]) {
        for (domain, &table) in self.scenario.domains.iter().zip(tops) {
            let Some(other) = domain.shares_with.and_then(|other| tops.get(other)) else { continue };
            for at in (0..PAGE_SIZE).step_by(8) {
                let (mine, theirs) =
                    (self.memory.read(table + at).unwrap_or(0), self.memory.read(other + at).unwrap_or(0));
                if !SecondStageEntry(mine).present() {
                    self.memory.write(table + at, theirs);
                }
            }
        }
    }

    fn write_context(&mut self, function: &Function, tops: &[u64]) {
        let [bus, devfn] = function.source.to_be_bytes();
        let table = match self.tables.contexts.get(&bus) {
            Some(table) => *table,
            None => self.context_table(bus),
        };
        let entry = context_entry(self.scenario, function, tops);
        self.memory.write(table + u64::from(devfn) * 16, entry.low.into_bits());
        self.memory.write(table + u64::from(devfn) * 16 + 8, entry.high.into_bits());
    }

    fn context_table(&mut self, bus: u8) -> u64 {
        let table = self.page();
        self.tables.contexts.insert(bus, table);
        self.memory.write(self.tables.root + u64::from(bus) * 16, ContextTablePointer::to(table).into_bits());
        table
    }

    /// Turns the unit on as a kernel does: root table, queue, interrupt remapping, translation; then uses the queue.
    fn bring_up(&mut self) -> Unit {
        let rng = Rng::with_seed(self.scenario.seed ^ 0x0717);
        let mut unit = Unit::new(self.scenario.traits, Habits::default(), rng);
        let root = RootTableAddress::new().with_frame(self.tables.root >> 12).into_bits();
        write64(&mut unit, RTADDR.offset, root);
        self.command(&mut unit, |command| command.with_srtp(true));
        self.start_queue(&mut unit);
        self.command(&mut unit, |command| command.with_sirtp(true));
        self.command(&mut unit, |command| command.with_ire(true));
        self.command(&mut unit, |command| command.with_te(true));
        unit
    }

    fn command(&mut self, unit: &mut Unit, change: impl FnOnce(GlobalCommand) -> GlobalCommand) {
        let keep = GlobalStatus::from_bits(unit.read32(GSTS.offset)).keep();
        unit.write32(GCMD.offset, change(keep).into_bits());
        self.let_finish(unit);
    }

    fn let_finish(&mut self, unit: &mut Unit) {
        for _ in 0..100 {
            unit.advance(&mut self.memory);
        }
    }

    /// Turns the queue on, lets it do some work, and leaves it as the scenario says.
    fn start_queue(&mut self, unit: &mut Unit) {
        if self.scenario.queue == OldQueue::Off {
            return;
        }
        let (queue, status) = (self.page(), self.page());
        write64(unit, IQA.offset, QueueAddress::new().with_frame(queue >> 12).into_bits());
        self.command(unit, |command| command.with_qie(true));
        let done = self.rng.u64(0..20);
        let forget = ContextCacheInvalidation::new().with_granularity(vtd::control::Granularity::GLOBAL);
        self.submit(queue, 0..done, forget.into());
        write64(unit, IQT.offset, done * 16);
        self.let_finish(unit);
        let left = match self.scenario.queue {
            OldQueue::Off | OldQueue::Idle => return,
            OldQueue::Busy(waits) => u64::from(waits),
            OldQueue::Stopped => 1,
        };
        let wait = Wait::new().with_write(true).with_data(2).reporting_to(status);
        let stopper = Descriptor([u64::MAX, 0, 0, 0]);
        let last = if self.scenario.queue == OldQueue::Stopped { stopper } else { wait };
        self.submit(queue, done..done + left, last);
        write64(unit, IQT.offset, (done + left) * 16);
    }

    fn submit(&mut self, queue: u64, slots: std::ops::Range<u64>, descriptor: Descriptor) {
        for slot in slots {
            self.memory.write(queue + slot * 16, descriptor.0[0]);
            self.memory.write(queue + slot * 16 + 8, descriptor.0[1]);
        }
    }
}

fn context_entry(scenario: &Scenario, function: &Function, tops: &[u64]) -> ContextEntry {
    let low = ContextLow::new().with_present(true);
    match function.attached {
        Attached::To(index) => {
            let domain = &scenario.domains[index];
            ContextEntry {
                low: low.with_frame(tops[index] >> 12),
                high: ContextHigh::new().with_width(domain.width).with_domain(domain.id),
            }
        }
        Attached::PassThrough(id) => ContextEntry {
            low: low.with_translation(TranslationType::PASS_THROUGH),
            high: ContextHigh::new().with_width(widest(scenario)).with_domain(id),
        },
    }
}

/// The widest address width that the unit has: what pass-through entries carry.
fn widest(scenario: &Scenario) -> AddressWidth {
    let widths = [AddressWidth::BITS_57, AddressWidth::BITS_48];
    let supported = |width: &AddressWidth| scenario.traits.capability.supports(*width);
    widths.into_iter().find(supported).unwrap_or(AddressWidth::BITS_39)
}

#[expect(clippy::expect_used, reason = "scenarios have widths of 39, 48 and 57 bits")]
fn top(domain: &Domain) -> Level {
    domain.width.top().expect("a width that has levels")
}

fn write64(unit: &mut Unit, offset: usize, value: u64) {
    unit.write32(offset, value as u32);
    unit.write32(offset + 4, (value >> 32) as u32);
}
