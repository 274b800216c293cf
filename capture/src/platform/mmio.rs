//! Memory-mapped registers.

use machine::{PhysicalAddress, Range, Registers};

use crate::platform::paging::{Access, AddressSpace, MapError};

/// A block of registers, mapped uncached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mmio {
    start: *mut u8,
    size: usize,
}

impl Mmio {
    /// Maps the registers at the physical addresses `range`.
    ///
    /// Memory can never be reached so: the page tables refuse to map it for a second use.
    pub(crate) fn map(space: &mut AddressSpace, range: Range<PhysicalAddress>) -> Result<Self, MapError> {
        space.map(range, Access::Device)?;
        Ok(Self { start: range.start.get() as *mut u8, size: range.len() as usize })
    }

    /// The part of the registers from `offset` on, `size` bytes long; `None` if it is not inside.
    pub(crate) fn part(self, offset: usize, size: usize) -> Option<Self> {
        let end = offset.checked_add(size)?;
        (end <= self.size).then(|| Self { start: self.start.wrapping_add(offset), size })
    }

    /// Returns a pointer to the register at `offset`. An offset that is outside or not aligned is a bug.
    fn register<T>(self, offset: usize) -> *mut T {
        let fits = offset.checked_add(size_of::<T>()).is_some_and(|end| end <= self.size);
        let register = self.start.wrapping_add(offset).cast::<T>();
        assert!(fits && register.is_aligned(), "no register at offset {offset:#x}");
        register
    }
}

/// Reads a register in one access.
macro_rules! read {
    ($name:ident, $type:ty) => {
        fn $name(&self, offset: usize) -> $type {
            // SAFETY: `register` checked bounds and alignment of registers that `map` mapped for good.
            unsafe { self.register::<$type>(offset).read_volatile() }
        }
    };
}

/// Writes a register in one access.
macro_rules! write {
    ($name:ident, $type:ty) => {
        fn $name(&mut self, offset: usize, value: $type) {
            // SAFETY: as for reads; what the device does with the value is its driver's business.
            unsafe { self.register::<$type>(offset).write_volatile(value) }
        }
    };
}

impl Registers for Mmio {
    read!(read8, u8);
    read!(read16, u16);
    read!(read32, u32);
    read!(read64, u64);
    write!(write8, u8);
    write!(write16, u16);
    write!(write32, u32);
    write!(write64, u64);
}
