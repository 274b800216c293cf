//! Guest tables, version 2, the processor's format: from a PASID to a root, and from there to a page of 4 KiB, 2 MiB or 1 GiB
//! (2.2.6). If there are host tables too, all addresses in guest tables are guest physical addresses.

use super::host::Step;
use super::{Abort, Mark, Page, Table, Trail, Walker};
use crate::reached::Rights;
use machine::{IoAddress, Level, PhysicalAddress};

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
/// PS: a page above level 1.
const LARGE: u64 = 1 << 7;
/// Bits 51:12.
const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;
/// The lowest bit of a large page's address field is an attribute (PAT).
const ATTRIBUTE: u64 = 1 << 12;
/// Bits of a CR3 entry that must be zero: 63:52 and 11:1.
const CR3_RESERVED: u64 = !ADDRESS & !PRESENT;
/// Bits of a PASID that one level of a CR3 table translates.
pub(super) const CR3_STRIDE: u32 = 9;

/// Guest tables, and the fields of their device table entry that matter for a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Guest {
    /// The CR3 table.
    pub(crate) cr3_table: PhysicalAddress,
    /// Its levels, 1 to 3.
    pub(crate) cr3_levels: u8,
    pub(crate) pasid: u32,
    /// The level of the root of the page tables.
    pub(crate) top: Level,
}

/// Translates a guest's physical address: to itself, or through host tables.
pub(crate) type Through<'a> = &'a mut dyn FnMut(IoAddress, &mut Trail) -> Result<Page, Abort>;

/// A word of a guest, where it is, and what its host allows there.
struct Word {
    value: u64,
    at: PhysicalAddress,
    host: Rights,
}

impl Walker<'_> {
    /// Follows the CR3 table to the root of the page tables of the guest's PASID (2.2.6.3).
    pub(crate) fn guest_root(&self, guest: Guest, through: Through<'_>) -> Result<Table, Abort> {
        if guest.pasid >> (CR3_STRIDE * u32::from(guest.cr3_levels)) != 0 {
            return Err(Abort::NotPresent);
        }
        let mut address = guest.cr3_table;
        for level in (0..u32::from(guest.cr3_levels)).rev() {
            address = self.cr3_step(address, guest.pasid >> (CR3_STRIDE * level) & 0x1FF, through)?;
        }
        Ok(Table { address, level: guest.top, rights: Rights::ALL })
    }

    /// Reads an entry of one level of a CR3 table. Its address is physical, unless GCR3TRPMode has host tables translate it.
    pub(super) fn cr3_step(
        &self,
        table: PhysicalAddress,
        index: u32,
        through: Through<'_>,
    ) -> Result<PhysicalAddress, Abort> {
        let at = table.saturating_add(u64::from(index) * 8);
        let trail = &mut Trail::default();
        let entry = if self.control().guest_cr3_address() {
            self.word(at, through, trail)?.value
        } else {
            self.word(at, &mut |address, _| Ok(Page::identity(address)), trail)?.value
        };
        match entry & CR3_RESERVED {
            _ if entry & PRESENT == 0 => Err(Abort::NotPresent),
            0 => Ok(PhysicalAddress::new(entry & ADDRESS)),
            _ => Err(Abort::Reserved),
        }
    }

    /// Walks from `table` to the page of `iova`.
    pub(crate) fn guest_page(
        &self,
        guest: Guest,
        mut table: Table,
        iova: IoAddress,
        through: Through<'_>,
        trail: &mut Trail,
    ) -> Result<Page, Abort> {
        if !is_canonical(iova, guest.top) {
            return Err(Abort::BeyondWidth);
        }
        loop {
            trail.tables.push(table);
            match self.guest_step(table, iova, through, trail)? {
                Step::Down(next) => table = next,
                Step::Leaf(page) => return on_host(page, iova, through, trail),
            }
        }
    }

    /// Reads the entry for an address. Requests are users'.
    pub(super) fn guest_step(
        &self,
        table: Table,
        iova: IoAddress,
        through: Through<'_>,
        trail: &mut Trail,
    ) -> Result<Step, Abort> {
        let Word { value: entry, at, host } =
            self.word(table.slot(table.level.index(iova)), through, trail)?;
        if entry & PRESENT == 0 {
            return Err(Abort::NotPresent);
        }
        let large = entry & LARGE != 0 && table.level > Level::ONE;
        let leaf = large || table.level == Level::ONE;
        let address = entry & ADDRESS & if large { !ATTRIBUTE } else { u64::MAX };
        let offset = if leaf { table.level.span() - 1 } else { 0 };
        let beyond = address.checked_shr(self.traits.host_address_bits).unwrap_or(0);
        if (large && table.level > Level::THREE) || address & offset != 0 || beyond != 0 {
            return Err(Abort::Reserved);
        }
        let user = entry & USER != 0;
        let rights = table.rights.and(Rights { read: user, write: user && entry & WRITABLE != 0 });
        let mark = self.guest_mark(entry, at, leaf, host);
        trail.mark(mark);
        let address = PhysicalAddress::new(address);
        let page = Page::around(iova, address, table.level.shift(), rights).noted(mark.for_write == 0);
        let down = |level| Step::Down(Table { address, level, rights });
        Ok(table.level.below().filter(|_| !leaf).map_or(Step::Leaf(page), down))
    }

    /// The bits that hardware sets in an entry, which lies on a host page with these rights.
    fn guest_mark(&self, entry: u64, at: PhysicalAddress, leaf: bool, host: Rights) -> Mark {
        let control = self.control();
        let for_use = if control.guest_accessed_disable() { 0 } else { ACCESSED & !entry };
        let for_write = if control.guest_dirty_disable() || !leaf { 0 } else { DIRTY & !entry };
        let obstacle = (!host.write).then_some(Abort::NotAllowed);
        Mark { at, for_use, for_write, obstacle }
    }

    /// Reads a word at a guest's physical address.
    fn word(&self, address: PhysicalAddress, through: Through<'_>, trail: &mut Trail) -> Result<Word, Abort> {
        let address = as_guest(address);
        let page = below(address, through, trail)?;
        if !page.rights.read {
            return Err(Abort::NotAllowed);
        }
        let at = page.place(address);
        let value = self.memory.read(at).ok_or(Abort::TableUnreadable)?;
        Ok(Word { value, at, host: page.rights })
    }
}

/// The page that an address in a guest's page lies in, after translation by the host.
fn on_host(guest: Page, iova: IoAddress, through: Through<'_>, trail: &mut Trail) -> Result<Page, Abort> {
    let address = as_guest(guest.place(iova));
    let host = below(address, through, trail)?;
    let shift = guest.shift.min(host.shift);
    let page = Page::around(iova, host.place(address), shift, guest.rights.and(host.rights));
    Ok(page.noted(guest.noted && host.noted))
}

/// The host's page; the tables on the way are no part of the guest's trail.
fn below(address: IoAddress, through: Through<'_>, trail: &mut Trail) -> Result<Page, Abort> {
    let mut own = Trail::default();
    let page = through(address, &mut own)?;
    trail.take_marks(own);
    Ok(page)
}

/// Converts a physical address in guest tables into the address that host tables translate.
pub(super) fn as_guest(address: PhysicalAddress) -> IoAddress {
    IoAddress::new(address.get())
}

/// Whether the bits above those that a root of this level translates repeat the highest of them.
pub(crate) fn is_canonical(iova: IoAddress, top: Level) -> bool {
    let unused = 64 - top.width();
    let extended = (iova.get() << unused).cast_signed() >> unused;
    extended.cast_unsigned() == iova.get()
}
