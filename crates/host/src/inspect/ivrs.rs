//! Decodes the firmware's table of AMD's IOMMUs (ACPI IVRS, AMD-Vi 5.2).

use std::path::Path;

use amdvi::ivrs::{
    Block, DeviceEntry, Ivhd, IvhdType, Ivmd, IvmdScope, Ivrs, IvrsError, SpecialDevice, Uid, Variety,
};
use machine::SourceId;
use serde::Serialize;

use super::firmware_table::{self, FirmwareTableError, hexadecimal, printable};
use super::hex::Hex;

mod remarks;

/// Bytes before the first block (5.2.1).
const HEADER: usize = 48;

/// A decoded table.
#[derive(Debug, Serialize)]
pub struct DecodedIvrs {
    /// Revision.
    pub revision: u8,
    /// Width of physical addresses.
    pub physical_address_bits: u8,
    /// Width of I/O addresses.
    pub virtual_address_bits: u8,
    /// Whether firmware protects memory from devices before the operating system starts.
    pub dma_guard: bool,
    /// Whether addresses of ATS responses on HyperTransport are reserved.
    pub ht_ats_reserved: bool,
    /// Its blocks, in their order.
    pub blocks: Vec<BlockView>,
    /// What is wrong with it.
    pub damage: Vec<String>,
}

/// A block. Fields have the names and meanings of the specification (AMD-Vi 5.2.2).
#[derive(Debug, Serialize)]
#[serde(tag = "block", rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the specification describes the fields")]
pub enum BlockView {
    /// A unit; `used` says whether software that knows all types takes this block of those that describe the unit.
    Ivhd {
        kind: Hex,
        base: Hex,
        segment: u16,
        device: String,
        used: bool,
        flags: Hex,
        features: Option<Hex>,
        features_2: Option<Hex>,
        entries: Vec<DeviceEntryView>,
    },
    /// Memory that firmware reserved.
    Ivmd {
        start: Hex,
        bytes: u64,
        segment: u16,
        devices: String,
        unity: bool,
        read: bool,
        write: bool,
        exclusion: bool,
    },
    /// A block of another type, as bytes in hexadecimal.
    Unknown { kind: u8, bytes: String },
}

/// A device entry of a unit.
#[derive(Debug, Serialize)]
pub struct DeviceEntryView {
    /// What it is.
    pub kind: &'static str,
    /// Its device, or all; `None` for entries of unknown types.
    pub device: Option<String>,
    /// The device under whose id its requests arrive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// Of I/O APICs, timers and devices that ACPI names: which one; of unknown entries: their bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// The bits that firmware wants in the device table entry.
    pub setting: Hex,
}

/// Decodes the table in a file.
pub fn decode_ivrs(path: &Path) -> Result<DecodedIvrs, FirmwareTableError> {
    let bytes = firmware_table::read(path)?;
    DecodedIvrs::new(&bytes).map_err(|source| FirmwareTableError::Ivrs { path: path.to_owned(), source })
}

impl DecodedIvrs {
    fn new(bytes: &[u8]) -> Result<Self, IvrsError> {
        let ivrs = Ivrs::salvage(bytes)?;
        let info = ivrs.info();
        let damage = firmware_table::damage(ivrs.length(), bytes.len(), HEADER, ivrs.is_sound());
        let mut decoded = Self {
            revision: ivrs.revision(),
            physical_address_bits: info.physical_bits(),
            virtual_address_bits: info.virtual_bits(),
            dma_guard: info.dma_guard(),
            ht_ats_reserved: info.ht_ats_reserved(),
            blocks: Vec::new(),
            damage: Vec::from_iter(damage),
        };
        let used: Vec<_> = ivrs.units().collect();
        for block in ivrs.blocks() {
            match block {
                Ok(block) => decoded.blocks.push(BlockView::new(&block, &used)),
                Err(error) => decoded.damage.push(error.to_string()),
            }
        }
        decoded.damage.extend(remarks::on(&ivrs));
        Ok(decoded)
    }
}

