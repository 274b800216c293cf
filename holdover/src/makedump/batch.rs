//! Pages that go through the pipeline together.

use engine::Wanted;
use kdump::{BLOCK, Codec, Content, Encoder, Frame, Pages, WriteError};
use machine::{BlockDevice, OldMemory};
use zerocopy::IntoBytes;

use super::aligned::{self, AlignedPage};

/// Pages in a batch: read at once where they follow each other.
const PAGES: usize = 64;

/// Some kept pages: first their numbers, then their memory, then what is stored of them. Used again and again.
pub(crate) struct Batch {
    frames: Vec<Frame>,
    memory: Box<[AlignedPage]>,
    items: Vec<Item>,
    /// What is stored of pages that became smaller, one after the other.
    data: Vec<u8>,
}

/// What is stored of one page.
#[derive(Clone, Copy)]
enum Item {
    Missing,
    Zero,
    /// The page as it is.
    Raw,
    Data {
        codec: Codec,
        len: usize,
    },
}

impl Batch {
    /// An empty batch.
    pub(crate) fn new() -> Self {
        Self {
            frames: Vec::with_capacity(PAGES),
            memory: aligned::pages(PAGES),
            items: Vec::with_capacity(PAGES),
            data: Vec::with_capacity(PAGES * BLOCK),
        }
    }

    /// Takes the next pages that are wanted; says whether there were any.
    pub(crate) fn take<D: BlockDevice>(
        &mut self,
        pages: &mut Pages<'_, D>,
        wanted: Wanted<'_>,
    ) -> Result<bool, WriteError> {
        self.frames.clear();
        while self.frames.len() < PAGES
            && let Some(frame) = pages.next_frame(&mut *wanted)?
        {
            self.frames.push(frame);
        }
        Ok(!self.frames.is_empty())
    }

    /// Reads the pages and makes what is stored of them.
    pub(crate) fn encode(&mut self, memory: &impl OldMemory, encoder: &mut Encoder) {
        self.items.clear();
        self.data.clear();
        let mut done = 0;
        for run in self.frames.chunk_by(|this, next| this.pfn() + 1 == next.pfn()) {
            let pages = &mut self.memory[done..done + run.len()];
            let whole = memory.read(run[0].pfn() * BLOCK as u64, pages.as_mut_bytes()).is_ok();
            for (frame, AlignedPage(page)) in run.iter().zip(pages) {
                let readable = whole || memory.read_page(frame.pfn(), page).is_ok();
                let content = if readable { encoder.encode(page) } else { Content::Missing };
                self.items.push(append(&mut self.data, content));
            }
            done += run.len();
        }
    }

    /// Hands the pages to the dump.
    pub(crate) fn store<D: BlockDevice>(&mut self, pages: &mut Pages<'_, D>) -> Result<(), WriteError> {
        let mut rest = &self.data[..];
        let read = self.frames.drain(..).zip(&self.memory);
        for ((frame, AlignedPage(page)), item) in read.zip(&self.items) {
            let content = match *item {
                Item::Missing => Content::Missing,
                Item::Zero => Content::Zero,
                Item::Raw => Content::Data { codec: Codec::None, data: page },
                Item::Data { codec, len } => {
                    let (data, later) = rest.split_at(len);
                    rest = later;
                    Content::Data { codec, data }
                }
            };
            pages.store(frame, content)?;
        }
        Ok(())
    }
}

fn append(data: &mut Vec<u8>, content: Content<'_>) -> Item {
    match content {
        Content::Missing => Item::Missing,
        Content::Zero => Item::Zero,
        Content::Data { codec: Codec::None, .. } => Item::Raw,
        Content::Data { codec, data: bytes } => {
            data.extend_from_slice(bytes);
            Item::Data { codec, len: bytes.len() }
        }
    }
}
