//! What each processor does: it reads pages, compresses them, and writes them while its own cache has them.
//!
//! Nobody copies what was compressed, and no other processor needs to see it.

use std::io::IoSlice;

use kdump::{BLOCK, Codec, Content, Encoder, Frame, Page, Room, WriteError};
use machine::OldMemory;
use zerocopy::IntoBytes;

use super::aligned::{self, AlignedPage};
use super::batch::{self, Batch};
use super::output::Output;

/// Where pages come from, how they are stored, and where they go.
pub(super) struct Route<'a, M> {
    pub(super) memory: &'a M,
    pub(super) codec: Codec,
    pub(super) output: &'a Output<'a>,
}

/// Brings batches of pages from memory into the dump.
pub(super) struct Worker<'a, M> {
    route: &'a Route<'a, M>,
    /// Of the output.
    room: &'a Room,
    encoder: Encoder,
    pages: Box<[AlignedPage]>,
    /// Room for what each page becomes.
    smaller: Box<[AlignedPage]>,
}

impl<'a, M: OldMemory> Worker<'a, M> {
    pub(super) fn new(route: &'a Route<'a, M>, room: &'a Room) -> Self {
        let [pages, smaller] = [(); 2].map(|()| aligned::pages(batch::PAGES));
        Self { route, room, encoder: Encoder::new(route.codec), pages, smaller }
    }

    /// Writes the pages of a batch, and notes where they are.
    pub(super) fn work(&mut self, batch: &mut Batch) -> Result<(), WriteError> {
        let Self { route: Route { output, .. }, room, .. } = *self;
        let contents = self.encode(&batch.frames);
        let mut data: Vec<_> = contents.iter().map(|content| IoSlice::new(bytes(content))).collect();
        let len = data.iter().map(|bytes| bytes.len() as u64).sum();
        let mut offset = room.take(len)?;
        output.write_pieces(offset, &mut data)?;
        for content in contents {
            batch.places.push(content.at(offset));
            offset += bytes(&content).len() as u64;
        }
        Ok(())
    }

    /// Reads pages and makes of each what is stored.
    fn encode(&mut self, frames: &[Frame]) -> Vec<Content<'_>> {
        let Self { route, encoder, pages, smaller, .. } = self;
        let read = read(route.memory, frames, pages).into_iter().zip(smaller);
        read.map(|(page, AlignedPage(room))| match page {
            Some(page) => encoder.encode(page, room),
            None => Content::Missing,
        })
        .collect()
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
        let whole = memory.read(run[0].pfn() * BLOCK as u64, now.as_mut_bytes()).is_ok();
        pages.extend(run.iter().zip(now).map(|(frame, AlignedPage(page))| {
            let is_there = whole || memory.read_page(frame.pfn(), page).is_ok();
            is_there.then_some(&*page)
        }));
        room = later;
    }
    pages
}

fn bytes<'a>(content: &Content<'a>) -> &'a [u8] {
    match content {
        Content::Data { data, .. } => data,
        Content::Missing | Content::Zero => &[],
    }
}
