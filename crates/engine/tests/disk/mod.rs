//! What the dumps of these tests are written to.

use machine::{BlockDevice, BlockError};

/// A disk in memory.
pub(crate) struct Disk(pub(crate) Vec<u8>);

impl BlockDevice for Disk {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn block_size(&self) -> u32 {
        4096
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), BlockError> {
        into.copy_from_slice(&self.0[offset as usize..][..into.len()]);
        Ok(())
    }

    fn write(&mut self, offset: u64, from: &[u8]) -> Result<(), BlockError> {
        self.0[offset as usize..][..from.len()].copy_from_slice(from);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), BlockError> {
        Ok(())
    }
}
