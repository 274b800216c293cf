//! The pixels of a display, as firmware left it.

use core::ptr;

use machine::{PhysicalAddress, Range};
use screen::Pixels;

use crate::platform::paging::{Access, AddressSpace, MapError};

/// A stretch of pixels, mapped for writing.
pub(crate) struct Framebuffer {
    start: *mut u8,
    len: usize,
}

impl Framebuffer {
    /// Maps the pixels at the physical addresses `range`. What is mapped for another use is refused.
    pub(crate) fn map(space: &mut AddressSpace, range: Range<PhysicalAddress>) -> Result<Self, MapError> {
        space.map(range, Access::Pixels)?;
        Ok(Self { start: range.start.get() as *mut u8, len: range.len() as usize })
    }
}

impl Pixels for Framebuffer {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        if offset.checked_add(bytes.len()).is_some_and(|end| end <= self.len) {
            // SAFETY: inside what `map` mapped for good, where no object of this kernel lies. A display takes any bytes.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.wrapping_add(offset), bytes.len()) }
        }
    }
}
