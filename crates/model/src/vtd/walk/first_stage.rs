//! First-stage tables, the processor's format: from a canonical address to a page of 4 KiB, 2 MiB or 1 GiB (3.6). In
//! nested translation all addresses in them, including those of tables, are guest addresses.

use super::second_stage::Step;
use super::{Mark, Page, Rights, Table, Trail, Walker};
use machine::{IoAddress, Level, PhysicalAddress};
use vtd::fault::FaultReason;
use vtd::first_stage::{FirstStageEntry, is_canonical};

/// Reasons of first-stage walks (7.1.3): SFS and SGN conditions.
const ENTRY_UNREADABLE: FaultReason = FaultReason(0x70);
const ENTRY_RESERVED: FaultReason = FaultReason(0x72);
pub(super) const BEYOND_WIDTH: FaultReason = FaultReason(0x74);
const ENTRY_HIDDEN: FaultReason = FaultReason(0x76);
const ENTRY_READ_ONLY: FaultReason = FaultReason(0x77);
const NOT_CANONICAL: FaultReason = FaultReason(0x80);
const MARK_WITHOUT_SNOOP: FaultReason = FaultReason(0x90);

/// First-stage tables, and the fields of their PASID entry that matter for a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FirstStage {
    pub(crate) root: Table,
    pub(crate) extended_accessed: bool,
    /// Whether page walks snoop the processor's caches; if not, hardware cannot set bits in entries (3.10).
    pub(crate) snoops: bool,
    pub(crate) privilege: Privilege,
}

/// The privilege of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Privilege {
    User,
    /// Read-only pages do not stop its writes.
    Supervisor,
    /// Read-only pages stop its writes (WPE).
    BoundSupervisor,
}

impl FirstStage {
    pub(super) fn check_canonical(&self, address: IoAddress) -> Result<(), FaultReason> {
        if is_canonical(address, self.root.level) { Ok(()) } else { Err(NOT_CANONICAL) }
    }

    fn rights(&self, entry: FirstStageEntry) -> Rights {
        let (user, writable) = (entry.user(), entry.writable());
        match self.privilege {
            _ if !entry.present() => Rights { read: false, write: false },
            Privilege::User => Rights { read: user, write: user && writable },
            Privilege::Supervisor => Rights::ALL,
            Privilege::BoundSupervisor => Rights { read: true, write: writable },
        }
    }

    /// The bits that hardware sets in a present entry at `at`, which lies on a host page with these rights.
    fn mark(&self, entry: FirstStageEntry, level: Level, at: PhysicalAddress, host: Rights) -> Mark {
        let extended = if self.extended_accessed { EXTENDED_ACCESSED } else { 0 };
        let obstacle = match host.write {
            _ if !self.snoops => Some(MARK_WITHOUT_SNOOP),
            false => Some(ENTRY_READ_ONLY),
            true => None,
        };
        let for_write = if entry.is_leaf(level) { DIRTY & !entry.0 } else { 0 };
        Mark { at, for_use: (ACCESSED | extended) & !entry.0, for_write, obstacle }
    }
}

/// A, D and EA (9.7).
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const EXTENDED_ACCESSED: u64 = 1 << 10;

/// Translates a guest's physical address: to itself, or through the second stage.
pub(crate) type Host<'a> = &'a mut dyn FnMut(IoAddress, &mut Trail) -> Result<Page, FaultReason>;

impl Walker<'_> {
    /// Walks from `table` to the page of `iova`; `host` translates the addresses in the tables.
    pub(crate) fn first_stage(
        &self,
        first: FirstStage,
        mut table: Table,
        iova: IoAddress,
        host: Host<'_>,
        trail: &mut Trail,
    ) -> Result<Page, FaultReason> {
        loop {
            trail.tables.push(table);
            match self.first_step(first, table, table.level.index(iova), host, trail)? {
                Step::Down(next) => table = next,
                Step::Leaf { rights, .. } if !rights.any() => {
                    return Ok(Page {
                        iova,
                        address: PhysicalAddress::default(),
                        level: table.level,
                        rights,
                        noted: true,
                    }
                    .aligned());
                }
                Step::Leaf { address, rights, noted } => {
                    let guest = Page { iova, address, level: table.level, rights, noted }.aligned();
                    return through(guest, iova, host, trail);
                }
            }
        }
    }

    /// Reads one entry.
    pub(super) fn first_step(
        &self,
        first: FirstStage,
        table: Table,
        index: usize,
        host: Host<'_>,
        trail: &mut Trail,
    ) -> Result<Step, FaultReason> {
        let guest_at = as_guest(table.slot(index));
        let mut below = Trail::default();
        let page = host(guest_at, &mut below)?;
        trail.take_marks(below);
        if !page.rights.read {
            return Err(ENTRY_HIDDEN);
        }
        let at = page.place(guest_at);
        let entry = FirstStageEntry(self.memory.read(at).ok_or(ENTRY_UNREADABLE)?);
        let rights = table.rights.and(first.rights(entry));
        if !entry.present() {
            return Ok(Step::Leaf { address: PhysicalAddress::default(), rights, noted: true });
        }
        if entry.reserved_bits(table.level, self.traits.host_address_bits, self.traits.capability) != 0 {
            return Err(ENTRY_RESERVED);
        }
        let mark = first.mark(entry, table.level, at, page.rights);
        trail.mark(mark);
        Ok(match table.level.below().filter(|_| !entry.is_leaf(table.level)) {
            Some(level) => Step::Down(Table { address: entry.address(), level, rights }),
            None => Step::Leaf { address: entry.page(table.level), rights, noted: mark.for_write == 0 },
        })
    }
}

/// The page that an address in a guest's page lies in, after translation by the host.
fn through(guest: Page, iova: IoAddress, host: Host<'_>, trail: &mut Trail) -> Result<Page, FaultReason> {
    let address = as_guest(guest.place(iova));
    let mut below = Trail::default();
    let page = host(address, &mut below)?;
    trail.take_marks(below);
    let level = guest.level.min(page.level);
    let (rights, noted) = (guest.rights.and(page.rights), guest.noted && page.noted);
    Ok(Page { iova, address: page.place(address), level, rights, noted }.aligned())
}

/// Converts a physical address in first-stage tables into the address that the stage beneath translates.
pub(super) fn as_guest(address: PhysicalAddress) -> IoAddress {
    IoAddress::new(address.get())
}
