//! virtio devices over modern virtio-pci (Virtual I/O Device specification, version 1.2; all section numbers are of
//! that).

mod blk;
mod queue;
mod spec;
mod transport;

pub use blk::{Blk, SHORT};
pub(crate) use blk::{DRIVEN, start};
pub use transport::Capabilities;
