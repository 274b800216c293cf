//! Keeps watchdogs quiet that another kernel has armed: finds those that run, gives them a longer countdown where it can, and
//! pings them while there is progress.
//!
//! A watchdog is a timer that resets the machine unless somebody pings it in time. When a kernel dies, its watchdogs go on
//! counting, and reset the machine in the middle of whatever follows. The rules of this crate are: extend where possible, ping,
//! never stop a timer, never start one. If the work hangs, nobody pings, and the machine is reset as it should be.
//!
//! | module | what it knows |
//! |---|---|
//! | `watchdogs` | [`Watchdogs`]: all timers of a machine |
//! | `kind` | [`Kind`]: which there are, and what Linux calls them |
//! | `timer` | what all timers can do |
//! | `wdat`, `register` | ACPI's table WDAT, and the registers that it names |
//! | `tco`, `i6300esb` | two of Intel's timers |
//! | `bmc`, `kcs`, `place` | a baseboard management controller's timer, how to talk to it, and where |
//!
//! The crate reaches hardware by [`machine::Ports`] and [`machine::Registers`]. Firmware's tables and the answers of hardware are
//! checked, and no wait is without a deadline.
//!
//! # Example
//!
//! ```
//! use machine::{Clock, Ports, Registers};
//! use pci::Device;
//! use watchdog::Watchdogs;
//!
//! /// Does something that takes long, piece by piece, without being reset by a watchdog of the chipset.
//! fn work<R: Registers>(ports: impl Ports, clock: impl Clock, devices: &[Device<R>], mut piece: impl FnMut() -> bool) -> u64 {
//!     let mut watchdogs = Watchdogs::<_, R, _>::new(ports, clock);
//!     for device in devices {
//!         watchdogs.look_at_function(device, |_| None);
//!     }
//!     while piece() {
//!         watchdogs.progress();
//!     }
//!     watchdogs.pings()
//! }
//! ```

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_macros))]

mod bmc;
mod i6300esb;
mod kcs;
mod kind;
mod place;
mod register;
mod tco;
mod timer;
mod watchdogs;
mod wdat;

pub use kind::{Kind, Kinds};
pub use place::KcsPlace;
pub use watchdogs::{Armed, Watchdogs};

/// The example in README.md, which is compiled too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
