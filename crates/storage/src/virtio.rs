//! virtio devices over modern virtio-pci (Virtual I/O Device specification, version 1.2; section numbers are of that).

mod blk;
mod queue;
mod transport;

pub use blk::{Blk, SHORT, StartError, start};
pub use transport::{Addressing, Capabilities, Structure, Transport, TransportError};

/// Vendor ID of all virtio functions (4.1.2).
pub const VENDOR: u16 = 0x1af4;
/// Device IDs of a virtio disk: one that also speaks the older interface, and one that does not (4.1.2.1, 4.1.2.3).
pub const BLOCK_DEVICES: [u16; 2] = [0x1001, 0x1042];
