//! Finds PCI functions, and describes them by their configuration space.
//!
//! | module | what it knows |
//! |---|---|
//! | [`function`] | the address of a function, as people write it: `0000:00:1f.2` |
//! | [`ecam`] | where a function's configuration space is mapped |
//! | [`mod@scan`] | which functions are present |
//! | [`device`] | a present function: its ids, class, base address registers |
//! | [`bridge`] | the buses and memory behind a bridge |
//! | `express` | what kind of PCI Express port a function is |
//! | [`mod@aliases`] | the other requester IDs under which a device's requests may arrive |
//! | [`capabilities`] | the lists of capabilities, standard and extended |
//! | `power` | power states: wakes a function that is asleep |
//! | [`vmd`] | the functions behind Intel's volume management device |
//! | [`ats`], [`sriov`] | two of the extended capabilities |
//!
//! This crate reads configuration space through [`machine::Registers`] and trusts nothing in it: a walk through a
//! list stays inside its bounds and ends if the list is circular, and a value is checked before it becomes an index.
//! The crate does nothing that disturbs devices at work; its only writes are [`Device::enable`] and [`Device::wake`].
//!
//! Section numbers are of the PCI Express base specification 6.0 unless another one is named.
//!
//! # Example
//!
//! ```
//! use machine::{PhysicalAddress, Registers};
//! use pci::{Device, Function};
//!
//! /// The address registers of the disk that a person named.
//! fn addresses<R: Registers>(devices: &[Device<R>], name: &str) -> Result<Vec<Option<PhysicalAddress>>, pci::NoFunction> {
//!     let wanted: Function = name.parse()?; // such as 0000:00:1f.2
//!     let device = devices.iter().find(|device| device.function == wanted);
//!     Ok(device.into_iter().flat_map(|device| (0..6).map(|bar| device.bar(bar))).collect())
//! }
//!
//! assert_eq!("0:3:1f.7".parse::<Function>()?.to_string(), "0000:03:1f.7");
//! # Ok::<(), pci::NoFunction>(())
//! ```

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_macros))]

extern crate alloc;

pub mod aliases;
pub mod ats;
pub mod bridge;
pub mod capabilities;
pub mod device;
pub mod ecam;
mod express;
pub mod function;
mod power;
pub mod scan;
pub mod sriov;
pub mod vmd;

pub use aliases::aliases;
pub use ats::Ats;
pub use bridge::Bridge;
pub use device::{Class, Device, Identity, Match};
pub use ecam::Ecam;
pub use function::{Function, NoFunction};
pub use scan::scan;
pub use sriov::{SrIov, VirtualFunction, virtual_functions};
pub use vmd::Vmd;

/// Bytes in a function's configuration space (7.2.2).
pub const CONFIG_SIZE: usize = 4096;

/// The example in README.md, which is compiled too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
