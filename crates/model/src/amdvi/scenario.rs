//! Describes a machine at the moment its kernel dies: plain data, from which [`Scenario::machine`] builds a machine.
//!
//! Everything has a default, so a description names only what matters to it: `Function { source,
//! ..Function::default() }`.

use super::damage::Damage;
use super::walk::Traits;
use crate::answer::{Access, Direction, Requester};
use crate::habits::Habits;
use crate::memory::MemoryKind;
use crate::reached::Rights;
use machine::{IoAddress, Level, PhysicalAddress, Range};

pub use crate::parts::{DeviceTlb, Mapping, Meddling};
pub use crate::vtd::scenario::GUEST_TABLES;

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
    /// The functions that there are.
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
#[derive(Clone, Debug)]
pub struct UnitScenario {
    /// Its features.
    pub traits: Traits,
    /// How it behaves after the panic.
    pub habits: Habits,
    /// Index of the unit before this one whose device table it uses too, as the units of a PCI segment do under Linux. That unit says
    /// where the table is, how long it is, and what the others' entries say.
    pub table_of: Option<usize>,
    /// Where the device table is.
    pub table_place: TablePlace,
    /// Pages of the device table, or of each of its segments.
    pub table_pages: u64,
    /// Binary logarithm of the number of segments (DevTblSegEn).
    pub segments: u8,
    /// What the entries say that no function has.
    pub others: Others,
    /// What the old kernel's command buffer was doing.
    pub commands: OldCommands,
    /// What its event log was doing.
    pub events: OldLog,
    /// What its logs of page requests and guest interrupts were doing.
    pub logs: OldLog,
    /// The exclusion range, if there is one.
    pub exclusion: Option<Exclusion>,
    /// Whether secure nested paging has locked registers.
    pub lock: Lock,
    /// How it takes writes of 64 bits.
    pub writes: Writes,
    /// Whether the old kernel had turned it on.
    pub power: Power,
    /// How long it may wait for a device to answer an invalidation (InvTimeOut): for ever if it is 0, else a millisecond times ten
    /// for each number from 1 to 6.
    pub time_out: u8,
    /// Whether interrupt tables are used.
    pub interrupts: Interrupts,
    /// Whether guest tables are used, if the unit knows them.
    pub guest_tables: GuestTables,
    /// What the addresses of CR3 tables are that guests have.
    pub cr3_addresses: Cr3Addresses,
}

impl Default for UnitScenario {
    fn default() -> Self {
        Self {
            traits: Traits::default(),
            habits: Habits::default(),
            table_of: None,
            table_place: TablePlace::Low,
            table_pages: 2,
            segments: 0,
            others: Others::Blocked,
            commands: OldCommands::Idle,
            events: OldLog::Running,
            logs: OldLog::Off,
            exclusion: None,
            lock: Lock::Open,
            writes: Writes::Whole,
            power: Power::On,
            time_out: LINUXS_TIME_OUT,
            interrupts: Interrupts::Remapped,
            guest_tables: GuestTables::Used,
            cr3_addresses: Cr3Addresses::Guests,
        }
    }
}

/// InvTimeOut of Linux: one second.
const LINUXS_TIME_OUT: u8 = 4;

/// Where a device table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TablePlace {
    /// Below 4 GiB, where Linux keeps it: there the base register's upper half is zero.
    Low,
    /// Above, on machines that have memory there.
    High,
}

/// What the device table says of ids that no function has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// They are blocked: V, TV, mode 0, neither IR nor IW, as Linux leaves them.
    Blocked,
    /// They are blocked: V without TV.
    Aborted,
    /// They pass untranslated: V is clear.
    Untranslated,
}

/// What the old kernel's command buffer was doing when it died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldCommands {
    /// It was off.
    Off,
    /// It had executed all commands.
    Idle,
    /// This many waits were pending.
    Busy(u32),
    /// It had stopped at a command that it could not execute.
    Stopped,
}

/// What a log was doing when the old kernel died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldLog {
    /// It was off.
    Off,
    /// It was on, and had room.
    Running,
    /// It was full: entries were lost, and it had stopped.
    Full,
}

/// A range that passes untranslated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exclusion {
    /// Its pages.
    pub range: Range<PhysicalAddress>,
    /// For which devices it is.
    pub devices: ExcludedDevices,
}

/// For which devices an exclusion range is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExcludedDevices {
    /// For all.
    All,
    /// For those [functions](Function::excluded) that say so.
    Some,
}

/// Whether secure nested paging has locked registers: then writes to the bases of the device table, the command buffer and the
/// logs are lost, and completion waits store only into a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// Registers take what is written.
    Open,
    /// They do not.
    Locked,
}

/// How a unit takes writes of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// At once.
    Whole,
    /// In two halves, the lower first; devices make requests between them.
    Halves,
}

/// Whether a unit translates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// It does.
    On,
    /// Everything passes.
    Off,
}

/// What becomes of interrupts of functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupts {
    /// They go through a table of each function.
    Remapped,
    /// They pass as they are.
    Passed,
}

/// Whether a unit uses guest tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestTables {
    /// It does (GTEn).
    Used,
    /// It takes no notice of them, whatever entries say.
    Ignored,
}

/// What the addresses of CR3 tables are, where guest tables are nested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cr3Addresses {
    /// The guest's: host tables translate them (GCR3TRPMode).
    Guests,
    /// Physical: the host made these tables.
    Physical,
}

/// Damage that happens while the capture kernel reads: stray DMA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stray {
    /// It happens just before this read of old memory, counted from one.
    pub before_read: u64,
    /// The damage.
    pub damage: Damage,
}

