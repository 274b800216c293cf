//! A stretch of a device, as a device of its own. This crate accesses disks only through it.

use machine::{BlockDevice, BlockError, ByteOffset, Position, Range};

use crate::BLOCK;

/// A stretch of `device` whose offset 0 is the stretch's first byte. Nothing outside is read or written.
pub(crate) struct Window<D> {
    device: D,
    bounds: Range<ByteOffset>,
}

impl<D> Window<D> {
    /// The same stretch of what `exchange` gives for the device.
    pub(crate) fn map<E>(self, exchange: impl FnOnce(D) -> E) -> Window<E> {
        Window { device: exchange(self.device), bounds: self.bounds }
    }
}

impl<D: BlockDevice> Window<D> {
    /// The bytes of `device` that lie in `bounds`.
    pub(crate) fn new(device: D, bounds: Range<ByteOffset>) -> Self {
        Self { device, bounds }
    }

    /// The whole device.
    pub(crate) fn device(&self) -> &D {
        &self.device
    }

    /// Where on the device `len` bytes at `offset` of the window lie, if they do.
    pub(crate) fn locate(&self, offset: u64, len: usize) -> Result<Range<ByteOffset>, BlockError> {
        let len = len as u64;
        if !offset.is_multiple_of(BLOCK) || !len.is_multiple_of(BLOCK) {
            return Err(BlockError::Misaligned);
        }
        let start = self.bounds.start.checked_add(offset).ok_or(BlockError::OutOfBounds)?;
        let place = Range::sized(start, len).ok_or(BlockError::OutOfBounds)?;
        if place.end > self.bounds.end {
            return Err(BlockError::OutOfBounds);
        }
        Ok(place)
    }
}

impl<D: BlockDevice> BlockDevice for Window<D> {
    fn size(&self) -> u64 {
        self.bounds.len()
    }

    fn block_size(&self) -> u32 {
        BLOCK as u32
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), BlockError> {
        let place = self.locate(offset, into.len())?;
        self.device.read(place.start.get(), into)
    }

    fn write(&mut self, offset: u64, from: &[u8]) -> Result<(), BlockError> {
        let place = self.locate(offset, from.len())?;
        self.device.write(place.start.get(), from)
    }

    fn flush(&mut self) -> Result<(), BlockError> {
        self.device.flush()
    }
}
