//! A dump area whose labels and seal come from the fuzzer. The target computes the checksums, because few mutations
//! would keep them right.
//!
//! The first 40 bytes are the label's fields, then come up to 480 of the seal's and 56 of the log's, and the rest is the dump.

#![no_main]

use area::{Area, BLOCK, DUMP_OFFSET, LOG_CAPACITY, LOG_OFFSET, SEAL_OFFSET, read_label};
use libfuzzer_sys::fuzz_target;
use machine::{BlockDevice, BlockError};
use twox_hash::XxHash64;

/// Bytes of the fields of a label and of a log's record, and most bytes of a seal's.
const LABEL: usize = 40;
const SEAL: usize = 480;
const LOG: usize = 56;
/// Byte of a label's fields that says which of the two it is.
const PLACE: usize = 4;
/// Blocks that the disk has for dumps and the second label.
const BLOCKS: u64 = 16;

fuzz_target!(|bytes: &[u8]| {
    let mut disk = Disk::new(bytes);
    let Ok(label) = read_label(&mut disk, 0) else { return };
    assert!(label.length <= disk.size());
    let Ok(mut area) = Area::open(disk, 0, label.uuid) else { return };
    let Ok(seal) = area.read_seal() else { return };
    if let Ok(Some(log)) = area.read_log(&seal) {
        assert!(log.text.len() as u64 <= LOG_CAPACITY);
    }
    let (mut next, capacity) = (0, label.capacity());
    let read = area.read_dump(&seal, |offset, bytes| {
        assert!(offset >= next && offset + bytes.len() as u64 <= capacity, "{offset:#x} after {next:#x}");
        next = offset + bytes.len() as u64;
        Ok::<(), ()>(())
    });
    let _ = read;
});

/// A disk that has only the blocks that matter.
struct Disk<'a> {
    first: Vec<u8>,
    last: Vec<u8>,
    seal: Vec<u8>,
    log: Vec<u8>,
    dump: &'a [u8],
}

impl<'a> Disk<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let (label, rest) = bytes.split_at(bytes.len().min(LABEL));
        let (seal, rest) = rest.split_at(rest.len().min(SEAL));
        let (log, dump) = rest.split_at(rest.len().min(LOG));
        let mut last = label.to_vec();
        if let Some(place) = last.get_mut(PLACE) {
            *place = place.wrapping_add(1);
        }
        let (first, last) = (block(*b"HOLDAREA", label), block(*b"HOLDAREA", &last));
        let (seal, log) = (block(*b"HOLDSEAL", seal), block(*b"HOLDDMSG", log));
        Self { first, last, seal, log, dump }
    }

    /// The block at `offset`; most are zeros.
    fn block(&self, offset: u64) -> &[u8] {
        let last = self.size() - BLOCK;
        match offset {
            0 => &self.first,
            SEAL_OFFSET => &self.seal,
            LOG_OFFSET => &self.log,
            _ if offset == last => &self.last,
            DUMP_OFFSET.. => self.dump.get((offset - DUMP_OFFSET) as usize..).unwrap_or_default(),
            _ => &[],
        }
    }
}

/// A block with a record of this kind.
fn block(magic: [u8; 8], fields: &[u8]) -> Vec<u8> {
    let mut block = [&magic[..], &[0; 8], fields].concat();
    block.resize(BLOCK as usize, 0);
    let hash = XxHash64::oneshot(0, &block[16..]);
    block[8..16].copy_from_slice(&hash.to_le_bytes());
    block
}

impl BlockDevice for Disk<'_> {
    fn size(&self) -> u64 {
        DUMP_OFFSET + BLOCKS * BLOCK
    }

    fn block_size(&self) -> u32 {
        BLOCK as u32
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), BlockError> {
        let end = offset.checked_add(into.len() as u64).filter(|end| *end <= self.size());
        end.ok_or(BlockError::OutOfBounds)?;
        into.fill(0);
        for (offset, block) in (offset..).step_by(BLOCK as usize).zip(into.chunks_mut(BLOCK as usize)) {
            let held = self.block(offset);
            let len = held.len().min(block.len());
            block[..len].copy_from_slice(&held[..len]);
        }
        Ok(())
    }

    fn write(&mut self, _: u64, _: &[u8]) -> Result<(), BlockError> {
        panic!("an area that is read is written");
    }

    fn flush(&mut self) -> Result<(), BlockError> {
        Ok(())
    }
}
