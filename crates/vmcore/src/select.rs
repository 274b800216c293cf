//! Which pages a dump keeps, a chunk of page frames at a time.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::AddAssign;

use machine::{OldMemory, Range};

use crate::bitmap;
use crate::page::{MAX_ORDER, PageLayout, Reason};
use crate::sections::Sections;
use crate::{AddressSpace, Kernel, Mapping, OutOfMemory, Ram};

/// Page frames whose `struct page` are read at a time: those in one page. Reading more would copy most of what describes
/// free memory in vain, since the first page of a free block speaks for up to 1024.
const GULP: u64 = 64;

/// What a dump leaves out, as a sum of makedumpfile's numbers: 1 pages full of zeroes, 2 cache, 4 private cache, 8 user
/// pages, 16 free pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(u8);

impl Level {
    /// Everything is kept that may be read.
    pub const NOTHING: Self = Self(0);
    /// All that can be left out is.
    pub const ALL: Self = Self(31);

    /// A level from 0 to 31.
    pub fn new(number: u8) -> Option<Self> {
        Some(Self(number)).filter(|level| *level <= Self::ALL)
    }

    /// The sum.
    pub fn number(self) -> u8 {
        self.0
    }

    /// Whether pages full of zeroes are left out: for whoever reads the pages to do.
    pub fn leaves_out_zero(self) -> bool {
        self.0 & 1 != 0
    }

    pub(crate) fn looks_at_types(self) -> bool {
        self.0 & !1 != 0
    }

    /// The private cache only goes with its own number; the rest goes with that as well.
    pub(crate) fn leaves_out_cache(self, kind: Reason) -> bool {
        self.0 & 4 != 0 || (kind == Reason::Cache && self.0 & 2 != 0)
    }

    pub(crate) fn leaves_out_user(self) -> bool {
        self.0 & 8 != 0
    }

    pub(crate) fn leaves_out_free(self) -> bool {
        self.0 & 16 != 0
    }
}

/// How many pages there were and why some are left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Pages of RAM.
    pub ram: u64,
    /// Left out: free.
    pub free: u64,
    /// Left out: page cache.
    pub cache: u64,
    /// Left out: page cache with private data of a file system.
    pub private_cache: u64,
    /// Left out: user pages.
    pub user: u64,
    /// Left out: hit by memory errors.
    pub poisoned: u64,
    /// Left out: offline.
    pub offline: u64,
    /// Kept because nothing could be learnt of them.
    pub unknown: u64,
}

impl Counts {
    /// Pages whose bits are set.
    pub fn kept(&self) -> u64 {
        let out = self.free + self.cache + self.private_cache + self.user + self.poisoned + self.offline;
        self.ram - out
    }

    fn of(&mut self, reason: Reason) -> &mut u64 {
        match reason {
            Reason::Free => &mut self.free,
            Reason::Cache => &mut self.cache,
            Reason::PrivateCache => &mut self.private_cache,
            Reason::User => &mut self.user,
            Reason::Poisoned => &mut self.poisoned,
            Reason::Offline => &mut self.offline,
        }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.ram += other.ram;
        self.free += other.free;
        self.cache += other.cache;
        self.private_cache += other.private_cache;
        self.user += other.user;
        self.poisoned += other.poisoned;
        self.offline += other.offline;
        self.unknown += other.unknown;
    }
}

/// Goes through the `struct page` of all RAM and leaves out what the level says.
///
/// Chunks that follow each other cost nothing extra. A chunk that starts elsewhere is right too, since then the search
/// starts at the multiple of 1 GiB before it, which no compound page and no free block crosses: several threads can each
/// have a selection of their own.
#[derive(Debug)]
pub struct Selection<'a, M> {
    ram: &'a Ram,
    level: Level,
    pages: Option<PageArray<'a, M>>,
    /// The run of pages that was left out last; it may reach into the next chunk.
    run: Run,
    /// Where the last chunk ended.
    next: u64,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    end: u64,
    reason: Reason,
}

impl<'a, M: OldMemory> Selection<'a, M> {
    /// Prepares to go through the memory of `kernel`; takes one page or so however large that is.
    pub fn new(memory: &'a M, kernel: &'a Kernel, ram: &'a Ram, level: Level) -> Result<Self, OutOfMemory> {
        let run = Run { end: 0, reason: Reason::Free };
        Ok(Self { ram, level, pages: PageArray::new(memory, kernel)?, run, next: 0 })
    }

    /// Sets bit `n` of `bitmap` (the least significant bit of a byte comes first) where page frame `first_pfn + n` is kept,
    /// and clears all others. This is the second bitmap of a dump.
    pub fn fill(&mut self, first_pfn: u64, bitmap: &mut [u8]) -> Counts {
        let ram = self.ram;
        let mut chunk = Chunk::new(ram, first_pfn, bitmap);
        let frames = Range::new(self.resume(first_pfn), chunk.frames.end);
        chunk.leave_out(Range::new(first_pfn, self.run.end), self.run.reason);
        for frames in ram.within(frames) {
            self.examine(frames, &mut chunk);
        }
        self.next = chunk.frames.end;
        chunk.counts
    }

    /// Where to start so that the run that `pfn` may be in is known.
    fn resume(&mut self, pfn: u64) -> u64 {
        if pfn == self.next {
            return pfn;
        }
        self.run.end = 0;
        pfn >> MAX_ORDER << MAX_ORDER
    }

