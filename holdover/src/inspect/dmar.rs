//! Shows a DMAR table to people.

use anyhow::Result;
use host::inspect::{DecodedDmar, ScopeView, StructureView};
use serde_json::Value;

use crate::report::{Report, row, table};

impl Report for DecodedDmar {
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
            let scopes = structure.scopes().iter().map(scope_cells);
            std::iter::once(cells(structure).to_vec()).chain(scopes)
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

/// Name, place and properties.
fn cells(structure: &StructureView) -> [String; 3] {
    use StructureView::{Andd, Atsr, Drhd, Rhsa, Rmrr, Satc, Sidp, Unknown};
    let segment = |segment: &u16| format!("segment {segment:04x}");
    let (name, place, about) = match structure {
        Drhd { base, segment: of, include_pci_all, .. } => {
            let rest = if *include_pci_all { ", and all that no other unit names" } else { "" };
            ("DRHD", base.to_string(), segment(of) + rest)
        }
        Rmrr { base, limit, segment: of, .. } => ("RMRR", format!("{base}-{limit}"), segment(of)),
        Atsr { segment: of, all_ports, .. } => {
            ("ATSR", String::new(), segment(of) + if *all_ports { ", all ports" } else { "" })
        }
        Rhsa { base, proximity_domain } => {
            ("RHSA", base.to_string(), format!("proximity domain {proximity_domain}"))
        }
        Andd { device, name } => ("ANDD", format!("device {device}"), name.clone()),
        Satc { segment: of, required, .. } => {
            ("SATC", String::new(), segment(of) + if *required { ", required" } else { "" })
        }
        Sidp { segment: of, .. } => ("SIDP", String::new(), segment(of)),
        Unknown { kind, bytes } => ("unknown", format!("type {kind}"), bytes.clone()),
    };
    [name.to_owned(), place, about]
}

fn scope_cells(scope: &ScopeView) -> Vec<String> {
    let id = match scope.kind.as_str() {
        "I/O APIC" | "HPET" | "ACPI device" => format!("number {}", scope.enumeration_id),
        _ => String::new(),
    };
    vec![String::new(), format!("{} {}", scope.kind, scope.path), id]
}
