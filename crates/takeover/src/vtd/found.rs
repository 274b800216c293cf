//! The state in which a unit was found: plain data, which the swap produces.

use alloc::vec::Vec;

use vtd::control::{GlobalStatus, RootTableAddress};
use vtd::fault::{FaultRecord, FaultStatus, PageRequestStatus};
use vtd::queue::QueueErrorRecord;

/// The state in which a unit was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Global status.
    pub status: GlobalStatus,
    /// The old root table.
    pub root: RootTableAddress,
    /// Fault status: errors of the old queue, and faults that the old kernel had not handled.
    pub faults: FaultStatus,
    /// The first faults recorded until the takeover was done: they are evidence, and the takeover cleared them.
    pub fault_records: Vec<FaultRecord>,
    /// The old invalidation queue.
    pub queue: OldQueue,
    /// What the unit recorded of an error of that queue; the bits of `faults` say which fields are valid.
    pub queue_error: QueueErrorRecord,
    /// The old page request queue. The takeover leaves it alone: when it is full, the unit itself answers page
    /// requests.
    pub page_requests: PageRequestStatus,
}

/// The state of the old kernel's invalidation queue when the takeover turned it off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldQueue {
    /// It was not on.
    Off,
    /// It had executed all descriptors.
    Drained,
    /// It had stopped, or did not finish in time. If head and tail are equal, the unit had fetched everything, and did not
    /// report that it was done with it.
    Stuck {
        /// IQH at the end.
        head: u64,
        /// IQT at the end.
        tail: u64,
    },
}
