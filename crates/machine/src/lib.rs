//! What the library crates know of the machine they run on: a handful of small traits.
//!
//! The capture kernel implements them over real memory and registers, the model over a simulated machine, and the
//! host's tools over files. No crate under `crates/` touches hardware in any other way.
//!
//! | trait | stands for |
//! |---|---|
//! | [`OldMemory`] | the dead kernel's memory: it can be read, never written, and nothing in it is trusted |
//! | [`Frames`] | the capture kernel's own page frames, in which hardware finds its tables |
//! | [`Registers`] | one block of memory-mapped registers |
//! | [`Clock`] | time since start, for deadlines |
//! | [`Dma`] | memory that the processor and one device share |
//! | [`BlockDevice`] | a disk, a partition, a dump area, or a file |

#![no_std]
#![forbid(unsafe_code)]

mod address;
mod block;
mod clock;
mod dma;
mod memory;
mod range;
mod registers;

pub use address::{ByteOffset, IoAddress, Pfn, PhysicalAddress, VirtualAddress};
pub use block::{BlockDevice, BlockError};
pub use clock::{Clock, TimedOut, wait_until};
pub use dma::{Dma, DmaMemory};
pub use memory::{CopyError, ENTRIES, Frames, OldMemory, PAGE_SHIFT, PAGE_SIZE, Table, Unreadable};
pub use range::{Position, Range};
pub use registers::Registers;
