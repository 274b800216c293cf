//! What a unit can do: the extended feature registers (MMIO offsets 0030h and 01A0h). The IVRS table holds copies of them.

use bitfield_struct::bitfield;
use machine::Level;

/// EFR: extended features.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct ExtendedFeature {
    /// PreFSup: prefetching of translations.
    pub prefetch: bool,
    /// PPRSup: peripheral page requests.
    pub ppr: bool,
    /// XTSup: x2APIC.
    pub xt: bool,
    /// NXSup: no-execute in guest tables.
    pub nx: bool,
    /// GTSup: guest translation.
    pub gt: bool,
    __: bool,
    /// IASup: the command INVALIDATE_IOMMU_ALL.
    pub ia: bool,
    /// GASup: guest virtual APIC.
    pub ga: bool,
    /// HESup: hardware error registers.
    pub he: bool,
    /// PCSup: event counters; the registers are larger ([`BYTES_WITH_COUNTERS`](crate::registers::BYTES_WITH_COUNTERS)).
    pub pc: bool,
    /// HATS: levels of host tables; see [`host_levels`](Self::host_levels).
    #[bits(2)]
    pub hats: u8,
    /// GATS: levels of guest tables; see [`guest_levels`](Self::guest_levels).
    #[bits(2)]
    pub gats: u8,
    /// GLXSup: most levels of a guest's CR3 table, less one.
    #[bits(2)]
    pub glx: u8,
    /// SmiFSup: filter of system management interrupts.
    #[bits(2)]
    pub smi_filter: u8,
    /// SmiFRC: number of its registers.
    #[bits(3)]
    pub smi_filter_registers: u8,
    /// GAMSup: guest virtual APIC modes.
    #[bits(3)]
    pub ga_modes: u8,
    /// DualPprLogSup: a second page request log.
    #[bits(2)]
    pub dual_ppr_log: u8,
    #[bits(2)]
    __: u8,
    /// DualEventLogSup: a second event log.
    #[bits(2)]
    pub dual_event_log: u8,
    #[bits(2)]
    __: u8,
    /// PASmax: bits of a PASID, less one.
    #[bits(5)]
    pub pasid_max: u8,
    /// USSup: user and supervisor pages in guest tables.
    pub us: bool,
    /// DevTblSegSup: binary logarithm of the number of device table segments.
    #[bits(2)]
    pub device_table_segments: u8,
    /// PprOvrflwEarlySup: early warning of a full page request log.
    pub ppr_overflow_early: bool,
    /// PprAutoRspSup: page requests are answered where the log is full.
    pub ppr_auto_response: bool,
    /// MarcSup: relocated apertures.
    #[bits(2)]
    pub marc: u8,
    /// BlkStopMrkSup: StopMark messages can be blocked.
    pub block_stop_mark: bool,
    /// PerfOptSup: performance optimization.
    pub performance_optimization: bool,
    /// MsiCapMmioSup: the MSI capability is among the registers.
    pub msi_in_registers: bool,
    __: bool,
    /// GIoSup: guest tables for requests without PASID.
    pub gio: bool,
    /// HASup: accessed bits in host tables.
    pub host_accessed: bool,
    /// EPHSup: enhanced handling of page requests.
    pub enhanced_ppr: bool,
    /// AttrFWSup: attributes are forwarded.
    pub attribute_forward: bool,
    /// HDSup: dirty bits in host tables.
    pub host_dirty: bool,
    __: bool,
    /// InvIotlbTypeSup: the type of an IOTLB invalidation.
    pub iotlb_invalidation_type: bool,
    #[bits(6)]
    __: u8,
    /// GAUpdateDisSup: the unit can be told not to set accessed bits in guest tables.
    pub guest_accessed_disable: bool,
    /// ForcePhyDestSup: forced physical destinations of interrupts.
    pub force_physical_destination: bool,
    /// SNPSup: secure nested paging.
    pub snp: bool,
}

