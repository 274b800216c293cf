//! What a processor writes: pieces of the file of its own, in which one page's data follows the other's.
//!
//! Linux is fastest at few large writes that begin where its own pages do. On file systems that keep files in large pages they take
//! less than half the time of writing what each page has become by itself.

use kdump::{BLOCK, Content, Place, Room, WriteError};
use machine::Range;
use zerocopy::IntoBytes;

use super::aligned::{self, AlignedPage};
use super::output::Output;

/// Bytes of a piece. It begins at a multiple of this, where a large page may begin too.
const SIZE: usize = 256 << 10;

/// A piece of the file, as it is to be.
pub(super) struct Chunk<'a> {
    output: &'a Output<'a>,
    /// Of the output.
    room: &'a Room,
    /// Where it is in the file.
    place: Range,
    bytes: Box<[AlignedPage]>,
    /// How many of its bytes are written, and how many there are.
    written: usize,
    filled: usize,
}

impl<'a> Chunk<'a> {
    /// One without room in the file: it gets some when it is needed.
    pub(super) fn new(output: &'a Output<'a>, room: &'a Room) -> Self {
        let bytes = aligned::pages(SIZE / BLOCK);
        Self { output, room, place: Range::default(), bytes, written: 0, filled: 0 }
    }

    /// Takes the content of a page; tells where it will be once [`write`](Self::write) is done.
    pub(super) fn put(&mut self, content: Content<'_>) -> Result<Place, WriteError> {
        let Content::Data { data, .. } = content else { return Ok(content.at(0)) };
        if data.len() as u64 > self.free().len() {
            self.begin_next()?;
        }
        let place = content.at(self.free().start);
        let end = self.filled + data.len();
        self.bytes.as_mut_bytes()[self.filled..end].copy_from_slice(data);
        self.filled = end;
        Ok(place)
    }

    /// Writes what is not written yet.
    pub(super) fn write(&mut self) -> Result<(), WriteError> {
        let new = &self.bytes.as_bytes()[self.written..self.filled];
        self.output.write_at(self.place.start + self.written as u64, new)?;
        self.written = self.filled;
        Ok(())
    }

    fn begin_next(&mut self) -> Result<(), WriteError> {
        self.write()?;
        self.place = self.room.take(SIZE as u64)?;
        (self.written, self.filled) = (0, 0);
        Ok(())
    }

    /// What is left of its room.
    fn free(&self) -> Range {
        Range::new(self.place.start + self.filled as u64, self.place.end)
    }
}

/// Others may use what is left.
impl Drop for Chunk<'_> {
    fn drop(&mut self) {
        self.room.give_back(self.free());
    }
}
