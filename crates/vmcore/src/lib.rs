//! A dead kernel's memory: core header, notes, VMCOREINFO, log, and which pages are worth keeping.
//!
//! This crate reads everything through [`machine::OldMemory`], the same way in the capture kernel and in a host's
//! tool, and trusts nothing that it reads: it is an allegation of a kernel that has just failed.
//!
//! # From a header to a selection
//!
//! ```text
//! elfcorehdr ── CoreHeader ──┬── Ram       which page frames there are (the dump's first bitmap)
//!                            └── Notes ─── VmcoreInfo ─── Kernel ─── Selection   which of them to keep (the second)
//! ```
//!
//! [`CoreHeader`] lists RAM and notes; [`Notes`] merges the notes and finds [`VmcoreInfo`] among them; [`Kernel`]
//! derives from it how this kernel's virtual addresses translate and how its `struct page` is laid out; [`Selection`]
//! goes through the `struct page` of all RAM, one chunk of page frames at a time, and clears the bits of the pages
//! that a dump level excludes. [`Kernel::log`] prints the kernel's messages. [`Vital`] tells which of the kept pages a reader needs before all others. Neither
//! needs more memory for a larger machine.
//!
//! ```
//! # use vmcore::{CoreHeader, Counts, Kernel, Level, Notes, Selection};
//! # fn choose(
//! #     memory: &impl machine::OldMemory,
//! #     elfcorehdr: u64,
//! #     mut write: impl FnMut(&[u8]),
//! # ) -> Result<(), Box<dyn core::error::Error>> {
//! let header = CoreHeader::read(memory, elfcorehdr)?;
//! let notes = Notes::read(memory, &header)?;
//! let kernel = Kernel::new(notes.vmcoreinfo());
//! let level = Level::new(31).ok_or("levels go from 0 to 31")?;
//! let mut selection = Selection::new(memory, &kernel, header.ram(), level)?;
//! let mut bitmap = [0; 4096]; // 128 MiB of memory at a time
//! let mut counts = Counts::default();
//! for first_pfn in (0..header.ram().end_pfn()).step_by(8 * bitmap.len()) {
//!     counts += selection.fill(first_pfn, &mut bitmap);
//!     write(&bitmap);
//! }
//! println!("{} pages are kept, {} of them because nothing is known of them", counts.kept(), counts.unknown);
//! # Ok(())
//! # }
//! ```
//!
//! A core file of the same content is read in the same way: [`CoreHeader`] from its beginning, [`Notes`] by their offsets, and
//! memory through [`CoreFile`]. [`CoreLayout`] lays out a new core file that holds the pages of a selection.
//!
//! # How a page is classified
//!
//! The first rule that matches decides, in this order:
//!
//! 1. a tail of a compound page goes the way of its head;
//! 2. *free*: marked as the buddy allocator's, or as memory that a confidential guest has not accepted yet;
//! 3. *cache*, *private cache*: on the LRU lists or in the swap cache, and not anonymous;
//! 4. *user*: anonymous, or of hugetlbfs;
//! 5. *poisoned* by a memory error; 6. *offline*: given to a balloon or about to be unplugged. Neither may be read, so no
//!    level keeps them;
//! 7. all else is kept.
//!
//! These are makedumpfile's rules in makedumpfile's order, so that both keep the same pages at each level. This crate
//! does not look for pages full of zeros: their bits stay set, and the writer that reads the pages finds them.
//!
//! Everything is found through VMCOREINFO. Where it lacks a fact, or a `struct page` cannot be read, the pages are
//! kept, and [`Kernel::unknown`] and [`Counts::unknown`] say so.
//!
//! # Comparing with makedumpfile
//!
//! `examples/select.rs` reads an ELF core of a machine's memory, which `cargo xtask core` makes, and writes the
//! bitmap of kept pages. It must equal the second bitmap of the dump that makedumpfile makes of the same core, with
//! three exceptions. makedumpfile up to 1.7.5 loses the last page of a range of RAM if only part of that page belongs
//! to the range. makedumpfile before 1.7.7 finds no free page of Linux 6.12, since it reads the type of a page, which
//! is a number there, as flags. And where the memory is damaged, this crate keeps a free block that is not aligned to
//! its order.

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_macros))]

extern crate alloc;

mod array;
mod bitmap;
mod core_file;
mod core_layout;
mod header;
mod info;
mod kernel;
mod level;
mod log;
mod medium;
mod note;
mod notes;
mod page;
mod paging;
mod ram;
mod sections;
mod select;
mod vital;
mod walk;
mod with_note;

pub use core_file::CoreFile;
pub use core_layout::{CoreLayout, TooManyPieces};
pub use header::{CoreHeader, HeaderError, Segment};
pub use info::VmcoreInfo;
pub use kernel::{Kernel, Utsname};
pub use level::Level;
pub use log::{Log, LogError};
pub use medium::Medium;
pub use note::{Note, notes_in};
pub use notes::Notes;
pub use paging::{AddressSpace, Mapping, Unmapped};
pub use ram::Ram;
pub use select::{Counts, Selection};
pub use vital::Vital;
pub use with_note::with_note;

pub use machine::OutOfMemory;

/// A fact that VMCOREINFO does not give. Pages that cannot be classified without it are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("VMCOREINFO has no {0}")]
pub struct Unknown(
    /// The line that is missing or has a value that makes no sense.
    pub &'static str,
);

/// The example in README.md, which is compiled too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
