//! Commands, which software writes into the command buffer: 128 bits each (2.4).

use bitfield_struct::bitfield;
use machine::{PhysicalAddress, SourceId};

/// Words of a command.
pub const COMMAND_WORDS: usize = 2;
/// Bytes of a command.
pub const COMMAND_BYTES: usize = COMMAND_WORDS * 8;

/// The type of a command: bits 63:60 of its first word (2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandType(pub u8);

impl CommandType {
    /// Reports that all commands before it are done (2.4.1).
    pub const COMPLETION_WAIT: Self = Self(1);
    /// Forgets the device table entry of a device (2.4.2).
    pub const INVALIDATE_DEVTAB_ENTRY: Self = Self(2);
    /// Forgets translations of a domain (2.4.3).
    pub const INVALIDATE_IOMMU_PAGES: Self = Self(3);
    /// Has a device forget translations in its device-TLB (2.4.4).
    pub const INVALIDATE_IOTLB_PAGES: Self = Self(4);
    /// Forgets the interrupt table of a device (2.4.5).
    pub const INVALIDATE_INTERRUPT_TABLE: Self = Self(5);
    /// Fetches translations (2.4.6).
    pub const PREFETCH_IOMMU_PAGES: Self = Self(6);
    /// Answers a page request (2.4.7).
    pub const COMPLETE_PPR_REQUEST: Self = Self(7);
    /// Forgets everything; needs EFR.IASup (2.4.8).
    pub const INVALIDATE_IOMMU_ALL: Self = Self(8);
}

/// A command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Command(pub [u64; COMMAND_WORDS]);

impl Command {
    /// Its type.
    pub const fn kind(self) -> CommandType {
        CommandType((self.0[0] >> 60) as u8)
    }

    /// The command that forgets everything.
    pub const INVALIDATE_IOMMU_ALL: Self = Self([(CommandType::INVALIDATE_IOMMU_ALL.0 as u64) << 60, 0]);
}

/// First word of a completion wait (2.4.1).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct CompletionWait {
    /// S: the unit stores the command's second word.
    pub store: bool,
    /// I: the unit raises an interrupt.
    pub interrupt: bool,
    /// F: the commands after this one wait for it.
    pub flush: bool,
    /// Where the unit stores, in units of eight bytes.
    #[bits(49)]
    pub address: u64,
    __: u8,
    /// Type.
    #[bits(4, default = CommandType::COMPLETION_WAIT.0)]
    pub kind: u8,
}

impl CompletionWait {
    /// The command that stores `data` at `address`, which is a multiple of eight.
    pub const fn storing(self, address: PhysicalAddress, data: u64) -> Command {
        Command([self.with_store(true).with_address(address.get() >> 3).into_bits(), data])
    }

    /// The command that stores nothing: where interrupts are asked for, the status register shows that it is done.
    pub const fn without_store(self) -> Command {
        Command([self.into_bits(), 0])
    }
}

/// First word of an invalidation of what the unit keeps of one device: its device table entry (2.4.2) or its interrupt table
/// (2.4.5).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
struct OfDevice {
    #[bits(16)]
    source: SourceId,
    #[bits(44)]
    __: u64,
    #[bits(4)]
    kind: u8,
}

impl Command {
    /// Forgets the device table entry of a device (2.4.2).
    pub const fn invalidate_device_table_entry(source: SourceId) -> Self {
        let kind = CommandType::INVALIDATE_DEVTAB_ENTRY.0;
        Self([OfDevice::new().with_source(source).with_kind(kind).into_bits(), 0])
    }

    /// Forgets the interrupt table of a device (2.4.5).
    pub const fn invalidate_interrupt_table(source: SourceId) -> Self {
        let kind = CommandType::INVALIDATE_INTERRUPT_TABLE.0;
        Self([OfDevice::new().with_source(source).with_kind(kind).into_bits(), 0])
    }
}

/// First word of an invalidation of translations (2.4.3).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct PagesInvalidation {
    /// PASID, if GN is set.
    #[bits(20)]
    pub pasid: u32,
    #[bits(12)]
    __: u16,
    /// Domain-id.
    pub domain: u16,
    #[bits(12)]
    __: u16,
    /// Type.
    #[bits(4, default = CommandType::INVALIDATE_IOMMU_PAGES.0)]
    pub kind: u8,
}

/// Second word of an invalidation of translations, in the unit (2.4.3) or in a device (2.4.4).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct PagesRange {
    /// S: more than one page; the lowest clear bit of the address gives the size, as in pages with next level 7.
    pub size: bool,
    /// PDE: entries that name tables too. Reserved in invalidations of a device.
    pub tables: bool,
    /// GN: guest tables.
    pub guest: bool,
    #[bits(9)]
    __: u16,
    /// Page frame number of the I/O address.
    #[bits(52)]
    pub frame: u64,
}

