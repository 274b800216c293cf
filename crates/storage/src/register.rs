//! Fields of a device's registers, with their offset, width and access: `pub(super) const STATUS: ReadWrite<u8> = …`.
//!
//! A `spec` module of a driver lists them by the sections of its specification. The compiler then ensures that a
//! field is accessed with its own width, and that a read-only field is never written.

use core::marker::PhantomData;

use machine::Registers;

/// A field that the device sets and the driver only reads.
pub(crate) struct ReadOnly<T>(Field<T>);

/// A field that the driver writes, and reads back.
pub(crate) struct ReadWrite<T>(Field<T>);

struct Field<T> {
    /// Bytes from the start of the block.
    offset: usize,
    value: PhantomData<T>,
}

/// The type of a field's value, which has the width of one access.
pub(crate) trait Value {
    /// Reads the field at `offset`.
    fn read(block: &impl Registers, offset: usize) -> Self;
    /// Writes the field at `offset`.
    fn write(self, block: &mut impl Registers, offset: usize);
}

impl<T> Field<T> {
    const fn at(offset: usize) -> Self {
        Self { offset, value: PhantomData }
    }
}

impl<T: Value> ReadOnly<T> {
    /// The field `offset` bytes from the start of its block.
    pub(crate) const fn at(offset: usize) -> Self {
        Self(Field::at(offset))
    }

    /// The same field of a structure that begins at `start` of a block.
    pub(crate) const fn of(self, start: usize) -> Self {
        Self::at(start + self.0.offset)
    }

    /// Reads the field, in one access.
    pub(crate) fn read(self, block: &impl Registers) -> T {
        T::read(block, self.0.offset)
    }
}

impl<T: Value> ReadWrite<T> {
    /// The field `offset` bytes from the start of its block.
    pub(crate) const fn at(offset: usize) -> Self {
        Self(Field::at(offset))
    }

    /// Reads the field, in one access.
    pub(crate) fn read(self, block: &impl Registers) -> T {
        T::read(block, self.0.offset)
    }

    /// Writes the field, in one access.
    pub(crate) fn write(self, block: &mut impl Registers, value: T) {
        value.write(block, self.0.offset);
    }
}

macro_rules! value {
    ($type:ty, $read:ident, $write:ident) => {
        impl Value for $type {
            fn read(block: &impl Registers, offset: usize) -> Self {
                block.$read(offset)
            }
            fn write(self, block: &mut impl Registers, offset: usize) {
                block.$write(offset, self);
            }
        }
    };
}

value!(u8, read8, write8);
value!(u16, read16, write16);
value!(u32, read32, write32);

/// A field of 64 bits that is accessed as two of 32, the lower half first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Halves(pub(crate) u64);

impl Value for Halves {
    fn read(block: &impl Registers, offset: usize) -> Self {
        Self(u64::from(block.read32(offset)) | u64::from(block.read32(offset + 4)) << 32)
    }

    fn write(self, block: &mut impl Registers, offset: usize) {
        block.write32(offset, self.0 as u32);
        block.write32(offset + 4, (self.0 >> 32) as u32);
    }
}
