//! Pages that go through the pipeline together.

use engine::Wanted;
use kdump::{Frame, PagePlace, Pages, WriteError};
use machine::BlockDevice;

/// Pages in a batch. A batch has many pages, because handing it over costs time. It does not have more, because at the end
/// of a pass all threads wait for the last batch.
pub(super) const PAGES: usize = 64;

/// Some kept pages: their numbers, and their places in the dump once they are stored. The pipeline reuses batches.
pub(super) struct Batch {
    pub(super) frames: Vec<Frame>,
    pub(super) places: Vec<PagePlace>,
}

impl Batch {
    /// An empty batch.
    pub(super) fn new() -> Self {
        Self { frames: Vec::with_capacity(PAGES), places: Vec::with_capacity(PAGES) }
    }

    /// Takes the next pages that are wanted; returns whether there were any.
    pub(super) fn take<D: BlockDevice>(
        &mut self,
        pages: &mut Pages<'_, D>,
        wanted: Wanted<'_>,
    ) -> Result<bool, WriteError> {
        while self.frames.len() < PAGES
            && let Some(frame) = pages.next_frame(&mut *wanted)?
        {
            self.frames.push(frame);
        }
        Ok(!self.frames.is_empty())
    }

    /// Tells the dump where the pages are, and empties the batch.
    pub(super) fn place<D: BlockDevice>(&mut self, pages: &mut Pages<'_, D>) -> Result<(), WriteError> {
        for (frame, place) in self.frames.drain(..).zip(self.places.drain(..)) {
            pages.place(frame, place)?;
        }
        Ok(())
    }
}
