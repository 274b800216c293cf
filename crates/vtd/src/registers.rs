//! Offset, width and access kind of each register of a remapping unit (11.4).
//!
//! Two groups have no fixed place: the IOTLB registers are at `ECAP.IRO * 16`, the fault records at `CAP.FRO * 16`.
//! Use [`ExtendedCapability::iotlb_offset`](crate::capability::ExtendedCapability::iotlb_offset) and
//! [`Capability::fault_record_offset`](crate::capability::Capability::fault_record_offset).

/// How software may access a register (11.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Writes are ignored.
    ReadOnly,
    /// Reads return zero.
    WriteOnly,
    /// Reads return what was written, unless the field says otherwise.
    ReadWrite,
    /// Writing one clears a bit; writing zero leaves it.
    WriteOneToClear,
}

/// The size of one access to a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// Four bytes.
    Bits32,
    /// Eight bytes, in one access.
    Bits64,
}

/// One register: its place, width and access kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register {
    /// The specification's short name.
    pub name: &'static str,
    /// Bytes from the start of the unit's registers.
    pub offset: usize,
    /// Bytes of one access.
    pub width: Width,
    /// What reads and writes do.
    pub access: Access,
    /// Section of the specification.
    pub section: &'static str,
}

const fn bits32(name: &'static str, offset: usize, access: Access, section: &'static str) -> Register {
    Register { name, offset, width: Width::Bits32, access, section }
}

const fn bits64(name: &'static str, offset: usize, access: Access, section: &'static str) -> Register {
    Register { name, offset, width: Width::Bits64, access, section }
}

use Access::{ReadOnly, ReadWrite, WriteOneToClear, WriteOnly};

/// Version.
pub const VER: Register = bits32("VER", 0x00, ReadOnly, "11.4.1");
/// Capability.
pub const CAP: Register = bits64("CAP", 0x08, ReadOnly, "11.4.2");
/// Extended capability.
pub const ECAP: Register = bits64("ECAP", 0x10, ReadOnly, "11.4.3");
/// Global command.
pub const GCMD: Register = bits32("GCMD", 0x18, WriteOnly, "11.4.4");
/// Global status.
pub const GSTS: Register = bits32("GSTS", 0x1C, ReadOnly, "11.4.4");
/// Root table address; takes effect at GCMD.SRTP.
pub const RTADDR: Register = bits64("RTADDR", 0x20, ReadWrite, "11.4.5");
/// Context command: register-based context-cache invalidation.
pub const CCMD: Register = bits64("CCMD", 0x28, ReadWrite, "11.4.6");
/// Fault status.
pub const FSTS: Register = bits32("FSTS", 0x34, WriteOneToClear, "11.4.7");
/// Fault event control.
pub const FECTL: Register = bits32("FECTL", 0x38, ReadWrite, "11.4.7");
/// Fault event message data.
pub const FEDATA: Register = bits32("FEDATA", 0x3C, ReadWrite, "11.4.7");
/// Fault event message address.
pub const FEADDR: Register = bits32("FEADDR", 0x40, ReadWrite, "11.4.7");
/// Fault event message address, upper half.
pub const FEUADDR: Register = bits32("FEUADDR", 0x44, ReadWrite, "11.4.7");
/// Advanced fault log.
pub const AFLOG: Register = bits64("AFLOG", 0x58, ReadWrite, "11.4.7");
/// Protected memory enable.
pub const PMEN: Register = bits32("PMEN", 0x64, ReadWrite, "11.4.8");
/// Protected low memory, first byte.
pub const PLMBASE: Register = bits32("PLMBASE", 0x68, ReadWrite, "11.4.8");
/// Protected low memory, last byte.
pub const PLMLIMIT: Register = bits32("PLMLIMIT", 0x6C, ReadWrite, "11.4.8");
/// Protected high memory, first byte.
pub const PHMBASE: Register = bits64("PHMBASE", 0x70, ReadWrite, "11.4.8");
/// Protected high memory, last byte.
pub const PHMLIMIT: Register = bits64("PHMLIMIT", 0x78, ReadWrite, "11.4.8");
/// Invalidation queue head: next descriptor the unit fetches.
pub const IQH: Register = bits64("IQH", 0x80, ReadOnly, "11.4.9");
/// Invalidation queue tail: next descriptor software writes.
pub const IQT: Register = bits64("IQT", 0x88, ReadWrite, "11.4.9");
/// Invalidation queue address.
pub const IQA: Register = bits64("IQA", 0x90, ReadWrite, "11.4.9");
/// Invalidation completion status.
pub const ICS: Register = bits32("ICS", 0x9C, WriteOneToClear, "11.4.9");
/// Invalidation event control.
pub const IECTL: Register = bits32("IECTL", 0xA0, ReadWrite, "11.4.9");
/// Invalidation event message data.
pub const IEDATA: Register = bits32("IEDATA", 0xA4, ReadWrite, "11.4.9");
/// Invalidation event message address.
pub const IEADDR: Register = bits32("IEADDR", 0xA8, ReadWrite, "11.4.9");
/// Invalidation event message address, upper half.
pub const IEUADDR: Register = bits32("IEUADDR", 0xAC, ReadWrite, "11.4.9");
/// Invalidation queue error record.
pub const IQERCD: Register = bits64("IQERCD", 0xB0, ReadOnly, "11.4.9");
/// Interrupt remapping table address.
pub const IRTA: Register = bits64("IRTA", 0xB8, ReadWrite, "11.4.10");
/// Page request queue head.
pub const PQH: Register = bits64("PQH", 0xC0, ReadWrite, "11.4.11");
/// Page request queue tail.
pub const PQT: Register = bits64("PQT", 0xC8, ReadWrite, "11.4.11");
/// Page request queue address.
pub const PQA: Register = bits64("PQA", 0xD0, ReadWrite, "11.4.11");
/// Page request status.
pub const PRS: Register = bits32("PRS", 0xDC, WriteOneToClear, "11.4.11");
/// Page request event control.
pub const PECTL: Register = bits32("PECTL", 0xE0, ReadWrite, "11.4.11");