impl ExtendedFeature {
    /// The highest level that the root of a host table may have; `None` if the unit has no host tables, as HATS = 11b says.
    pub const fn host_levels(self) -> Option<Level> {
        match self.hats() {
            0 => Some(Level::FOUR),
            1 => Some(Level::FIVE),
            2 => Some(Level::SIX),
            _ => None,
        }
    }

    /// The highest level that the root of a guest table may have; `None` if the unit has no guest tables.
    pub const fn guest_levels(self) -> Option<Level> {
        match (self.gt(), self.gats()) {
            (true, 0) => Some(Level::FOUR),
            (true, 1) => Some(Level::FIVE),
            _ => None,
        }
    }

    /// Bytes of the unit's registers.
    pub const fn register_bytes(self) -> usize {
        if self.pc() { crate::registers::BYTES_WITH_COUNTERS } else { crate::registers::BYTES }
    }
}

/// EFR2: extended features, second register.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct ExtendedFeature2 {
    #[bits(2)]
    __: u8,
    /// TMPMSup: migration between tiers of memory.
    pub tiered_memory: bool,
    /// GCR3TRPMode: a device table entry may hold the guest's address of its CR3 table.
    pub guest_cr3_address: bool,
    /// GAPPIDisSup: interrupts of guests can be masked.
    pub ga_ppi_disable: bool,
    /// SNPAVICSup: guest virtual APIC where SNP is on.
    #[bits(3)]
    pub snp_avic: u8,
    /// NumIntRemapSup: interrupts of a device, beyond 512.
    #[bits(2)]
    pub interrupts: u8,
    __: bool,
    /// HtRangeIgnore: the ranges of HyperTransport are ordinary addresses.
    pub ht_range_ignore: bool,
    #[bits(52)]
    __: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// QEMU 11.1's unit: EFR 0x29d3.
    #[test]
    fn qemus_features_are_decoded() {
        let feature = ExtendedFeature::from_bits(0x29D3);
        assert!(
            feature.prefetch()
                && feature.ppr()
                && feature.gt()
                && feature.ia()
                && feature.ga()
                && feature.he()
        );
        assert!(!feature.xt() && !feature.pc() && !feature.snp());
        assert_eq!((feature.host_levels(), feature.guest_levels()), (Some(Level::SIX), None));
        assert_eq!(feature.register_bytes(), 0x4000);
    }

    /// A desktop processor's image, as its IVRS table gives it: `0x246577efa2254afa`.
    #[test]
    fn features_of_silicon_are_decoded() {
        let feature = ExtendedFeature::from_bits(0x2465_77EF_A225_4AFA);
        assert!(!feature.prefetch() && feature.ppr() && feature.nx() && feature.gt() && feature.pc());
        assert_eq!((feature.host_levels(), feature.guest_levels()), (Some(Level::SIX), Some(Level::FOUR)));
        assert_eq!(
            (feature.pasid_max(), feature.device_table_segments(), feature.register_bytes()),
            (15, 3, 0x8_0000)
        );
    }

    /// Bit positions as Linux tests them (`FEATURE_*`).
    #[test]
    fn single_bits_are_where_linux_tests_them() {
        assert!(
            ExtendedFeature::from_bits(1 << 48).gio() && ExtendedFeature::from_bits(1 << 49).host_accessed()
        );
        assert!(
            ExtendedFeature::from_bits(1 << 50).enhanced_ppr()
                && ExtendedFeature::from_bits(1 << 52).host_dirty()
        );
        assert!(ExtendedFeature::from_bits(1 << 63).snp());
        assert_eq!(ExtendedFeature::from_bits(3 << 14).glx(), 3);
        assert_eq!(ExtendedFeature2::from_bits(7 << 5).snp_avic(), 7);
        assert!(ExtendedFeature2::from_bits(1 << 11).ht_range_ignore());
    }

    #[test]
    fn a_unit_without_host_tables_says_so() {
        assert_eq!(ExtendedFeature::new().with_hats(3).host_levels(), None);
        assert_eq!(ExtendedFeature::new().with_gats(1).guest_levels(), None);
        assert_eq!(ExtendedFeature::new().with_gt(true).with_gats(1).guest_levels(), Some(Level::FIVE));
    }
}
