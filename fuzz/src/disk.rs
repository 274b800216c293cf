//! Bytes as a disk that can only be read.

use machine::{BlockDevice, BlockError};

/// Bytes in a block.
const BLOCK: usize = 512;

/// A disk that holds the fuzzer's bytes, and zeros up to the next block.
#[derive(Debug)]
pub struct Disk<'a> {
    bytes: &'a [u8],
}

impl<'a> Disk<'a> {
    /// A disk that holds `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }
}

impl BlockDevice for Disk<'_> {
    fn size(&self) -> u64 {
        self.bytes.len().next_multiple_of(BLOCK) as u64
    }

    fn block_size(&self) -> u32 {
        BLOCK as u32
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), BlockError> {
        if !offset.is_multiple_of(BLOCK as u64) || !into.len().is_multiple_of(BLOCK) {
            return Err(BlockError::Misaligned);
        }
        let end = offset.checked_add(into.len() as u64).filter(|end| *end <= self.size());
        end.ok_or(BlockError::OutOfBounds)?;
        let held = self.bytes.get(offset as usize..).unwrap_or_default();
        let (there, zeros) = into.split_at_mut(held.len().min(into.len()));
        there.copy_from_slice(&held[..there.len()]);
        zeros.fill(0);
        Ok(())
    }

    fn write(&mut self, _: u64, _: &[u8]) -> Result<(), BlockError> {
        Err(BlockError::Device(0))
    }

    fn flush(&mut self) -> Result<(), BlockError> {
        Ok(())
    }
}
