//! The invalidation queue: its registers (11.4.9) and its descriptors (6.5.2).
//!
//! Legacy mode can use 128-bit descriptors. Scalable mode requires 256-bit descriptors, whose upper half is zero in
//! all that this software submits. Head and tail count bytes and step by the size of a descriptor.

use machine::{PhysicalAddress, SourceId};

use bitfield_struct::bitfield;

use crate::control::Granularity;

/// IQA: address, size and descriptor width of the queue (11.4.9).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct QueueAddress {
    /// QS: the queue is `2^QS` pages.
    #[bits(3)]
    pub size: u8,
    __: u8,
    /// DW: descriptors are 256 bits wide.
    pub wide: bool,
    /// IQA: page frame number of the queue.
    #[bits(52)]
    pub frame: u64,
}

impl QueueAddress {
    /// Physical address of the queue.
    pub const fn address(self) -> PhysicalAddress {
        PhysicalAddress::new(self.frame() << 12)
    }

    /// Bytes of the queue.
    pub const fn bytes(self) -> u64 {
        4096 << self.size()
    }

    /// Bytes of one descriptor.
    pub const fn descriptor_bytes(self) -> u64 {
        if self.wide() { 32 } else { 16 }
    }
}

/// IQH and IQT: bytes from the start of the queue are in bits 18:4 (11.4.9).
pub const QUEUE_OFFSET: u64 = 0x7_FFF0;

/// ICS: bit 0 (IWC) says that a wait descriptor asked for an interrupt and completed; write one to clear (11.4.9).
pub const WAIT_COMPLETED: u32 = 1;

/// IQERCD: details of an error of the queue (11.4.9). Zero on units of revisions before 3.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct QueueErrorRecord {
    /// IQEI: why the queue stopped; valid while FSTS.IQE is set.
    #[bits(4)]
    pub reason: u8,
    #[bits(28)]
    __: u32,
    /// ITESID: the device that did not answer; valid while FSTS.ITE is set.
    #[bits(16)]
    pub silent: SourceId,
    /// ICESID: the device that answered in a wrong way; valid while FSTS.ICE is set.
    #[bits(16)]
    pub confused: SourceId,
}

/// The type of a descriptor: bits 3:0, with bits 11:9 above them (6.5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptorType(pub u8);

impl DescriptorType {
    /// Invalidates context entries (6.5.2.1).
    pub const CONTEXT_CACHE: Self = Self(1);
    /// Invalidates translations by domain (6.5.2.3).
    pub const IOTLB: Self = Self(2);
    /// Invalidates translations in a device-TLB (6.5.2.5).
    pub const DEVICE_TLB: Self = Self(3);
    /// Invalidates interrupt entries (6.5.2.7).
    pub const INTERRUPT_ENTRY: Self = Self(4);
    /// Reports that all descriptors before it are done (6.5.2.8).
    pub const WAIT: Self = Self(5);
    /// Invalidates translations by PASID (6.5.2.4).
    pub const PASID_IOTLB: Self = Self(6);
    /// Invalidates PASID entries (6.5.2.2).
    pub const PASID_CACHE: Self = Self(7);
    /// Invalidates translations of a PASID in a device-TLB (6.5.2.6).
    pub const PASID_DEVICE_TLB: Self = Self(8);
}

/// A descriptor of 256 bits; a 128-bit descriptor uses the first two words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Descriptor(pub [u64; 4]);

impl Descriptor {
    /// Its type.
    pub const fn kind(self) -> DescriptorType {
        let low = self.0[0];
        DescriptorType((low & 0xF | low >> 5 & 0x70) as u8)
    }

    const fn two(low: u64, high: u64) -> Self {
        Self([low, high, 0, 0])
    }
}

/// First word of a context-cache invalidation (6.5.2.1).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct ContextCacheInvalidation {
    /// Type, low bits.
    #[bits(4, default = DescriptorType::CONTEXT_CACHE.0)]
    pub kind: u8,
    /// G: granularity.
    #[bits(2)]
    pub granularity: Granularity,
    #[bits(10)]
    __: u16,
    /// DID: domain-id, unless global.
    pub domain: u16,
    /// SID: source-id, if selective.
    #[bits(16)]
    pub source: SourceId,
    /// FM: how many low bits of the function number are ignored, if selective.
    #[bits(2)]
    pub function_mask: u8,
    #[bits(14)]
    __: u16,
}

impl From<ContextCacheInvalidation> for Descriptor {
    fn from(value: ContextCacheInvalidation) -> Self {
        Self::two(value.into_bits(), 0)
    }
}

/// First word of a PASID-cache invalidation (6.5.2.2).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct PasidCacheInvalidation {
    /// Type, low bits.
    #[bits(4, default = DescriptorType::PASID_CACHE.0)]
    pub kind: u8,
    /// G: [`ALL_OF_DOMAIN`](Self::ALL_OF_DOMAIN), [`ONE`](Self::ONE) or [`GLOBAL`](Self::GLOBAL).
    #[bits(2)]
    pub granularity: u8,
    #[bits(10)]
    __: u16,
    /// DID: domain-id, unless global.
    pub domain: u16,
    /// PASID, if one is meant.
    #[bits(20)]
    pub pasid: u32,
    #[bits(12)]
    __: u16,
}

