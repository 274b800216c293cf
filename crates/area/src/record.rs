//! Writes and reads one of the area's records: a block that is written whole or not at all.
//!
//! | offset | size | field |
//! |---:|---:|---|
//! | 0 | 8 | magic: which kind of record this is |
//! | 8 | 8 | XXH64 of bytes 16 to 4096, seed 0 |
//! | 16 | | the record, then zeros |
//!
//! The hash covers the whole block, so a foreign superblock, swap signature or boot sector anywhere in it is noticed. A
//! record is at most 496 bytes long and so lies in one sector: a disk that loses power writes it wholly or not at all,
//! and one that does tear it leaves a block that is refused.

use twox_hash::XxHash64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{BLOCK, Block};

/// Which kind of record a block holds.
pub(crate) type Magic = [u8; 8];

const HASH_OFFSET: usize = 8;
const RECORD_OFFSET: usize = 16;
/// Bytes that every disk writes atomically.
const SECTOR: usize = 512;

/// Why a block is not the record that was looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The magic is another: this was never such a record.
    #[error("no such record")]
    NoMagic,
    /// The hash does not match: written in part, or overwritten in part.
    #[error("the record's checksum does not match")]
    Checksum,
    /// The hash matches, and another version of Holdover wrote it.
    #[error("the record is of version {0}, which this Holdover does not know; format the area again")]
    Version(u32),
    /// The hash matches, and a field holds what no version writes.
    #[error("the record is impossible: {0}")]
    Impossible(Contradiction),
}

/// What about a record cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    /// A first label in the place of a last one, or the other way round.
    #[error("this copy of the label belongs in the area's other end")]
    Place,
    /// The area's length is no number of blocks.
    #[error("the area's length is not a multiple of {BLOCK} bytes")]
    Length,
    /// A code that no state of a dump has.
    #[error("it gives the dump a state that there is not")]
    State,
    /// More bytes than there is room for.
    #[error("the dump is longer than its area")]
    DumpLength,
    /// More text than its region holds.
    #[error("the log is longer than its region")]
    LogLength,
    /// Extents of a file that overlap, are not in order, lie outside the disk, or belong to another area.
    #[error("the file's extents overlap, lie outside the disk, or are another file's")]
    Extents,
    /// Extents that overlap, are not in order, or reach past the area.
    #[error("the blocks that were written overlap, or lie outside the area")]
    Written,
    /// It calls a dump complete whose blocks were not all written.
    #[error("it calls the dump complete, and some of its blocks were never written")]
    Gap,
}

impl From<Contradiction> for Damage {
    fn from(contradiction: Contradiction) -> Self {
        Self::Impossible(contradiction)
    }
}

/// Lays `record` out as a block.
pub(crate) fn encode<T: IntoBytes + Immutable>(magic: Magic, record: &T) -> Block {
    const { assert!(RECORD_OFFSET + size_of::<T>() <= SECTOR) };
    let mut block = [0; BLOCK as usize];
    block[..HASH_OFFSET].copy_from_slice(&magic);
    block[RECORD_OFFSET..RECORD_OFFSET + size_of::<T>()].copy_from_slice(record.as_bytes());
    let hash = hash(&block).to_le_bytes();
    block[HASH_OFFSET..RECORD_OFFSET].copy_from_slice(&hash);
    block
}

/// Takes the record out of a block, if the block holds one that is whole.
pub(crate) fn decode<T: FromBytes + KnownLayout + Immutable>(
    magic: Magic,
    block: &Block,
) -> Result<T, Damage> {
    if block[..HASH_OFFSET] != magic {
        return Err(Damage::NoMagic);
    }
    if block[HASH_OFFSET..RECORD_OFFSET] != hash(block).to_le_bytes() {
        return Err(Damage::Checksum);
    }
    // The assertion in `encode` says that a record fits.
    T::read_from_prefix(&block[RECORD_OFFSET..]).map(|(record, _)| record).map_err(|_| Damage::Checksum)
}

fn hash(block: &Block) -> u64 {
    XxHash64::oneshot(0, &block[RECORD_OFFSET..])
}
