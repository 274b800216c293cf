//! Something that stores blocks.

/// Why an access to a block device failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// The offset or length is not a multiple of the block size.
    #[error("offset or length is not a multiple of the block size")]
    Misaligned,
    /// The access reaches past the end; nothing was done.
    #[error("access past the end of the device")]
    OutOfBounds,
    /// The device reported an error; the code is the device's own.
    #[error("the device reported error {0:#x}")]
    Device(u32),
    /// The device did not answer within its deadline, and is no longer used.
    #[error("the device did not answer")]
    TimedOut,
    /// The device was removed, or lost its disk.
    #[error("the device is gone")]
    Gone,
    /// The device may not be written.
    #[error("the device is write-protected")]
    WriteProtected,
    /// Another host has reserved the device for itself.
    #[error("the device is reserved for another host")]
    Reserved,
    /// The writes so far are in as many separate pieces as the device can record; this write was not done.
    #[error("the writes are in too many separate pieces")]
    Scattered,
}

/// A disk, a partition, a dump area or a file: storage that is read and written in whole blocks.
///
/// Offsets are in bytes and, like lengths, multiples of [`block_size`](Self::block_size).
pub trait BlockDevice {
    /// Size in bytes.
    fn size(&self) -> u64;

    /// Bytes in a block: a power of two from 512 to 4096, or 1 of a file that is read by bytes.
    fn block_size(&self) -> u32;

    /// Reads blocks; sees every write that was queued before.
    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), BlockError>;

    /// Queues a write. `from` is free for reuse when this returns; an error of a queued write surfaces at a later call
    /// or at [`flush`](Self::flush) at the latest.
    fn write(&mut self, offset: u64, from: &[u8]) -> Result<(), BlockError>;

    /// Waits for every queued write and makes them durable.
    fn flush(&mut self) -> Result<(), BlockError>;

    /// Skips a hole: all bytes from `offset` to the returned offset read as zeros. Files have holes; a device that knows of none
    /// returns `offset`.
    fn next_data(&mut self, offset: u64) -> u64 {
        offset
    }
}

/// A borrowed device is a device.
impl<D: BlockDevice + ?Sized> BlockDevice for &mut D {
    fn size(&self) -> u64 {
        (**self).size()
    }

    fn block_size(&self) -> u32 {
        (**self).block_size()
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), BlockError> {
        (**self).read(offset, into)
    }

    fn write(&mut self, offset: u64, from: &[u8]) -> Result<(), BlockError> {
        (**self).write(offset, from)
    }

    fn flush(&mut self) -> Result<(), BlockError> {
        (**self).flush()
    }

    fn next_data(&mut self, offset: u64) -> u64 {
        (**self).next_data(offset)
    }
}
