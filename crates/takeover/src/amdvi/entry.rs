//! The entry that decides how a device's requests are translated: a device table entry, or, for requests that go through guest
//! tables alone, an entry of the CR3 table that it names.

use amdvi::device_table::{Cr3Entry, DeviceTableEntry, ENTRY_WORDS, GuestTables, HostTables, PagingMode};
use machine::{Frames, PAGE_SHIFT};

use crate::entry::{Link, Slot};

/// Words of a device table entry that are about memory: the others are about interrupts, and stay as they are.
pub(crate) const MEMORY_WORDS: usize = 2;

/// An entry that decides how requests are translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A device table entry.
    Device(DeviceTableEntry),
    /// An entry of a CR3 table.
    Guest {
        /// The entry of the device that names the table.
        device: DeviceTableEntry,
        /// The entry.
        cr3: Cr3Entry,
    },
}

/// What a device table entry says of requests to memory (2.2.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Says {
    /// They pass untranslated, because nothing is valid.
    NotValid,
    /// They are aborted.
    Blocks,
    /// They go through guest tables alone.
    Guest,
    /// Anything else: they pass as far as they are allowed to, or go through host tables.
    Host,
}

impl Entry {
    /// The entry of a device that the old kernel did not know.
    pub(crate) fn new() -> Self {
        Self::Device(blocked(DeviceTableEntry::default()))
    }

    /// Domain-id.
    pub const fn domain(&self) -> u16 {
        let (Self::Device(device) | Self::Guest { device, .. }) = self;
        device.guest.domain()
    }

    /// Whether requests without PASID go through guest tables, and then through host tables.
    pub(crate) const fn is_of_guest(&self) -> bool {
        match self {
            Self::Device(device) => {
                let has_host_tables = device.host.mode().0 != PagingMode::NONE.0;
                self.is_nested() && device.host.guest_without_pasid() && has_host_tables
            }
            Self::Guest { .. } => false,
        }
    }

    /// Whether there are tables of a guest, and host tables translate the addresses of those and of all that they map.
    pub const fn is_nested(&self) -> bool {
        match self {
            Self::Device(device) => device.host.valid() && device.host.guest_valid(),
            Self::Guest { .. } => false,
        }
    }
}

/// Reads what a device table entry says of requests to memory, on a unit that uses guest tables (GTEn).
pub(crate) const fn says(entry: DeviceTableEntry) -> Says {
    let host = entry.host;
    let has_host_tables = host.mode().0 != PagingMode::NONE.0;
    if !host.valid() {
        Says::NotValid
    } else if !host.translation_valid()
        || !(host.read() || host.write() || has_host_tables || host.guest_valid())
    {
        Says::Blocks
    } else if host.guest_valid() && host.guest_without_pasid() && !has_host_tables {
        Says::Guest
    } else {
        Says::Host
    }
}

/// The entry with these host tables. What it says of interrupts stays, and so do the device's rights; a device that passed
/// because nothing was valid has all rights.
///
/// Guest tables that it names stay too: host tables then translate all addresses of theirs, so that the device reaches no more
/// than the host tables allow (2.2.6).
pub(crate) fn linked(entry: DeviceTableEntry, link: Link) -> DeviceTableEntry {
    let (host, guest) = match says(entry) {
        Says::NotValid => (HostTables::new().with_read(true).with_write(true), GuestTables::new()),
        Says::Blocks => (HostTables::new().with_read(true).with_write(true), entry.guest),
        Says::Guest | Says::Host => (entry.host, entry.guest),
    };
    let host = host
        .with_valid(true)
        .with_translation_valid(true)
        .with_mode(PagingMode::of(link.top))
        .with_frame(link.root.get() >> PAGE_SHIFT);
    DeviceTableEntry { host, guest: guest.with_domain(link.id), ..entry }
}

/// The entry without guest tables: host tables alone translate its requests, or none.
pub(crate) fn without_guest(entry: DeviceTableEntry) -> DeviceTableEntry {
    let host = entry.host.with_guest_valid(false).with_guest_without_pasid(false);
    DeviceTableEntry { host, ..entry }
}

