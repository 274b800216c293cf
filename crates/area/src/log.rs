//! The log: the dead kernel's messages as text, stored before the first page of the dump, so that they are there
//! whatever becomes of the rest.
//!
//! The log has a region of its own in the area: one block with a record of it, then the text. The record is written after the
//! text is durable, and names the dump that the log belongs to by its sequence number: the log of an older dump is never
//! taken for this one's.

use alloc::vec::Vec;
use core::hash::Hasher;
use core::mem::offset_of;

use machine::growth::{OutOfMemory, filled};
use machine::{BlockDevice, BlockError};
use twox_hash::XxHash64;
use uuid::Uuid;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::area::CHUNK;
use crate::dump::Dump;
use crate::record::{self, Contradiction, Damage, Magic};
use crate::seal::Seal;
use crate::{BLOCK, Block, DUMP_OFFSET, LOG_OFFSET};

/// Most bytes of text that an area keeps.
pub const LOG_CAPACITY: u64 = DUMP_OFFSET - TEXT_OFFSET;
/// Offset of the text's first byte from the start of the area.
const TEXT_OFFSET: u64 = LOG_OFFSET + BLOCK;

const MAGIC: Magic = *b"HOLDDMSG";
const VERSION: u32 = 1;

/// The dead kernel's log as it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The messages, oldest first. They are the dead kernel's bytes: nothing says that they are UTF-8, or harmless to a terminal.
    pub text: Vec<u8>,
    /// Bytes of text that there was no room for. It is the beginning that is missing.
    pub left_out: u64,
}

/// Why a log cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The record of the log is damaged.
    #[error("log: {0}")]
    Damaged(Damage),
    /// The text is not what was written.
    #[error("the log's checksum is {found:#018x}, its record says {expected:#018x}")]
    Checksum {
        /// What the record says.
        expected: u64,
        /// What the text adds up to.
        found: u64,
    },
    /// The disk failed.
    #[error(transparent)]
    Device(#[from] BlockError),
    /// There is no memory for the text.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

/// What the record of a log says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogRecord {
    uuid: Uuid,
    /// Which dump of the area it belongs to.
    pub(crate) sequence: u64,
    /// Bytes of text.
    pub(crate) len: u64,
    /// XXH64 of the text, seed 0.
    hash: u64,
    /// Bytes of text that there was no room for.
    left_out: u64,
}

/// The record as it lies on disk, from byte 16 of its block.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Layout {
    version: U32,
    reserved: U32,
    uuid: [u8; 16],
    sequence: U64,
    len: U64,
    hash: U64,
    left_out: U64,
}

const _: () = {
    assert!(LOG_CAPACITY.is_multiple_of(BLOCK) && CHUNK.is_multiple_of(BLOCK));
    assert!(offset_of!(Layout, sequence) == 24);
    assert!(offset_of!(Layout, left_out) == 48);
    assert!(size_of::<Layout>() == 56);
};

impl LogRecord {
    /// Reads the record of the log in area `uuid`, whichever dump it belongs to; `None` if there is none of this area.
    pub(crate) fn read(area: &mut dyn BlockDevice, uuid: Uuid) -> Result<Option<Self>, LogError> {
        let mut block = [0; BLOCK as usize];
        area.read(LOG_OFFSET, &mut block)?;
        match Self::decode(&block) {
            Ok(record) => Ok(Some(record).filter(|record| record.uuid == uuid)),
            Err(Damage::NoMagic) => Ok(None),
            Err(damage) => Err(LogError::Damaged(damage)),
        }
    }

    /// Reads the record of the log that belongs to the dump of this seal; `None` if that dump has none.
    pub(crate) fn read_of(area: &mut dyn BlockDevice, seal: &Seal) -> Result<Option<Self>, LogError> {
        Ok(Self::read(area, seal.uuid)?.filter(|record| record.sequence == seal.sequence))
    }

    fn encode(&self) -> Block {
        let layout = Layout {
            version: VERSION.into(),
            reserved: U32::ZERO,
            uuid: self.uuid.into_bytes(),
            sequence: self.sequence.into(),
            len: self.len.into(),
            hash: self.hash.into(),
            left_out: self.left_out.into(),
        };
        record::encode(MAGIC, &layout)
    }

    fn decode(block: &Block) -> Result<Self, Damage> {
        let layout: Layout = record::decode(MAGIC, block)?;
        if layout.version != VERSION {
            return Err(Damage::Version(layout.version.get()));
        }
        if layout.len.get() > LOG_CAPACITY {
            return Err(Contradiction::LogLength.into());
        }
        Ok(Self {
            uuid: Uuid::from_bytes(layout.uuid),
            sequence: layout.sequence.get(),
            len: layout.len.get(),
            hash: layout.hash.get(),
            left_out: layout.left_out.get(),
        })
    }
}

/// Reads the log that belongs to the dump of this seal; `None` if that dump has none.
pub(crate) fn read(area: &mut dyn BlockDevice, seal: &Seal) -> Result<Option<Log>, LogError> {
    LogRecord::read_of(area, seal)?.map(|record| read_text(area, record)).transpose()
}

/// Reads the log that was stored last in area `uuid`, whichever dump it belongs to; `None` if there is none.
pub(crate) fn read_last(area: &mut dyn BlockDevice, uuid: Uuid) -> Result<Option<Log>, LogError> {
    LogRecord::read(area, uuid)?.map(|record| read_text(area, record)).transpose()
}

