//! Describes a machine at the moment its kernel dies: plain data, from which [`Scenario::machine`] builds a machine.
//!
//! Everything has a default, so a description names only what matters to it: `Function { source,
//! ..Function::default() }`.

use crate::answer::{Access, Direction, Requester};
use crate::habits::Habits;
use crate::memory::MemoryKind;
use crate::vtd::damage::Damage;
use crate::vtd::vast::Vast;
use crate::vtd::walk::Traits;
use machine::{IoAddress, PhysicalAddress, Range};

pub use crate::parts::{DeviceTlb, Mapping, Meddling};
use vtd::control::TableMode;
use vtd::paging::AddressWidth;

/// A machine at the moment its kernel dies.
#[derive(Clone, Debug, Default)]
pub struct Scenario {
    /// Seed of all randomness on the machine.
    pub seed: u64,
    /// Ranges of physical memory and their kinds.
    pub memory: Vec<(Range<PhysicalAddress>, MemoryKind)>,
    /// The remapping units.
    pub units: Vec<UnitScenario>,
    /// The old kernel's domains, which functions of several units may use.
    pub domains: Vec<Domain>,
    /// The functions that have a context entry.
    pub functions: Vec<Function>,
    /// Damage to the tables before the panic.
    pub damage: Vec<Damage>,
    /// Words of old memory that are overwritten after that, by address: tables that a test sets directly.
    pub words: Vec<(PhysicalAddress, u64)>,
    /// Damage to the tables while the capture kernel reads.
    pub stray: Vec<Stray>,
    /// The same, given as words of memory.
    pub meddling: Vec<Meddling>,
}

/// A remapping unit at the moment its kernel dies.
#[derive(Clone, Debug, Default)]
pub struct UnitScenario {
    /// Its capabilities.
    pub traits: Traits,
    /// How it behaves after the panic.
    pub habits: Habits,
    /// The format of the old kernel's tables: legacy or scalable.
    pub mode: TableMode,
    /// What the old kernel's invalidation queue was doing.
    pub queue: OldQueue,
}

/// Damage that happens while the capture kernel reads: stray DMA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stray {
    /// It happens just before this read of old memory, counted from one.
    pub before_read: u64,
    /// The damage.
    pub damage: Damage,
}

/// What the old kernel's invalidation queue was doing when it died.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OldQueue {
    /// It was off: the old kernel invalidated by registers.
    #[default]
    Off,
    /// It had executed all descriptors.
    Idle,
    /// This many waits were pending.
    Busy(u32),
    /// It had stopped at a descriptor that it could not execute (IQE).
    Stopped,
    /// It had stopped because a device did not answer (ITE), with this many waits pending.
    TimedOut(u32),
    /// It had executed all descriptors, but a device had given a wrong answer (ICE).
    Garbled,
}

/// A domain: an address space with an id.
#[derive(Clone, Debug)]
pub struct Domain {
    /// The domain-id.
    pub id: u16,
    /// Which tables translate its addresses.
    pub stage: Stage,
    /// The width of its addresses: in the first stage 48 or 57 bits, of which the upper half is sign-extended.
    pub width: AddressWidth,
    /// What it maps.
    pub mappings: Vec<Mapping>,
    /// Index of another domain of the same stage and width. Its tables below the top are linked into this domain
    /// where there is room.
    pub shares_with: Option<usize>,
    /// Tables that map very much memory, in place of `mappings`; at most one domain of the machine has them.
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
    /// First-stage tables, in the processor's format; in scalable mode only.
    First,
    /// First-stage tables of a guest. The second-stage domain with this index translates the guest's physical
    /// addresses, and maps the guest's tables at [`GUEST_TABLES`].
    Nested(usize),
}

/// Guest physical addresses of the tables of nested domains, which are I/O addresses of the second stage: 1 GiB at
/// 128 GiB.
pub const GUEST_TABLES: Range<IoAddress> =
    Range::new(IoAddress::new(0x20_0000_0000), IoAddress::new(0x20_4000_0000));

/// A function of a device, and the work that it continues after the panic.
#[derive(Clone, Debug, Default)]
pub struct Function {
    /// Index of the unit that translates for it.
    pub unit: usize,
    /// Its source-id, or that of its bridge. Functions of different units have different source-ids.
    pub source: u16,
    /// What its context entry says.
    pub attached: Attached,
    /// Where it reads and writes.
    pub works_at: Vec<IoAddress>,
    /// The processes that it works for, each under a PASID of its own; in scalable mode only.
    pub processes: Vec<Process>,
    /// Its device-TLB, if it has one; only on units that support them.
    pub device_tlb: Option<DeviceTlb>,
}

/// A process that a function works for.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// Its PASID, which is not [`RID_PASID`] and has at most 20 bits.
    pub pasid: u32,
    /// What the PASID table says.
    pub attached: Attached,
    /// Where the function reads and writes for it.
    pub works_at: Vec<IoAddress>,
}

/// The PASID of requests without one, on units that support RID_PASID.
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
    /// Its requests without PASID and those for each process, each with its entry and the addresses that it uses.
    pub fn requesters(&self) -> impl Iterator<Item = (Requester, Attached, &[IoAddress])> {
        let source = self.source;
        let own = (Requester { source, pasid: None }, self.attached, &self.works_at[..]);
        let others = self.processes.iter().map(move |process| {
            (Requester { source, pasid: Some(process.pasid) }, process.attached, &process.works_at[..])
        });
        std::iter::once(own).chain(others)
    }

    /// All accesses that it makes.
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

    /// All requesters of a unit, each with its entry and the addresses that it uses.
    pub fn requesters(&self, unit: usize) -> impl Iterator<Item = (Requester, Attached, &[IoAddress])> {
        self.functions_of(unit).flat_map(Function::requesters)
    }
}
