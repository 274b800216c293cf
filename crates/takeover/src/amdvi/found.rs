//! The state in which a unit was found: plain data, which the swap produces.

use alloc::vec::Vec;

use amdvi::control::{Control, DeviceTableBase, Status};
use amdvi::event::Event;

use crate::report::OldQueue;

/// The state in which a unit was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Control.
    pub control: Control,
    /// Status: among others, whether the logs overflowed.
    pub status: Status,
    /// The old device table, or its first segment.
    pub device_table: DeviceTableBase,
    /// The first events that the old kernel had not read, and those that followed until the takeover was done: they are
    /// evidence.
    pub events: Vec<Event>,
    /// The old command buffer.
    pub queue: OldQueue,
}
