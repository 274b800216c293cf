//! What the library crates know of the machine that they run on: a handful of small traits.
//!
//! The capture kernel implements them over real memory and registers, the model over a simulated machine, and the
//! host's tools over files. No crate under `crates/` touches hardware in any other way.
//!
//! | trait | stands for |
//! |---|---|
//! | [`OldMemory`] | the dead kernel's memory: it can be read, never written, and nothing in it is trusted |
//! | [`Frames`] | the capture kernel's own page frames, in which hardware finds its tables |
//! | [`Registers`] | one block of memory-mapped registers |
//! | [`Ports`] | the processor's I/O ports |
//! | [`Clock`] | time since start, for deadlines |
//! | [`Dma`] | memory that the processor and one device share |
//! | [`BlockDevice`] | a disk, a partition, a dump area, or a file |
//!
//! [`growth`] takes memory from the heap without aborting, and [`bytes`] reads fields of tables that may be too short. What all IOMMUs
//! of x86 have in common is here too: who makes a request ([`SourceId`], [`Requester`]), what it may do ([`Permission`]), the
//! [`Level`]s of the tables that translate it, the shape of the ACPI table that lists the units ([`unit_table`]), and how a code of
//! hardware's becomes a field ([`code!`]).
//!
//! # Example
//!
//! ```
//! use machine::{OldMemory, PhysicalAddress, Range, Unreadable};
//!
//! /// A dead machine's memory, as somebody saved it.
//! struct Saved<'a>(&'a [u8]);
//!
//! impl OldMemory for Saved<'_> {
//!     fn read(&self, address: PhysicalAddress, into: &mut [u8]) -> Result<(), Unreadable> {
//!         let unreadable = Unreadable { address, len: into.len() as u64 };
//!         let found = self.0.get(address.get() as usize..).and_then(|rest| rest.get(..into.len()));
//!         into.copy_from_slice(found.ok_or(unreadable)?);
//!         Ok(())
//!     }
//! }
//!
//! let memory = Saved(&[1, 0, 0, 0, 0, 0, 0, 0, 2]);
//! assert_eq!(memory.read_u64(0.into()), Ok(1));
//! assert!(memory.read_u64(2.into()).is_err());
//!
//! let touched = Range::<PhysicalAddress>::from(0x1800..0x3001).touched_frames();
//! assert_eq!(touched, Range::from(1..4));
//! ```

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_macros))]

extern crate alloc;

mod address;
mod block;
pub mod bytes;
mod clock;
mod code;
mod dma;
pub mod growth;
mod level;
mod memory;
mod permission;
mod ports;
mod range;
mod registers;
mod requester;
pub mod unit_table;

pub use address::{ByteOffset, INTERRUPT_WINDOW, IoAddress, Pfn, PhysicalAddress, VirtualAddress};
pub use block::{BlockDevice, BlockError};
pub use clock::{Clock, TimedOut, rest, wait_until};
pub use dma::{Dma, DmaMemory};
pub use growth::OutOfMemory;
pub use level::Level;
pub use memory::{
    Contended, CopyError, ENTRIES, Frames, OldMemory, PAGE_SHIFT, PAGE_SIZE, Table, Unreadable,
};
pub use permission::Permission;
pub use ports::Ports;
pub use range::{Position, Range};
pub use registers::Registers;
pub use requester::{Requester, SourceId};

/// The example in README.md, which is compiled too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
