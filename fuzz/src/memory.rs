//! Bytes as a dead kernel's memory.

use machine::{OldMemory, PAGE_SIZE, PhysicalAddress, Table, Unreadable};

/// A dead kernel's memory: the fuzzer's bytes from address 0, and nothing beyond.
#[derive(Debug)]
pub struct Memory<'a> {
    bytes: &'a [u8],
}

impl<'a> Memory<'a> {
    /// Memory that holds `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }
}

impl OldMemory for Memory<'_> {
    fn read(&self, address: PhysicalAddress, into: &mut [u8]) -> Result<(), Unreadable> {
        let error = Unreadable { address, len: into.len() as u64 };
        let start = usize::try_from(address.get()).map_err(|_| error)?;
        let bytes = self.bytes.get(start..).and_then(|rest| rest.get(..into.len()));
        into.copy_from_slice(bytes.ok_or(error)?);
        Ok(())
    }

    fn read_table(&self, address: PhysicalAddress, into: &mut Table) -> Result<(), Unreadable> {
        let mut bytes = [0; PAGE_SIZE as usize];
        self.read(address, &mut bytes)?;
        for (entry, bytes) in into.iter_mut().zip(bytes.as_chunks().0) {
            *entry = u64::from_le_bytes(*bytes);
        }
        Ok(())
    }
}
