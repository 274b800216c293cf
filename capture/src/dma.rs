//! Memory that is shared with a device.

use core::sync::atomic::{Ordering, fence};

use machine::{Dma, DmaMemory, IoAddress, PAGE_SIZE};

use crate::platform::heap::Pages;
use crate::remapping::{Reach, Remapping};

/// Allocates our own memory for one device's driver.
pub(crate) struct DeviceDma<'a> {
    /// The remapping units, one of which may translate for the device.
    pub(crate) remapping: &'a mut Remapping,
    /// How the device reaches memory.
    pub(crate) reach: Reach,
}

impl<'a> DeviceDma<'a> {
    /// Serves a device that reaches memory by `reach`.
    pub(crate) fn new(remapping: &'a mut Remapping, reach: Reach) -> Self {
        Self { remapping, reach }
    }
}

/// Our own memory that a device may read and write at any time. It is never freed, because the device may still use it.
pub(crate) struct SharedMemory {
    pages: Pages,
    device_address: IoAddress,
}

impl Dma for DeviceDma<'_> {
    type Memory = SharedMemory;

    fn allocate(&mut self, len: usize) -> Option<SharedMemory> {
        let pages = Pages::allocate(len.div_ceil(PAGE_SIZE as usize).max(1))?;
        // SAFETY: the pages are ours, and no device knows of them yet.
        unsafe { pages.start().write_bytes(0, pages.range().len() as usize) };
        let device_address = self.remapping.map(&self.reach, pages.range())?;
        Some(SharedMemory { pages, device_address })
    }
}

#[cfg(mutations)]
impl SharedMemory {
    /// Where it is.
    pub(crate) fn physical(&self) -> machine::Range<machine::PhysicalAddress> {
        self.pages.range()
    }

    /// The same memory under another device address.
    pub(crate) fn moved_to(self, device_address: IoAddress) -> Self {
        Self { device_address, ..self }
    }
}

impl SharedMemory {
    /// Returns a pointer to `size` bytes at `offset`. An offset outside is a bug of the driver.
    fn at<T>(&self, offset: usize, size: usize) -> *mut T {
        assert!(offset.checked_add(size).is_some_and(|end| end <= self.size()), "outside the shared memory");
        self.pages.start().wrapping_add(offset).cast()
    }

    /// A pointer to one value at `offset`, which must be aligned.
    fn value<T>(&self, offset: usize) -> *mut T {
        let pointer = self.at::<T>(offset, size_of::<T>());
        assert!(pointer.is_aligned(), "misaligned access to shared memory");
        pointer
    }
}

impl DmaMemory for SharedMemory {
    fn device_address(&self) -> IoAddress {
        self.device_address
    }

    fn size(&self) -> usize {
        self.pages.range().len() as usize
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        let from = self.at::<u8>(offset, into.len());
        // SAFETY: `at` checked the bounds of pages that are ours for good. A device that writes at the same time can
        // make the copy any bytes, which is all that is expected of them.
        unsafe { core::ptr::copy_nonoverlapping(from, into.as_mut_ptr(), into.len()) };
    }

    fn write(&mut self, offset: usize, from: &[u8]) {
        let to = self.at::<u8>(offset, from.len());
        // SAFETY: as for reading.
        unsafe { core::ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) };
    }

    fn read_u16(&self, offset: usize) -> u16 {
        // SAFETY: `value` checked bounds and alignment; volatile because a device may write it.
        unsafe { self.value::<u16>(offset).read_volatile() }
    }

    fn read_u32(&self, offset: usize) -> u32 {
        // SAFETY: as for 16 bits.
        unsafe { self.value::<u32>(offset).read_volatile() }
    }

    fn write_u16(&mut self, offset: usize, value: u16) {
        // SAFETY: as for reading; volatile because a device may read it.
        unsafe { self.value::<u16>(offset).write_volatile(value) }
    }

    fn write_u32(&mut self, offset: usize, value: u32) {
        // SAFETY: as for 16 bits.
        unsafe { self.value::<u32>(offset).write_volatile(value) }
    }

    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> SharedMemory {
        let mut remapping = Remapping::none(None).unwrap();
        DeviceDma::new(&mut remapping, Reach::Direct).allocate(5000).unwrap()
    }

    #[test]
    fn memory_is_whole_zeroed_pages_and_direct_addresses_are_physical() {
        let memory = memory();
        let mut bytes = [1; 8192];
        memory.read(0, &mut bytes);
        assert_eq!((memory.size(), bytes), (8192, [0; 8192]));
        assert_eq!(memory.device_address().get(), memory.pages.range().start.get());
    }

    #[test]
    fn values_are_little_endian() {
        let mut memory = memory();
        memory.write_u32(4, 0x1122_3344);
        let mut bytes = [0; 4];
        memory.read(4, &mut bytes);
        assert_eq!(bytes, [0x44, 0x33, 0x22, 0x11]);
        assert_eq!(memory.read_u16(6), 0x1122);
    }

    #[test]
    #[should_panic(expected = "outside the shared memory")]
    fn an_access_past_the_end_is_refused() {
        memory().read_u32(8192);
    }
}
