//! Events, which the unit writes into the event log: 128 bits each (2.5).

use bitfield_struct::bitfield;
use machine::SourceId;

/// Words of an event.
pub const EVENT_WORDS: usize = 2;
/// Bytes of an event.
pub const EVENT_BYTES: usize = EVENT_WORDS * 8;

/// What an event reports: bits 63:60 of its first word (2.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventCode(pub u8);

impl EventCode {
    /// A device table entry is malformed (2.5.2).
    pub const ILLEGAL_DEV_TABLE_ENTRY: Self = Self(1);
    /// A request was blocked (2.5.3).
    pub const IO_PAGE_FAULT: Self = Self(2);
    /// The device table cannot be read (2.5.4).
    pub const DEV_TAB_HARDWARE_ERROR: Self = Self(3);
    /// A page table cannot be read (2.5.5).
    pub const PAGE_TAB_HARDWARE_ERROR: Self = Self(4);
    /// A command is malformed: the unit has stopped fetching (2.5.6).
    pub const ILLEGAL_COMMAND_ERROR: Self = Self(5);
    /// A command cannot be read: the unit has stopped fetching (2.5.7).
    pub const COMMAND_HARDWARE_ERROR: Self = Self(6);
    /// A device did not answer an invalidation (2.5.8).
    pub const IOTLB_INV_TIMEOUT: Self = Self(7);
    /// A request is of a kind that is not allowed (2.5.9).
    pub const INVALID_DEVICE_REQUEST: Self = Self(8);
    /// A page request is malformed (2.5.10).
    pub const INVALID_PPR_REQUEST: Self = Self(9);
    /// An event counter has become zero (2.5.11).
    pub const EVENT_COUNTER_ZERO: Self = Self(10);
    /// A guest's buffer faulted (2.5.12).
    pub const GUEST_EVENT_FAULT: Self = Self(11);
    /// A virtual unit's memory failed (2.5.13).
    pub const VIOMMU_HARDWARE_ERROR: Self = Self(12);
    /// Secure nested paging blocked an access (2.5.14).
    pub const RMP_PAGE_FAULT: Self = Self(13);
    /// Its table cannot be read (2.5.15).
    pub const RMP_HARDWARE_ERROR: Self = Self(14);
}

machine::code!(EventCode);

/// First word of an event. The fields are those of a page fault (2.5.3); other events leave some of them out, and events of
/// commands name no device.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct EventLow {
    /// The device.
    #[bits(16)]
    pub source: SourceId,
    /// PASID, bits 19:16, if GN is set.
    #[bits(4)]
    pub pasid_high: u8,
    #[bits(12)]
    __: u16,
    /// Domain-id; PASID, bits 15:0, if GN is set.
    pub domain: u16,
    /// GN: the request had a PASID.
    pub guest: bool,
    /// NX: it was for execution.
    pub execute: bool,
    /// US: it was a user's.
    pub user: bool,
    /// I: it was an interrupt.
    pub interrupt: bool,
    /// PR: there was a translation, which allowed less.
    pub present: bool,
    /// RW: it was a write.
    pub write: bool,
    /// PE: it was not allowed.
    pub permission: bool,
    /// RZ: reserved bits were set; otherwise a level was malformed.
    pub reserved: bool,
    /// TR: it was a request for a translation.
    pub translation: bool,
    /// Type, of hardware errors and of invalid requests.
    #[bits(3)]
    pub kind: u8,
    /// Event code.
    #[bits(4)]
    pub code: EventCode,
}

/// An event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Bits 63:0.
    pub low: EventLow,
    /// Bits 127:64: the I/O address of a request, or the physical address of a table or a command.
    pub address: u64,
}

impl Event {
    /// The event as its two words.
    pub const fn from_words(words: [u64; EVENT_WORDS]) -> Self {
        Self { low: EventLow::from_bits(words[0]), address: words[1] }
    }

    /// The PASID of a request that had one.
    pub const fn pasid(self) -> Option<u32> {
        if !self.low.guest() {
            return None;
        }
        Some((self.low.pasid_high() as u32) << 16 | self.low.domain() as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `EVENT_*` of Linux: code in bits 63:60, flags in 59:48, domain-id in 47:32; a write of 00:02.0 that was not mapped.
    #[test]
    fn a_page_fault_is_decoded() {
        let event = Event::from_words([0x2020_0007_0000_0010, 0x1234_5000]);
        assert_eq!(event.low.code(), EventCode::IO_PAGE_FAULT);
        assert_eq!(
            (event.low.source(), event.low.domain(), event.address),
            (SourceId::at(0, 2, 0), 7, 0x1234_5000)
        );
        assert!(event.low.write() && !event.low.present() && !event.low.interrupt());
        assert_eq!(event.pasid(), None);
    }

    /// Linux: PASID bits 15:0 in 47:32, 19:16 in 19:16.
    #[test]
    fn the_pasid_is_in_two_places() {
        let event = Event::from_words([0x2001_BCDE_000A_0010, 0]);
        assert_eq!(event.pasid(), Some(0xA_BCDE));
    }

    #[test]
    fn flags_are_in_their_order() {
        let flags = |bit: u32| EventLow::from_bits(1 << bit);
        assert!(flags(48).guest() && flags(49).execute() && flags(50).user() && flags(51).interrupt());
        assert!(flags(52).present() && flags(53).write() && flags(54).permission() && flags(55).reserved());
        assert!(flags(56).translation());
        assert_eq!(EventLow::from_bits(7 << 57).kind(), 7);
    }
}
