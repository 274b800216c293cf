//! The device that a dump is written to, with a limit on the errors that are tolerated.

use machine::{BlockDevice, BlockError};

/// A device, and the errors that it reported.
///
/// An error may concern a block that was queued long before, and one bad sector is no reason to lose the rest of a dump. A
/// write that ends in an error is therefore tried once more; if it fails again, its blocks are given up and the dump goes on, as
/// often as `patience` allows.
pub(crate) struct Target<'d, D: ?Sized> {
    pub(crate) device: &'d mut D,
    /// How many more errors are tolerated.
    pub(crate) patience: usize,
    /// The first error.
    pub(crate) complaint: Option<BlockError>,
}

impl<'d, D: BlockDevice + ?Sized> Target<'d, D> {
    /// A device whose first error ends the dump.
    pub(crate) fn new(device: &'d mut D) -> Self {
        Self { device, patience: 0, complaint: None }
    }

    /// Writes blocks; after a tolerated error they may be missing.
    pub(crate) fn write(&mut self, offset: u64, blocks: &[u8]) -> Result<(), BlockError> {
        self.offer_twice(|device| device.write(offset, blocks))
    }

    /// Waits until everything that the device could store is durable.
    pub(crate) fn flush(&mut self) -> Result<(), BlockError> {
        self.offer_twice(BlockDevice::flush)
    }

    fn offer_twice(
        &mut self,
        mut step: impl FnMut(&mut D) -> Result<(), BlockError>,
    ) -> Result<(), BlockError> {
        step(self.device)
            .or_else(|error| self.put_up_with(error).and_then(|()| step(self.device)))
            .or_else(|error| self.put_up_with(error))
    }

    /// Records an error, and returns it if it ends the dump.
    fn put_up_with(&mut self, error: BlockError) -> Result<(), BlockError> {
        self.complaint.get_or_insert(error);
        let lasting = !matches!(error, BlockError::Device(_));
        let patience = self.patience.checked_sub(1).filter(|_| !lasting);
        self.patience = patience.ok_or(error)?;
        Ok(())
    }
}