/// A domain: an address space with an id.
#[derive(Clone, Debug)]
pub struct Domain {
    /// The domain-id.
    pub id: u16,
    /// Which tables translate its addresses.
    pub stage: Stage,
    /// Level of the root: 1 to 6, in guest tables 4 or 5.
    pub top: Level,
    /// What it maps.
    pub mappings: Vec<Mapping>,
    /// How its host tables are written.
    pub style: Style,
    /// Index of another domain of the same stage and level. Its tables below the top are linked into this domain where there is
    /// room.
    pub shares_with: Option<usize>,
}

impl Default for Domain {
    fn default() -> Self {
        let (stage, top) = (Stage::Host, Level::THREE);
        Self { id: 1, stage, top, mappings: Vec::new(), style: Style::default(), shares_with: None }
    }
}

/// Which tables translate a domain's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Host tables, version 1.
    Host,
    /// Guest tables, version 2.
    Guest,
    /// Guest tables. The host domain with this index translates the guest's physical addresses, and maps the guest's tables at
    /// [`GUEST_TABLES`].
    Nested(usize),
}

/// How host tables are written, where the architecture leaves a choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Which levels there are.
    pub levels: Levels,
    /// How pages are written that are neighbours.
    pub pages: Pages,
}

/// Which levels of host tables there are on the way to a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Levels {
    /// All of them.
    #[default]
    All,
    /// Those that translate only bits that are zero are skipped.
    Skipped,
}

/// How neighbouring pages that map neighbouring memory are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pages {
    /// One by one.
    #[default]
    Single,
    /// As one page with next level 7 where they are aligned.
    Joined,
}

/// A function of a device, and the work that it continues after the panic.
#[derive(Clone, Debug, Default)]
pub struct Function {
    /// Index of the unit that translates for it.
    pub unit: usize,
    /// Its source-id, or that of its bridge. Functions of different units have different source-ids.
    pub source: u16,
    /// What its device table entry says of requests without PASID.
    pub attached: Attached,
    /// The domain-id of its entry, if it is not that of its domain.
    pub id: Option<u16>,
    /// Where it reads and writes.
    pub works_at: Vec<IoAddress>,
    /// The processes that it works for, each under a PASID of its own.
    pub processes: Vec<Process>,
    /// Its device-TLB, if it has one.
    pub device_tlb: Option<DeviceTlb>,
    /// Whether the exclusion range is for it (EX).
    pub excluded: Excluded,
}

/// Whether the exclusion range is for a function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Excluded {
    /// It is not.
    #[default]
    No,
    /// It is.
    Yes,
}

/// A process that a function works for.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// Its PASID, of at most 20 bits; zero is that of requests without one where their domain has guest tables.
    pub pasid: u32,
    /// The domain of its guest tables, by index. They are nested if, and only if, the function's own domain is their host, or is
    /// nested in it.
    pub domain: usize,
    /// Where the function reads and writes for it.
    pub works_at: Vec<IoAddress>,
}

/// What a function's device table entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// It uses this domain, by index.
    To(usize),
    /// Its addresses are physical (mode 0), as far as rights allow; the domain-id is only a tag.
    PassThrough(u16, Rights),
    /// Its addresses are physical because the entry is not valid (V = 0).
    Untranslated,
    /// All that it does is aborted (V = 1, TV = 0).
    Aborted,
}

impl Default for Attached {
    fn default() -> Self {
        Self::To(0)
    }
}

impl Function {
    /// Its requests without PASID and those for each process, each with the addresses that it uses.
    pub fn requesters(&self) -> impl Iterator<Item = (Requester, &[IoAddress])> {
        let source = self.source;
        let own = (Requester { source, pasid: None }, &self.works_at[..]);
        let others = self
            .processes
            .iter()
            .map(move |process| (Requester { source, pasid: Some(process.pasid) }, &process.works_at[..]));
        std::iter::once(own).chain(others)
    }

    /// All accesses that it makes: an interrupt besides reads and writes.
    pub fn accesses(&self) -> impl Iterator<Item = Access> + '_ {
        let both = [Direction::Read, Direction::Write];
        let both_ways =
            move |requester: Requester, iova| both.map(|direction| requester.access(iova, direction));
        let interrupt = Requester { source: self.source, pasid: None };
        let interrupt = interrupt.access(INTERRUPT, Direction::Write);
        let work = self.requesters().flat_map(move |(requester, works_at)| {
            works_at.iter().flat_map(move |iova| both_ways(requester, *iova))
        });
        work.chain([interrupt])
    }
}

/// The interrupt message of functions: the one with number 5, for which the address stands.
const INTERRUPT: IoAddress = IoAddress::new(machine::INTERRUPT_WINDOW.start.get() | 5 << 2);

impl Scenario {
    /// The stage through which a function's requests without PASID go, and whether the unit uses guest tables that its entry names;
    /// `None` if they go through no tables.
    pub fn stage_of(&self, function: &Function) -> (Option<Stage>, bool) {
        let heeds = self.units[function.unit].guest_tables == GuestTables::Used;
        let stage = match function.attached {
            Attached::To(domain) => Some(self.domains[domain].stage),
            _ => None,
        };
        let stage = match stage {
            Some(Stage::Guest) if !heeds => None,
            Some(Stage::Nested(_)) if !heeds => Some(Stage::Host),
            stage => stage,
        };
        (stage, heeds && !function.processes.is_empty())
    }

    /// The functions that a unit translates for.
    pub fn functions_of(&self, unit: usize) -> impl Iterator<Item = &Function> {
        self.functions.iter().filter(move |function| function.unit == unit)
    }

    /// All requesters of a unit, each with the addresses that it uses.
    pub fn requesters(&self, unit: usize) -> impl Iterator<Item = (Requester, &[IoAddress])> {
        self.functions_of(unit).flat_map(Function::requesters)
    }
}
