//! What the dead kernel's tables say, walked by a reader of its own: nothing here is shared with the code under test.
//!
//! Legacy mode only: root and context tables of 256 entries of 16 bytes, second-stage tables of 512 entries of 8 bytes
//! (Intel VT-d specification, section 9 "Translation Structure Formats": 9.1 root, 9.3 context, 9.8 second-stage paging entries).

use std::collections::HashSet;

use anyhow::{Result, bail};
use machine::PAGE_SIZE;

use crate::ram::{Page, Ram};

const PRESENT: u64 = 1;
/// A second-stage entry that allows neither reading nor writing is not present.
const READ: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const LARGE: u64 = 1 << 7;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// The tables below a root table in a file of guest memory.
pub(crate) struct Tables<'a> {
    ram: &'a Ram,
    root: u64,
}

/// What an I/O page leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mapping {
    /// First I/O address.
    pub(crate) iova: u64,
    /// Physical address to which that one leads.
    pub(crate) address: u64,
    /// How many bytes are mapped alike.
    pub(crate) len: u64,
    /// Whether the device may write there.
    pub(crate) writable: bool,
}

/// How a context entry has its requests translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Context {
    /// By second-stage tables of this many levels at this address.
    Tables { address: u64, levels: u32 },
    /// Not at all: pass-through.
    Untranslated,
}

impl<'a> Tables<'a> {
    /// The tables of the root table at `root`.
    pub(crate) fn new(ram: &'a Ram, root: u64) -> Self {
        Self { ram, root }
    }

    /// Where `iova` of the function `source` leads; `None` if the unit would refuse the request.
    pub(crate) fn translate(&self, source: u16, iova: u64) -> Result<Option<u64>> {
        Ok(match self.context(source)? {
            None => None,
            Some(Context::Untranslated) => Some(iova),
            Some(Context::Tables { address, levels }) => self.walk(address, levels, iova)?,
        })
    }

    /// The functions that have a context entry.
    pub(crate) fn functions(&self) -> Result<Vec<u16>> {
        let mut present = Vec::new();
        for bus in 0..=255_u16 {
            if self.context_table(bus << 8)?.is_some() {
                self.add_functions_of(bus, &mut present)?;
            }
        }
        Ok(present)
    }

