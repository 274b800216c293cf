//! Device table entries: one for each source-id, which names its domain, its tables and its interrupts (2.2.2.1).
//!
//! What an entry says of requests to memory:
//!
//! | V | TV | GV | mode | a request |
//! |---|---|---|---|---|
//! | 0 | | | | passes untranslated |
//! | 1 | 0 | | | is aborted |
//! | 1 | 1 | 0 | 0 | passes untranslated, as far as IR and IW allow |
//! | 1 | 1 | 0 | 1–6 | goes through host tables whose root is of this level |
//! | 1 | 1 | 1 | 0 | goes through guest tables, if it has a PASID or GIoV is set |
//! | 1 | 1 | 1 | 1–6 | goes through guest tables, all of whose addresses host tables translate |
//!
//! A device for which the table has no entry passes untranslated too.

use bitfield_struct::bitfield;
use machine::{Level, PAGE_SHIFT, PhysicalAddress};

/// Words of an entry.
pub const ENTRY_WORDS: usize = 4;
/// Bytes of an entry.
pub const ENTRY_BYTES: usize = ENTRY_WORDS * 8;

/// Mode: the level of the root of the host tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PagingMode(pub u8);

impl PagingMode {
    /// There are no host tables.
    pub const NONE: Self = Self(0);

    /// The mode for a root of this level.
    pub const fn of(top: Level) -> Self {
        Self(top.number())
    }

    /// Level of the root table; `None` without host tables, and for the reserved mode 7.
    pub const fn top(self) -> Option<Level> {
        Level::new(self.0)
    }
}

machine::code!(PagingMode);

/// GuestPagingMode: the level of the root of guest tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GuestPagingMode(pub u8);

impl GuestPagingMode {
    /// Four levels.
    pub const FOUR_LEVELS: Self = Self(0);
    /// Five levels.
    pub const FIVE_LEVELS: Self = Self(1);

    /// Level of the root table; `None` for reserved codes.
    pub const fn top(self) -> Option<Level> {
        match self {
            Self::FOUR_LEVELS => Some(Level::FOUR),
            Self::FIVE_LEVELS => Some(Level::FIVE),
            _ => None,
        }
    }
}

machine::code!(GuestPagingMode);

/// IntCtl: what becomes of fixed and arbitrated interrupts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct InterruptControl(pub u8);

impl InterruptControl {
    /// They are aborted.
    pub const ABORT: Self = Self(0);
    /// They pass as they are.
    pub const PASS: Self = Self(1);
    /// They go through the interrupt table.
    pub const REMAP: Self = Self(2);
}

machine::code!(InterruptControl);

/// Bits 63:0: host tables, and how guest tables are used.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct HostTables {
    /// V: the words on memory, this one and the next, are valid.
    pub valid: bool,
    /// TV: what they say of translation is valid; otherwise requests are aborted.
    pub translation_valid: bool,
    #[bits(5)]
    __: u8,
    /// HAD: accessed and dirty bits are set in host tables.
    #[bits(2)]
    pub accessed_dirty: u8,
    /// Mode: the level of the root table.
    #[bits(3)]
    pub mode: PagingMode,
    /// Page frame number of the root table.
    #[bits(40)]
    pub frame: u64,
    /// PPR: the device may make page requests.
    pub page_requests: bool,
    /// GPRP: answers to page requests of guests carry a PASID.
    pub page_responses_with_pasid: bool,
    /// GIoV: requests without PASID go through the guest tables of PASID 0.
    pub guest_without_pasid: bool,
    /// GV: there are guest tables.
    pub guest_valid: bool,
    /// GLX: levels of the CR3 table, less one.
    #[bits(2)]
    pub cr3_levels: u8,
    /// GCR3 table root pointer, bits 14:12.
    #[bits(3)]
    pub cr3_low: u8,
    /// IR: reads are allowed.
    pub read: bool,
    /// IW: writes are allowed.
    pub write: bool,
    __: bool,
}

/// Bits 127:64: domain-id, guest tables, device-TLB, faults.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct GuestTables {
    /// Domain-id, which tags cached translations.
    pub domain: u16,
    /// GCR3 table root pointer, bits 30:15.
    pub cr3_middle: u16,
    /// I: the device may have a device-TLB.
    pub device_tlb: bool,
    /// SE: only the first page fault of the device is logged.
    pub suppress_further_faults: bool,
    /// SA: no page fault of the device is logged.
    pub suppress_faults: bool,
    /// IoCtl: accesses to I/O ports.
    #[bits(2)]
    pub port_control: u8,
    /// Cache: a hint not to cache.
    pub cache: bool,
    /// SD: snoop disable.
    pub snoop_disable: bool,
    /// EX: the exclusion range is for this device.
    pub exclusion: bool,
    /// SysMgt: system management messages.
    #[bits(2)]
    pub system_management: u8,
    /// SATS: secure ATS.
    pub secure_ats: bool,
    /// GCR3 table root pointer, bits 51:31.
    #[bits(21)]
    pub cr3_high: u32,
}

