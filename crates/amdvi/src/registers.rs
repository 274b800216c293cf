//! Offset and access kind of each register of a unit (3.4). All of them may be read and written by 64-bit accesses.
//!
//! The specification names registers by their offset from the base that the IVRS table gives: here it is the value.

/// How software may access a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Writes are ignored.
    ReadOnly,
    /// Reads return what was written, unless the field says otherwise.
    ReadWrite,
    /// Writing one clears a bit; writing zero leaves it.
    WriteOneToClear,
}

/// One register of 64 bits: its place and access kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register {
    /// A short name.
    pub name: &'static str,
    /// Bytes from the start of the unit's registers.
    pub offset: usize,
    /// What reads and writes do.
    pub access: Access,
}

const fn register(name: &'static str, offset: usize, access: Access) -> Register {
    Register { name, offset, access }
}

use Access::{ReadOnly, ReadWrite, WriteOneToClear};

/// Bytes of a unit's registers, unless it counts events: then they are [`BYTES_WITH_COUNTERS`] (3.4).
pub const BYTES: usize = 16 << 10;
/// Bytes of the registers of a unit that counts events (EFR.PCSup).
pub const BYTES_WITH_COUNTERS: usize = 512 << 10;

/// Device table base address.
///
/// Where SNP is on, the hardware ignores writes to this register and to those of the command buffer, the event log and the
/// logs of page requests and guest interrupts.
pub const DEVICE_TABLE: Register = register("DeviceTableBase", 0x0000, ReadWrite);
/// Command buffer base address and length; a write sets head and tail to zero.
pub const COMMAND_BUFFER: Register = register("CommandBufferBase", 0x0008, ReadWrite);
/// Event log base address and length; a write sets head and tail to zero.
pub const EVENT_LOG: Register = register("EventLogBase", 0x0010, ReadWrite);
/// Control.
pub const CONTROL: Register = register("Control", 0x0018, ReadWrite);
/// Exclusion range, first page; where SNP is on, first page of the memory that completion waits may write.
pub const EXCLUSION_BASE: Register = register("ExclusionBase", 0x0020, ReadWrite);
/// Exclusion range, last page; where SNP is on, last page of the memory that completion waits may write.
pub const EXCLUSION_LIMIT: Register = register("ExclusionLimit", 0x0028, ReadWrite);
/// Extended features.
pub const EXTENDED_FEATURE: Register = register("ExtendedFeature", 0x0030, ReadOnly);
/// Page request log base address and length.
pub const PPR_LOG: Register = register("PprLogBase", 0x0038, ReadWrite);
/// Hardware event, upper half.
pub const HARDWARE_EVENT_UPPER: Register = register("HardwareEventUpper", 0x0040, ReadWrite);
/// Hardware event, lower half.
pub const HARDWARE_EVENT_LOWER: Register = register("HardwareEventLower", 0x0048, ReadWrite);
/// Hardware event status.
pub const HARDWARE_EVENT_STATUS: Register = register("HardwareEventStatus", 0x0050, WriteOneToClear);
/// Guest virtual APIC log base address and length.
pub const GA_LOG: Register = register("GaLogBase", 0x00E0, ReadWrite);
/// Where the unit writes the tail of the guest virtual APIC log.
pub const GA_LOG_TAIL_ADDRESS: Register = register("GaLogTailAddress", 0x00E8, ReadWrite);
/// Second page request log, base address and length.
pub const PPR_LOG_B: Register = register("PprLogBBase", 0x00F0, ReadWrite);
/// Second event log, base address and length.
pub const EVENT_LOG_B: Register = register("EventLogBBase", 0x00F8, ReadWrite);
/// Extended features, second register.
pub const EXTENDED_FEATURE_2: Register = register("ExtendedFeature2", 0x01A0, ReadOnly);
/// Command buffer head: next command the unit fetches.
pub const COMMAND_HEAD: Register = register("CommandBufferHead", 0x2000, ReadWrite);
/// Command buffer tail: next command software writes.
pub const COMMAND_TAIL: Register = register("CommandBufferTail", 0x2008, ReadWrite);
/// Event log head: next event software reads.
pub const EVENT_HEAD: Register = register("EventLogHead", 0x2010, ReadWrite);
/// Event log tail: next event the unit writes.
pub const EVENT_TAIL: Register = register("EventLogTail", 0x2018, ReadWrite);
/// Status.
pub const STATUS: Register = register("Status", 0x2020, WriteOneToClear);
/// Page request log head.
pub const PPR_HEAD: Register = register("PprLogHead", 0x2030, ReadWrite);
/// Page request log tail.
pub const PPR_TAIL: Register = register("PprLogTail", 0x2038, ReadWrite);
/// Guest virtual APIC log head.
pub const GA_HEAD: Register = register("GaLogHead", 0x2040, ReadWrite);
/// Guest virtual APIC log tail.
pub const GA_TAIL: Register = register("GaLogTail", 0x2048, ReadWrite);

/// All of these registers, in order of offset.
pub const ALL: [Register; 25] = [
    DEVICE_TABLE,
    COMMAND_BUFFER,
    EVENT_LOG,
    CONTROL,
    EXCLUSION_BASE,
    EXCLUSION_LIMIT,
    EXTENDED_FEATURE,
    PPR_LOG,
    HARDWARE_EVENT_UPPER,
    HARDWARE_EVENT_LOWER,
    HARDWARE_EVENT_STATUS,
    GA_LOG,
    GA_LOG_TAIL_ADDRESS,
    PPR_LOG_B,
    EVENT_LOG_B,
    EXTENDED_FEATURE_2,
    COMMAND_HEAD,
    COMMAND_TAIL,
    EVENT_HEAD,
    EVENT_TAIL,
    STATUS,
    PPR_HEAD,
    PPR_TAIL,
    GA_HEAD,
    GA_TAIL,
];

/// Device table base address of a segment, 1 to 7; segment 0 is in [`DEVICE_TABLE`] (2.2.2.3).
pub const fn device_table_segment(segment: usize) -> Option<Register> {
    const NAMES: [&str; 7] = [
        "DeviceTableSegment1",
        "DeviceTableSegment2",
        "DeviceTableSegment3",
        "DeviceTableSegment4",
        "DeviceTableSegment5",
        "DeviceTableSegment6",
        "DeviceTableSegment7",
    ];
    match segment {
        1..=7 => Some(register(NAMES[segment - 1], 0x0100 + 8 * (segment - 1), ReadWrite)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Offsets as other software knows them: Linux's `MMIO_*_OFFSET`, QEMU's `AMDVI_MMIO_*`.
    #[test]
    fn registers_are_where_other_software_finds_them() {
        let known = [
            0x00, 0x08, 0x10, 0x18, 0x20, 0x28, 0x30, 0x38, 0x40, 0x48, 0x50, 0xE0, 0xE8, 0xF0, 0xF8, 0x1A0,
            0x2000, 0x2008, 0x2010, 0x2018, 0x2020, 0x2030, 0x2038, 0x2040, 0x2048,
        ];
        assert_eq!(ALL.map(|register| register.offset), known);
        assert!(ALL.iter().all(|register| register.offset < BYTES));
    }

    #[test]
    fn seven_segments_of_the_device_table_have_registers_of_their_own() {
        let offsets = (0..9).map(|segment| device_table_segment(segment).map(|register| register.offset));
        let known =
            [None, Some(0x100), Some(0x108), Some(0x110), Some(0x118), Some(0x120), Some(0x128), Some(0x130)];
        assert!(offsets.eq(known.into_iter().chain([None])));
    }
}
