//! Faults in the unit's registers: status, event control, fault records, reasons (chapter 7, 11.4.7).

use machine::{IoAddress, SourceId};

use bitfield_struct::bitfield;

/// FSTS: pending faults and errors of the invalidation queue; write one to clear (11.4.7).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct FaultStatus {
    /// PFO: faults were lost because all records were in use.
    pub pfo: bool,
    /// PPF: a record holds a fault (read only, clears with the records).
    pub ppf: bool,
    /// AFO: the advanced fault log is full.
    pub afo: bool,
    /// APF: the advanced fault log holds a fault.
    pub apf: bool,
    /// IQE: the queue stopped at a descriptor it cannot execute.
    pub iqe: bool,
    /// ICE: a device answered a device-TLB invalidation in a wrong way.
    pub ice: bool,
    /// ITE: a device did not answer a device-TLB invalidation.
    pub ite: bool,
    /// PRO: page requests were lost (older revisions).
    pub pro: bool,
    /// FRI: first record that holds a fault (read only).
    pub fri: u8,
    __: u16,
}

impl FaultStatus {
    /// The errors that the invalidation queue reports.
    pub const QUEUE_ERRORS: Self = Self::new().with_iqe(true).with_ice(true).with_ite(true);
    /// Those of them that stop the queue until software clears them (6.5.2.10).
    pub const QUEUE_STOPS: Self = Self::new().with_iqe(true).with_ite(true);

    /// The bits that are also set in `mask`.
    pub const fn only(self, mask: Self) -> Self {
        Self::from_bits(self.into_bits() & mask.into_bits())
    }

    /// The bits that are set in either.
    pub const fn union(self, other: Self) -> Self {
        Self::from_bits(self.into_bits() | other.into_bits())
    }
}

/// PRS: the status of the page request queue; write one to clear (11.4.11).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct PageRequestStatus {
    /// PPR: software has not yet handled a page request.
    pub pending: bool,
    /// PRO: page requests were refused because the queue was full.
    pub overflow: bool,
    #[bits(30)]
    __: u32,
}

/// Why a request was blocked (7.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultReason(pub u8);

impl FaultReason {
    /// LRT.1: the root entry is not present.
    pub const ROOT_NOT_PRESENT: Self = Self(0x01);
    /// LCT.1: the context entry is not present.
    pub const CONTEXT_NOT_PRESENT: Self = Self(0x02);
    /// LCT.2: the context entry is programmed in an unsupported way.
    pub const CONTEXT_INVALID: Self = Self(0x03);
    /// LGN.1: the address is beyond the width.
    pub const ADDRESS_BEYOND_WIDTH: Self = Self(0x04);
    /// LGN.2: no write permission.
    pub const WRITE: Self = Self(0x05);
    /// LGN.3: no read permission.
    pub const READ: Self = Self(0x06);
    /// LSL.1: a paging entry cannot be read.
    pub const PAGING_UNREADABLE: Self = Self(0x07);
    /// LRT.2: a root entry cannot be read.
    pub const ROOT_UNREADABLE: Self = Self(0x08);
    /// LCT.3: a context entry cannot be read.
    pub const CONTEXT_UNREADABLE: Self = Self(0x09);
    /// LRT.3: reserved bits in a root entry.
    pub const ROOT_RESERVED: Self = Self(0x0A);
    /// LCT.4: reserved bits in a context entry.
    pub const CONTEXT_RESERVED: Self = Self(0x0B);
    /// LSL.2: reserved bits in a paging entry.
    pub const PAGING_RESERVED: Self = Self(0x0C);
    /// LCT.5: the translation type blocks this request.
    pub const CONTEXT_TYPE: Self = Self(0x0D);
}

machine::code!(FaultReason);

/// Low half of a fault record.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct FaultRecordLow {
    #[bits(12)]
    __: u16,
    /// FI: page frame number of the address that faulted.
    #[bits(52)]
    pub frame: u64,
}

/// High half of a fault record.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct FaultRecordHigh {
    /// SID: the requester.
    #[bits(16)]
    pub source: SourceId,
    #[bits(12)]
    __: u16,
    /// T2: with `t1`, the kind of request.
    pub t2: bool,
    /// PRIV: the request was privileged.
    pub privileged: bool,
    /// EXE: the request was for execution.
    pub execute: bool,
    /// PP: the request carried a PASID.
    pub pasid_present: bool,
    /// FR: the reason.
    #[bits(8)]
    pub reason: FaultReason,
    /// PV: the PASID.
    #[bits(20)]
    pub pasid: u32,
    /// AT: address type of the request.
    #[bits(2)]
    pub address_type: u8,
    /// T1: the request was a read (set) or a write (clear), if `t2` is clear.
    pub t1: bool,
    /// F: this record holds a fault; write one to clear.
    pub fault: bool,
}

/// FRCD: one recorded fault (11.4.7). Read the high half first: it says whether the rest is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultRecord {
    /// Bits 63:0.
    pub low: FaultRecordLow,
    /// Bits 127:64.
    pub high: FaultRecordHigh,
}

impl FaultRecord {
    /// The record as its two words.
    pub const fn from_words(low: u64, high: u64) -> Self {
        Self { low: FaultRecordLow::from_bits(low), high: FaultRecordHigh::from_bits(high) }
    }

    /// The page whose access faulted.
    pub const fn address(self) -> IoAddress {
        IoAddress::new(self.low.frame() << 12)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `DMA_FSTS_*` of Linux.
    #[test]
    fn status_bits_are_linuxs() {
        assert_eq!(FaultStatus::QUEUE_ERRORS.into_bits(), 0x70);
        assert_eq!(FaultStatus::QUEUE_STOPS.into_bits(), 0x50);
        assert!(FaultStatus::from_bits(1).pfo());
        assert!(FaultStatus::from_bits(2).ppf());
        assert_eq!(FaultStatus::from_bits(0x4200).fri(), 0x42);
    }

    /// `DMA_PRS_*` of Linux.
    #[test]
    fn page_request_bits_are_linuxs() {
        assert!(PageRequestStatus::from_bits(1).pending());
        assert!(PageRequestStatus::from_bits(2).overflow());
    }

    /// `VTD_FRCD_*` of QEMU: F is bit 63, T bit 62, FR bits 39:32, SID bits 15:0 of the high half.
    #[test]
    fn a_record_as_qemu_writes_it_is_decoded() {
        let record = FaultRecord::from_words(0xFFFF_E000, 1 << 63 | 1 << 62 | 0x6 << 32 | 0x00FA);
        assert!(record.high.fault() && record.high.t1());
        assert_eq!(record.high.reason(), FaultReason::READ);
        assert_eq!(record.high.source(), SourceId(0x00FA));
        assert_eq!(record.address(), IoAddress::new(0xFFFF_E000));
    }

    /// `dma_frcd_pasid_value`, `dma_frcd_pasid_present` of Linux, which read the record in words of 32 bits.
    #[test]
    fn the_pasid_of_a_record_is_where_linux_finds_it() {
        assert_eq!(FaultRecordHigh::from_bits(0xABCDE << 40).pasid(), 0xABCDE);
        assert!(FaultRecordHigh::from_bits(1 << 31).pasid_present());
    }
}
