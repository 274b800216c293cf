//! The result of a simulated takeover, as values.

use std::fmt;

use machine::{IoAddress, PhysicalAddress, Range};
use serde::{Serialize, Serializer};

/// A simulated takeover.
#[derive(Clone, Debug, Serialize)]
pub struct Simulation {
    /// The scenario's name.
    pub title: String,
    /// What happens in it.
    pub story: String,
    /// The machine's memory.
    #[serde(serialize_with = "ranges")]
    pub memory: Vec<Range<PhysicalAddress>>,
    /// The capture kernel's memory.
    #[serde(serialize_with = "range")]
    pub reservation: Range<PhysicalAddress>,
    /// The form of the tables: legacy, scalable or AMD-Vi.
    pub mode: &'static str,
    /// The devices: those of the file, and the disk.
    pub devices: Vec<Device>,
    /// The domains.
    pub domains: Vec<Domain>,
    /// The old kernel's tables and their copies.
    pub tables: Tables,
    /// The phases, in order.
    pub phases: Vec<Phase>,
    /// Everything wrong or dangerous, and what became of it.
    pub hazards: Vec<String>,
    /// Why the takeover failed, if it did.
    pub failure: Option<String>,
    /// Why the disk's driver got no buffer, if it did not.
    pub without_buffer: Option<String>,
    /// What devices would have met under other policies, and what they met under this one.
    pub policies: Vec<PolicyResult>,
}

/// A device.
#[derive(Clone, Debug, Serialize)]
pub struct Device {
    /// Bus, device and function.
    pub at: String,
    /// Its name.
    pub name: String,
    /// Its domain, by index in [`Simulation::domains`].
    pub domain: Option<usize>,
    /// Who uses it after the takeover.
    pub purpose: Purpose,
    /// What became of its context.
    pub outcome: Option<String>,
    /// What it met in each phase.
    pub traffic: Vec<Traffic>,
}

/// Who uses a device after the takeover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// Nobody: it continues the old kernel's work.
    Left,
    /// The capture kernel: it writes the dump there.
    Disk,
}

/// An I/O address space.
#[derive(Clone, Debug, Serialize)]
pub struct Domain {
    /// Domain-id, if it has a known one.
    pub id: Option<u16>,
    /// Whether it is pass-through.
    pub pass_through: bool,
    /// What the old kernel mapped.
    pub old: Vec<Mapping>,
    /// What the capture kernel mapped.
    pub new: Vec<Mapping>,
    /// Page tables that the old kernel had for it.
    pub tables: u64,
    /// What became of it.
    pub outcome: Option<String>,
}

/// Neighbouring addresses that lead to neighbouring memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mapping {
    /// I/O addresses.
    #[serde(serialize_with = "range")]
    pub iova: Range<IoAddress>,
    /// Physical addresses.
    #[serde(serialize_with = "range")]
    pub memory: Range<PhysicalAddress>,
    /// Whether it led there before the panic.
    pub before: bool,
    /// Whether it leads there after the takeover.
    pub after: bool,
}

/// Tables in memory.
#[derive(Clone, Debug, Serialize)]
pub struct Tables {
    /// Addresses of the old root table and of the one in force at the end.
    #[serde(serialize_with = "roots")]
    pub roots: [PhysicalAddress; 2],
    /// How many tables the old kernel had, roughly: damage is not taken into account.
    pub old: u64,
    /// How many frames of the capture kernel hold new tables.
    pub own: u64,
    /// How many frames the takeover could use for them.
    pub budget: u64,
}

/// A phase of the takeover.
#[derive(Clone, Debug, Serialize)]
pub struct Phase {
    /// Its name.
    pub name: &'static str,
    /// What happens in it.
    pub what: &'static str,
    /// Steps of the machine's time.
    pub steps: u64,
}

/// Counts of accesses by what they met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// They got the same answer as before the panic.
    pub as_before: u64,
    /// They reached the capture kernel's memory before the panic, and are blocked.
    pub fenced: u64,
    /// They reached memory before the panic, and are blocked.
    pub faulted: u64,
    /// They reach something else than before the panic, or the capture kernel's memory.
    pub astray: u64,
    /// They belong to the new driver, and reach its buffer.
    pub own: u64,
}

impl Traffic {
    /// How many accesses there were.
    pub fn count(&self) -> u64 {
        self.as_before + self.fenced + self.faulted + self.astray + self.own
    }
}

impl std::ops::AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        self.as_before += other.as_before;
        self.fenced += other.fenced;
        self.faulted += other.faulted;
        self.astray += other.astray;
        self.own += other.own;
    }
}

/// What the capture kernel does with the active hardware.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// It accepts the hardware: what Holdover does.
    Accept,
    /// It turns translation off.
    Off,
    /// It turns translation on again with empty tables.
    Reset,
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accept => "accept (Holdover)",
            Self::Off => "turn translation off",
            Self::Reset => "reset the tables",
        })
    }
}

/// What devices meet under a policy.
#[derive(Clone, Debug, Serialize)]
pub struct PolicyResult {
    /// The policy.
    pub policy: Policy,
    /// What accesses met.
    pub traffic: Traffic,
    /// The targets of accesses that went astray.
    pub landing: Landing,
}

/// The targets of accesses that went astray.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Landing {
    /// In the dead kernel's memory, which should go into the dump.
    pub old_memory: u64,
    /// In the capture kernel's memory.
    pub capture_kernel: u64,
    /// In registers of devices, or where there is nothing.
    pub elsewhere: u64,
}

fn range<S: Serializer, T: Copy + Into<u64>>(range: &Range<T>, serializer: S) -> Result<S::Ok, S::Error> {
    [range.start.into(), range.end.into()].serialize(serializer)
}

fn roots<S: Serializer>(roots: &[PhysicalAddress; 2], serializer: S) -> Result<S::Ok, S::Error> {
    roots.map(PhysicalAddress::get).serialize(serializer)
}

fn ranges<S: Serializer>(ranges: &[Range<PhysicalAddress>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(ranges.iter().map(|range| [range.start.get(), range.end.get()]))
}