fn read_text(area: &mut dyn BlockDevice, record: LogRecord) -> Result<Log, LogError> {
    let LogRecord { len, hash: expected, left_out, .. } = record;
    // The record says at most `LOG_CAPACITY`.
    let mut text = filled(0, len.next_multiple_of(BLOCK) as usize)?;
    area.read(TEXT_OFFSET, &mut text)?;
    text.truncate(len as usize);
    let found = XxHash64::oneshot(0, &text);
    if found != expected {
        return Err(LogError::Checksum { expected, found });
    }
    Ok(Log { text, left_out })
}

/// A log that is being stored. It takes no memory, and counts only when it is [stored](Self::store).
///
/// The newest text is kept: what is more than [`LOG_CAPACITY`] is left out at the beginning, up to the end of a line.
#[must_use = "a log counts only when it is stored"]
pub struct LogWriter<'a, D> {
    dump: &'a mut Dump<D>,
    /// Bytes that are still to be left out.
    skip: u64,
    /// Whether the text that comes next is the rest of a line whose beginning was left out.
    inside_line: bool,
    /// Bytes that were kept. Those after the last multiple of [`CHUNK`] are in the dump's buffer, the others on the disk.
    kept: u64,
    left_out: u64,
    hash: XxHash64,
}

impl<'a, D: BlockDevice> LogWriter<'a, D> {
    /// Begins the log of a dump; `len` bytes of text will follow.
    pub(crate) fn new(dump: &'a mut Dump<D>, len: u64) -> Self {
        let skip = len.saturating_sub(LOG_CAPACITY);
        let hash = XxHash64::with_seed(0);
        Self { dump, skip, inside_line: skip > 0, kept: 0, left_out: 0, hash }
    }

    /// Adds text. What exceeds the announced length, so that there is no room for it, is left out.
    pub fn write(&mut self, text: &[u8]) -> Result<(), BlockError> {
        let mut rest = self.select(text);
        self.left_out += (text.len() - rest.len()) as u64;
        self.hash.write(rest);
        while !rest.is_empty() {
            let filled = (self.kept % CHUNK) as usize;
            let buffer = &mut self.dump.buffer()[filled..];
            let (piece, later) = rest.split_at(rest.len().min(buffer.len()));
            buffer[..piece.len()].copy_from_slice(piece);
            self.kept += piece.len() as u64;
            rest = later;
            if self.kept.is_multiple_of(CHUNK) {
                self.put(self.kept - CHUNK, CHUNK)?;
            }
        }
        Ok(())
    }

    /// Makes the text durable, then writes the log's record and makes it durable too. Returns how many bytes of text were kept.
    pub fn store(mut self) -> Result<u64, BlockError> {
        let filled = self.kept % CHUNK;
        let len = filled.next_multiple_of(BLOCK);
        self.dump.buffer()[filled as usize..len as usize].fill(0);
        self.put(self.kept - filled, len)?;
        self.dump.flush_log()?;
        let (uuid, sequence) = self.dump.identity();
        let hash = self.hash.finish();
        let record = LogRecord { uuid, sequence, len: self.kept, hash, left_out: self.left_out };
        self.dump.write_log(LOG_OFFSET, &record.encode())?;
        self.dump.flush_log()?;
        Ok(self.kept)
    }

    /// The part of a piece of text that is kept.
    fn select<'t>(&mut self, text: &'t [u8]) -> &'t [u8] {
        let skipped = self.skip.min(text.len() as u64);
        self.skip -= skipped;
        let mut rest = &text[skipped as usize..];
        if self.skip == 0 && self.inside_line {
            let line = rest.iter().position(|&byte| byte == b'\n').map(|end| end + 1);
            self.inside_line = line.is_none();
            rest = &rest[line.unwrap_or(rest.len())..];
        }
        &rest[..(LOG_CAPACITY - self.kept).min(rest.len() as u64) as usize]
    }

    /// Writes the first `len` bytes of the buffer at byte `start` of the text.
    fn put(&mut self, start: u64, len: u64) -> Result<(), BlockError> {
        self.dump.write_log_buffer(TEXT_OFFSET + start, len as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_lie_where_the_layout_says() {
        let uuid = Uuid::from_u128(7);
        let record = LogRecord { uuid, sequence: 0x0102, len: 0x1234, hash: 0xfedc, left_out: 9 };
        let block = record.encode();
        assert_eq!(&block[0..8], b"HOLDDMSG");
        assert_eq!(block[16..24], [1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(block[24..40], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!(block[40..56], [2, 1, 0, 0, 0, 0, 0, 0, 0x34, 0x12, 0, 0, 0, 0, 0, 0]);
        assert_eq!(block[56..72], [0xdc, 0xfe, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
        assert!(block[72..].iter().all(|&byte| byte == 0));
        assert_eq!(LogRecord::decode(&block), Ok(record));
    }

    #[test]
    fn a_text_that_is_longer_than_its_region_is_impossible() {
        let record = |len| LogRecord { uuid: Uuid::nil(), sequence: 1, len, hash: 0, left_out: 0 }.encode();
        assert!(LogRecord::decode(&record(LOG_CAPACITY)).is_ok());
        assert_eq!(LogRecord::decode(&record(LOG_CAPACITY + 1)), Err(Contradiction::LogLength.into()));
    }
}
