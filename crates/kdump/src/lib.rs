//! The kdump-compressed dump format: writer of version 6, reader of versions 1 to 6.
//!
//! This is the format that `makedumpfile` writes and that `crash`, `drgn` and libkdumpfile read. One file holds the pages
//! of a dead kernel that were worth keeping, each compressed on its own, so that a reader can go to any page directly:
//!
//! ```text
//! block 0        disk_dump_header   what machine, how many page frames, complete or not
//! block 1 …      kdump_sub_header   where the rest is, then the ELF notes (registers of each CPU, VMCOREINFO)
//!                bitmap 1           one bit per page frame: it exists
//!                bitmap 2           one bit per page frame: it was kept
//!                descriptors        one per kept page, ascending: where its data is, how long, which codec
//!                data               the pages, in any order
//! ```
//!
//! A block has 4096 bytes. The writer writes whole blocks, and each of them once, with two exceptions. Block 0 first says
//! *incomplete* and is written again when the last page is safe. A block of descriptors is written again by each pass that stores
//! some of its pages, and by [`Pages::save`], which makes safe what there is. A caller that writes pages' data itself
//! ([`Pages::with_room`]) may do so in pieces of any size. The memory that the writer needs does not depend on the size of the
//! machine: bitmaps come in pieces, and the writer reads them and the descriptors back from the device.
//!
//! There is a type for each stage of writing:
//!
//! ```
//! # use kdump::{Codec, Header, NoteSegment, Utsname, WriteError, begin};
//! # fn dump(disk: &mut impl machine::BlockDevice, memory: &impl machine::OldMemory) -> Result<(), WriteError> {
//! # let header = Header { frames: 8, cpus: 1, dump_level: 31, phys_base: 0, crashed_at: 0, utsname: Utsname::default() };
//! # let notes = NoteSegment::default();
//! let mut bitmaps = begin(disk, &header, &notes, Codec::Zlib)?;
//! bitmaps.push(&[0b1111_1111], &[0b0000_0101])?; // eight frames exist, the first and the third are kept
//! let mut pages = bitmaps.finish()?;
//! // A dump that is cut short has the first page frames rather than the others.
//! while pages.write_next(|pfn| pfn < 2, |pfn, page| memory.read_page(pfn, page))?.is_some() {}
//! pages.next_pass()?;
//! while pages.write_next(|_| true, |pfn, page| memory.read_page(pfn, page))?.is_some() {}
//! let ended = pages.finish();
//! # ended.error.map_or(Ok(()), Err) }
//! ```
//!
//! Facts of the format were taken from makedumpfile's documentation and checked against files it wrote.

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_macros))]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod bits;
mod codec;
mod interrupted;
pub mod layout;
#[cfg(feature = "host")]
mod libraries;
mod lzo;
mod reader;
mod repeats;
mod stream;
mod target;
mod writer;
mod zlib;
mod zstd;

pub use codec::{Codec, Content, Encoder, is_zero};
pub use interrupted::name_missing;
pub use layout::Utsname;
pub use reader::{ReadError, Reader};
pub use writer::{Bitmaps, Ended, Frame, PageOutcome, PagePlace, Pages, Room, Statistics, WriteError, begin};

/// Bytes in a block of the file, and in a page.
pub const BLOCK: usize = 4096;

/// The content of one page frame.
pub type Page = [u8; BLOCK];

/// The facts of the machine that a dump's header holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Names of the kernel and of the machine.
    pub utsname: Utsname,
    /// When the machine crashed, in seconds since 1970 (UTC); 0 if not known.
    pub crashed_at: u64,
    /// How many CPUs the machine had.
    pub cpus: u32,
    /// How many page frames the bitmaps cover: the highest page frame number that exists, plus one.
    pub frames: u64,
    /// Physical address at which the kernel image was loaded less the one it was linked for (`phys_base`).
    pub phys_base: u64,
    /// Which kinds of pages were left out, 0 to 31, in makedumpfile's numbering.
    pub dump_level: u8,
}

/// ELF notes as in `/proc/vmcore`: one NT_PRSTATUS per CPU, VMCOREINFO, and whatever else a dump is to carry.
#[derive(Clone, Debug, Default)]
pub struct NoteSegment<'a> {
    /// All notes.
    pub bytes: &'a [u8],
    /// Where among them the text of VMCOREINFO is, if it is there: the header points at it.
    pub vmcoreinfo: Option<core::ops::Range<usize>>,
    /// Where among them the list of erased data is, if there is one: the header points at it too.
    pub eraseinfo: Option<core::ops::Range<usize>>,
}

/// One of the two bitmaps; bit `pfn % 8` of byte `pfn / 8` speaks for the page frame `pfn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bitmap {
    /// The page frame is memory that the machine has.
    Existing,
    /// The page frame is in the dump.
    Kept,
}

/// The example in README.md, which is compiled too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