impl PagesRange {
    /// All addresses.
    pub const ALL: Self = Self::new().with_size(true).with_frame(0x7_FFFF_FFFF_FFFF);
}

impl PagesInvalidation {
    /// The command that forgets all translations of the domain through host tables, nested ones among them, and the entries that
    /// name tables.
    pub const fn of_everything(self) -> Command {
        Command([self.into_bits(), PagesRange::ALL.with_tables(true).into_bits()])
    }

    /// The command that forgets all translations of the domain through the guest tables of a PASID, and the entries that name
    /// tables.
    pub const fn of_guest(self, pasid: u32) -> Command {
        let range = PagesRange::ALL.with_tables(true).with_guest(true);
        Command([self.with_pasid(pasid & 0xF_FFFF).into_bits(), range.into_bits()])
    }
}

/// First word of an invalidation of translations in a device-TLB (2.4.4).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct DeviceTlbInvalidation {
    /// The device.
    #[bits(16)]
    pub source: SourceId,
    /// PASID, bits 15:8.
    pub pasid_middle: u8,
    /// MaxPend: how many invalidations the device takes at once.
    pub max_pending: u8,
    /// QueueID: invalidations of this queue count together; the physical function's source-id, for example.
    #[bits(16)]
    pub queue: SourceId,
    /// PASID, bits 7:0.
    pub pasid_low: u8,
    /// PASID, bits 19:16.
    #[bits(4)]
    pub pasid_high: u8,
    /// Type.
    #[bits(4, default = CommandType::INVALIDATE_IOTLB_PAGES.0)]
    pub kind: u8,
}

impl DeviceTlbInvalidation {
    /// The command that has the device forget everything that it keeps for requests with this PASID, or without one.
    pub const fn of_everything(self, pasid: Option<u32>) -> Command {
        let (word, range) = match pasid {
            None => (self, PagesRange::ALL),
            Some(pasid) => {
                let word = self.with_pasid_low(pasid as u8).with_pasid_middle((pasid >> 8) as u8);
                (word.with_pasid_high((pasid >> 16 & 0xF) as u8), PagesRange::ALL.with_guest(true))
            }
        };
        Command([word.into_bits(), range.into_bits()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The buffer of a running Linux, in words of 32 bits, as its debugfs file shows it:
    /// `00835001 10000001 00003c00 00000000` and `00000000 30000005 fffff003 7fffffff`.
    #[test]
    fn commands_are_those_of_linux() {
        let wait = CompletionWait::new().storing(PhysicalAddress::new(0x1_0083_5000), 0x3C00);
        assert_eq!(wait, Command([0x1000_0001_0083_5001, 0x3C00]));
        let pages = PagesInvalidation::new().with_domain(5).of_everything();
        assert_eq!(pages, Command([0x3000_0005_0000_0000, 0x7FFF_FFFF_FFFF_F003]));
        let guest = PagesInvalidation::new().with_domain(5).of_guest(0xA_BCDE);
        assert_eq!(guest, Command([0x3000_0005_000A_BCDE, 0x7FFF_FFFF_FFFF_F007]));
        assert_eq!(
            (wait.kind(), pages.kind()),
            (CommandType::COMPLETION_WAIT, CommandType::INVALIDATE_IOMMU_PAGES)
        );
    }

    /// `CMD_INV_DEV_ENTRY`, `CMD_INV_IRT` and `CMD_INV_ALL` of Linux.
    #[test]
    fn a_device_is_in_the_lowest_bits() {
        let source = SourceId::at(1, 2, 3);
        assert_eq!(Command::invalidate_device_table_entry(source), Command([0x2000_0000_0000_0113, 0]));
        assert_eq!(Command::invalidate_interrupt_table(source), Command([0x5000_0000_0000_0113, 0]));
        assert_eq!(Command::INVALIDATE_IOMMU_ALL, Command([0x8000_0000_0000_0000, 0]));
        assert_eq!(Command::INVALIDATE_IOMMU_ALL.kind(), CommandType::INVALIDATE_IOMMU_ALL);
    }

    /// `build_inv_iotlb_pages` of Linux: the device twice, the queue's depth in bits 31:24, the PASID in pieces.
    #[test]
    fn a_device_tlb_is_told_as_linux_tells_it() {
        let source = SourceId(0x1234);
        let word = DeviceTlbInvalidation::new().with_source(source).with_queue(source).with_max_pending(32);
        assert_eq!(word.of_everything(None), Command([0x4000_1234_2000_1234, 0x7FFF_FFFF_FFFF_F001]));
        let with_pasid = word.of_everything(Some(0xA_BCDE));
        assert_eq!(with_pasid, Command([0x4ADE_1234_20BC_1234, 0x7FFF_FFFF_FFFF_F005]));
    }
}