/// The entry that blocks its device: V is set and TV is not. What it says of interrupts stays, and so does the old kernel's choice
/// whether faults are logged.
pub(crate) fn blocked(entry: DeviceTableEntry) -> DeviceTableEntry {
    let host = HostTables::new().with_valid(true);
    let guest = if entry.host.valid() { entry.guest } else { GuestTables::new() };
    let guest = GuestTables::new()
        .with_suppress_faults(guest.suppress_faults())
        .with_suppress_further_faults(guest.suppress_further_faults())
        .with_exclusion(guest.exclusion());
    DeviceTableEntry { host, guest, ..entry }
}

/// The entry that blocks its device by tables that map nothing, as a mode of zero without rights does (2.2.2.1): there are units, of
/// software, that let such requests pass. Unlike [`blocked`], it leaves a device what an exclusion range allows it.
pub(crate) fn fenced(entry: DeviceTableEntry, fence: Link) -> DeviceTableEntry {
    let fenced = linked(blocked(entry), fence);
    let host = fenced.host.with_read(false).with_write(false);
    DeviceTableEntry { host, ..fenced }
}

/// Whether an entry names tables.
pub(crate) const fn is_linked(entry: DeviceTableEntry) -> bool {
    let host = entry.host;
    let names = host.mode().0 != PagingMode::NONE.0 || host.guest_valid();
    host.valid() && host.translation_valid() && names
}

/// Reads the device table entry in this slot.
pub(crate) fn load(slot: Slot, frames: &impl Frames) -> DeviceTableEntry {
    DeviceTableEntry::from_words(core::array::from_fn(|offset| frames.load(slot.table, slot.word + offset)))
}

/// Writes a device table entry that hardware does not use yet.
pub(crate) fn fill(entry: DeviceTableEntry, slot: Slot, frames: &mut impl Frames) {
    let words: [u64; ENTRY_WORDS] = entry.words();
    slot.fill(&words, frames);
}

/// Stores what a device table entry says of memory, where hardware may be reading: the word with V, TV and the tables last. What
/// it says of interrupts is there already.
pub(crate) fn store(entry: DeviceTableEntry, slot: Slot, frames: &mut impl Frames) {
    slot.store(&entry.words()[..MEMORY_WORDS], frames);
}

#[cfg(test)]
mod tests {
    use super::*;
    use machine::{Level, PhysicalAddress};
    use paging::Format;

    /// Interrupts remapped, with reserved and unknown bits around.
    const INTERRUPTS: [u64; 2] = [0x2000_0000_0120_2013, 0x1234];

    fn entry(host: u64, guest: u64) -> DeviceTableEntry {
        DeviceTableEntry::from_words([host, guest, INTERRUPTS[0], INTERRUPTS[1]])
    }

    fn link() -> Link {
        Link { format: Format::AmdV1, root: PhysicalAddress::new(0x1234_5000), top: Level::FOUR, id: 9 }
    }

    #[test]
    fn an_entry_says_what_becomes_of_requests() {
        let of = |host| says(entry(host, 0));
        assert_eq!((of(0), of(!1)), (Says::NotValid, Says::NotValid));
        assert_eq!((of(1), of(3), of(1 | 3 << 61)), (Says::Blocks, Says::Blocks, Says::Blocks));
        assert_eq!((of(3 | 1 << 61), of(0x6000_0000_018F_F603)), (Says::Host, Says::Host));
        let (guest, without_pasid) = (1 << 55, 1 << 54);
        assert_eq!((of(3 | guest), of(3 | guest | without_pasid)), (Says::Host, Says::Guest));
        assert_eq!(of(0x603 | guest | without_pasid), Says::Host);
    }

    #[test]
    fn interrupts_and_rights_stay_as_they_are() {
        let read_only = linked(entry(0x2000_0000_018F_F603, 1 << 32 | 2), link());
        assert_eq!(read_only.words(), [0x2000_0000_1234_5803, 1 << 32 | 9, INTERRUPTS[0], INTERRUPTS[1]]);
        let blocked = blocked(read_only);
        assert_eq!(blocked.words(), [1, 0, INTERRUPTS[0], INTERRUPTS[1]]);
        assert!(is_linked(read_only) && !is_linked(blocked));
    }

    /// What is not valid may be anything.
    #[test]
    fn a_device_that_passed_because_nothing_was_valid_has_all_rights_and_nothing_else() {
        let linked = linked(entry(!1, u64::MAX), link());
        assert_eq!(linked.words(), [0x6000_0000_1234_5803, 9, INTERRUPTS[0], INTERRUPTS[1]]);
    }
}
