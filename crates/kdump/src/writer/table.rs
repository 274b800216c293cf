//! The descriptors of all kept pages, which several passes fill in.

use alloc::vec::Vec;

use machine::{BlockDevice, ByteOffset, Range};
use zerocopy::IntoBytes;

use super::WriteError;
use crate::layout::{DESCRIPTOR_LEN, Descriptor};
use crate::target::Target;

/// Bytes of the table that are in memory at a time: whole blocks of whole descriptors.
const WINDOW: u64 = 5 * 3 * 4096;

const _: () = assert!(WINDOW.is_multiple_of(DESCRIPTOR_LEN as u64));

/// The table of descriptors, of which one window is in memory; in each pass it moves from the beginning to the end.
///
/// After the first pass the whole table is on the device, with zeros for the pages that have no place yet. Later passes read
/// a window back where they have something to add.
pub(super) struct DescriptorTable {
    /// Where the table is in the file, in whole blocks.
    place: Range<ByteOffset>,
    /// Where the window begins.
    at: ByteOffset,
    /// The descriptors there; empty until one of them is put in.
    window: Vec<u8>,
    pass: Pass,
}

/// The content of the device after the window.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// Nothing of this dump.
    First,
    /// The result of the pass before.
    Later,
}

impl DescriptorTable {
    pub(super) fn new(place: Range<ByteOffset>) -> Result<Self, WriteError> {
        let mut window = Vec::new();
        window.try_reserve_exact(WINDOW as usize).map_err(|_| WriteError::OutOfMemory)?;
        Ok(Self { place, at: place.start, window, pass: Pass::First })
    }

    /// Where the table is in the file.
    pub(super) fn place(&self) -> Range<ByteOffset> {
        self.place
    }

    /// The window with the descriptor of the kept page with that number.
    pub(super) fn window_of(&self, index: u64) -> Range<ByteOffset> {
        let start = self.place.start.saturating_add(index * DESCRIPTOR_LEN as u64 / WINDOW * WINDOW);
        Range::new(start, start.saturating_add(WINDOW).min(self.place.end))
    }

    /// Stores the descriptor of the kept page with that number; numbers ascend within a pass.
    pub(super) fn put<D: BlockDevice + ?Sized>(
        &mut self,
        target: &mut Target<'_, D>,
        index: u64,
        descriptor: Descriptor,
    ) -> Result<(), WriteError> {
        self.move_to(target, self.window_of(index).start)?;
        self.load(target)?;
        let start = (index * DESCRIPTOR_LEN as u64 % WINDOW) as usize;
        let slot = self.window.get_mut(start..start + DESCRIPTOR_LEN).ok_or(WriteError::WrongOrder)?;
        slot.copy_from_slice(descriptor.as_bytes());
        Ok(())
    }

    /// Writes the rest of this pass: afterwards all of the table is on the device.
    pub(super) fn end_pass<D: BlockDevice + ?Sized>(
        &mut self,
        target: &mut Target<'_, D>,
    ) -> Result<(), WriteError> {
        self.move_to(target, self.place.end.max(self.at))
    }

    /// Writes the descriptors stored so far; the window stays where it is.
    pub(super) fn save<D: BlockDevice + ?Sized>(&self, target: &mut Target<'_, D>) -> Result<(), WriteError> {
        if !self.window.is_empty() {
            target.write(self.at.get(), &self.window)?;
        }
        Ok(())
    }

    /// Goes back to the beginning, after the end of a pass.
    pub(super) fn restart(&mut self) {
        self.at = self.place.start;
        self.pass = Pass::Later;
    }

    /// Moves the window forward; what it leaves behind is on the device.
    fn move_to<D: BlockDevice + ?Sized>(
        &mut self,
        target: &mut Target<'_, D>,
        to: ByteOffset,
    ) -> Result<(), WriteError> {
        if to < self.at {
            return Err(WriteError::WrongOrder);
        }
        while self.at < to {
            if self.pass == Pass::First {
                self.load(target)?;
            }
            self.write(target)?;
            self.at = if self.pass == Pass::First { self.at.saturating_add(WINDOW) } else { to };
        }
        Ok(())
    }

    /// Makes sure that the window holds what belongs there.
    fn load<D: BlockDevice + ?Sized>(&mut self, target: &mut Target<'_, D>) -> Result<(), WriteError> {
        if !self.window.is_empty() {
            return Ok(());
        }
        let len = Range::new(self.at, self.place.end).len().min(WINDOW);
        #[cfg_attr(
            not(test),
            expect(clippy::disallowed_methods, reason = "the window has its memory from the start")
        )]
        self.window.resize(len as usize, 0);
        if self.pass == Pass::Later
            && let Err(error) = target.device.read(self.at.get(), &mut self.window)
        {
            // Bytes that could not be read must not be written.
            self.window.clear();
            return Err(error.into());
        }
        Ok(())
    }

    fn write<D: BlockDevice + ?Sized>(&mut self, target: &mut Target<'_, D>) -> Result<(), WriteError> {
        self.save(target)?;
        self.window.clear();
        Ok(())
    }
}
