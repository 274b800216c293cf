//! Which memory each device could reach at the moment of the panic.

use maud::{Markup, html};

use super::elements::{part, table};
use crate::Bytes;
use crate::inspect::{ReachView, RouteView, UnitView, UserView};
use crate::summary::{Summary, map};

pub(super) fn dma(summary: &Summary) -> Markup {
    let content = html! {
        @match &summary.takeover {
            None => p { (summary.no_takeover.as_deref().unwrap_or_default()) },
            Some(inspected) => {
                p { "Which memory each device could read and write through the IOMMU at the moment of the panic, by the dead "
                    "kernel\u{2019}s own tables." }
                @if let Some(drawn) = map::map(inspected, &summary.dump.ram) {
                    div class="scroll" tabindex="0" role="region" aria-label="Map of memory" { (drawn) }
                    ul class="key" {
                        li { i class="w" {} "may be written" } li { i class="r" {} "may be read only" } li { i class="m" {} "RAM" }
                    }
                }
                @for unit in &inspected.units { (unit_reach(unit)) }
            }
        }
    };
    part("dma", "DMA at the moment of the panic", content)
}

fn unit_reach(unit: &UnitView) -> Markup {
    let name = format!("Devices behind the remapping unit at {}, segment {:04x}", unit.base, unit.segment);
    html! {
        @match &unit.reach {
            None => p { (name) ": its translation was off, so its devices could reach all memory." },
            Some(reach) => {
                (table(&name, &["Device", "Domain", "Translated by", "#Readable", "#Writable", "#Runs"], reach_rows(reach), 0))
                @let obstacles = reach.obstacles.iter().map(|obstacle| vec![obstacle.place.clone(), obstacle.what.clone()]);
                (table("What could not pass, or is not known", &["Where", "What"], obstacles, reach.unlisted))
                @if reach.cut { p class="warning" { "There are more tables than are looked at: this is not all." } }
            }
        }
    }
}

fn reach_rows(reach: &ReachView) -> Vec<Vec<String>> {
    let row = |route: &RouteView, user: &UserView| {
        let (readable, writable) = match route.translation {
            "pass-through" => ("all".to_owned(), "all".to_owned()),
            _ => (Bytes(route.readable_bytes).to_string(), Bytes(route.writable_bytes).to_string()),
        };
        let runs = route.runs.len() as u64 + route.unlisted_runs;
        let tlb = if user.device_tlb { ", device-TLB" } else { "" };
        let way = format!("{}{tlb}", route.translation);
        vec![user.name.clone(), format!("{:#x}", user.domain), way, readable, writable, runs.to_string()]
    };
    reach.routes.iter().flat_map(|route| route.users.iter().map(move |user| row(route, user))).collect()
}
