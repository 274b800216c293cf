//! What was found in a unit and in its tables: plain data, which the census and the swap make and later steps read.

use alloc::vec::Vec;

use machine::PhysicalAddress;
use vtd::control::{GlobalStatus, RootTableAddress};
use vtd::fault::{FaultRecord, FaultStatus, PageRequestStatus};
use vtd::paging::{AddressWidth, Level};
use vtd::queue::QueueErrorRecord;
use vtd::source::SourceId;
use vtd::stage::Stage;

use crate::entry::{Entry, Slot};

/// The state in which a unit was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Global status.
    pub status: GlobalStatus,
    /// The old root table.
    pub root: RootTableAddress,
    /// Fault status: errors of the old queue, and faults that the old kernel had not handled.
    pub faults: FaultStatus,
    /// The first faults recorded until the takeover was done: they are evidence, and were cleared.
    pub fault_records: Vec<FaultRecord>,
    /// The old invalidation queue.
    pub queue: OldQueue,
    /// What the unit recorded of an error of that queue; its fields are valid with the bits of `faults`.
    pub queue_error: QueueErrorRecord,
    /// The old queue of page requests, which is left as it was found: the unit answers for us when it is full.
    pub page_requests: PageRequestStatus,
}

/// In which state the old kernel's invalidation queue was when it was turned off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldQueue {
    /// It was not on.
    Off,
    /// It had done all its work.
    Drained,
    /// It had stopped, or did not finish in time.
    Stuck {
        /// IQH at the end.
        head: u64,
        /// IQT at the end.
        tail: u64,
    },
}

/// A present entry that says how requests of a device are translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Context {
    /// Whose requests.
    pub(crate) source: SourceId,
    /// Those with this PASID; `None` for those without.
    pub(crate) pasid: Option<u32>,
    /// The entry as it was found.
    pub(crate) entry: Entry,
    /// Index of its domain in [`Census::domains`](crate::census::Census::domains); `None` if it is refused.
    pub(crate) domain: Option<usize>,
    /// The PASID under which hardware caches what it translates: RID_PASID for requests without one (6.2.1).
    pub(crate) tag: u32,
    /// Where its copy is.
    pub(crate) slot: Slot,
}

/// How the devices of a domain reach memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Translation {
    /// Through the tables under the root table at this address. In nested translation these are the second stage's.
    Tables(PhysicalAddress),
    /// Their addresses are physical: pass-through.
    Identity,
}

/// How a domain's tables are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    /// Format of their entries.
    pub(crate) stage: Stage,
    /// How many bits of I/O addresses they translate.
    pub(crate) width: AddressWidth,
    /// Level of the root table.
    pub(crate) top: Level,
}

/// One translation under one domain-id, as the old kernel left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OldDomain {
    /// Domain-id; another than the old kernel's if that was in use for another translation.
    pub(crate) id: u16,
    /// The old translation.
    pub(crate) translation: Translation,
    /// Of the tables; for pass-through, of those that it becomes.
    pub(crate) format: Format,
    /// Tables that a copy takes: counted until there are more than frames.
    pub(crate) tables: u64,
    /// Those of them above level 1.
    pub(crate) upper_tables: u64,
}
