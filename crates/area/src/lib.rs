//! The dump area: a stretch of a disk that is reserved for one dump, with records that prove that the dump is whole.
//!
//! The capture kernel writes to a raw disk in a machine that has just crashed. Two rules hold in every case: *it
//! writes only bytes that belong to Holdover*, and *it calls a dump complete only if it is complete*.
//!
//! ```text
//! offset          size
//! 0               4096        label, first copy: UUID, length of the area
//! 4096            1 MiB−8192  reserved: zeros
//! 1 MiB − 4096    4096        seal: how far the dump got, which blocks were written, their checksum
//! 1 MiB           4096        the log's record: how long its text is, which dump it belongs to, its checksum
//! 1 MiB + 4096    3 MiB−4096  the log: the dead kernel's messages as text
//! 4 MiB           …           the dump: a file as it is
//! length − 4096   4096        label, second copy
//! ```
//!
//! Offsets count from the start of the area, which is a whole disk, a partition, a stretch in the middle of a disk, or a file: then
//! from the start of what the labels of its extents leave over (the module `ground` has the layout).
//! Everything is little-endian, and is read and written in multiples of 4096 bytes. This is version 2; an area of version 1, which
//! has no log and its dump at 1 MiB, is refused: it must be formatted again.
//!
//! **Whose bytes.** [`Area::open`] only reads. It requires both labels, the UUID that the capture kernel was given when it was
//! loaded, a length that fits the disk, and zeros in the reserved blocks: a file system, a swap area, a RAID member or a volume
//! manager that has been put there since overwrites one of these. Every later write goes through a window that checks its offset
//! against the area.
//!
//! **Complete.** [`Area::begin`] replaces the seal of an older dump with *in progress* before the first byte of the new one
//! is written, and [`Dump::seal`] writes the final seal after everything else is durable. In between, an interruption
//! leaves *in progress*, with what was flushed last. A [`Seal`] records which blocks were written and a [`Sum`] over them,
//! so the host also notices a disk that lied.
//!
//! **The log first.** [`Dump::log`] stores the dead kernel's messages before the first page. They are durable, and belong to
//! this dump and no other, before anything that may take long is begun. [`Area::read_log`] reads them.
//!
//! **Collected.** [`Area::mark_collected`] notes in the seal that a host has the dump, or the log if there is no more. Until then
//! `load` refuses the area, because the next dump replaces this one. [`Area::held`] tells; what cannot be told counts as a dump.
//!
//! | who | calls |
//! |---|---|
//! | host, `format` | [`Area::format`] |
//! | host, `load` | [`Area::open`], to refuse early what the capture kernel would refuse |
//! | capture kernel | [`Area::open`], then, as with every [`Destination`]: [`Destination::begin`] → [`OpenDump::log`] → write to the [`OpenDump`], which is a `BlockDevice` → [`OpenDump::seal`] |
//! | host, `collect` | [`read_label`], [`Area::open`], [`Area::read_seal`], [`Area::read_log`], [`Area::read_dump`] |
//!
//! # Example
//!
//! ```
//! use area::{Area, Completeness, Label, Seal};
//! use machine::BlockDevice;
//! use uuid::Uuid;
//!
//! /// Makes a whole disk an area, and stores a dump of one block in it.
//! fn store(mut disk: impl BlockDevice) -> Result<Seal, Box<dyn core::error::Error>> {
//!     let uuid = Uuid::from_u128(0x6d4c_11a5_8a5f_4c3e_9d0b_0242_ac12_0002);
//!     let label = Label { uuid, length: disk.size(), created: 0 };
//!     Area::format(&mut disk, 0, label)?;
//!     // Later, in the machine that died:
//!     let mut dump = Area::open(&mut disk, 0, uuid)?.begin()?;
//!     dump.write(0, &[0xA5; 4096])?;
//!     Ok(dump.seal(Completeness::Complete, 4096)?)
//! }
//! ```

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_macros))]

extern crate alloc;

mod area;
mod destination;
mod dump;
mod extents;
mod ground;
mod held;
mod label;
mod log;
mod record;
mod seal;
mod sum;
mod window;

pub use area::{Area, FormatError, OpenError, ReadError, SealError, read_label, read_label_in_file};
pub use destination::{Destination, OpenDump};
pub use dump::{Completeness, Dump};
pub use extents::{Extents, MAX_EXTENTS};
pub use ground::file::{FirstExtent, erase_file};
pub use ground::list::{FileExtent, MOST_FILE_EXTENTS};
pub use held::{Held, Untold};
pub use label::Label;
pub use log::{LOG_CAPACITY, Log, LogError, LogWriter};
pub use record::{Contradiction, Damage};
pub use seal::{Lack, LeftOut, Seal, SealState};
pub use sum::Sum;

/// Bytes in a block, the unit of everything here.
pub const BLOCK: u64 = 4096;
/// Offset of the dump's first byte from the start of the area.
pub const DUMP_OFFSET: u64 = 4 << 20;
/// Offset of the log's record from the start of the area. The text follows it.
pub const LOG_OFFSET: u64 = 1 << 20;
/// Offset of the seal from the start of the area. Not right behind the label, where superblocks of others like to be.
pub const SEAL_OFFSET: u64 = LOG_OFFSET - BLOCK;

/// The content of a block.
pub(crate) type Block = [u8; BLOCK as usize];

/// The example in README.md, which is compiled too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
