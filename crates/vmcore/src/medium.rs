//! Where core headers and notes are read from: a dead kernel's memory, or a core file.

use machine::{OldMemory, PhysicalAddress, Unreadable};

/// Bytes that a core header speaks of by their place.
///
/// In a dead kernel's memory, which a loader's header describes, a place is a physical address; all [`OldMemory`] is such a
/// medium. In a core file a place is an offset. Its memory is behind [`CoreFile`](crate::CoreFile).
pub trait Medium {
    /// Copies bytes from `place` on into `into`, which is unspecified after an error.
    ///
    /// The error has the place for its address.
    fn read_at(&self, place: u64, into: &mut [u8]) -> Result<(), Unreadable>;
}

impl<M: OldMemory> Medium for M {
    fn read_at(&self, place: u64, into: &mut [u8]) -> Result<(), Unreadable> {
        self.read(PhysicalAddress::new(place), into)
    }
}
