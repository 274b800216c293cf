//! The state in which a unit was found: plain data, which the swap produces.

use alloc::vec::Vec;

use vtd::control::{GlobalStatus, RootTableAddress};
use vtd::fault::{FaultRecord, FaultStatus, PageRequestStatus};
use vtd::queue::QueueErrorRecord;

use crate::report::OldQueue;

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
