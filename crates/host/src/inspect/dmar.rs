//! `holdover inspect --dmar`: the firmware's table of remapping units.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;
use vtd::dmar::{DeviceScope, DeviceScopes, Dmar, DmarError, ScopeType, Structure};

use super::hex::Hex;
use crate::report::{Report, row, table};

/// No DMAR table is longer, in bytes.
const LONGEST: u64 = 1 << 20;

/// A decoded table.
#[derive(Debug, Serialize)]
pub struct Decoded {
    host_address_bits: u32,
    interrupt_remapping: bool,
    structures: Vec<StructureView>,
    /// What is wrong with it.
    damage: Vec<String>,
}

/// A remapping structure.
#[derive(Debug, Serialize)]
#[serde(tag = "structure", rename_all = "UPPERCASE")]
enum StructureView {
    Drhd { base: Hex, segment: u16, register_bytes: u64, include_pci_all: bool, scopes: Vec<ScopeView> },
    Rmrr { base: Hex, limit: Hex, segment: u16, scopes: Vec<ScopeView> },
    Atsr { segment: u16, all_ports: bool, scopes: Vec<ScopeView> },
    Rhsa { base: Hex, proximity_domain: u32 },
    Andd { device: u8, name: String },
    Satc { segment: u16, required: bool, scopes: Vec<ScopeView> },
    Unknown { kind: u16, bytes: String },
}

/// What a device scope names.
#[derive(Debug, Serialize)]
struct ScopeView {
    kind: String,
    /// I/O APIC id, HPET number or ANDD number.
    enumeration_id: u8,
    /// Bus of the first hop, then device and function of each: `00:1c.0/02.0`.
    path: String,
}

/// Decodes the table in a file.
pub fn run(path: &Path) -> Result<Decoded> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut bytes = Vec::new();
    file.take(LONGEST).read_to_end(&mut bytes).with_context(|| format!("cannot read {}", path.display()))?;
    Decoded::new(&bytes).with_context(|| format!("{} cannot be decoded", path.display()))
}

impl Decoded {
    fn new(bytes: &[u8]) -> Result<Self, DmarError> {
        let dmar = Dmar::salvage(bytes)?;
        let mut decoded = Self {
            host_address_bits: dmar.host_address_bits(),
            interrupt_remapping: dmar.interrupt_remapping(),
            structures: Vec::new(),
            damage: damage(&dmar, bytes.len()),
        };
        for structure in dmar.structures() {
            match structure {
                Ok(structure) => decoded.add(&structure),
                Err(error) => decoded.damage.push(error.to_string()),
            }
        }
        Ok(decoded)
    }

    fn add(&mut self, structure: &Structure<'_>) {
        if scopes_of(structure).is_some_and(|scopes| !scopes.is_sound()) {
            let which = self.structures.len() + 1;
            self.damage.push(format!("structure {which} has a device scope of an impossible length"));
        }
        self.structures.push(StructureView::new(structure));
    }
}

/// What is wrong with the table as a whole.
fn damage(dmar: &Dmar<'_>, bytes: usize) -> Vec<String> {
    let mut damage = Vec::new();
    let length = dmar.length() as usize;
    if length > bytes {
        damage.push(format!("the table is cut short: its header says {length} bytes, and there are {bytes}"));
    } else if length < 48 {
        damage.push(format!("the table's length is impossible: its header says {length} bytes"));
    } else if !dmar.is_sound() {
        damage.push("the checksum is wrong".to_owned());
    }
    damage
}

fn scopes_of<'a>(structure: &Structure<'a>) -> Option<DeviceScopes<'a>> {
    match structure {
        Structure::Drhd(drhd) => Some(drhd.scopes),
        Structure::Rmrr(rmrr) => Some(rmrr.scopes),
        Structure::Atsr(scoped) | Structure::Satc(scoped) => Some(scoped.scopes),
        Structure::Rhsa(_) | Structure::Andd(_) | Structure::Unknown { .. } => None,
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
            Structure::Andd(andd) => {
                Self::Andd { device: andd.device, name: andd.name.escape_ascii().to_string() }
            }
            Structure::Satc(satc) => Self::Satc {
                segment: satc.segment,
                required: satc.flags & 1 != 0,
                scopes: scopes(satc.scopes),
            },
            Structure::Unknown { kind, bytes } => {
                let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                Self::Unknown { kind, bytes: bytes.join(" ") }
            }
        }
    }

    /// Name, place and properties.
    fn cells(&self) -> [String; 3] {
        let segment = |segment: &u16| format!("segment {segment:04x}");
        let (name, place, about) = match self {
            Self::Drhd { base, segment: of, include_pci_all, .. } => {
                let rest = if *include_pci_all { ", and all that no other unit names" } else { "" };
                ("DRHD", base.to_string(), segment(of) + rest)
            }
            Self::Rmrr { base, limit, segment: of, .. } => ("RMRR", format!("{base}-{limit}"), segment(of)),
            Self::Atsr { segment: of, all_ports, .. } => {
                ("ATSR", String::new(), segment(of) + if *all_ports { ", all ports" } else { "" })
            }
            Self::Rhsa { base, proximity_domain } => {
                ("RHSA", base.to_string(), format!("proximity domain {proximity_domain}"))
            }
            Self::Andd { device, name } => ("ANDD", format!("device {device}"), name.clone()),
            Self::Satc { segment: of, required, .. } => {
                ("SATC", String::new(), segment(of) + if *required { ", required" } else { "" })
            }
            Self::Unknown { kind, bytes } => ("unknown", format!("type {kind}"), bytes.clone()),
        };
        [name.to_owned(), place, about]
    }

    fn scopes(&self) -> &[ScopeView] {
        match self {
            Self::Drhd { scopes, .. }
            | Self::Rmrr { scopes, .. }
            | Self::Atsr { scopes, .. }
            | Self::Satc { scopes, .. } => scopes,
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

    fn cells(&self) -> Vec<String> {
        let id = match self.kind.as_str() {
            "I/O APIC" | "HPET" | "ACPI device" => format!("number {}", self.enumeration_id),
            _ => String::new(),
        };
        vec![String::new(), format!("{} {}", self.kind, self.path), id]
    }
}

impl Report for Decoded {
    fn rows(&self) -> Vec<Vec<String>> {
        let remapping = if self.interrupt_remapping { "yes" } else { "no" };
        let mut rows = vec![
            row("physical address bits", self.host_address_bits.to_string()),
            row("interrupt remapping", remapping),
        ];
        rows.extend(self.damage.iter().map(|damage| row("damaged", damage)));
        rows
    }

    fn text(&self) -> String {
        let structures = self.structures.iter().flat_map(|structure| {
            let scopes = structure.scopes().iter().map(ScopeView::cells);
            std::iter::once(structure.cells().to_vec()).chain(scopes)
        });
        let structures: Vec<_> = structures.collect();
        format!("{}\n{}", table(&self.rows()), table(&structures))
    }

    fn json(&self) -> Result<Value> {
        Ok(serde_json::to_value(self)?)
    }

    fn is_whole(&self) -> bool {
        self.damage.is_empty()
    }
}
