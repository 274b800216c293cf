//! Shows an IVRS table to people.

use anyhow::Result;
use host::inspect::{BlockView, DecodedIvrs, DeviceEntryView};
use serde_json::Value;

use crate::report::{Report, row, table};

impl Report for DecodedIvrs {
    fn rows(&self) -> Vec<Vec<String>> {
        let yes = |is_so| if is_so { "yes" } else { "no" };
        let mut rows = vec![
            row("physical address bits", self.physical_address_bits.to_string()),
            row("I/O address bits", self.virtual_address_bits.to_string()),
            row("firmware's DMA protection", yes(self.dma_guard)),
        ];
        rows.extend(self.damage.iter().map(|damage| row("damaged", damage)));
        rows
    }

    fn text(&self) -> String {
        let blocks = self.blocks.iter().flat_map(|block| {
            let entries = block.entries().iter().map(entry_cells);
            std::iter::once(cells(block).to_vec()).chain(entries)
        });
        let blocks: Vec<_> = blocks.collect();
        format!("{}\n{}", table(&self.rows()), table(&blocks))
    }

    fn json(&self) -> Result<Value> {
        Ok(serde_json::to_value(self)?)
    }

    fn is_whole(&self) -> bool {
        self.damage.is_empty()
    }
}

/// Name, place and properties.
fn cells(block: &BlockView) -> [String; 3] {
    match block {
        BlockView::Ivhd { kind, base, segment, device, used, features, .. } => {
            let features = features.map(|features| format!(", features {features}")).unwrap_or_default();
            let older = if *used { "" } else { ", an older description" };
            let about = format!("segment {segment:04x}, {device}{features}{older}");
            [format!("IVHD {:02x}h", kind.0), base.to_string(), about]
        }
        BlockView::Ivmd { start, bytes, segment, devices, unity, read, write, exclusion } => {
            let told =
                [(*unity, "unity"), (*read, "read"), (*write, "write"), (*exclusion, "exclusion range")];
            let told = told.iter().filter(|(is_set, _)| *is_set).map(|(_, word)| format!(", {word}"));
            let about = format!("segment {segment:04x}, devices: {devices}{}", told.collect::<String>());
            ["IVMD".to_owned(), format!("{start}+{bytes:#x}"), about]
        }
        BlockView::Unknown { kind, bytes } => {
            ["unknown".to_owned(), format!("type {kind:02x}h"), bytes.clone()]
        }
    }
}

fn entry_cells(entry: &DeviceEntryView) -> Vec<String> {
    let DeviceEntryView { kind, device, alias, about, .. } = entry;
    let place = format!("{kind} {}", device.as_deref().unwrap_or_default());
    let alias = alias.as_ref().map(|alias| format!("requests arrive as {alias}"));
    let about = about.iter().chain(&alias).cloned().collect::<Vec<_>>().join(", ");
    vec![String::new(), place.trim_end().to_owned(), about]
}
