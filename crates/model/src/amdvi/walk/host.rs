//! Host tables, version 1: from an I/O address to a page whose size is any power of two (2.2.3).

use super::{Abort, Mark, Page, Table, Trail, Walker};
use crate::reached::Rights;
use machine::{IoAddress, Level, PhysicalAddress};

/// PR, A and D, IR and IW.
const PRESENT: u64 = 1 << 0;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const READ: u64 = 1 << 61;
const WRITE: u64 = 1 << 62;
/// Bits 51:12.
const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;
/// Bits that must be zero: 60:52 where an entry names a table, 58:52 where it maps a page.
const RESERVED_IN_TABLE: u64 = 0x1FF << 52;
const RESERVED_IN_PAGE: u64 = 0x7F << 52;
/// Next levels that are no levels: a page as large as what the entry covers, and one of another size.
const PAGE: u8 = 0;
const SIZED_PAGE: u8 = 7;

/// Host tables, and the fields of their device table entry that matter for a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Host {
    pub(crate) root: Table,
    /// Which bits hardware sets in entries (HAD, as far as HADUpdate allows): 1 accessed, 2 dirty.
    pub(crate) marks: u8,
}

/// What one entry says.
pub(super) enum Step {
    /// It names the next table.
    Down(Table),
    /// It maps a page.
    Leaf(Page),
}

/// Next Level: bits 11:9.
fn next_level(entry: u64) -> u8 {
    (entry >> 9 & 7) as u8
}

impl Host {
    fn mark(&self, entry: u64, at: PhysicalAddress) -> Mark {
        let wanted = |bit: u8, mark: u64| if self.marks & bit == 0 { 0 } else { mark & !entry };
        let maps = matches!(next_level(entry), PAGE | SIZED_PAGE);
        let for_write = if maps { wanted(2, DIRTY) } else { 0 };
        Mark { at, for_use: wanted(1, ACCESSED), for_write, obstacle: None }
    }
}

impl Walker<'_> {
    /// Walks from `table` to the page of `iova`.
    pub(crate) fn host_page(
        &self,
        host: Host,
        mut table: Table,
        iova: IoAddress,
        trail: &mut Trail,
    ) -> Result<Page, Abort> {
        if iova.get().checked_shr(host.root.level.width()).unwrap_or(0) != 0 {
            return Err(Abort::BeyondWidth);
        }
        loop {
            trail.tables.push(table);
            match self.host_step(host, table, iova, trail)? {
                Step::Leaf(page) => return Ok(page),
                Step::Down(next) => table = next,
            }
        }
    }

    /// Reads the entry for an address.
    pub(super) fn host_step(
        &self,
        host: Host,
        table: Table,
        iova: IoAddress,
        trail: &mut Trail,
    ) -> Result<Step, Abort> {
        let at = table.slot(table.level.index(iova));
        let entry = self.memory.read(at).ok_or(Abort::TableUnreadable)?;
        if entry & PRESENT == 0 {
            return Err(Abort::NotPresent);
        }
        let rights = table.rights.and(Rights { read: entry & READ != 0, write: entry & WRITE != 0 });
        let address = PhysicalAddress::new(entry & ADDRESS);
        let step = match next_level(entry) {
            PAGE | SIZED_PAGE => {
                let page = Page::around(iova, address, page_shift(entry, table.level)?, rights);
                self.check_reserved(entry, RESERVED_IN_PAGE, page.address)?;
                Step::Leaf(page)
            }
            number => {
                self.check_reserved(entry, RESERVED_IN_TABLE, address)?;
                let below = |level: &Level| *level < table.level;
                let level = Level::new(number).filter(below).ok_or(Abort::Malformed)?;
                check_skipped(iova, table.level, level)?;
                Step::Down(Table { address, level, rights })
            }
        };
        let mark = host.mark(entry, at);
        trail.mark(mark);
        Ok(match step {
            Step::Leaf(page) => Step::Leaf(page.noted(mark.for_write == 0)),
            down @ Step::Down(_) => down,
        })
    }

    fn check_reserved(&self, entry: u64, reserved: u64, address: PhysicalAddress) -> Result<(), Abort> {
        let beyond = address.get().checked_shr(self.traits.host_address_bits).unwrap_or(0);
        if entry & reserved | beyond == 0 { Ok(()) } else { Err(Abort::Reserved) }
    }
}

/// Binary logarithm of the size of the page that an entry of this level maps. The lowest clear bit of the address of a sized
/// page is half its size; the size lies between what the entry covers and what its table does (2.2.3). Level 6 has no page as
/// large as what its entries cover.
fn page_shift(entry: u64, level: Level) -> Result<u32, Abort> {
    let own = level.shift();
    if next_level(entry) == PAGE {
        return if level < Level::SIX { Ok(own) } else { Err(Abort::Malformed) };
    }
    let lowest_clear = (!entry & ADDRESS).trailing_zeros();
    let shift = lowest_clear + 1;
    if own < shift && shift < level.width() && shift <= 52 { Ok(shift) } else { Err(Abort::Malformed) }
}

/// Refuses an address in which bits are set that the levels between two tables would translate (2.2.3).
fn check_skipped(iova: IoAddress, from: Level, to: Level) -> Result<(), Abort> {
    let skipped = (1_u64 << from.shift()) - (1_u64 << to.width());
    if iova.get() & skipped == 0 { Ok(()) } else { Err(Abort::Malformed) }
}
