//! Page tables so large that they are computed on reads and not stored.

use machine::{ENTRIES, Level, PAGE_SHIFT, PAGE_SIZE, Permission, PhysicalAddress, Position, Table};
use vtd::second_stage::SecondStageEntry;

/// Second-stage tables that map the I/O addresses from zero in pages of 4 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vast {
    /// How many pages are mapped.
    pub pages: u64,
    /// Physical address of the first table; those of level 1 come first, the top table last.
    pub tables: PhysicalAddress,
    /// Physical address of the first page that is mapped.
    pub memory: PhysicalAddress,
    /// Level of the top table.
    pub top: Level,
    /// In which order the pages lie in memory.
    pub order: Order,
}

/// In which order mapped pages lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// In sequence: large pages could map them too.
    Ascending,
    /// Every two neighbours are swapped: large pages cannot map them.
    Swapped,
}

impl Vast {
    /// How many tables there are of a level.
    fn count(&self, level: Level) -> u64 {
        self.pages.div_ceil(1 << (level.width() - PAGE_SHIFT))
    }

    fn first(&self, level: Level) -> PhysicalAddress {
        level
            .below()
            .map_or(self.tables, |below| self.first(below).saturating_add(self.count(below) * PAGE_SIZE))
    }

    /// Where the top table is.
    pub fn root(&self) -> PhysicalAddress {
        self.first(self.top)
    }

    /// The first address after the tables.
    pub fn end(&self) -> PhysicalAddress {
        self.root().saturating_add(self.count(self.top) * PAGE_SIZE)
    }

    /// The table at an address; `None` if it is not one of these.
    pub(crate) fn table(&self, address: PhysicalAddress) -> Option<Table> {
        let (level, number) = self.find(address)?;
        let entry = |index| self.entry(level, number * ENTRIES as u64 + index as u64);
        Some(std::array::from_fn(entry))
    }

    /// The word at an address.
    pub(crate) fn word(&self, address: PhysicalAddress) -> Option<u64> {
        let (level, number) = self.find(address)?;
        Some(self.entry(level, number * ENTRIES as u64 + address.get() % PAGE_SIZE / 8))
    }

    /// Which table of which level holds an address.
    fn find(&self, address: PhysicalAddress) -> Option<(Level, u64)> {
        let mut level = self.top;
        if address >= self.end() {
            return None;
        }
        while address < self.first(level) {
            level = level.below()?;
        }
        Some((level, address.count_since(self.first(level)) / PAGE_SIZE))
    }

    /// The entry with this number, counted over all tables of its level.
    fn entry(&self, level: Level, number: u64) -> u64 {
        match level.below() {
            Some(below) if number < self.count(below) => {
                SecondStageEntry::table(self.first(below).saturating_add(number * PAGE_SIZE)).0
            }
            None if number < self.pages => {
                let page = if self.order == Order::Swapped { number ^ 1 } else { number };
                let memory = self.memory.saturating_add(page * PAGE_SIZE);
                SecondStageEntry::leaf(Level::ONE, memory, Permission::ReadWrite).0
            }
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 3 GiB: 1536 tables of level 1, three of level 2, one of level 3.
    #[test]
    fn each_table_names_those_below_it() {
        let vast = Vast {
            pages: 3 << 18,
            tables: PhysicalAddress::new(0x100_0000),
            memory: PhysicalAddress::new(0x1_0000_0000),
            top: Level::THREE,
            order: Order::Swapped,
        };
        let tables = |number: u64| 0x100_0000 + number * 0x1000;
        assert_eq!((vast.root(), vast.end()), (tables(1539).into(), tables(1540).into()));
        let root = vast.table(vast.root()).unwrap();
        assert_eq!(root[..4], [tables(1536) | 3, tables(1537) | 3, tables(1538) | 3, 0]);
        assert_eq!(vast.word((tables(1537) + 8).into()), Some(tables(513) | 3));
        assert_eq!(vast.word(tables(513).into()), Some(0x1_0000_0003 + (513 * 512 + 1) * 0x1000));
        assert_eq!((vast.table(tables(1540).into()), vast.word(0xFF_FFF8.into())), (None, None));
    }
}
