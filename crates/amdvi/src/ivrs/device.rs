//! Device entries: the devices behind a unit, one by one and as ends of ranges (5.2.2.1).

use bitfield_struct::bitfield;
use machine::SourceId;
use machine::bytes::{u8_at, u16_at, u32_at};

/// Bytes of the entry for a device that ACPI names, without its unique id.
const ACPI_ENTRY: usize = 22;

/// The device entries of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceEntries<'a> {
    bytes: &'a [u8],
}

impl<'a> DeviceEntries<'a> {
    pub(super) const fn of(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The entries in the table's order, up to the first whose length is impossible.
    pub const fn iter(&self) -> DeviceEntryIter<'a> {
        DeviceEntryIter { bytes: self.bytes }
    }

    /// Whether every entry has a possible length.
    pub fn is_sound(&self) -> bool {
        let mut entries = self.iter();
        entries.by_ref().for_each(drop);
        entries.bytes.is_empty()
    }
}

impl<'a> IntoIterator for &DeviceEntries<'a> {
    type Item = DeviceEntry<'a>;
    type IntoIter = DeviceEntryIter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Walks the device entries of a block.
#[derive(Clone, Debug)]
pub struct DeviceEntryIter<'a> {
    bytes: &'a [u8],
}

impl<'a> Iterator for DeviceEntryIter<'a> {
    type Item = DeviceEntry<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let length = length_of(self.bytes)?;
        let entry = self.bytes.get(..length)?;
        self.bytes = self.bytes.get(length..)?;
        Some(DeviceEntry::decode(entry))
    }
}

/// Bytes of the first entry: its type gives them, but for entries of devices that ACPI names.
fn length_of(bytes: &[u8]) -> Option<usize> {
    match u8_at(bytes, 0)? {
        kind @ 0..=0xEF => Some(4 << (kind >> 6)),
        _ => Some(ACPI_ENTRY + usize::from(u8_at(bytes, ACPI_ENTRY - 1)?)),
    }
}

/// DTE setting: bits that firmware wants in the device table entry, the highest eight of its interrupt word (5.2.2.1).
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct DteSetting {
    /// INITPass: INIT passes.
    pub init_pass: bool,
    /// EIntPass: external interrupts pass.
    pub external_pass: bool,
    /// NMIPass: NMI passes.
    pub nmi_pass: bool,
    __: bool,
    /// SysMgt: system management messages.
    #[bits(2)]
    pub system_management: u8,
    /// LINT0Pass: LINT0 passes.
    pub lint0_pass: bool,
    /// LINT1Pass: LINT1 passes.
    pub lint1_pass: bool,
}

/// One device entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceEntry<'a> {
    /// 0 and 64: nothing.
    Padding,
    /// 1: all devices of the segment.
    All(DteSetting),
    /// 2 and 70: one device.
    Select {
        /// The device.
        source: SourceId,
        /// Its setting.
        setting: DteSetting,
        /// Extended setting; bit 31 forbids a device-TLB. Zero in entries of type 2.
        extended: u32,
    },
    /// 3 and 71: all devices from this one up to the one in the next entry, which ends the range.
    RangeStart {
        /// The first device.
        source: SourceId,
        /// The setting of all of them.
        setting: DteSetting,
        /// Extended setting. Zero in entries of type 3.
        extended: u32,
    },
    /// 4: the last device of a range.
    RangeEnd(SourceId),
    /// 66: one device, whose requests arrive under another's source-id.
    AliasSelect {
        /// The device.
        source: SourceId,
        /// Under which its requests arrive.
        alias: SourceId,
        /// The setting.
        setting: DteSetting,
    },
    /// 67: all devices from this one up to the end of the range, whose requests arrive under another's source-id.
    AliasRangeStart {
        /// The first device.
        source: SourceId,
        /// Under which their requests arrive.
        alias: SourceId,
        /// The setting.
        setting: DteSetting,
    },
    /// 72: an I/O APIC or a timer, under the source-id of its requests.
    Special(SpecialDevice),
    /// 240: a device that ACPI names, under the source-id of its requests.
    Acpi(AcpiDevice<'a>),
    /// A type that is not listed here.
    Unknown {
        /// The type.
        kind: u8,
        /// All its bytes, type included.
        bytes: &'a [u8],
    },
}