/// Every register at a fixed place, in order of offset.
pub const FIXED: [Register; 33] = [
    VER, CAP, ECAP, GCMD, GSTS, RTADDR, CCMD, FSTS, FECTL, FEDATA, FEADDR, FEUADDR, AFLOG, PMEN, PLMBASE,
    PLMLIMIT, PHMBASE, PHMLIMIT, IQH, IQT, IQA, ICS, IECTL, IEDATA, IEADDR, IEUADDR, IQERCD, IRTA, PQH, PQT,
    PQA, PRS, PECTL,
];

/// Bytes from `ECAP.IRO * 16` to the invalidate address register IVA (64 bits, write only, 11.4.6).
pub const IVA_FROM_IRO: usize = 0;
/// Bytes from `ECAP.IRO * 16` to the IOTLB invalidate register (64 bits, read-write, 11.4.6).
pub const IOTLB_FROM_IRO: usize = 8;
/// Bytes of one fault record FRCD, counted from `CAP.FRO * 16` (two 64-bit accesses, 11.4.7).
pub const FRCD_SIZE: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    /// Offsets as other software knows them: Linux's `drivers/iommu/intel/iommu.h` and QEMU's
    /// `hw/i386/intel_iommu_internal.h` agree on these.
    #[test]
    fn registers_are_where_other_software_finds_them() {
        let known = [
            ("VER", 0x0),
            ("CAP", 0x8),
            ("ECAP", 0x10),
            ("GCMD", 0x18),
            ("GSTS", 0x1c),
            ("RTADDR", 0x20),
            ("CCMD", 0x28),
            ("FSTS", 0x34),
            ("FECTL", 0x38),
            ("FEDATA", 0x3c),
            ("FEADDR", 0x40),
            ("FEUADDR", 0x44),
            ("AFLOG", 0x58),
            ("PMEN", 0x64),
            ("PLMBASE", 0x68),
            ("PLMLIMIT", 0x6c),
            ("PHMBASE", 0x70),
            ("PHMLIMIT", 0x78),
            ("IQH", 0x80),
            ("IQT", 0x88),
            ("IQA", 0x90),
            ("ICS", 0x9c),
            ("IECTL", 0xa0),
            ("IEDATA", 0xa4),
            ("IEADDR", 0xa8),
            ("IEUADDR", 0xac),
            ("IQERCD", 0xb0),
            ("IRTA", 0xb8),
            ("PQH", 0xc0),
            ("PQT", 0xc8),
            ("PQA", 0xd0),
            ("PRS", 0xdc),
            ("PECTL", 0xe0),
        ];
        assert_eq!(FIXED.map(|register| (register.name, register.offset)), known);
    }

    #[test]
    fn registers_are_naturally_aligned() {
        for register in FIXED {
            let bytes = if register.width == Width::Bits64 { 8 } else { 4 };
            assert_eq!(register.offset % bytes, 0, "{}", register.name);
        }
    }
}
