//! A file that holds a machine's RAM, seen as the dead kernel's memory.

use anyhow::Context;
use machine::{OldMemory, Table, Unreadable};

/// The RAM of a machine, byte N of the file being physical address N.
pub(crate) struct RamFile {
    bytes: Vec<u8>,
}

impl RamFile {
    pub(crate) fn open(path: &str) -> anyhow::Result<Self> {
        Ok(Self { bytes: std::fs::read(path).with_context(|| path.to_owned())? })
    }

    pub(crate) fn get(&self, address: u64, len: usize) -> Result<&[u8], Unreadable> {
        let end = address.saturating_add(len as u64);
        let found = self.bytes.get(address as usize..end as usize);
        found.ok_or(Unreadable { address, len: len as u64 })
    }
}

impl OldMemory for RamFile {
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Unreadable> {
        into.copy_from_slice(self.get(address, into.len())?);
        Ok(())
    }

    fn read_table(&self, address: u64, into: &mut Table) -> Result<(), Unreadable> {
        let bytes = self.get(address, size_of::<Table>())?;
        for (entry, bytes) in into.iter_mut().zip(bytes.as_chunks().0) {
            *entry = u64::from_le_bytes(*bytes);
        }
        Ok(())
    }
}

/// A number in decimal, or in hexadecimal after `0x`.
pub(crate) fn number(text: &str) -> anyhow::Result<u64> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.with_context(|| format!("{text} is no number"))
}
