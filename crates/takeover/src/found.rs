//! What was found in a unit's tables: plain data, which the census makes and the later steps read.

use vtd::paging::{AddressWidth, Level};
use vtd::source::SourceId;
use vtd::stage::Stage;

use crate::entry::{Entry, Slot};

/// A present entry that says how requests of a device are translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// Whose requests.
    pub source: SourceId,
    /// Those with this PASID; `None` for those without.
    pub pasid: Option<u32>,
    /// The entry as it was found.
    pub entry: Entry,
    /// Index of its domain in [`Census::domains`](crate::census::Census::domains); `None` if it is refused.
    pub domain: Option<usize>,
    /// The PASID under which hardware caches what it translates: RID_PASID for requests without one (6.2.1).
    pub(crate) tag: u32,
    /// Where its copy is.
    pub(crate) slot: Slot,
}

/// How the devices of a domain reach memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Translation {
    /// Through the tables under the root table at this address. In nested translation these are the second stage's.
    Tables(u64),
    /// Their addresses are physical: pass-through.
    Identity,
}

/// One translation under one domain-id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Domain {
    /// Domain-id; another than the old kernel's if that was in use for another translation.
    pub id: u16,
    /// The old translation.
    pub translation: Translation,
    /// Format of the tables; for pass-through, of those that it becomes.
    pub stage: Stage,
    /// Width of the tables.
    pub width: AddressWidth,
    /// Level of the root table.
    pub top: Level,
    /// Tables that a copy takes: counted until there are more than frames.
    pub tables: u64,
    /// Those of them above level 1.
    pub upper_tables: u64,
}
