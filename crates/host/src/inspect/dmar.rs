//! Decodes the firmware's table of remapping units (ACPI DMAR, VT-d 8).

use std::path::Path;

use serde::Serialize;
use vtd::dmar::{DeviceScope, DeviceScopes, Dmar, DmarError, ScopeType, Structure};

use super::firmware_table::{self, FirmwareTableError, hexadecimal, printable};
use super::hex::Hex;

mod remarks;

/// Bytes before the first structure (8.1).
const HEADER: usize = 48;

/// A decoded table.
#[derive(Debug, Serialize)]
pub struct DecodedDmar {
    /// Width of physical addresses.
    pub host_address_bits: u32,
    /// Whether the platform remaps interrupts.
    pub interrupt_remapping: bool,
    /// Its structures, in their order.
    pub structures: Vec<StructureView>,
    /// What is wrong with it.
    pub damage: Vec<String>,
}

/// A remapping structure. Fields have the names and meanings of the specification (VT-d 8.3 and on).
#[derive(Debug, Serialize)]
#[serde(tag = "structure", rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the specification describes the fields")]
pub enum StructureView {
    /// DMA remapping hardware unit.
    Drhd { base: Hex, segment: u16, register_bytes: u64, include_pci_all: bool, scopes: Vec<ScopeView> },
    /// Reserved memory region; `limit` is its last byte.
    Rmrr { base: Hex, limit: Hex, segment: u16, scopes: Vec<ScopeView> },
    /// Root ports that support ATS.
    Atsr { segment: u16, all_ports: bool, scopes: Vec<ScopeView> },
    /// Proximity domain of a unit.
    Rhsa { base: Hex, proximity_domain: u32 },
    /// ACPI name-space device.
    Andd { device: u8, name: String },
    /// SoC-integrated device properties.
    Sidp { segment: u16, scopes: Vec<ScopeView> },
    /// SoC-integrated address translation cache.
    Satc { segment: u16, required: bool, scopes: Vec<ScopeView> },
    /// A structure of another type, as bytes in hexadecimal.
    Unknown { kind: u16, bytes: String },
}

/// What a device scope names.
#[derive(Debug, Serialize)]
pub struct ScopeView {
    /// What kind of device it is.
    pub kind: String,
    /// I/O APIC id, HPET number or ANDD number.
    pub enumeration_id: u8,
    /// Bus of the first hop, then device and function of each: `00:1c.0/02.0`.
    pub path: String,
}

/// Decodes the table in a file.
pub fn decode_dmar(path: &Path) -> Result<DecodedDmar, FirmwareTableError> {
    let bytes = firmware_table::read(path)?;
    DecodedDmar::new(&bytes).map_err(|source| FirmwareTableError::Dmar { path: path.to_owned(), source })
}

impl DecodedDmar {
    fn new(bytes: &[u8]) -> Result<Self, DmarError> {
        let dmar = Dmar::salvage(bytes)?;
        let mut decoded = Self {
            host_address_bits: dmar.host_address_bits(),
            interrupt_remapping: dmar.interrupt_remapping(),
            structures: Vec::new(),
            damage: Vec::from_iter(firmware_table::damage(
                dmar.length(),
                bytes.len(),
                HEADER,
                dmar.is_sound(),
            )),
        };
        for structure in dmar.structures() {
            match structure {
                Ok(structure) => decoded.structures.push(StructureView::new(&structure)),
                Err(error) => decoded.damage.push(error.to_string()),
            }
        }
        decoded.damage.extend(remarks::on(&dmar));
        Ok(decoded)
    }
}

