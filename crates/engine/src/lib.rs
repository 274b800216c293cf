//! The dump engine: writes a dead kernel's memory into a dump, the same way in the capture kernel and on a host.
//!
//! `vmcore` knows which pages belong in a dump and knows nothing of files; `kdump` knows the file and knows nothing
//! of kernels. This crate joins them: [`Source`] has all that is known of a dead kernel, and [`Source::begin`] writes
//! everything that precedes the pages. The caller writes the pages, one after the other or on several processors, in
//! the order that [`in_passes`] gives: the pages without which no reader opens the dump come first.
//! Where there may be no room for all pages, [`in_telling_order`] goes on with those that higher levels keep.
//!
//! # Example
//!
//! ```
//! use engine::Source;
//! use kdump::{Codec, Ended, WriteError};
//! use machine::{BlockDevice, OldMemory};
//! use vmcore::{Kernel, Level, Notes, Ram};
//!
//! /// Writes a dump, first the pages without which no reader opens it.
//! fn dump(
//!     memory: &impl OldMemory,
//!     notes: &Notes,
//!     ram: &Ram,
//!     device: &mut impl BlockDevice,
//! ) -> Result<Ended, WriteError> {
//!     let kernel = Kernel::new(notes.vmcoreinfo());
//!     let source = Source { memory, kernel: &kernel, notes, ram, level: Level::ALL };
//!     let mut pages = source.begin(device, Codec::Zlib)?.pages;
//!     engine::in_passes(&mut pages, source.vital(), |pages, wanted| {
//!         while pages.write_next(&mut *wanted, |pfn, page| memory.read_page(pfn, page))?.is_some() {}
//!         Ok(())
//!     })?;
//!     Ok(pages.finish())
//! }
//! ```

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_macros))]

extern crate alloc;

mod order;

use alloc::vec::Vec;

use kdump::{Codec, Header, NoteSegment, Pages, Utsname, WriteError};
use machine::growth::{filled, push};
use machine::{BlockDevice, OldMemory, Pfn, PhysicalAddress, Range};
use vmcore::{Counts, Kernel, Level, Notes, Ram, Selection, Vital};
use zerocopy::FromBytes;

pub use order::{CutShort, Durable, Wanted, in_passes, in_telling_order};

/// Bytes of a bitmap that are made at a time: 128 MiB of memory.
const CHUNK: usize = 4096;

/// A dead kernel, and which of its pages to dump.
#[derive(Debug)]
pub struct Source<'a, M> {
    /// Its memory.
    pub memory: &'a M,
    /// The facts that VMCOREINFO gives of it.
    pub kernel: &'a Kernel,
    /// The notes that it left, and those that others added.
    pub notes: &'a Notes,
    /// Its RAM.
    pub ram: &'a Ram,
    /// Which pages to leave out.
    pub level: Level,
}

/// A dump that is complete except for its pages.
pub struct Begun<'d, D: ?Sized> {
    /// Takes the pages.
    pub pages: Pages<'d, D>,
    /// How many pages were left out, and why.
    pub counts: Counts,
}

