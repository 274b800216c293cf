//! What the census found in a unit's tables: plain data, which later steps read.

use machine::{Level, PhysicalAddress, SourceId};
use paging::Format;

use crate::entry::{Entry, Slot};

/// A present entry that says how requests of a device are translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Context {
    /// The device whose requests it translates.
    pub(crate) source: SourceId,
    /// The PASID of these requests; `None` for requests without PASID.
    pub(crate) pasid: Option<u32>,
    /// The entry as it was found.
    pub(crate) entry: Entry,
    /// Index of its domain in [`Census::domains`](crate::census::Census::domains); `None` if it is refused.
    pub(crate) domain: Option<usize>,
    /// The PASID under which hardware caches these translations: RID_PASID for requests without PASID (6.2.1).
    pub(crate) tag: u32,
    /// The slot of its copy; `None` if frames were too short for its PASID table, so that its device is blocked.
    pub(crate) slot: Option<Slot>,
}

/// How the devices of a domain reach memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Translation {
    /// Through the tables under the root table at this address; in nested translation, the second-stage tables.
    Tables(PhysicalAddress),
    /// Their addresses are physical: pass-through.
    Identity,
}

/// How a domain's tables are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Format of their entries.
    pub(crate) format: Format,
    /// Level of the root table.
    pub(crate) top: Level,
}

/// Who needs a domain's translations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Demand {
    /// A device that will be attached.
    Wanted,
    /// Some device.
    Used,
    /// Nobody: its devices are blocked, but its addresses must be reserved.
    #[default]
    Unused,
}

/// One translation under one domain-id, as the old kernel left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OldDomain {
    /// Domain-id; another than the old kernel's if that was in use for another translation.
    pub(crate) id: u16,
    /// The old translation.
    pub(crate) translation: Translation,
    /// Layout of the tables; for pass-through, of the tables that replace it.
    pub(crate) layout: Layout,
    /// What it is to be carried over for.
    pub(crate) demand: Demand,
    /// Whether it maps nothing.
    pub(crate) empty: bool,
    /// Tables that a copy needs, those that split large pages included; counting stops at one more than the number of
    /// frames.
    pub(crate) tables: u64,
    /// How many of them are above level 1 or split a large page.
    pub(crate) upper_tables: u64,
}
