//! Where core headers and notes are read from: a dead kernel's memory, or a core file.

use machine::{OldMemory, PhysicalAddress, Unreadable};

/// The bytes to whose places a core header refers.
///
/// In a dead kernel's memory, which a loader's header describes, a place is a physical address; all [`OldMemory`] is such a
/// medium. In a core file a place is an offset; the memory in the file is read through [`CoreFile`](crate::CoreFile).
pub trait Medium {
    /// Copies bytes from `place` on into `into`, which is unspecified after an error.
    ///
    /// The address in the error is `place`.
    fn read_at(&self, place: u64, into: &mut [u8]) -> Result<(), Unreadable>;
}

impl<M: OldMemory> Medium for M {
    fn read_at(&self, place: u64, into: &mut [u8]) -> Result<(), Unreadable> {
        self.read(PhysicalAddress::new(place), into)
    }
}