/// Bits 191:128: interrupts, and the levels of guest tables.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct Interrupts {
    /// IV: this word is valid.
    pub valid: bool,
    /// IntTabLen: the interrupt table has `2^IntTabLen` entries.
    #[bits(4)]
    pub length: u8,
    /// IG: unmapped interrupts are not logged.
    pub ignore_unmapped: bool,
    /// Interrupt table root pointer, in units of 64 bytes.
    #[bits(46)]
    pub table: u64,
    #[bits(2)]
    __: u8,
    /// GuestPagingMode: levels of guest tables.
    #[bits(2)]
    pub guest_mode: GuestPagingMode,
    /// InitPass: INIT passes.
    pub init_pass: bool,
    /// EIntPass: external interrupts pass.
    pub external_pass: bool,
    /// NMIPass: NMI passes.
    pub nmi_pass: bool,
    __: bool,
    /// IntCtl: fixed and arbitrated interrupts.
    #[bits(2)]
    pub control: InterruptControl,
    /// Lint0Pass: LINT0 passes.
    pub lint0_pass: bool,
    /// Lint1Pass: LINT1 passes.
    pub lint1_pass: bool,
}

/// A device table entry of 256 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceTableEntry {
    /// Bits 63:0.
    pub host: HostTables,
    /// Bits 127:64.
    pub guest: GuestTables,
    /// Bits 191:128.
    pub interrupts: Interrupts,
    /// Bits 255:192: attributes, and the ids of virtual units.
    pub attributes: u64,
}

/// Bits that all revisions reserve, by word.
const RESERVED: [u64; ENTRY_WORDS] = [1 << 63 | 0x7C, 0, 1 << 59 | 3 << 52, 0];

impl DeviceTableEntry {
    /// The entry as its four words.
    pub const fn from_words(words: [u64; ENTRY_WORDS]) -> Self {
        let [host, guest, interrupts, attributes] = words;
        Self {
            host: HostTables::from_bits(host),
            guest: GuestTables::from_bits(guest),
            interrupts: Interrupts::from_bits(interrupts),
            attributes,
        }
    }

    /// The four words of the entry.
    pub const fn words(self) -> [u64; ENTRY_WORDS] {
        [self.host.into_bits(), self.guest.into_bits(), self.interrupts.into_bits(), self.attributes]
    }

    /// Physical address of the root of the host tables.
    pub const fn table(self) -> PhysicalAddress {
        PhysicalAddress::new(self.host.frame() << PAGE_SHIFT)
    }

    /// Address of the guest's CR3 table. Host tables, if there are any, translate it where the control register's GCR3TRPMode is set.
    pub const fn cr3_table(self) -> PhysicalAddress {
        let low = (self.host.cr3_low() as u64) << 12;
        let middle = (self.guest.cr3_middle() as u64) << 15;
        PhysicalAddress::new(low | middle | (self.guest.cr3_high() as u64) << 31)
    }

    /// The same entry with this CR3 table.
    pub const fn with_cr3_table(self, table: PhysicalAddress) -> Self {
        let address = table.get();
        Self {
            host: self.host.with_cr3_low((address >> 12 & 0x7) as u8),
            guest: self
                .guest
                .with_cr3_middle((address >> 15 & 0xFFFF) as u16)
                .with_cr3_high((address >> 31 & 0x1F_FFFF) as u32),
            ..self
        }
    }

    /// Physical address of the interrupt table.
    pub const fn interrupt_table(self) -> PhysicalAddress {
        PhysicalAddress::new(self.interrupts.table() << 6)
    }

    /// Bits that are set though all revisions of the specification reserve them, by word. They make requests fault where V or
    /// IV is set.
    pub const fn reserved_bits(self) -> [u64; ENTRY_WORDS] {
        let words = self.words();
        [words[0] & RESERVED[0], words[1] & RESERVED[1], words[2] & RESERVED[2], words[3] & RESERVED[3]]
    }
}

