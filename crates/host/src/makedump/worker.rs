//! The work of each thread: it reads pages, compresses them, and fills pieces of the file with them.

use kdump::{BLOCK, Codec, Content, Encoder, Frame, Page, Room, WriteError};
use machine::{OldMemory, OutOfMemory, Pfn};
use zerocopy::IntoBytes;

use super::aligned::{self, AlignedPage};
use super::batch::Batch;
use super::chunk::Chunk;
use super::job::Job;
use super::output::Output;

/// Most consecutive pages that are read at once. Together with a piece of the file they fit into a processor's own cache.
const AT_ONCE: usize = 32;

/// Where pages come from, how they are stored, and where they go.
pub(super) struct Route<'a, M> {
    pub(super) memory: &'a M,
    pub(super) codec: Codec,
    pub(super) output: &'a Output<'a>,
}

/// Brings batches of pages from memory into the dump.
pub(super) struct Worker<'a, M> {
    memory: &'a M,
    encoder: Encoder,
    pages: Box<[AlignedPage]>,
    /// Room for a compressed page.
    smaller: Box<Page>,
    chunk: Chunk<'a>,
}

impl<'a, M: OldMemory> Worker<'a, M> {
    /// A worker with a piece of its own. `room` is the room of the route's output.
    pub(super) fn new(route: &'a Route<'a, M>, room: &'a Room) -> Result<Self, OutOfMemory> {
        Ok(Self {
            memory: route.memory,
            encoder: Encoder::new(route.codec)?,
            pages: aligned::pages(AT_ONCE),
            smaller: Box::new([0; BLOCK]),
            chunk: Chunk::new(route.output, room),
        })
    }

    /// Does a job. The job ends when its pages are written, which is usually later.
    pub(super) fn work(&mut self, mut job: Job) {
        match self.put(&mut job.batch) {
            Ok(()) => self.chunk.end(job),
            Err(error) => job.end(Err(error)),
        }
    }

    /// Writes the data that was put so far, because there is nothing else to do.
    pub(super) fn rest(&mut self) {
        // Each job whose data could not be written gets the error.
        let _ = self.chunk.write();
    }

    /// Puts the pages of a batch into the file, and notes where they will be.
    fn put(&mut self, batch: &mut Batch) -> Result<(), WriteError> {
        let Self { memory, encoder, pages, smaller, chunk } = self;
        for frames in batch.frames.chunks(AT_ONCE) {
            for page in read(*memory, frames, pages) {
                let content = page.map_or(Content::Missing, |page| encoder.encode(page, smaller));
                batch.places.push(chunk.put(content)?);
            }
        }
        Ok(())
    }
}

/// Reads pages into `room`, at once where they follow each other; each is `None` if it cannot be read.
fn read<'a>(
    memory: &impl OldMemory,
    frames: &[Frame],
    mut room: &'a mut [AlignedPage],
) -> Vec<Option<&'a Page>> {
    let mut pages = Vec::with_capacity(frames.len());
    for run in frames.chunk_by(|this, next| this.pfn() + 1 == next.pfn()) {
        let (now, later) = std::mem::take(&mut room).split_at_mut(run.len());
        let whole = memory.read(Pfn::new(run[0].pfn()).address(), now.as_mut_bytes()).is_ok();
        pages.extend(run.iter().zip(now).map(|(frame, AlignedPage(page))| {
            let is_there = whole || memory.read_page(frame.pfn(), page).is_ok();
            is_there.then_some(&*page)
        }));
        room = later;
    }
    pages
}
