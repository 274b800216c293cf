//! A file that holds a machine's RAM, seen as the dead kernel's memory.

use anyhow::Context;
use machine::{OldMemory, Table, Unreadable};

const FOUR_GIB: u64 = 4 << 30;
/// QEMU's q35 machine moves what passes this size from 2 GiB on to 4 GiB.
const LARGEST_BELOW_4_GIB: u64 = 0xb000_0000;

/// The RAM of a QEMU q35 machine, as its memory backend file holds it: byte N is physical address N up to the hole
/// below 4 GiB, and the rest follows without one.
pub(crate) struct RamFile {
    bytes: Vec<u8>,
    /// Bytes below the hole.
    low: u64,
}

impl RamFile {
    pub(crate) fn open(path: &str) -> anyhow::Result<Self> {
        let bytes = std::fs::read(path).with_context(|| path.to_owned())?;
        let size = bytes.len() as u64;
        Ok(Self { bytes, low: if size < LARGEST_BELOW_4_GIB { size } else { 2 << 30 } })
    }

    pub(crate) fn get(&self, address: u64, len: usize) -> Result<&[u8], Unreadable> {
        let (low, high) = self.bytes.split_at(self.low as usize);
        let (part, start) = if address < FOUR_GIB { (low, address) } else { (high, address - FOUR_GIB) };
        let found = part.get(start as usize..).and_then(|rest| rest.get(..len));
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