/// An entry of the last level of a guest's CR3 table, by PASID (2.2.6.3); in a table of several levels, one that names the
/// next.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct Cr3Entry {
    /// V: the entry is valid.
    pub valid: bool,
    #[bits(11)]
    __: u16,
    /// Page frame number of the root of the guest tables.
    #[bits(40)]
    pub frame: u64,
    #[bits(12)]
    __: u16,
}

impl Cr3Entry {
    /// Reserved bits; they make requests with the entry's PASIDs fault.
    pub const RESERVED: u64 = 0xFFF << 52 | 0x7FF << 1;

    /// Address of the root of the guest tables, or of the next table.
    pub const fn table(self) -> PhysicalAddress {
        PhysicalAddress::new(self.frame() << PAGE_SHIFT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a dead Linux leaves on QEMU for a device that translates: V, TV, mode 3, IR, IW; domain; interrupts remapped
    /// through a table of 512 entries.
    #[test]
    fn an_entry_of_a_dead_linux_is_decoded() {
        let entry = DeviceTableEntry::from_words([0x6000_0000_018F_F603, 2, 0x2000_0000_0120_2013, 0]);
        assert!(
            entry.host.valid() && entry.host.translation_valid() && entry.host.read() && entry.host.write()
        );
        assert_eq!((entry.host.mode().top(), entry.table()), (Some(Level::THREE), 0x018F_F000.into()));
        assert_eq!((entry.guest.domain(), entry.guest.device_tlb()), (2, false));
        assert!(entry.interrupts.valid() && !entry.host.guest_valid());
        assert_eq!((entry.interrupts.length(), entry.interrupts.control()), (9, InterruptControl::REMAP));
        assert_eq!(entry.interrupt_table(), 0x0120_2000.into());
        assert_eq!(entry.reserved_bits(), [0; 4]);
    }

    #[test]
    fn words_go_in_and_out_unchanged() {
        for words in [[u64::MAX; 4], [0x0123_4567_89AB_CDEF, 0xFEDC_BA98_7654_3210, 1 << 52, 7]] {
            assert_eq!(DeviceTableEntry::from_words(words).words(), words);
        }
    }

    /// `DTE_*` of Linux, by word: GIOV 54, GV 55, GLX 57:56, IOTLB 32, SYSMGT 41:40, GPT_LEVEL 55:54 of the third.
    #[test]
    fn fields_are_where_linux_has_them() {
        let entry =
            DeviceTableEntry::from_words([1 << 54 | 1 << 55 | 3 << 56, 1 << 32 | 3 << 40, 1 << 54, 0]);
        assert!(entry.host.guest_without_pasid() && entry.host.guest_valid() && entry.guest.device_tlb());
        assert_eq!((entry.host.cr3_levels(), entry.guest.system_management()), (3, 3));
        assert_eq!(entry.interrupts.guest_mode(), GuestPagingMode::FIVE_LEVELS);
        assert!(DeviceTableEntry::from_words([0, 1 << 39, 0, 0]).guest.exclusion());
    }

    /// `DTE_GCR3_14_12`, `DTE_GCR3_30_15`, `DTE_GCR3_51_31` of Linux.
    #[test]
    fn the_guests_cr3_table_is_in_three_places() {
        let table = PhysicalAddress::new(0x000F_EDCB_A987_6000);
        let entry = DeviceTableEntry::default().with_cr3_table(table);
        assert_eq!(entry.cr3_table(), table);
        let all = DeviceTableEntry::default().with_cr3_table(PhysicalAddress::new(0x000F_FFFF_FFFF_F000));
        assert_eq!(all.words(), [0x7 << 58, 0xFFFF << 16 | 0x1F_FFFF << 43, 0, 0]);
    }

    #[test]
    fn modes_are_levels_and_the_last_is_reserved() {
        let tops = (0..8).map(|mode| PagingMode(mode).top().map_or(0, Level::number));
        assert!(tops.eq([0, 1, 2, 3, 4, 5, 6, 0]));
        assert_eq!(PagingMode::of(Level::SIX), PagingMode(6));
        assert_eq!(GuestPagingMode(2).top(), None);
    }

    #[test]
    fn reserved_bits_are_those_of_every_revision() {
        let all = DeviceTableEntry::from_words([u64::MAX; 4]);
        assert_eq!(all.reserved_bits(), [0x8000_0000_0000_007C, 0, 0x0830_0000_0000_0000, 0]);
    }

    #[test]
    fn a_cr3_entry_names_a_table() {
        let entry = Cr3Entry::from_bits(0x1234_5001);
        assert_eq!((entry.valid(), entry.table()), (true, 0x1234_5000.into()));
    }
}
