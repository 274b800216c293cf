//! Gathers bytes for consecutive places on the device, so that the disk gets large writes.

#![cfg_attr(
    not(test),
    expect(
        clippy::disallowed_methods,
        reason = "a stream takes memory for a chunk when it is made, and holds no more"
    )
)]

use alloc::vec::Vec;

use machine::{BlockDevice, ByteOffset, Position, Range};

use crate::target::Target;
use crate::{BLOCK, WriteError};

/// Bytes in one write; what remains at the end of a stream is written in fewer.
const CHUNK: usize = 128 * 1024;
/// A hole that may be at least so long is worth a write of what is buffered before it, in bytes.
const WORTH_A_WRITE: u64 = 64 * 1024;

/// One sequential stream of bytes into a part of the file.
///
/// It begins at a block and is closed with zeros up to the end of its last block, so no block belongs to two streams
/// and each is written once.
pub(crate) struct Stream {
    /// Not yet written; room for a chunk.
    buffer: Vec<u8>,
    /// Where the first byte of `buffer` goes.
    start: ByteOffset,
    /// End of the part of the file that this stream may fill, a multiple of the block size.
    end: ByteOffset,
}

impl Stream {
    /// A stream into these blocks.
    pub(crate) fn new(blocks: Range<ByteOffset>) -> Result<Self, WriteError> {
        Ok(Self { buffer: buffer()?, start: blocks.start, end: blocks.end })
    }

    /// Where the next byte goes.
    pub(crate) fn position(&self) -> ByteOffset {
        self.start.saturating_add(self.buffer.len() as u64)
    }

    /// Gives away the rest of the stream's blocks, after [`close`](Self::close).
    pub(crate) fn take_rest(&mut self) -> Range<ByteOffset> {
        let rest = Range::new(self.position(), self.end);
        self.start = self.end;
        rest
    }

    /// Continues in the rest of the blocks that were given away.
    pub(crate) fn give_back(&mut self, rest: Range<ByteOffset>) {
        (self.start, self.end) = (rest.start, rest.end);
    }

    /// How many bytes may still follow.
    pub(crate) fn remaining(&self) -> u64 {
        self.end.count_since(self.position())
    }

    /// Appends all of `bytes`, or nothing if there is no room for all.
    pub(crate) fn push<D: BlockDevice + ?Sized>(
        &mut self,
        target: &mut Target<'_, D>,
        mut bytes: &[u8],
    ) -> Result<(), WriteError> {
        if bytes.len() as u64 > self.remaining() {
            return Err(WriteError::Full);
        }
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() == CHUNK {
                self.write(target)?;
            }
        }
        Ok(())
    }

    /// Appends so many zeros, or nothing if there is no room for all. A hole of the device, which reads as zeros, is left as it is.
    pub(crate) fn push_zeros<D: BlockDevice + ?Sized>(
        &mut self,
        target: &mut Target<'_, D>,
        mut count: u64,
    ) -> Result<(), WriteError> {
        if count > self.remaining() {
            return Err(WriteError::Full);
        }
        while count > 0 {
            let (is_whole, is_empty) = (self.buffer.len().is_multiple_of(BLOCK), self.buffer.is_empty());
            if is_empty || is_whole && count >= WORTH_A_WRITE {
                count -= self.skip_hole(target, count)?;
            }
            let rest = BLOCK - self.buffer.len() % BLOCK;
            let zeros = count.min(rest as u64);
            self.push(target, &[0; BLOCK][..zeros as usize])?;
            count -= zeros;
        }
        Ok(())
    }

    /// Fills what remains of the stream with zeros.
    pub(crate) fn fill<D: BlockDevice + ?Sized>(
        &mut self,
        target: &mut Target<'_, D>,
    ) -> Result<(), WriteError> {
        self.push_zeros(target, self.remaining())?;
        self.close(target)
    }

    /// Writes the buffered bytes, padded to a whole block; later bytes begin with the next block.
    pub(crate) fn close<D: BlockDevice + ?Sized>(
        &mut self,
        target: &mut Target<'_, D>,
    ) -> Result<(), WriteError> {
        self.buffer.resize(self.buffer.len().next_multiple_of(BLOCK), 0);
        if self.buffer.is_empty() { Ok(()) } else { self.write(target) }
    }

    /// Goes past the whole blocks of a hole, `most` bytes at most; returns how many. Whole blocks that are buffered are written first.
    fn skip_hole<D: BlockDevice + ?Sized>(
        &mut self,
        target: &mut Target<'_, D>,
        most: u64,
    ) -> Result<u64, WriteError> {
        let start = self.position().get();
        let hole = target.device.next_data(start).saturating_sub(start).min(most);
        let whole = hole / BLOCK as u64 * BLOCK as u64;
        if whole > 0 && !self.buffer.is_empty() {
            self.write(target)?;
        }
        self.start = self.start.saturating_add(whole);
        Ok(whole)
    }

    fn write<D: BlockDevice + ?Sized>(&mut self, target: &mut Target<'_, D>) -> Result<(), WriteError> {
        target.write(self.start.get(), &self.buffer)?;
        self.start = self.position();
        self.buffer.clear();
        Ok(())
    }
}