impl<M: OldMemory> Source<'_, M> {
    /// Makes the dump's header.
    pub fn header(&self) -> Header {
        let info = self.notes.vmcoreinfo();
        Header {
            utsname: self.utsname(),
            crashed_at: info.crash_time().and_then(|time| time.try_into().ok()).unwrap_or(0),
            cpus: u32::try_from(self.notes.processors()).unwrap_or(u32::MAX),
            frames: self.ram.end_pfn(),
            phys_base: self.kernel.phys_base(),
            dump_level: self.level.number(),
        }
    }

    /// Writes headers, notes and both bitmaps.
    pub fn begin<'d, D: BlockDevice + ?Sized>(
        &self,
        device: &'d mut D,
        codec: Codec,
    ) -> Result<Begun<'d, D>, WriteError> {
        let header = self.header();
        let notes = NoteSegment {
            bytes: self.notes.bytes(),
            vmcoreinfo: self.notes.vmcoreinfo_place(),
            eraseinfo: self.notes.eraseinfo_place(),
        };
        let mut bitmaps = kdump::begin(device, &header, &notes, codec)?;
        let mut counts = Counts::default();
        let mut frames = 0;
        self.choose(|first_pfn, existing, kept, chosen| {
            counts += chosen;
            bitmaps.push_none(first_pfn - frames)?;
            frames = first_pfn + existing.len() as u64 * 8;
            bitmaps.push(existing, kept)
        })?;
        Ok(Begun { pages: bitmaps.finish()?, counts })
    }

    /// Finds the vital pages, without which no reader opens the dump. Another processor may do this while pages are chosen.
    /// `None` if there is no memory for it.
    pub fn vital(&self) -> Option<Vital<'_, M>> {
        Vital::new(self.memory, self.kernel, self.ram).ok()
    }

    /// Lists the page frames that belong in the dump, for callers with memory for such a list.
    pub fn kept(&self) -> Result<(Ram, Counts), WriteError> {
        let (mut runs, mut counts) = (Vec::new(), Counts::default());
        self.choose(|first_pfn, _, kept, chosen| {
            counts += chosen;
            add_runs(&mut runs, first_pfn, kept)
        })?;
        let kept = Ram::from_ranges(runs.into_iter()).map_err(|_| WriteError::OutOfMemory)?;
        Ok((kept, counts))
    }

    /// Passes on both bitmaps, piece by piece, each with its first page frame and the counts of omitted pages by reason.
    /// Pieces without RAM are left out.
    fn choose(
        &self,
        mut take: impl FnMut(u64, &[u8], &[u8], Counts) -> Result<(), WriteError>,
    ) -> Result<(), WriteError> {
        const FRAMES: u64 = CHUNK as u64 * 8;
        let frames = self.ram.end_pfn();
        let selection = Selection::new(self.memory, self.kernel, self.ram, self.level);
        let mut selection = selection.map_err(|_| WriteError::OutOfMemory)?;
        let (mut existing, mut kept) = (zeros()?, zeros()?);
        let mut next = self.ram.next(0);
        while let Some(pfn) = next {
            let first_pfn = pfn / FRAMES * FRAMES;
            let bytes = (frames - first_pfn).div_ceil(8).min(CHUNK as u64) as usize;
            self.ram.fill(first_pfn, &mut existing[..bytes]);
            let counts = selection.fill(first_pfn, &mut kept[..bytes]);
            self.memory.keep_saved(first_pfn, &mut kept[..bytes]);
            take(first_pfn, &existing[..bytes], &kept[..bytes], counts)?;
            next = self.ram.next(first_pfn + FRAMES);
        }
        Ok(())
    }

    /// Reads the kernel's names; if they cannot be read, the result has at least its release.
    fn utsname(&self) -> Utsname {
        let names = self.kernel.utsname(self.memory);
        let names = names.and_then(|names| Utsname::read_from_bytes(names.as_bytes()).ok());
        let name = kdump::layout::Name::new;
        names.unwrap_or_else(|| Utsname {
            sysname: name("Linux"),
            release: name(self.notes.vmcoreinfo().os_release().unwrap_or_default()),
            machine: name("x86_64"),
            ..Utsname::default()
        })
    }
}

/// Adds the memory of a bitmap's pages to a list.
fn add_runs(runs: &mut Vec<Range<PhysicalAddress>>, first_pfn: u64, bitmap: &[u8]) -> Result<(), WriteError> {
    let bits = bitmap.iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1));
    for (pfn, _) in (first_pfn..).zip(bits).filter(|(_, is_kept)| *is_kept) {
        let page = Range::<Pfn>::from(pfn..pfn + 1).memory();
        match runs.last_mut() {
            Some(last) if last.end == page.start => last.end = page.end,
            _ => push(runs, page).map_err(|_| WriteError::OutOfMemory)?,
        }
    }
    Ok(())
}

/// A piece of an empty bitmap.
fn zeros() -> Result<Vec<u8>, WriteError> {
    filled(0, CHUNK).map_err(|_| WriteError::OutOfMemory)
}

/// The example in README.md, which is compiled too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