impl<'a> DeviceEntry<'a> {
    fn decode(bytes: &'a [u8]) -> Self {
        let kind = u8_at(bytes, 0).unwrap_or(u8::MAX);
        Self::known(kind, bytes).unwrap_or(Self::Unknown { kind, bytes })
    }

    fn known(kind: u8, bytes: &'a [u8]) -> Option<Self> {
        let source = SourceId(u16_at(bytes, 1)?);
        let setting = DteSetting::from_bits(u8_at(bytes, 3)?);
        let used = || u16_at(bytes, 5).map(SourceId);
        Some(match kind {
            0 | 64 => Self::Padding,
            1 => Self::All(setting),
            2 => Self::Select { source, setting, extended: 0 },
            3 => Self::RangeStart { source, setting, extended: 0 },
            4 => Self::RangeEnd(source),
            66 => Self::AliasSelect { source, alias: used()?, setting },
            67 => Self::AliasRangeStart { source, alias: used()?, setting },
            70 => Self::Select { source, setting, extended: u32_at(bytes, 4)? },
            71 => Self::RangeStart { source, setting, extended: u32_at(bytes, 4)? },
            72 => Self::Special(SpecialDevice {
                source: used()?,
                handle: u8_at(bytes, 4)?,
                variety: Variety(u8_at(bytes, 7)?),
                setting,
            }),
            240 => Self::Acpi(AcpiDevice {
                source,
                setting,
                hardware_id: *bytes.get(4..)?.first_chunk()?,
                compatible_id: *bytes.get(12..)?.first_chunk()?,
                uid: Uid::decode(u8_at(bytes, 20)?, bytes.get(ACPI_ENTRY..)?),
            }),
            _ => return None,
        })
    }
}

/// What a special device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variety(pub u8);

impl Variety {
    /// An I/O APIC; the handle is its id.
    pub const IOAPIC: Self = Self(1);
    /// A timer that sends MSIs; the handle is its number.
    pub const HPET: Self = Self(2);
}

/// An I/O APIC or a timer: not a PCI function, but its requests have a source-id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpecialDevice {
    /// The source-id of its requests.
    pub source: SourceId,
    /// Which one it is.
    pub handle: u8,
    /// What it is.
    pub variety: Variety,
    /// The setting.
    pub setting: DteSetting,
}

/// A device that ACPI names: not a PCI function, but its requests have a source-id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcpiDevice<'a> {
    /// The source-id of its requests.
    pub source: SourceId,
    /// The setting.
    pub setting: DteSetting,
    /// Its hardware id (`_HID`), in characters.
    pub hardware_id: [u8; 8],
    /// Its compatible id (`_CID`), in characters.
    pub compatible_id: [u8; 8],
    /// Its unique id (`_UID`).
    pub uid: Uid<'a>,
}

/// A unique id of a device that ACPI names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uid<'a> {
    /// It has none.
    None,
    /// A number: eight bytes, or fewer, as there are tables that have two.
    Integer(u64),
    /// Characters.
    Characters(&'a [u8]),
    /// A format that is not listed here, or a number of no bytes or of more than eight.
    Unknown(u8, &'a [u8]),
}

impl<'a> Uid<'a> {
    fn decode(format: u8, bytes: &'a [u8]) -> Self {
        match (format, bytes.len()) {
            (0, _) => Self::None,
            (1, 1..=8) => Self::Integer(little_endian(bytes)),
            (2, _) => Self::Characters(bytes),
            _ => Self::Unknown(format, bytes),
        }
    }
}

/// The number that these bytes are, the lowest first.
fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
