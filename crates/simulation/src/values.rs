//! What happened in a simulated takeover, as values.

use std::fmt;

use machine::{IoAddress, PhysicalAddress, Range};
use serde::{Serialize, Serializer};

/// A takeover that was simulated.
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
    /// The form of the tables: legacy or scalable.
    pub mode: &'static str,
    /// The devices: those of the file, and the disk.
    pub devices: Vec<Device>,
    /// The domains.
    pub domains: Vec<Domain>,
    /// The old kernel's tables and their copies.
    pub tables: Tables,
    /// What was done, in order.
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
    /// Whether the capture kernel uses it.
    pub purpose: Purpose,
    /// What became of its context.
    pub outcome: Option<String>,
    /// What it was told in each phase.
    pub traffic: Vec<Traffic>,
}

/// Who uses a device after the takeover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// Nobody: it goes on with what the old kernel told it.
    Left,
    /// The capture kernel: the dump goes there.
    Disk,
}

/// An I/O address space.
#[derive(Clone, Debug, Serialize)]
pub struct Domain {
    /// Domain-id, if it has one that is known.
    pub id: Option<u16>,
    /// Whether addresses are physical.
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
    /// How many the old kernel had, roughly: damage is not followed.
    pub old: u64,
    /// How many frames of the capture kernel hold tables of its own.
    pub own: u64,
    /// How many frames there were for them.
    pub budget: u64,
}

/// A step of the takeover.
#[derive(Clone, Debug, Serialize)]
pub struct Phase {
    /// Its name.
    pub name: &'static str,
    /// What is done in it.
    pub what: &'static str,
    /// Steps of the machine's time.
    pub steps: u64,
}

/// What accesses met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// They were answered as before the panic.
    pub as_before: u64,
    /// They reached the capture kernel's memory before the panic, and are blocked.
    pub fenced: u64,
    /// They reached memory before the panic, and are blocked.
    pub faulted: u64,
    /// They reach something else than before the panic, or the capture kernel's memory.
    pub astray: u64,
    /// They are the new driver's, and reach its buffer.
    pub own: u64,
}

impl Traffic {
    /// How many there were.
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

/// What is done with the active hardware.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// It is accepted: what Holdover does.
    Accept,
    /// Translation is turned off.
    Off,
    /// Translation is turned on again with empty tables.
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
    /// Where those that went astray ended.
    pub landing: Landing,
}

/// Where accesses ended that went astray.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Landing {
    /// In the dead kernel's memory, which is to be dumped.
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