    /// Calls `visit` with every leaf mapping of every function. Functions that share tables are visited once.
    pub(crate) fn each_mapping(&self, mut visit: impl FnMut(Mapping)) -> Result<()> {
        let mut seen = HashSet::new();
        for source in self.functions()? {
            match self.context(source)? {
                Some(Context::Tables { address, levels }) if seen.insert(address) => {
                    self.visit_table(address, levels, 0, true, &mut visit)?;
                }
                Some(Context::Untranslated) => {
                    bail!("function {source:#06x} is not translated: it may write anywhere")
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The page frames that some device may write, by address.
    pub(crate) fn writable_pages(&self) -> Result<HashSet<u64>> {
        let mut pages = HashSet::new();
        self.each_mapping(|mapping| {
            if mapping.writable {
                pages.extend((mapping.address..mapping.address + mapping.len).step_by(PAGE_SIZE as usize));
            }
        })?;
        Ok(pages)
    }

    fn add_functions_of(&self, bus: u16, present: &mut Vec<u16>) -> Result<()> {
        for source in (bus << 8)..=(bus << 8 | 0xff) {
            if self.context(source)?.is_some() {
                present.push(source);
            }
        }
        Ok(())
    }

    fn context_table(&self, source: u16) -> Result<Option<u64>> {
        let entry = self.ram.read_u64(self.root + u64::from(source >> 8) * 16)?;
        Ok((entry & PRESENT != 0).then_some(entry & ADDRESS))
    }

    fn context(&self, source: u16) -> Result<Option<Context>> {
        let Some(table) = self.context_table(source)? else { return Ok(None) };
        let at = table + u64::from(source & 0xff) * 16;
        context(self.ram.read_u64(at)?, self.ram.read_u64(at + 8)?)
    }

    fn walk(&self, table: u64, levels: u32, iova: u64) -> Result<Option<u64>> {
        if iova >> (12 + 9 * levels) != 0 {
            return Ok(None);
        }
        let mut address = table;
        for level in (1..=levels).rev() {
            let shift = 3 + 9 * level;
            let entry = self.ram.read_u64(address + (iova >> shift) % 512 * 8)?;
            if entry & (READ | WRITE) == 0 {
                return Ok(None);
            }
            address = entry & ADDRESS;
            if level == 1 || entry & LARGE != 0 {
                return Ok(Some(address + iova % (1 << shift)));
            }
        }
        Ok(None)
    }

    fn visit_table(
        &self,
        table: u64,
        level: u32,
        start: u64,
        writable: bool,
        visit: &mut impl FnMut(Mapping),
    ) -> Result<()> {
        let shift = 3 + 9 * level;
        for (index, entry) in (0..).zip(entries(&self.ram.page(table)?)) {
            let (iova, writable) = (start + (index << shift), writable && entry & WRITE != 0);
            if entry & (READ | WRITE) == 0 {
                continue;
            }
            if level == 1 || entry & LARGE != 0 {
                visit(Mapping { iova, address: entry & ADDRESS, len: 1 << shift, writable });
            } else {
                self.visit_table(entry & ADDRESS, level - 1, iova, writable, visit)?;
            }
        }
        Ok(())
    }
}

/// Decodes a context entry (VT-d specification, section 9.3): translation type in bits 3:2, width in bits 66:64.
fn context(low: u64, high: u64) -> Result<Option<Context>> {
    if low & PRESENT == 0 {
        return Ok(None);
    }
    let levels = high as u32 % 8 + 2;
    Ok(Some(match low >> 2 & 3 {
        0 | 1 => Context::Tables { address: low & ADDRESS, levels },
        2 => Context::Untranslated,
        kind => bail!("a context entry of the reserved type {kind}"),
    }))
}

fn entries(page: &Page) -> impl Iterator<Item = u64> {
    let (entries, _) = page.as_chunks::<8>();
    entries.iter().map(|bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    /// Root at 0x1000, bus 0's context table at 0x2000, function 00:14.0 (0xa0) with three levels at 0x3000.
    fn memory() -> HashMap<u64, u64> {
        HashMap::from([
            (0x1000, 0x2001),             // root entry of bus 0: present
            (0x2000 + 0xa0 * 16, 0x3001), // context entry: present, translated
            (0x2008 + 0xa0 * 16, 0x0101), // domain 1, 39 bits wide
            (0x3000 + 3 * 8, 0x4003),     // IOVA 0xc000_0000 and up
            (0x4000, 0x5003),             // its first 2 MiB in small pages
            (0x4008, 0x20_0083),          // the next 2 MiB in one page, writable
            (0x5000, 0x9001),             // read-only page
            (0x5008, 0xa003),             // writable page
        ])
    }

    fn with_tables<T>(memory: &HashMap<u64, u64>, judge: impl FnOnce(&Tables) -> T) -> T {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = vec![0; 0x10000];
        for (&address, value) in memory {
            bytes[address as usize..address as usize + 8].copy_from_slice(&value.to_le_bytes());
        }
        std::fs::write(dir.path().join("ram"), bytes).unwrap();
        let ram = Ram::open(&dir.path().join("ram")).unwrap();
        judge(&Tables::new(&ram, 0x1000))
    }

    #[test]
    fn small_and_large_pages_are_walked_to_their_address() {
        with_tables(&memory(), |tables| {
            assert_eq!(tables.translate(0xa0, 0xc000_1234).unwrap(), Some(0xa234));
            assert_eq!(tables.translate(0xa0, 0xc030_0010).unwrap(), Some(0x30_0010));
        });
    }

    #[test]
    fn what_is_not_mapped_leads_nowhere() {
        with_tables(&memory(), |tables| {
            assert_eq!(tables.translate(0xa0, 0xc000_2000).unwrap(), None, "empty leaf entry");
            assert_eq!(tables.translate(0xa0, 0).unwrap(), None, "empty entry further up");
            assert_eq!(tables.translate(0xa8, 0xc000_1000).unwrap(), None, "no context entry");
            assert_eq!(tables.translate(0x1a0, 0xc000_1000).unwrap(), None, "no bus");
            assert_eq!(tables.translate(0xa0, 1 << 39).unwrap(), None, "past the width");
        });
    }

    #[test]
    fn only_pages_that_a_device_may_write_count_as_writable() {
        with_tables(&memory(), |tables| {
            let pages = tables.writable_pages().unwrap();
            assert!(!pages.contains(&0x9000));
            assert!(pages.contains(&0xa000) && pages.contains(&0x20_0000) && pages.contains(&0x3f_f000));
            assert_eq!(pages.len(), 1 + 512);
        });
    }

    #[test]
    fn a_read_only_entry_further_up_makes_everything_below_read_only() {
        let mut memory = memory();
        memory.insert(0x3000 + 3 * 8, 0x4001);
        with_tables(&memory, |tables| assert!(tables.writable_pages().unwrap().is_empty()));
    }

    #[test]
    fn a_pass_through_context_leads_everywhere_as_it_is() {
        let mut memory = memory();
        memory.insert(0x2000 + 0xa0 * 16, 0x9);
        with_tables(&memory, |tables| {
            assert_eq!(tables.translate(0xa0, 0x1234_5678).unwrap(), Some(0x1234_5678));
            assert!(tables.writable_pages().is_err());
        });
    }
}
