//! Makes a dump in the form of an ELF core: like `/proc/vmcore`, with only the pages that were chosen.
//!
//! Pages full of zeros become holes in the file. The header is written last, into room that is taken first, also if the file
//! could not be finished: readers then see a core that was cut short. A file without a header is not a core.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use engine::Source;
use kdump::{BLOCK, Page, Statistics};
use machine::{OldMemory, PhysicalAddress, Range};
use vmcore::{CoreLayout, Ram, Segment};
use zerocopy::IntoBytes;

use super::aligned::{self, AlignedPage};
use super::growing::Growing;
use super::{MakingError, Written};
use crate::progress::Progress;

/// Pages that are read at once where they follow each other.
const BATCH: usize = 64;

type Result<T> = std::result::Result<T, MakingError>;

/// Writes a core of the pages that `source` chooses, of memory that lies in `segments`. The steps of `progress` are pages.
pub(super) fn write<M: OldMemory>(
    source: &Source<'_, M>,
    segments: &[Segment],
    file: &File,
    progress: &dyn Progress,
) -> Result<Written> {
    let start = Instant::now();
    let (kept, counts) = source.kept()?;
    let choosing = start.elapsed();
    let notes = source.notes.bytes();
    let layout = CoreLayout::new(segments, &kept, notes.len())?;
    let statistics = Statistics { pages: kept.pages(), ..Statistics::default() };
    let mut pages = Pages {
        memory: source.memory,
        file,
        data: Growing::new(file, 0),
        layout,
        statistics,
        missing: Vec::new(),
    };
    file.write_all_at(&vec![0; pages.layout.notes_at() as usize], 0)?;
    file.write_all_at(notes, pages.layout.notes_at())?;
    progress.begin(statistics.pages);
    let copied = pages.copy(&kept, progress);
    progress.end();
    if let Err(error) = copied {
        // The first error says more than another would.
        let _ = pages.write_headers();
        return Err(error);
    }
    Ok(Written { counts, choosing, statistics: pages.finish()? })
}

/// The pages on their way into the core.
struct Pages<'a, M> {
    memory: &'a M,
    file: &'a File,
    data: Growing<'a>,
    layout: CoreLayout<'a>,
    statistics: Statistics,
    /// Pages that could not be read.
    missing: Vec<Range<PhysicalAddress>>,
}

impl<M: OldMemory> Pages<'_, M> {
    fn copy(&mut self, kept: &Ram, progress: &dyn Progress) -> Result<()> {
        let mut room = aligned::pages(BATCH);
        for run in kept.ranges() {
            let (start, end) = (run.start.get(), run.end.get());
            for address in (start..end).step_by(BATCH * BLOCK) {
                let pages = ((end - address) / BLOCK as u64).min(BATCH as u64) as usize;
                self.copy_batch(address, &mut room[..pages])?;
                progress.advance_to(self.statistics.done);
            }
        }
        Ok(())
    }

    /// Copies pages that follow each other.
    fn copy_batch(&mut self, address: u64, pages: &mut [AlignedPage]) -> Result<()> {
        if self.memory.read(address.into(), pages.as_mut_bytes()).is_ok() {
            return self.store(address, pages);
        }
        for (address, page) in (address..).step_by(BLOCK).zip(pages) {
            match self.memory.read_page(address / BLOCK as u64, &mut page.0) {
                Ok(()) => self.store(address, std::slice::from_ref(page))?,
                Err(_) => self.miss(address),
            }
        }
        Ok(())
    }

    fn miss(&mut self, address: u64) {
        self.missing.push(Range::from(address..address + BLOCK as u64));
        self.statistics.missing += 1;
        self.statistics.done += 1;
    }

    /// Writes consecutive pages, except those full of zeros.
    fn store(&mut self, address: u64, pages: &[AlignedPage]) -> Result<()> {
        let mut at = self.layout.page_at(address / BLOCK as u64).unwrap_or_default();
        let is_zero = |page: &AlignedPage| kdump::is_zero(&page.0);
        for alike in pages.chunk_by(|this, next| is_zero(this) == is_zero(next)) {
            let len = alike.len() as u64;
            self.statistics.done += len;
            if alike.first().is_some_and(is_zero) {
                self.statistics.zero += len;
            } else {
                self.data.write_at(at, alike.as_bytes())?;
                self.statistics.raw += len;
                self.statistics.data_bytes += alike.as_bytes().len() as u64;
            }
            at += len * size_of::<Page>() as u64;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Statistics> {
        self.statistics.file_bytes = self.layout.size();
        self.file.set_len(self.statistics.file_bytes)?;
        self.write_headers()?;
        Ok(self.statistics)
    }

    /// Writes the header, which leaves out the pages that could not be read.
    fn write_headers(&mut self) -> Result<()> {
        let missing = Ram::from_ranges(self.missing.drain(..))?;
        Ok(self.file.write_all_at(&self.layout.headers(&missing)?, 0)?)
    }
}
