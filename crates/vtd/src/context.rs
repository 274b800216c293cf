//! Context entries: one per device and function, which names its domain and tables (9.3, 9.4).

use machine::PhysicalAddress;

use bitfield_struct::bitfield;

use crate::address_reserved;
use crate::paging::AddressWidth;

/// Entries in a scalable context table: one per devfn of half a bus.
pub const SCALABLE_CONTEXT_ENTRIES: usize = 128;

/// TT: how a legacy context entry treats requests (9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TranslationType(pub u8);

impl TranslationType {
    /// Untranslated requests go through the tables; translated ones and translation requests are blocked.
    pub const TRANSLATED: Self = Self(0);
    /// As [`TRANSLATED`](Self::TRANSLATED), and the device may have a device-TLB.
    pub const DEVICE_TLB: Self = Self(1);
    /// Untranslated requests reach the address they name.
    pub const PASS_THROUGH: Self = Self(2);
}

machine::code!(TranslationType);

/// Low word of a legacy context entry.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct ContextLow {
    /// P: present; otherwise all other bits but FPD are ignored.
    pub present: bool,
    /// FPD: faults of this device are not recorded.
    pub fault_disabled: bool,
    /// TT: translation type.
    #[bits(2)]
    pub translation: TranslationType,
    __: u8,
    /// SSPTPTR: page frame number of the second-stage root; ignored in pass-through.
    #[bits(52)]
    pub frame: u64,
}

/// High word of a legacy context entry.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct ContextHigh {
    /// AW: width of the tables; in pass-through, of the addresses.
    #[bits(3)]
    pub width: AddressWidth,
    /// Ignored by hardware.
    #[bits(4)]
    pub available: u8,
    __: bool,
    /// DID: domain-id, which tags cached translations.
    pub domain: u16,
    #[bits(40)]
    __: u64,
}

/// A legacy context entry of 128 bits (9.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContextEntry {
    /// Bits 63:0.
    pub low: ContextLow,
    /// Bits 127:64.
    pub high: ContextHigh,
}

impl ContextEntry {
    /// The entry as its two words.
    pub const fn from_words(low: u64, high: u64) -> Self {
        Self { low: ContextLow::from_bits(low), high: ContextHigh::from_bits(high) }
    }

    /// The two words of the entry.
    pub const fn words(self) -> [u64; 2] {
        [self.low.into_bits(), self.high.into_bits()]
    }

    /// Physical address of the second-stage root table.
    pub const fn table(self) -> PhysicalAddress {
        PhysicalAddress::new(self.low.frame() << 12)
    }

    /// Reserved bits that are set in the low and the high word; they make a present entry fault.
    pub const fn reserved_bits(self, haw: u32) -> (u64, u64) {
        let low = self.low.into_bits() & (0xFF0 | address_reserved(haw));
        (low, self.high.into_bits() & 0xFFFF_FFFF_FF00_0080)
    }
}

/// First word of a scalable context entry (9.4).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct ScalableContextLow {
    /// P: present.
    pub present: bool,
    /// FPD: faults of this device are not recorded.
    pub fault_disabled: bool,
    /// DTE: the device may have a device-TLB.
    pub device_tlb: bool,
    /// PASIDE: requests with PASID are translated.
    pub pasid_enabled: bool,
    /// PRE: page requests are allowed.
    pub page_requests: bool,
    #[bits(4)]
    __: u8,
    /// PDTS: the PASID directory has `2^(PDTS + 7)` entries.
    #[bits(3)]
    pub directory_size: u8,
    /// PASIDDIRPTR: page frame number of the PASID directory.
    #[bits(52)]
    pub frame: u64,
}

impl ScalableContextLow {
    /// Entries of the PASID directory, 128 to 16384.
    pub const fn directory_entries(self) -> usize {
        1 << (self.directory_size() as usize + 7)
    }

    /// Physical address of the PASID directory.
    pub const fn directory(self) -> PhysicalAddress {
        PhysicalAddress::new(self.frame() << 12)
    }
}

/// Second word of a scalable context entry (9.4).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct ScalableContextHigh {
    /// RID_PASID: the PASID of requests that carry none.
    #[bits(20)]
    pub rid_pasid: u32,
    /// RID_PRIV: requests that carry no PASID are privileged.
    pub rid_privileged: bool,
    #[bits(43)]
    __: u64,
}

/// A scalable context entry of 256 bits (9.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScalableContextEntry {
    /// Bits 63:0.
    pub low: ScalableContextLow,
    /// Bits 127:64.
    pub high: ScalableContextHigh,
    /// Bits 255:128, reserved.
    pub reserved: [u64; 2],
}

impl ScalableContextEntry {
    /// The entry as its four words.
    pub const fn from_words(words: [u64; 4]) -> Self {
        let [low, high, third, fourth] = words;
        Self {
            low: ScalableContextLow::from_bits(low),
            high: ScalableContextHigh::from_bits(high),
            reserved: [third, fourth],
        }
    }

    /// Reserved bits that are set in the four words; they make a present entry fault.
    pub const fn reserved_bits(self, haw: u32) -> [u64; 4] {
        let low = self.low.into_bits() & (0x1E0 | address_reserved(haw));
        let high = self.high.into_bits() & 0xFFFF_FFFF_FFE0_0000;
        [low, high, self.reserved[0], self.reserved[1]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `VTD_CONTEXT_ENTRY_*` of QEMU: TT bits 3:2, pointer from bit 12, AW bits 2:0 and DID bits 23:8 of the high
    /// word.
    #[test]
    fn a_legacy_entry_is_laid_out_as_qemu_reads_it() {
        let entry = ContextEntry::from_words(0x1234_5000 | 1 << 2 | 1, 0x42 << 8 | 2);
        assert!(entry.low.present() && !entry.low.fault_disabled());
        assert_eq!(entry.low.translation(), TranslationType::DEVICE_TLB);
        assert_eq!(entry.table(), PhysicalAddress::new(0x1234_5000));
        assert_eq!(entry.high.width(), AddressWidth::BITS_48);
        assert_eq!(entry.high.domain(), 0x42);
        assert_eq!(entry.reserved_bits(39), (0, 0));
    }

    /// `VTD_CONTEXT_ENTRY_RSVD_LO`, `VTD_CONTEXT_ENTRY_RSVD_HI` of QEMU.
    #[test]
    fn reserved_bits_of_a_legacy_entry_are_qemus() {
        let (low, high) = ContextEntry::from_words(u64::MAX, u64::MAX).reserved_bits(39);
        assert_eq!(low, 0xFF0 | !((1 << 39) - 1));
        assert_eq!(high, 0xFFFF_FFFF_FF00_0080);
    }

    /// `VTD_SM_CONTEXT_ENTRY_RSVD_VAL0`, `_VAL1` and `_RID2PASID_MASK` of QEMU; `get_pasid_dir_size` of Linux.
    #[test]
    fn a_scalable_entry_is_laid_out_as_qemu_and_linux_read_it() {
        let entry = ScalableContextEntry::from_words([u64::MAX, u64::MAX, 0, 7]);
        assert_eq!(entry.reserved_bits(39), [0x1E0 | !((1 << 39) - 1), 0xFFFF_FFFF_FFE0_0000, 0, 7]);
        assert_eq!(entry.high.rid_pasid(), 0xF_FFFF);
        assert_eq!(ScalableContextLow::from_bits(3 << 9).directory_entries(), 1 << 10);
        assert!(ScalableContextLow::from_bits(1 << 3).pasid_enabled());
    }
}
