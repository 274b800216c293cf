//! Disk drivers that poll.
//!
//! The capture kernel needs to write to one disk, once, in a machine in which nothing else can be relied on. So there are
//! no interrupts, no threads and no unbounded waits here, and a device that misbehaves costs the dump but not the kernel.
//!
//! ```text
//! machine::BlockDevice   what a dump is written to
//!         ▲
//!       Disk             the same for every disk: cuts into pieces, keeps many in flight, orders, waits, gives up
//!         ▲
//!     Controller         what differs: how a request is put to the device and how its answer is found
//!         ▲
//!   virtio::Blk          (NVMe and AHCI will stand beside it)
//! ```
//!
//! A driver sees its device through [`machine::Registers`], shares memory with it through [`machine::Dma`], and takes the
//! time from [`machine::Clock`]. Where registers are mapped and what lies between the device and memory is the caller's
//! business:
//!
//! 1. [`virtio::Capabilities::find_blk`] reads from configuration space where the device's register blocks are.
//! 2. The caller maps them; [`virtio::Transport::new`] takes them.
//! 3. [`virtio::Transport::addressing`] says which addresses the device wants; the caller has a [`machine::Dma`] for these.
//! 4. [`virtio::start`] resets the device, which ends what the old kernel had asked of it, and hands back a [`Disk`].
//! 5. [`Disk::fill_pool`] takes the memory that many requests in flight need, once this is known to be the right disk.
//!
//! Everything that a device says is checked before it is used as an index, a length or a size.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod disk;
mod register;
mod slots;
pub mod virtio;

pub use disk::{Completion, Controller, Disk, UNASKED};
pub use slots::{Pool, Request};

/// Whether a driver here runs the PCI function with these IDs.
pub fn has_driver(vendor: u16, device: u16) -> bool {
    virtio::is_disk(vendor, device)
}
