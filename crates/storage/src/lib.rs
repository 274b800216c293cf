//! Disk drivers that poll.
//!
//! The capture kernel needs to write to one disk, once, in a machine in which it can rely on nothing else. These
//! drivers therefore use no interrupts, no threads and no unbounded waits, and a device that misbehaves costs the
//! dump but does not stop the kernel.
//!
//! ```text
//! machine::BlockDevice   what a dump is written to
//!         ▲
//!       Disk             the same for every disk: cuts into pieces, keeps many in flight, orders, waits, gives up
//!         ▲
//!     Controller         what differs: how a request is put to the device and how its answer is found
//!         ▲
//!   one for each kind     virtio::Blk, ahci::Ahci, nvme::Nvme, a SCSI host with one of two adapters
//! ```
//!
//! [`open`] starts a PCI function, and [`Disk::advance`] goes through the disks behind it. One table, in `drivers.rs`, says which driver runs which function;
//! [`has_driver`] only looks it up. A driver sees its device through [`DeviceAccess`]: configuration space,
//! registers, and memory to share. The caller of [`open`] maps the registers, takes care of any IOMMU between the
//! device and memory, and supplies the time as a [`machine::Clock`].
//!
//! A new driver is a module with a controller and a line in the table.
//!
//! Every value that a device supplies is checked before it is used as an index, a length or a size.
//!
//! # Example
//!
//! ```
//! use machine::{BlockDevice, Clock};
//! use storage::{Allowance, DeviceAccess};
//!
//! /// Reads the first block of the first disk behind a PCI function.
//! fn first_block<A: DeviceAccess>(
//!     access: &mut A,
//!     clock: impl Clock,
//!     allowance: Allowance,
//! ) -> Result<[u8; 4096], String> {
//!     let mut disk = storage::open(access, clock, allowance).map_err(|error| error.to_string())?;
//!     let (_, usable) = disk.advance().ok_or("the function has no disk")?;
//!     usable.map_err(|error| error.to_string())?;
//!     let mut block = [0; 4096];
//!     disk.read(0, &mut block).map_err(|error| error.to_string())?;
//!     Ok(block)
//! }
//! ```

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_macros))]

extern crate alloc;

#[macro_use]
mod table;

mod access;
pub mod ahci;
mod cache;
mod disk;
mod drivers;
mod error;
pub mod nvme;
pub(crate) mod pvscsi;
mod register;
mod scsi;
mod slots;
pub mod virtio;

pub use access::{Addressing, Allowance, BarRange, DeviceAccess};
pub use disk::{Completion, Controller, Disk, Durability, FAILED, Found, Geometry, Place, SHORT, UNASKED};
pub use drivers::{AnyController, AnyDisk, has_driver, open};
pub use error::{OpenError, StartError};
pub use slots::{Pool, Request};

/// The example in README.md, which is compiled too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
