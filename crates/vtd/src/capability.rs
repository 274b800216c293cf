//! What a unit can do: version, capability and extended capability registers (11.4.1–11.4.3).

use bitfield_struct::bitfield;

use crate::paging::AddressWidth;
use crate::registers::FRCD_SIZE;

/// VER: version of the architecture that the unit implements (11.4.1).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Version {
    /// Minor number.
    #[bits(4)]
    pub minor: u8,
    /// Major number.
    #[bits(4)]
    pub major: u8,
    #[bits(24)]
    __: u32,
}

/// CAP: capabilities (11.4.2).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct Capability {
    /// ND: the unit has `2^(4 + 2 * ND)` domain-ids; see [`domains`](Self::domains).
    #[bits(3)]
    pub nd: u8,
    /// AFL: advanced fault logging.
    pub afl: bool,
    /// RWBF: software must flush the write buffer after it changed a table (6.8).
    pub rwbf: bool,
    /// PLMR: a protected low-memory region.
    pub plmr: bool,
    /// PHMR: a protected high-memory region.
    pub phmr: bool,
    /// CM: caching mode; the unit may cache entries that are not present, so each change needs an invalidation (6.1).
    pub cm: bool,
    /// SAGAW: widths of second-stage tables, one bit per [`AddressWidth`] code.
    #[bits(5)]
    pub sagaw: u8,
    #[bits(3)]
    __: u8,
    /// MGAW: bits of a guest address, less one.
    #[bits(6)]
    pub mgaw: u8,
    /// ZLR: zero-length reads of write-only pages.
    pub zlr: bool,
    __: bool,
    /// FRO: place of the fault records, in units of 16 bytes.
    #[bits(10)]
    pub fro: u16,
    /// SSLPS: second-stage large pages; bit 0 is 2 MiB, bit 1 is 1 GiB.
    #[bits(4)]
    pub sslps: u8,
    __: bool,
    /// PSI: page-selective IOTLB invalidation.
    pub psi: bool,
    /// NFR: number of fault records, less one.
    pub nfr: u8,
    /// MAMV: largest address mask of a page-selective invalidation.
    #[bits(6)]
    pub mamv: u8,
    /// DWD: an IOTLB invalidation can drain writes.
    pub dwd: bool,
    /// DRD: an IOTLB invalidation can drain reads.
    pub drd: bool,
    /// FS1GP: first-stage 1 GiB pages.
    pub fs1gp: bool,
    #[bits(2)]
    __: u8,
    /// PI: posted interrupts.
    pub pi: bool,
    /// FS5LP: first-stage tables of five levels.
    pub fs5lp: bool,
    /// ECMDS: enhanced commands.
    pub ecmds: bool,
    /// ESIRTPS: setting the interrupt table pointer invalidates the caches by itself.
    pub esirtps: bool,
    /// ESRTPS: setting the root table pointer invalidates context, PASID and IOTLB caches by itself.
    pub esrtps: bool,
}

impl Capability {
    /// How many domain-ids the unit tells apart; 65536 at most, whatever the field holds.
    pub const fn domains(self) -> u32 {
        let bits = 4 + 2 * self.nd() as u32;
        1 << if bits > 16 { 16 } else { bits }
    }

    /// Bits of an address that devices may use, 1 to 64.
    pub const fn guest_address_bits(self) -> u32 {
        self.mgaw() as u32 + 1
    }

    /// Whether second-stage tables may have this width.
    pub const fn supports(self, width: AddressWidth) -> bool {
        width.0 < 5 && self.sagaw() >> width.0 & 1 == 1
    }

    /// Bytes from the start of the registers to the first fault record.
    pub const fn fault_record_offset(self) -> usize {
        self.fro() as usize * 16
    }

    /// How many fault records there are, 1 to 256.
    pub const fn fault_records(self) -> usize {
        self.nfr() as usize + 1
    }

    /// Bytes from the start of the registers to the end of the fault records.
    pub const fn fault_records_end(self) -> usize {
        self.fault_record_offset() + self.fault_records() * FRCD_SIZE
    }
}

