//! Pieces of the dump's file. Each thread fills a piece of its own with the data of one page after another.
//!
//! Linux is fastest when it gets few large writes that begin at the boundaries of its own pages. On file systems that
//! keep files in large pages, such writes take less than half the time of one write for each page of the dump. So a
//! thread writes a piece when it is full, and a job is done when the last piece with data of that job is written.

use kdump::{BLOCK, Content, PagePlace, Room, WriteError};
use machine::{ByteOffset, Range};
use zerocopy::IntoBytes;

use super::aligned::{self, AlignedPage};
use super::job::Job;
use super::output::Output;

/// Bytes of a piece. A piece begins at a multiple of this, where a large page of the file system may begin too.
pub(super) const SIZE: usize = 256 << 10;

/// A piece of the file that is being filled.
pub(super) struct Chunk<'a> {
    output: &'a Output<'a>,
    /// The room of the output, from which pieces are taken.
    room: &'a Room,
    /// Where it is in the file.
    place: Range<ByteOffset>,
    bytes: Box<[AlignedPage]>,
    /// How many of its bytes are written, and how many there are.
    written: usize,
    filled: usize,
    /// Jobs that end when all these bytes are written.
    jobs: Vec<Job>,
}

impl<'a> Chunk<'a> {
    /// Makes a piece without room in the file: it takes room when the first data comes.
    pub(super) fn new(output: &'a Output<'a>, room: &'a Room) -> Self {
        let bytes = aligned::pages(SIZE / BLOCK);
        Self { output, room, place: Range::default(), bytes, written: 0, filled: 0, jobs: Vec::new() }
    }

    /// Takes the content of a page; returns where it will be in the file once its job has ended.
    pub(super) fn put(&mut self, content: Content<'_>) -> Result<PagePlace, WriteError> {
        let Content::Data { data, .. } = content else { return Ok(content.at(ByteOffset::default())) };
        if data.len() as u64 > self.free().len() {
            self.begin_next()?;
        }
        let place = content.at(self.free().start);
        let end = self.filled + data.len();
        self.bytes.as_mut_bytes()[self.filled..end].copy_from_slice(data);
        self.filled = end;
        Ok(place)
    }

    /// Ends a job as soon as all data that was put is written, which may be now.
    pub(super) fn end(&mut self, job: Job) {
        if self.written == self.filled {
            job.end(Ok(()));
        } else {
            self.jobs.push(job);
        }
    }

    /// Writes what is not written yet.
    pub(super) fn write(&mut self) -> Result<(), WriteError> {
        let written = self.bring();
        self.jobs.drain(..).for_each(|job| job.end(written));
        written
    }

    fn bring(&mut self) -> Result<(), WriteError> {
        let new = &self.bytes.as_bytes()[self.written..self.filled];
        if !new.is_empty() {
            self.output.write_at(self.place.start.saturating_add(self.written as u64).get(), new)?;
            self.written = self.filled;
        }
        Ok(())
    }

    fn begin_next(&mut self) -> Result<(), WriteError> {
        self.write()?;
        self.place = self.room.take(SIZE as u64)?;
        (self.written, self.filled) = (0, 0);
        Ok(())
    }

    /// The part of its room that is not filled.
    fn free(&self) -> Range<ByteOffset> {
        Range::new(self.place.start.saturating_add(self.filled as u64), self.place.end)
    }
}

/// Gives back the room that is not filled.
impl Drop for Chunk<'_> {
    fn drop(&mut self) {
        self.room.give_back(self.free());
    }
}

#[cfg(test)]
mod tests {
    use kdump::{Codec, Header, NoteSegment, Utsname};

    use super::super::batch::Batch;
    use super::*;

    #[test]
    fn a_job_ends_when_its_data_is_in_the_file_and_no_sooner() {
        let file = tempfile::tempfile().unwrap();
        let output = Output::new(&file, 0);
        let header = Header {
            utsname: Utsname::default(),
            crashed_at: 0,
            cpus: 1,
            frames: 8,
            phys_base: 0,
            dump_level: 0,
        };
        let mut device = &output;
        let bitmaps = kdump::begin(&mut device, &header, &NoteSegment::default(), Codec::None).unwrap();
        let mut pages = bitmaps.finish().unwrap();
        let written = pages.with_room(|_, room| {
            let mut chunk = Chunk::new(&output, room);
            let (job, outcome) = Job::new(Batch::new());
            chunk.put(Content::Zero)?;
            chunk.end(job);
            assert!(outcome.try_recv().is_ok(), "nothing was to be written");

            let len = file.metadata().unwrap().len();
            let (job, outcome) = Job::new(Batch::new());
            let place = chunk.put(Content::Data { codec: Codec::None, data: &[0xA5; BLOCK] })?;
            chunk.end(job);
            assert!(outcome.try_recv().is_err(), "it ended before it was written");
            assert_eq!(file.metadata().unwrap().len(), len);
            chunk.write()?;
            assert!(outcome.try_recv().is_ok());
            let PagePlace::Data { offset, .. } = place else { unreachable!("it has data") };
            assert_eq!(file.metadata().unwrap().len(), offset.get() + BLOCK as u64);
            Ok(())
        });
        assert_eq!(written, Ok(()));
    }
}
