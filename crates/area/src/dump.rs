//! A dump that is being written.

use machine::{BlockDevice, BlockError, ByteOffset, Range};

use uuid::Uuid;

use crate::area::{Buffer, CHUNK};
use crate::ground::Ground;
use crate::log::LogWriter;
use crate::seal::{Lack, LeftOut, Seal, SealState};
use crate::sum::Sum;
use crate::window::Window;
use crate::{BLOCK, DUMP_OFFSET, LOG_OFFSET, SEAL_OFFSET};

/// The writer's own verdict on a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completeness {
    /// Everything that belongs in the dump was handed over.
    Complete,
    /// Something that belongs in the dump is missing.
    Partial,
}

/// A dump that is being written: a device whose offset 0 is the dump's first byte.
///
/// Blocks may be written in several streams and more than once. Writing a block again costs reading it back, because its
/// old contribution must come out of the checksum: fit for headers and tables that are filled in later, not for bulk. At most
/// [`MAX_EXTENTS`](crate::MAX_EXTENTS) separate extents can be under way at a time.
///
/// Unsealed, the area goes on reading *in progress*: what was flushed last is recorded and can be collected, whatever
/// becomes of the machine. It costs a flush one more.
#[must_use = "a dump counts only when it is sealed"]
pub struct Dump<D> {
    /// The whole area.
    area: Window<Ground<D>>,
    /// The seal as it would be written now.
    seal: Seal,
    capacity: u64,
    /// How many blocks the seal on the disk tells of.
    recorded: u64,
    /// For blocks that are read back, and for pieces of the log.
    buffer: Buffer,
    /// Whether an access failed, so that the content of the disk is unknown.
    failed: bool,
}

impl<D: BlockDevice> Dump<D> {
    pub(crate) fn new(area: Window<Ground<D>>, seal: Seal, capacity: u64, buffer: Buffer) -> Self {
        Self { area, seal, capacity, recorded: 0, buffer, failed: false }
    }