impl PasidCacheInvalidation {
    /// All PASIDs of a domain.
    pub const ALL_OF_DOMAIN: u8 = 0;
    /// One PASID of a domain.
    pub const ONE: u8 = 1;
    /// Everything.
    pub const GLOBAL: u8 = 3;
}

impl From<PasidCacheInvalidation> for Descriptor {
    fn from(value: PasidCacheInvalidation) -> Self {
        Self::two(value.into_bits(), 0)
    }
}

/// First word of an IOTLB invalidation (6.5.2.3).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct IotlbInvalidation {
    /// Type, low bits.
    #[bits(4, default = DescriptorType::IOTLB.0)]
    pub kind: u8,
    /// G: granularity.
    #[bits(2)]
    pub granularity: Granularity,
    /// DW: drain writes.
    pub drain_writes: bool,
    /// DR: drain reads.
    pub drain_reads: bool,
    __: u8,
    /// DID: domain-id, unless global.
    pub domain: u16,
    __: u32,
}

impl IotlbInvalidation {
    /// Makes the descriptor; `pages` has the layout of the IVA register and counts in a selective invalidation only.
    pub const fn of(self, pages: crate::control::InvalidateAddress) -> Descriptor {
        Descriptor::two(self.into_bits(), pages.into_bits())
    }
}

impl From<IotlbInvalidation> for Descriptor {
    fn from(value: IotlbInvalidation) -> Self {
        Self::two(value.into_bits(), 0)
    }
}

/// First word of an invalidation of translations by PASID (6.5.2.4).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct PasidIotlbInvalidation {
    /// Type, low bits.
    #[bits(4, default = DescriptorType::PASID_IOTLB.0)]
    pub kind: u8,
    /// G: 2 is all of the PASID, 3 a group of pages.
    #[bits(2)]
    pub granularity: u8,
    #[bits(10)]
    __: u16,
    /// DID: domain-id.
    pub domain: u16,
    /// PASID.
    #[bits(20)]
    pub pasid: u32,
    #[bits(12)]
    __: u16,
}

impl From<PasidIotlbInvalidation> for Descriptor {
    fn from(value: PasidIotlbInvalidation) -> Self {
        Self::two(value.into_bits(), 0)
    }
}

/// First word of a device-TLB invalidation (6.5.2.5).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct DeviceTlbInvalidation {
    /// Type, low bits.
    #[bits(4, default = DescriptorType::DEVICE_TLB.0)]
    pub kind: u8,
    #[bits(8)]
    __: u8,
    /// PFSID, bits 3:0: source-id of the physical function.
    #[bits(4)]
    pub physical_low: u8,
    /// MIP: the device's limit of pending invalidations; zero means 32.
    #[bits(5)]
    pub max_pending: u8,
    #[bits(11)]
    __: u16,
    /// SID: source-id of the device.
    #[bits(16)]
    pub source: SourceId,
    #[bits(4)]
    __: u8,
    /// PFSID, bits 15:4.
    #[bits(12)]
    pub physical_high: u16,
}

impl DeviceTlbInvalidation {
    /// Makes the descriptor that invalidates everything in the device-TLB: size bit set, all address bits that count
    /// set.
    pub const fn of_everything(self) -> Descriptor {
        Descriptor::two(self.into_bits(), 0x7FFF_FFFF_FFFF_F001)
    }
}

/// First word of an invalidation of a device's translations of one PASID (6.5.2.6).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct PasidDeviceTlbInvalidation {
    /// Type, low bits.
    #[bits(4, default = DescriptorType::PASID_DEVICE_TLB.0)]
    pub kind: u8,
    /// MIP: the device's limit of pending invalidations; zero means 32.
    #[bits(5)]
    pub max_pending: u8,
    #[bits(3)]
    __: u8,
    /// PFSID, bits 3:0: source-id of the physical function.
    #[bits(4)]
    pub physical_low: u8,
    /// SID: source-id of the device.
    #[bits(16)]
    pub source: SourceId,
    /// PASID.
    #[bits(20)]
    pub pasid: u32,
    /// PFSID, bits 15:4.
    #[bits(12)]
    pub physical_high: u16,
}

impl PasidDeviceTlbInvalidation {
    /// Makes the descriptor that invalidates all of the PASID in the device-TLB: size bit set, all address bits that
    /// count set.
    pub const fn of_everything(self) -> Descriptor {
        Descriptor::two(self.into_bits(), 0x7FFF_FFFF_FFFF_F800)
    }
}

