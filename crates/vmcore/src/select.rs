//! Selects the pages that a dump keeps, one chunk of page frames at a time.

use core::ops::AddAssign;

use machine::{OldMemory, Pfn, Position, Range};

use crate::array::{GULP, PageArray};
use crate::bitmap;
use crate::page::{Exclusion, MAX_ORDER, Reason};
use crate::{Kernel, Level, OutOfMemory, Ram};

/// Counts of pages, and of excluded pages by reason.
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

/// Goes through the `struct page` of all RAM, and excludes pages as the level says.
///
/// Consecutive chunks cost nothing extra. A chunk that starts elsewhere is right too: the search then starts at the
/// multiple of 1 GiB before it, which no compound page and no free block crosses. Several threads can therefore each have a
/// selection of their own.
#[derive(Debug)]
pub struct Selection<'a, M> {
    ram: &'a Ram,
    level: Level,
    pages: Option<PageArray<'a, M>>,
    /// The last excluded run of pages; it may reach into the next chunk.
    run: Run,
    /// Where the last chunk ended.
    next: Pfn,
}

/// Page frames that are left out for one reason.
#[derive(Clone, Copy, Debug)]
struct Run {
    frames: Range<Pfn>,
    reason: Reason,
}

impl Run {
    /// An empty run at `start`.
    fn nothing(start: Pfn, reason: Reason) -> Self {
        Self { frames: Range::new(start, start), reason }
    }
}

impl<'a, M: OldMemory> Selection<'a, M> {
    /// Prepares to go through the memory of `kernel`; needs about 36 KiB, however large that memory is.
    pub fn new(memory: &'a M, kernel: &'a Kernel, ram: &'a Ram, level: Level) -> Result<Self, OutOfMemory> {
        let run = Run::nothing(Pfn::default(), Reason::Free);
        Ok(Self { ram, level, pages: PageArray::new(memory, kernel)?, run, next: Pfn::default() })
    }

    /// Sets bit `n` of `bitmap` (the least significant bit of a byte comes first) where page frame `first_pfn + n` is kept,
    /// and clears all others. This is the second bitmap of a dump.
    pub fn fill(&mut self, first_pfn: u64, bitmap: &mut [u8]) -> Counts {
        let ram = self.ram;
        let mut chunk = Chunk::new(ram, first_pfn, bitmap);
        let frames = Range::new(self.resume(chunk.frames.start), chunk.frames.end);
        chunk.leave_out(self.run);
        for frames in ram.within(frames) {
            self.examine(frames, &mut chunk);
        }
        self.next = chunk.frames.end;
        chunk.counts
    }

    /// The page frame to start from, so that the run that may contain `pfn` is known.
    fn resume(&mut self, pfn: Pfn) -> Pfn {
        if pfn == self.next {
            return pfn;
        }
        self.run.frames.end = Pfn::default();
        pfn.align_down(1 << MAX_ORDER)
    }

    /// Classifies page frames, all of them RAM.
    fn examine(&mut self, mut frames: Range<Pfn>, chunk: &mut Chunk<'_>) {
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

    /// Classifies page frames of one gulp.
    fn examine_gulp(&mut self, mut gulp: Range<Pfn>, chunk: &mut Chunk<'_>) {
        loop {
            gulp.start = gulp.start.max(self.run.frames.end);
            if gulp.is_empty() {
                return;
            }
            match self.judge(gulp, chunk) {
                Some(judged) => gulp.start = judged,
                None => return chunk.keep_unknown(gulp),
            }
        }
    }

    /// Classifies the first page frame outside the current run; returns the next one, or `None` if their `struct page`
    /// cannot be read.
    fn judge(&mut self, gulp: Range<Pfn>, chunk: &mut Chunk<'_>) -> Option<Pfn> {
        let (layout, frames, pages) = self.pages.as_mut()?.read(gulp)?;
        let mut pfn = frames.start;
        let mut run = Run::nothing(pfn, self.run.reason);
        while pfn < frames.end {
            let at = pfn.count_since(frames.start) as usize * layout.size;
            let (page, next) = pages.get(at..)?.split_at_checked(layout.size)?;
            let Some(Exclusion { reason, order }) = layout.judge(self.level, pfn, page, next) else {
                pfn = pfn.saturating_add(1);
                continue;
            };
            // Pages of one kind are often neighbours, and are excluded together.
            if run.frames.end != pfn || run.reason != reason {
                chunk.leave_out(run);
                run = Run::nothing(pfn, reason);
            }
            pfn = pfn.saturating_add(1 << order);
            run.frames.end = pfn;
        }
        chunk.leave_out(run);
        self.run = run;
        Some(frames.end)
    }
}

/// Takes page frames off the front, up to the next multiple of `step`, a power of two.
fn take(frames: &mut Range<Pfn>, step: u64) -> Range<Pfn> {
    let middle = frames.start.align_down(step).saturating_add(step);
    let front = Range::new(frames.start, middle.min(frames.end));
    frames.start = front.end;
    front
}

/// A part of a bitmap, the page frames it stands for, and what was found out of them.
struct Chunk<'b> {
    frames: Range<Pfn>,
    bitmap: &'b mut [u8],
    counts: Counts,
}

impl<'b> Chunk<'b> {
    /// All RAM is kept to start with.
    fn new(ram: &Ram, first_pfn: u64, bitmap: &'b mut [u8]) -> Self {
        let counts = Counts { ram: ram.fill(first_pfn, bitmap), ..Counts::default() };
        Self { frames: bitmap::window(Pfn::new(first_pfn), bitmap), bitmap, counts }
    }

    fn leave_out(&mut self, Run { frames, reason }: Run) {
        let inside = frames.intersection(self.frames);
        if !inside.is_empty() {
            *self.counts.of(reason) += bitmap::clear(self.bitmap, self.frames.start, inside);
        }
    }

    /// Keeps page frames, all of them RAM, of which nothing is known.
    fn keep_unknown(&mut self, frames: Range<Pfn>) {
        self.counts.unknown += frames.intersection(self.frames).len();
    }
}