    /// Judges page frames, all of them RAM.
    fn examine(&mut self, mut frames: Range, chunk: &mut Chunk<'_>) {
        match &self.pages {
            None if self.level.looks_at_types() => chunk.keep_unknown(frames),
            Some(pages) if pages.layout.concerns(self.level) => {
                while !frames.is_empty() {
                    let gulp = take(&mut frames, GULP);
                    self.examine_gulp(gulp, chunk);
                }
            }
            _ => {}
        }
    }

    /// Judges page frames of one gulp.
    fn examine_gulp(&mut self, mut gulp: Range, chunk: &mut Chunk<'_>) {
        gulp.start = gulp.start.max(self.run.end);
        if !gulp.is_empty() && self.judge(gulp, chunk).is_none() {
            chunk.keep_unknown(gulp);
        }
    }

    /// Judges page frames outside the current run; `None` if their `struct page` cannot be read.
    fn judge(&mut self, frames: Range, chunk: &mut Chunk<'_>) -> Option<()> {
        let (layout, pages) = self.pages.as_mut()?.read(frames)?;
        let mut pfn = frames.start;
        while pfn < frames.end {
            let at = (pfn - frames.start) as usize * layout.size;
            let (page, next) = pages.get(at..)?.split_at_checked(layout.size)?;
            let Some(exclusion) = layout.judge(self.level, pfn, page, next) else {
                pfn += 1;
                continue;
            };
            let end = pfn + (1 << exclusion.order);
            chunk.leave_out(Range::new(pfn, end), exclusion.reason);
            self.run = Run { end, reason: exclusion.reason };
            pfn = end;
        }
        Some(())
    }
}

/// Takes page frames off the front, up to the next multiple of `step`.
fn take(frames: &mut Range, step: u64) -> Range {
    let middle = (frames.start / step + 1) * step;
    let front = Range::new(frames.start, middle.min(frames.end));
    frames.start = front.end;
    front
}

/// A part of a bitmap, the page frames it stands for, and what was found out of them.
struct Chunk<'b> {
    frames: Range,
    bitmap: &'b mut [u8],
    counts: Counts,
}

impl<'b> Chunk<'b> {
    /// All RAM is kept to start with.
    fn new(ram: &Ram, first_pfn: u64, bitmap: &'b mut [u8]) -> Self {
        let counts = Counts { ram: ram.fill(first_pfn, bitmap), ..Counts::default() };
        Self { frames: bitmap::window(first_pfn, bitmap), bitmap, counts }
    }

    fn leave_out(&mut self, frames: Range, reason: Reason) {
        let inside = frames.intersection(self.frames);
        if !inside.is_empty() {
            let first = self.frames.start;
            *self.counts.of(reason) += bitmap::clear(self.bitmap, inside.start - first, inside.end - first);
        }
    }

    /// Page frames, all of them RAM, stay as they are because nothing is known of them.
    fn keep_unknown(&mut self, frames: Range) {
        self.counts.unknown += frames.intersection(self.frames).len();
    }
}

/// The dead kernel's `struct page`, by page frame number.
#[derive(Debug)]
struct PageArray<'a, M> {
    memory: &'a M,
    space: &'a AddressSpace,
    sections: &'a Sections,
    layout: &'a PageLayout,
    /// The section looked up last, and where its array is.
    section: Option<(u64, Option<u64>)>,
    /// The translation made last, and of what: a large page holds the array of a whole section.
    mapping: (u64, Mapping),
    buffer: Vec<u8>,
}

impl<'a, M: OldMemory> PageArray<'a, M> {
    /// `None` if the kernel's description does not suffice.
    fn new(memory: &'a M, kernel: &'a Kernel) -> Result<Option<Self>, OutOfMemory> {
        let (Ok(space), Ok(sections), Ok(layout)) = (kernel.address_space(), &kernel.sections, &kernel.page)
        else {
            return Ok(None);
        };
        let mut buffer = vec![];
        let size = GULP as usize * layout.size;
        buffer.try_reserve_exact(size)?;
        buffer.resize(size, 0);
        Ok(Some(Self { memory, space, sections, layout, section: None, mapping: NOWHERE, buffer }))
    }

    /// Copies the `struct page` of page frames that lie in one gulp.
    fn read(&mut self, frames: Range) -> Option<(&'a PageLayout, &[u8])> {
        let array = self.array(self.sections.of(frames.start))?;
        let size = self.layout.size as u64;
        let address = array.checked_add(frames.start.checked_mul(size)?)?;
        let len = frames.len() * size;
        let physical = self.physical(address, len);
        let into = self.buffer.get_mut(..len as usize)?;
        match physical {
            Some(physical) => self.memory.read(physical, into).ok()?,
            None => self.space.read(self.memory, address, into).ok()?,
        }
        Some((self.layout, into))
    }

    /// Where `len` bytes of virtual memory are, if they are in one piece.
    fn physical(&mut self, address: u64, len: u64) -> Option<u64> {
        if inside(self.mapping, address, len).is_none() {
            self.mapping = (address, self.space.translate(self.memory, address).ok()?);
        }
        inside(self.mapping, address, len)
    }

    fn array(&mut self, section: u64) -> Option<u64> {
        match self.section {
            Some((known, array)) if known == section => array,
            _ => {
                let array = self.sections.array(self.space, self.memory, section);
                self.section = Some((section, array));
                array
            }
        }
    }
}

/// A translation of nothing.
const NOWHERE: (u64, Mapping) = (0, Mapping { physical: 0, len: 0 });

/// Where `len` bytes from `address` are, if all lie in what was translated from `start` on.
fn inside((start, mapping): (u64, Mapping), address: u64, len: u64) -> Option<u64> {
    let offset = address.checked_sub(start)?;
    (offset.checked_add(len)? <= mapping.len).then(|| mapping.physical + offset)
}