/// First word of a wait (6.5.2.8). The unit writes `data` to the address in the second word.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct Wait {
    /// Type, low bits.
    #[bits(4, default = DescriptorType::WAIT.0)]
    pub kind: u8,
    /// IF: raise an interrupt.
    pub interrupt: bool,
    /// SW: write the status data.
    pub write: bool,
    /// FN: the unit starts no later descriptor before this one is done.
    pub fence: bool,
    /// PD: drain page requests.
    pub drain_page_requests: bool,
    #[bits(24)]
    __: u32,
    /// Status data.
    pub data: u32,
}

impl Wait {
    /// Makes the descriptor that reports to `address`, which is a multiple of four.
    pub const fn reporting_to(self, address: PhysicalAddress) -> Descriptor {
        Descriptor::two(self.into_bits(), address.get() & !3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::InvalidateAddress;

    /// `VTD_IQA_*` of QEMU.
    #[test]
    fn queue_registers_are_qemus() {
        let iqa = QueueAddress::from_bits(0x1_2345_6000 | 0x800 | 2);
        assert_eq!(iqa.address(), PhysicalAddress::new(0x1_2345_6000));
        assert_eq!((iqa.bytes(), iqa.descriptor_bytes()), (16384, 32));
        assert_eq!(QueueAddress::from_bits(0).descriptor_bytes(), 16);
    }

    /// `QI_*` of Linux, `VTD_INV_DESC_*` of QEMU.
    #[test]
    fn descriptors_are_the_words_linux_submits() {
        let context = ContextCacheInvalidation::new().with_granularity(Granularity::GLOBAL);
        assert_eq!(Descriptor::from(context), Descriptor([0x11, 0, 0, 0]));
        let iotlb = IotlbInvalidation::new()
            .with_granularity(Granularity::GLOBAL)
            .with_drain_reads(true)
            .with_drain_writes(true);
        assert_eq!(Descriptor::from(iotlb), Descriptor([0xD2, 0, 0, 0]));
        let pasid = PasidCacheInvalidation::new().with_granularity(PasidCacheInvalidation::GLOBAL);
        assert_eq!(Descriptor::from(pasid), Descriptor([0x37, 0, 0, 0]));
        let wait = Wait::new()
            .with_write(true)
            .with_fence(true)
            .with_data(2)
            .reporting_to(PhysicalAddress::new(0x5008));
        assert_eq!(wait, Descriptor([0x2_0000_0065, 0x5008, 0, 0]));
        let domain = ContextCacheInvalidation::from_bits(3 << 48 | 0x1234 << 32 | 0x42 << 16 | 0x31);
        assert_eq!((domain.source(), domain.domain(), domain.function_mask()), (SourceId(0x1234), 0x42, 3));
    }

    #[test]
    fn a_page_selective_invalidation_names_domain_address_and_mask() {
        let pages = InvalidateAddress::new().with_frame(0xABCDE).with_address_mask(3);
        let descriptor =
            IotlbInvalidation::new().with_granularity(Granularity::SELECTIVE).with_domain(7).of(pages);
        assert_eq!(descriptor, Descriptor([7 << 16 | 0x32, 0xABCD_E003, 0, 0]));
    }

    /// `QI_DEV_IOTLB_*` of Linux, whole address space.
    #[test]
    fn a_device_tlb_invalidation_names_the_device() {
        let all = DeviceTlbInvalidation::new().with_source(SourceId(0x0300)).with_max_pending(8);
        assert_eq!(
            all.of_everything(),
            Descriptor([0x0300 << 32 | 8 << 16 | 3, 0x7FFF_FFFF_FFFF_F001, 0, 0])
        );
    }

    /// `QI_DEV_EIOTLB_*` of Linux, whole address space: size is bit 11, the PASID starts at bit 32, the source-id at 16.
    #[test]
    fn a_device_tlb_invalidation_of_a_pasid_names_both() {
        let all = PasidDeviceTlbInvalidation::new().with_source(SourceId(0x0300)).with_pasid(0xABCDE);
        let all = all.with_max_pending(8).with_physical_low(0x1).with_physical_high(0x30);
        let low = 0x030 << 52 | 0xABCDE << 32 | 0x0300 << 16 | 0x1 << 12 | 8 << 4 | 8;
        assert_eq!(all.of_everything(), Descriptor([low, 0x7FFF_FFFF_FFFF_F800, 0, 0]));
        assert_eq!(all.of_everything().kind(), DescriptorType::PASID_DEVICE_TLB);
    }

    /// `DMAR_IQER_REG_*` of Linux.
    #[test]
    fn the_error_record_names_the_devices_where_linux_finds_them() {
        let record = QueueErrorRecord::from_bits(0x0300_0208_0000_0005);
        assert_eq!(record.reason(), 5);
        assert_eq!((record.silent(), record.confused()), (SourceId(0x0208), SourceId(0x0300)));
    }

    #[test]
    fn the_type_has_three_more_bits() {
        assert_eq!(Descriptor([0x0E05, 0, 0, 0]).kind(), DescriptorType(0x75));
        assert_eq!(Descriptor([0xF1F5, 0, 0, 0]).kind(), DescriptorType::WAIT);
    }
}
