//! A description of a machine at the moment its kernel dies: plain data, which [`Scenario::machine`] makes a machine of.
//!
//! Everything has a default, so that a description names what matters to it: `Function { source, ..Function::default() }`.

use crate::answer::{Access, Direction, Requester};
use crate::damage::Damage;
use crate::habits::Habits;
use crate::memory::MemoryKind;
use crate::vast::Vast;
use crate::walk::Traits;
use machine::{IoAddress, PhysicalAddress, Range};
use vtd::control::TableMode;
use vtd::paging::Permission;
use vtd::paging::{AddressWidth, Level};

/// A machine at the moment its kernel dies.
#[derive(Clone, Debug, Default)]
pub struct Scenario {
    /// All chance on the machine comes from here.
    pub seed: u64,
    /// What is where in physical memory.
    pub memory: Vec<(Range<PhysicalAddress>, MemoryKind)>,
    /// The remapping units.
    pub units: Vec<UnitScenario>,
    /// The old kernel's domains, which functions of several units may use.
    pub domains: Vec<Domain>,
    /// The functions that have a context entry.
    pub functions: Vec<Function>,
    /// What happened to the tables before the panic.
    pub damage: Vec<Damage>,
    /// Words of old memory that were overwritten after that, by address: tables as somebody else wants them.
    pub words: Vec<(PhysicalAddress, u64)>,
    /// What happens to them while the capture kernel reads.
    pub stray: Vec<Stray>,
    /// The same, told by words of memory.
    pub meddling: Vec<Meddling>,
}

/// A remapping unit at the moment its kernel dies.
#[derive(Clone, Debug, Default)]
pub struct UnitScenario {
    /// What it can do.
    pub traits: Traits,
    /// How it behaves after the panic.
    pub habits: Habits,
    /// How the old kernel's tables are laid out: legacy or scalable.
    pub mode: TableMode,
    /// What the old kernel's invalidation queue was doing.
    pub queue: OldQueue,
}

/// Damage that is done while the capture kernel reads: DMA that has gone astray.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stray {
    /// Just before this read of old memory, counted from one.
    pub before_read: u64,
    /// What is done.
    pub damage: Damage,
}

/// A word of old memory that changes while the capture kernel reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meddling {
    /// Just before this read of old memory, counted from one.
    pub before_read: u64,
    /// The word's address.
    pub address: PhysicalAddress,
    /// Its new value.
    pub value: u64,
}

/// What the old kernel's invalidation queue was doing when it died.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OldQueue {
    /// It was not used: invalidation by registers.
    #[default]
    Off,
    /// All was done.
    Idle,
    /// So many waits were still to be done.
    Busy(u32),
    /// It had stopped at a descriptor that it could not execute (IQE).
    Stopped,
    /// It had stopped because a device had not answered (ITE), with so many waits still to be done.
    TimedOut(u32),
    /// All was done, but a device had answered in a wrong way (ICE).
    Garbled,
}

/// A domain: an address space with an id.
#[derive(Clone, Debug)]
pub struct Domain {
    /// The domain-id.
    pub id: u16,
    /// Which tables translate its addresses.
    pub stage: Stage,
    /// The width of its addresses: in the first stage 48 or 57 bits, of which the upper half is negative.
    pub width: AddressWidth,
    /// What it maps.
    pub mappings: Vec<Mapping>,
    /// Another domain of the same stage and width, by index, whose tables below the top are linked in where there is
    /// room.
    pub shares_with: Option<usize>,
    /// Tables that map very much, in place of all that; one domain of the machine may have some.
    pub vast: Option<Vast>,
}

impl Default for Domain {
    fn default() -> Self {
        let (stage, width) = (Stage::Second, AddressWidth::BITS_48);
        Self { id: 1, stage, width, mappings: Vec::new(), shares_with: None, vast: None }
    }
}

/// Which tables translate a domain's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Second-stage tables.
    Second,
    /// First-stage tables, as processors use; in scalable mode only.
    First,
    /// First-stage tables of a guest, whose physical addresses the second-stage domain with this index translates. The
    /// guest's tables are mapped there at [`GUEST_TABLES`].
    Nested(usize),
}

/// Where guests of nested domains have their tables, in their own physical addresses, which are I/O addresses of the second
/// stage: 1 GiB at 128 GiB.
pub const GUEST_TABLES: Range<IoAddress> =
    Range::new(IoAddress::new(0x20_0000_0000), IoAddress::new(0x20_4000_0000));

/// One page of some size that is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// I/O virtual address, aligned to the page.
    pub iova: IoAddress,
    /// Physical address, aligned to the page; that of the guest in a nested domain.
    pub memory: PhysicalAddress,
    /// The page's size, as the level of its leaf.
    pub level: Level,
    /// What it allows.
    pub permission: Permission,
}

/// A function of a device, and what it goes on doing.
#[derive(Clone, Debug, Default)]
pub struct Function {
    /// The unit that translates for it, by index: in whose device scope it is.
    pub unit: usize,
    /// Its source-id, or that of the bridge that speaks for it. Functions of two units have different ones.
    pub source: u16,
    /// What its context entry says.
    pub attached: Attached,
    /// Where it reads and writes.
    pub works_at: Vec<IoAddress>,
    /// The processes that it works for, each under a PASID of its own; in scalable mode only.
    pub processes: Vec<Process>,
    /// Whether it keeps translations itself, on units that know device-TLBs.
    pub device_tlb: Option<DeviceTlb>,
}

/// What a device that keeps translations itself does when it is told to forget them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceTlb {
    /// It forgets them and says so.
    Answers,
    /// It keeps them; the unit waits for a while and gives up (ITE).
    Silent,
    /// It keeps them and says something that makes no sense (ICE); then the unit gives up.
    Garbles,
    /// It keeps them, and the unit waits for ever.
    Stalls,
}

/// A process that a function works for.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// Its PASID, which is not [`RID_PASID`] and has at most 20 bits.
    pub pasid: u32,
    /// What the PASID table says.
    pub attached: Attached,
    /// Where the function reads and writes on its behalf.
    pub works_at: Vec<IoAddress>,
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

impl Default for Attached {
    fn default() -> Self {
        Self::To(0)
    }
}

impl Function {
    /// Its requests without PASID and those for each process: what is said of them, and where they read and write.
    pub fn requesters(&self) -> impl Iterator<Item = (Requester, Attached, &[IoAddress])> {
        let source = self.source;
        let own = (Requester { source, pasid: None }, self.attached, &self.works_at[..]);
        let others = self.processes.iter().map(move |process| {
            (Requester { source, pasid: Some(process.pasid) }, process.attached, &process.works_at[..])
        });
        std::iter::once(own).chain(others)
    }

    /// Everything that it does.
    pub fn accesses(&self) -> impl Iterator<Item = Access> + '_ {
        let both = [Direction::Read, Direction::Write];
        let both_ways =
            move |requester: Requester, iova| both.map(|direction| requester.access(iova, direction));
        self.requesters().flat_map(move |(requester, _, works_at)| {
            works_at.iter().flat_map(move |iova| both_ways(requester, *iova))
        })
    }
}

impl Scenario {
    /// The functions that a unit translates for.
    pub fn functions_of(&self, unit: usize) -> impl Iterator<Item = &Function> {
        self.functions.iter().filter(move |function| function.unit == unit)
    }

    /// All requesters of a unit, what is said of each, and where it reads and writes.
    pub fn requesters(&self, unit: usize) -> impl Iterator<Item = (Requester, Attached, &[IoAddress])> {
        self.functions_of(unit).flat_map(Function::requesters)
    }
}
