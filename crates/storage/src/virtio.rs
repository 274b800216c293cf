//! virtio devices over modern virtio-pci (Virtual I/O Device specification, version 1.2; all section numbers are of
//! that).

pub(crate) mod blk;
mod queue;
pub(crate) mod scsi;
mod spec;
mod transport;

pub use blk::Blk;
pub use scsi::Host as Scsi;
pub use transport::Capabilities;