impl StructureView {
    fn new(structure: &Structure<'_>) -> Self {
        match *structure {
            Structure::Drhd(drhd) => Self::Drhd {
                base: Hex(drhd.base),
                segment: drhd.segment,
                register_bytes: drhd.register_bytes(),
                include_pci_all: drhd.includes_all(),
                scopes: scopes(drhd.scopes),
            },
            Structure::Rmrr(rmrr) => Self::Rmrr {
                base: Hex(rmrr.base),
                limit: Hex(rmrr.limit),
                segment: rmrr.segment,
                scopes: scopes(rmrr.scopes),
            },
            Structure::Atsr(atsr) => Self::Atsr {
                segment: atsr.segment,
                all_ports: atsr.flags & 1 != 0,
                scopes: scopes(atsr.scopes),
            },
            Structure::Rhsa(rhsa) => Self::Rhsa { base: Hex(rhsa.base), proximity_domain: rhsa.proximity },
            Structure::Andd(andd) => Self::Andd { device: andd.device, name: printable(andd.name) },
            Structure::Satc(satc) => Self::Satc {
                segment: satc.segment,
                required: satc.flags & 1 != 0,
                scopes: scopes(satc.scopes),
            },
            Structure::Sidp(sidp) => Self::Sidp { segment: sidp.segment, scopes: scopes(sidp.scopes) },
            Structure::Unknown { kind, bytes } => Self::Unknown { kind, bytes: hexadecimal(bytes) },
        }
    }

    /// What the structure is for, if it names devices.
    pub fn scopes(&self) -> &[ScopeView] {
        match self {
            Self::Drhd { scopes, .. }
            | Self::Rmrr { scopes, .. }
            | Self::Atsr { scopes, .. }
            | Self::Satc { scopes, .. }
            | Self::Sidp { scopes, .. } => scopes,
            Self::Rhsa { .. } | Self::Andd { .. } | Self::Unknown { .. } => &[],
        }
    }
}

fn scopes(scopes: DeviceScopes<'_>) -> Vec<ScopeView> {
    scopes.iter().map(|scope| ScopeView::new(&scope)).collect()
}

impl ScopeView {
    fn new(scope: &DeviceScope<'_>) -> Self {
        let hops: Vec<String> =
            scope.path().map(|(device, function)| format!("{device:02x}.{function}")).collect();
        Self {
            kind: match scope.kind {
                ScopeType::ENDPOINT => "endpoint".to_owned(),
                ScopeType::BRIDGE => "bridge".to_owned(),
                ScopeType::IOAPIC => "I/O APIC".to_owned(),
                ScopeType::HPET => "HPET".to_owned(),
                ScopeType::NAMESPACE => "ACPI device".to_owned(),
                ScopeType(other) => format!("type {other}"),
            },
            enumeration_id: scope.enumeration_id,
            path: format!("{:02x}:{}", scope.bus, hops.join("/")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table with these structures, and a right checksum.
    pub(super) fn table(address_bits: u8, structures: &[&[u8]]) -> Vec<u8> {
        let mut table = [&[0; 48][..], &structures.concat()].concat();
        table[..4].copy_from_slice(b"DMAR");
        let length = table.len() as u32;
        table[4..8].copy_from_slice(&length.to_le_bytes());
        table[36] = address_bits - 1;
        table[9] = table.iter().fold(0, |sum, byte| sum.wrapping_sub(*byte));
        table
    }

    #[test]
    fn an_acpi_path_keeps_its_backslash_and_shows_what_is_no_text() {
        let andd = [&[4, 0, 14, 0, 0, 0, 0, 9][..], b"\\_S.\x07\0"].concat();
        let decoded = DecodedDmar::new(&table(46, &[&andd])).unwrap();
        let [StructureView::Andd { name, .. }] = &decoded.structures[..] else { panic!("no ANDD") };
        assert_eq!(name, "\\_S.\\x07");
    }

    #[test]
    fn properties_of_integrated_devices_are_known() {
        let sidp = [6, 0, 16, 0, 0, 0, 3, 0, 1, 8, 0, 0, 0, 0, 2, 0];
        let decoded = DecodedDmar::new(&table(46, &[&sidp])).unwrap();
        let [StructureView::Sidp { segment: 3, scopes }] = &decoded.structures[..] else { panic!("no SIDP") };
        assert_eq!(scopes[0].path, "00:02.0");
    }
}