    /// Begins the dead kernel's log, of which `len` bytes follow. It is durable once it is [stored](LogWriter::store), whatever
    /// becomes of the dump: so store it before the dump's first page. A log that failed takes nothing from the dump.
    pub fn log(&mut self, len: u64) -> LogWriter<'_, D> {
        LogWriter::new(self, len)
    }

    /// Makes everything durable, then writes the seal and makes it durable too.
    ///
    /// The seal says [`SealState::Complete`] only if `completeness` does, every write succeeded and `0..dump_len` was written
    /// without a gap; otherwise it says what is lacking. The seal that was written is returned: judge by that one.
    pub fn seal(mut self, completeness: Completeness, dump_len: u64) -> Result<Seal, BlockError> {
        self.failed |= self.area.flush().is_err();
        self.seal.state = self.state(completeness, dump_len);
        self.seal.dump_len = dump_len.min(self.capacity);
        // What the disk refused may belong to any level.
        self.seal.left_out.reached = self.seal.left_out.reached.filter(|_| !self.failed);
        self.area.write(SEAL_OFFSET, &self.seal.encode())?;
        self.area.flush()?;
        Ok(self.seal)
    }

    /// Has the final seal say which pages are not in the dump.
    pub fn leave_out(&mut self, left_out: LeftOut) {
        self.seal.left_out = left_out;
    }

    /// The disk, for reading its properties only.
    pub fn device(&self) -> &D {
        self.area.device().device()
    }

    /// The area and the number of the dump, as the seal has them.
    pub(crate) fn identity(&self) -> (Uuid, u64) {
        (self.seal.uuid, self.seal.sequence)
    }

    /// Room for a piece of the log.
    pub(crate) fn buffer(&mut self) -> &mut Buffer {
        &mut self.buffer
    }

    /// Writes the first `len` bytes of the buffer to the log's region, at `offset` of the area.
    pub(crate) fn write_log_buffer(&mut self, offset: u64, len: usize) -> Result<(), BlockError> {
        let written = log_region(&mut self.area).write(offset - LOG_OFFSET, &self.buffer[..len]);
        self.note_log(written)
    }

    /// Writes to the log's region, at `offset` of the area.
    pub(crate) fn write_log(&mut self, offset: u64, from: &[u8]) -> Result<(), BlockError> {
        let written = log_region(&mut self.area).write(offset - LOG_OFFSET, from);
        self.note_log(written)
    }

    pub(crate) fn flush_log(&mut self) -> Result<(), BlockError> {
        let flushed = self.area.flush();
        self.note_log(flushed)
    }

    /// Notes an error that occurred while the log was written. It may belong to a block of the dump that was queued before.
    fn note_log(&mut self, result: Result<(), BlockError>) -> Result<(), BlockError> {
        self.failed |= result.is_err() && self.seal.written.blocks() > 0;
        result
    }

    /// Records what is durable by now, if that is more than before. After an error there is no saying what is: then the
    /// record before it stays.
    fn record_progress(&mut self) -> Result<(), BlockError> {
        let blocks = self.seal.written.blocks();
        if self.failed || blocks == self.recorded {
            return Ok(());
        }
        self.recorded = blocks;
        self.seal.dump_len = self.seal.written.end() * BLOCK;
        self.area.write(SEAL_OFFSET, &self.seal.encode())?;
        self.area.flush()
    }

    fn state(&self, completeness: Completeness, dump_len: u64) -> SealState {
        if self.failed {
            SealState::Partial(Lack::Write)
        } else if !self.seal.written.cover_first(dump_len.div_ceil(BLOCK)) {
            SealState::Partial(Lack::Gap)
        } else if completeness == Completeness::Partial {
            SealState::Partial(Lack::Content)
        } else {
            SealState::Complete
        }
    }

    /// The part of the area that holds the dump.
    fn window(&mut self) -> Window<&mut Window<Ground<D>>> {
        Window::new(&mut self.area, bounds(self.capacity))
    }

    /// Writes, and counts the bytes only if the device accepted them, so that a retry does not count twice.
    fn put(&mut self, offset: u64, from: &[u8]) -> Result<(), BlockError> {
        self.window().locate(offset, from.len())?;
        let first = offset / BLOCK;
        let end = first + from.len() as u64 / BLOCK;
        let mut written = self.seal.written.clone();
        written.insert(first..end).map_err(|_| BlockError::Scattered)?;
        let mut sum = self.sum_without(first..end)?;
        sum.add_all(first, from);
        self.window().write(offset, from)?;
        self.seal.written = written;
        self.seal.sum = sum;
        Ok(())
    }

    /// The checksum without the contributions of those `blocks` that were written before.
    fn sum_without(&mut self, blocks: core::ops::Range<u64>) -> Result<Sum, BlockError> {
        let Self { area, seal, capacity, buffer, .. } = self;
        let (mut window, mut sum) = (Window::new(area, bounds(*capacity)), seal.sum);
        for run in seal.written.runs(blocks, CHUNK / BLOCK) {
            let bytes = &mut buffer[..((run.end - run.start) * BLOCK) as usize];
            window.read(run.start * BLOCK, bytes)?;
            sum.remove_all(run.start, bytes);
        }
        Ok(sum)
    }
}

/// Where in the area the dump is.
fn bounds(capacity: u64) -> Range<ByteOffset> {
    Range::from(DUMP_OFFSET..DUMP_OFFSET + capacity)
}

/// The part of the area that holds the log.
fn log_region<D: BlockDevice>(area: &mut Window<Ground<D>>) -> Window<&mut Window<Ground<D>>> {
    Window::new(area, Range::from(LOG_OFFSET..DUMP_OFFSET))
}

impl<D: BlockDevice> BlockDevice for Dump<D> {
    fn size(&self) -> u64 {
        self.capacity
    }

    fn block_size(&self) -> u32 {
        BLOCK as u32
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), BlockError> {
        let read = self.window().read(offset, into);
        // The error may belong to a write that was queued before.
        self.failed |= read.is_err();
        read
    }

    fn write(&mut self, offset: u64, from: &[u8]) -> Result<(), BlockError> {
        let written = self.put(offset, from);
        self.failed |= written.is_err();
        written
    }

    fn flush(&mut self) -> Result<(), BlockError> {
        let flushed = self.area.flush().and_then(|()| self.record_progress());
        self.failed |= flushed.is_err();
        flushed
    }
}