/// ECAP: extended capabilities (11.4.3).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct ExtendedCapability {
    /// C: root, context and legacy page-table reads snoop the processor's caches.
    pub c: bool,
    /// QI: queued invalidation.
    pub qi: bool,
    /// DT: device-TLBs.
    pub dt: bool,
    /// IR: interrupt remapping.
    pub ir: bool,
    /// EIM: extended interrupt mode (x2APIC).
    pub eim: bool,
    __: bool,
    /// PT: pass-through translation type.
    pub pt: bool,
    /// SC: snoop control in second-stage leaves.
    pub sc: bool,
    /// IRO: place of the IOTLB registers, in units of 16 bytes.
    #[bits(10)]
    pub iro: u16,
    #[bits(2)]
    __: u8,
    /// MHMV: largest handle mask of an interrupt-entry invalidation.
    #[bits(4)]
    pub mhmv: u8,
    __: bool,
    /// MTS: memory types in tables.
    pub mts: bool,
    /// NEST: nested translation.
    pub nest: bool,
    #[bits(2)]
    __: u8,
    /// PRS: page requests.
    pub prs: bool,
    /// ERS: execute requests.
    pub ers: bool,
    /// SRS: supervisor requests.
    pub srs: bool,
    __: bool,
    /// NWFS: no-write flag in device-TLB requests.
    pub nwfs: bool,
    /// EAFS: extended accessed flag in first-stage tables.
    pub eafs: bool,
    /// PSS: bits of a PASID, less one.
    #[bits(5)]
    pub pss: u8,
    /// PASID: requests may carry a PASID.
    pub pasid: bool,
    /// DIT: device-TLB invalidation throttle.
    pub dit: bool,
    /// PDS: page-request drain.
    pub pds: bool,
    /// SMTS: scalable mode.
    pub smts: bool,
    /// VCS: virtual commands.
    pub vcs: bool,
    /// SSADS: second-stage accessed and dirty bits.
    pub ssads: bool,
    /// SSTS: second-stage translation in scalable mode.
    pub ssts: bool,
    /// FSTS: first-stage translation.
    pub fsts: bool,
    /// SMPWCS: page walks of scalable mode can snoop the processor's caches.
    pub smpwcs: bool,
    /// RPS: the unit supports RID_PASID of context entries.
    pub rps: bool,
    __: bool,
    /// PMS: performance monitoring.
    pub pms: bool,
    /// ADMS: abort-DMA mode.
    pub adms: bool,
    /// RPRIVS: the unit supports RID_PRIV of context entries.
    pub rprivs: bool,
    #[bits(4)]
    __: u8,
    /// SMS: stop marker.
    pub sms: bool,
    #[bits(5)]
    __: u8,
}

impl ExtendedCapability {
    /// Bytes from the start of the registers to the IOTLB registers (IVA, then IOTLB).
    pub const fn iotlb_offset(self) -> usize {
        self.iro() as usize * 16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// QEMU's unit as Linux logs it: `DMAR: dmar0: … cap d2008c22260206 ecap f00f5a`.
    const QEMU_CAP: u64 = 0x00D2_008C_2226_0206;
    const QEMU_ECAP: u64 = 0x00F0_0F5A;

    #[test]
    fn qemu_capability_is_decoded() {
        let cap = Capability::from_bits(QEMU_CAP);
        assert_eq!(cap.domains(), 65536);
        assert_eq!(cap.guest_address_bits(), 39);
        assert!(cap.supports(AddressWidth::BITS_39));
        assert!(!cap.supports(AddressWidth::BITS_48));
        assert_eq!(cap.fault_record_offset(), 0x220);
        assert_eq!(cap.fault_records(), 1);
        assert_eq!(cap.sslps(), 0b11);
        assert!(cap.psi() && cap.dwd() && cap.drd());
        assert_eq!(cap.mamv(), 18);
        assert!(!cap.cm() && !cap.rwbf() && !cap.esrtps());
    }

    #[test]
    fn qemu_extended_capability_is_decoded() {
        let ecap = ExtendedCapability::from_bits(QEMU_ECAP);
        assert_eq!(ecap.iotlb_offset(), 0xF0);
        assert!(!ecap.c() && ecap.qi() && ecap.ir() && ecap.eim() && ecap.pt());
        assert!(!ecap.smts());
    }

    /// Bit positions as Linux tests them (`cap_*` and `ecap_*` in `drivers/iommu/intel/iommu.h`).
    #[test]
    fn single_bits_are_where_linux_tests_them() {
        assert!(Capability::from_bits(1 << 4).rwbf());
        assert!(Capability::from_bits(1 << 7).cm());
        assert!(Capability::from_bits(1 << 39).psi());
        assert!(Capability::from_bits(1 << 54).dwd());
        assert!(Capability::from_bits(1 << 55).drd());
        assert!(Capability::from_bits(1 << 56).fs1gp());
        assert!(Capability::from_bits(1 << 60).fs5lp());
        assert!(Capability::from_bits(1 << 63).esrtps());
        assert_eq!(Capability::from_bits(0x3F << 48).mamv(), 0x3F);
        assert!(ExtendedCapability::from_bits(1 << 7).sc());
        assert!(ExtendedCapability::from_bits(1 << 26).nest());
        assert_eq!(ExtendedCapability::from_bits(0xF << 20).mhmv(), 0xF);
        assert!(ExtendedCapability::from_bits(1 << 40).pasid());
        assert!(ExtendedCapability::from_bits(1 << 43).smts());
        assert!(ExtendedCapability::from_bits(1 << 46).ssts());
        assert!(ExtendedCapability::from_bits(1 << 47).fsts());
        assert!(ExtendedCapability::from_bits(1 << 48).smpwcs());
        assert!(ExtendedCapability::from_bits(1 << 49).rps());
        assert_eq!(ExtendedCapability::from_bits(0x1F << 35).pss(), 0x1F);
    }

    #[test]
    fn seven_in_nd_does_not_shift_out() {
        assert_eq!(Capability::from_bits(7).domains(), 65536);
        assert_eq!(Capability::from_bits(0).domains(), 16);
    }
}
