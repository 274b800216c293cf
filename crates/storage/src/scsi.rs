//! SCSI disks: what they have in common, whatever host they are behind (SCSI Primary Commands 4, SCSI Block Commands 3, SCSI
//! Architecture Model 5).
//!
//! ```text
//! host     a Controller: gives commands to units, waits, gives up silent ones
//! tour     looks for disks, target by target and unit by unit
//! verdict  what an answer means: done, failed, once more; with sense and cache
//! adapter  what differs: the queues of virtio-scsi and of pvscsi
//! ```

pub(crate) mod adapter;
mod answer;
mod cache;
pub(crate) mod command;
pub(crate) mod host;
pub(crate) mod sense;
mod tour;
mod verdict;
