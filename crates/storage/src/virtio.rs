//! virtio devices over modern virtio-pci (Virtual I/O Device specification, version 1.2; section numbers are of that).

mod blk;
mod queue;
mod spec;
mod transport;

pub use blk::{Blk, SHORT, StartError, start};
pub use transport::{Addressing, Capabilities, Structure, Transport, TransportError};

/// Whether a function is a virtio disk.
pub(crate) fn is_disk(vendor: u16, device: u16) -> bool {
    vendor == spec::VENDOR && spec::BLOCK_DEVICES.contains(&device)
}