/// A part of the file, read back from its beginning to its end.
pub(crate) struct ReadBack {
    buffer: Vec<u8>,
    /// How much of `buffer` was handed out.
    used: usize,
    /// Where the byte after `buffer` is.
    next: ByteOffset,
    end: ByteOffset,
}

impl ReadBack {
    /// Prepares to read back the blocks of `place`.
    pub(crate) fn new(place: Range<ByteOffset>) -> Result<Self, WriteError> {
        Ok(Self { buffer: buffer()?, used: 0, next: place.start, end: place.end })
    }

    /// Begins anew, at another place.
    pub(crate) fn restart(&mut self, place: Range<ByteOffset>) {
        self.buffer.clear();
        (self.used, self.next, self.end) = (0, place.start, place.end);
    }

    /// The next eight bytes as a little-endian number, `None` at the end.
    pub(crate) fn next_word<D: BlockDevice + ?Sized>(
        &mut self,
        device: &mut D,
    ) -> Result<Option<u64>, WriteError> {
        if self.used == self.buffer.len() && !self.refill(device)? {
            return Ok(None);
        }
        let word = self.buffer.get(self.used..).and_then(|rest| rest.first_chunk::<8>());
        self.used += 8;
        Ok(word.map(|bytes| u64::from_le_bytes(*bytes)))
    }

    /// Goes past words of zeros in a hole of the device; returns how many there were. None are skipped within what was read.
    pub(crate) fn skip_hole<D: BlockDevice + ?Sized>(&mut self, device: &mut D) -> u64 {
        if self.used < self.buffer.len() {
            return 0;
        }
        let (start, end) = (self.next.get(), self.end.get());
        let data = device.next_data(start).clamp(start, end.max(start));
        // Reads begin with a block.
        let skipped = if data == end { data - start } else { (data - start) / BLOCK as u64 * BLOCK as u64 };
        self.next = self.next.saturating_add(skipped);
        skipped / 8
    }

    /// Reads the next chunk; says whether there was one.
    fn refill<D: BlockDevice + ?Sized>(&mut self, device: &mut D) -> Result<bool, WriteError> {
        let len = self.end.count_since(self.next).min(CHUNK as u64) as usize;
        // No word is returned before the chunk was read.
        self.used = self.buffer.len();
        if len == 0 {
            return Ok(false);
        }
        self.buffer.resize(len, 0);
        self.used = len;
        device.read(self.next.get(), &mut self.buffer)?;
        self.used = 0;
        self.next = self.next.saturating_add(len as u64);
        Ok(true)
    }
}

/// Room for a chunk, taken before anything is written so that a lack of memory shows at the start.
fn buffer() -> Result<Vec<u8>, WriteError> {
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(CHUNK).map_err(|_| WriteError::OutOfMemory)?;
    Ok(buffer)
}