impl BlockView {
    fn new(block: &Block<'_>, used: &[Ivhd<'_>]) -> Self {
        match *block {
            Block::Ivhd(ivhd) => Self::of_unit(&ivhd, used),
            Block::Ivmd(ivmd) => Self::of_memory(&ivmd),
            Block::Unknown { kind, bytes } => Self::Unknown { kind, bytes: hexadecimal(bytes) },
        }
    }

    fn of_unit(ivhd: &Ivhd<'_>, used: &[Ivhd<'_>]) -> Self {
        Self::Ivhd {
            kind: Hex(ivhd.kind.0.into()),
            base: Hex(ivhd.base),
            segment: ivhd.segment,
            device: ivhd.source.to_string(),
            used: used.contains(ivhd),
            flags: Hex(ivhd.flags.into_bits().into()),
            features: ivhd.features.map(|(features, _)| Hex(features.into_bits())),
            features_2: ivhd.features.map(|(_, second)| Hex(second.into_bits())),
            entries: ivhd.entries.iter().filter_map(|entry| DeviceEntryView::new(&entry)).collect(),
        }
    }

    fn of_memory(ivmd: &Ivmd) -> Self {
        let devices = match ivmd.scope {
            IvmdScope::All => "all".to_owned(),
            IvmdScope::One(source) => source.to_string(),
            IvmdScope::Between(first, last) => format!("{first} to {last}"),
        };
        Self::Ivmd {
            start: Hex(ivmd.start),
            bytes: ivmd.length,
            segment: ivmd.segment,
            devices,
            unity: ivmd.flags.unity(),
            read: ivmd.flags.read(),
            write: ivmd.flags.write(),
            exclusion: ivmd.flags.exclusion(),
        }
    }

    /// The devices of a unit.
    pub fn entries(&self) -> &[DeviceEntryView] {
        match self {
            Self::Ivhd { entries, .. } => entries,
            Self::Ivmd { .. } | Self::Unknown { .. } => &[],
        }
    }
}

impl DeviceEntryView {
    /// `None` for padding.
    fn new(entry: &DeviceEntry<'_>) -> Option<Self> {
        let of = |kind, source: SourceId| Self {
            kind,
            device: Some(source.to_string()),
            alias: None,
            about: None,
            setting: Hex(0),
        };
        let set = |setting: amdvi::ivrs::DteSetting| Hex(setting.into_bits().into());
        let alias_of = |alias: SourceId| Some(alias.to_string());
        Some(match *entry {
            DeviceEntry::Padding => return None,
            DeviceEntry::All(setting) => {
                Self { device: Some("all".to_owned()), setting: set(setting), ..of("devices", SourceId(0)) }
            }
            DeviceEntry::Select { source, setting, .. } => {
                Self { setting: set(setting), ..of("device", source) }
            }
            DeviceEntry::RangeStart { source, setting, .. } => {
                Self { setting: set(setting), ..of("from", source) }
            }
            DeviceEntry::RangeEnd(source) => of("to", source),
            DeviceEntry::AliasSelect { source, alias, setting } => {
                Self { alias: alias_of(alias), setting: set(setting), ..of("device", source) }
            }
            DeviceEntry::AliasRangeStart { source, alias, setting } => {
                Self { alias: alias_of(alias), setting: set(setting), ..of("from", source) }
            }
            DeviceEntry::Special(SpecialDevice { source, handle, variety, setting }) => {
                let kind = match variety {
                    Variety::IOAPIC => "I/O APIC",
                    Variety::HPET => "HPET",
                    _ => "special device",
                };
                Self { about: Some(format!("number {handle}")), setting: set(setting), ..of(kind, source) }
            }
            DeviceEntry::Acpi(device) => {
                let uid = match device.uid {
                    Uid::None => String::new(),
                    Uid::Integer(number) => format!(":{number}"),
                    Uid::Characters(text) => format!(":{}", printable(text)),
                    Uid::Unknown(format, bytes) => format!(":{} (format {format})", hexadecimal(bytes)),
                };
                let about = Some(printable(trimmed(&device.hardware_id)) + &uid);
                Self { about, setting: set(device.setting), ..of("ACPI device", device.source) }
            }
            DeviceEntry::Unknown { bytes, .. } => {
                Self { device: None, about: Some(hexadecimal(bytes)), ..of("unknown", SourceId(0)) }
            }
        })
    }
}

/// An id without the zeros that fill it up.
fn trimmed(id: &[u8]) -> &[u8] {
    let end = id.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    id.get(..end).unwrap_or_default()
}

/// The name of a block's type, as people know it: 11h.
pub(super) fn type_name(kind: IvhdType) -> String {
    format!("{:02x}h", kind.0)
}
