//! What the takeover found at each remapping unit, and what it did there.

use maud::{Markup, html};

use super::elements::{part, table};
use crate::inspect::{DomainView, FaultView, HazardView, Inspected, TakeoverView, UnitView};
use crate::summary::Summary;

pub(super) fn takeover(summary: &Summary) -> Markup {
    let content = html! {
        @match &summary.takeover {
            None => p { (summary.no_takeover.as_deref().unwrap_or_default()) },
            Some(inspected) => {
                p { "Holdover " (inspected.holdover) " took the dump, and accepted the IOMMU as the dead kernel left it: "
                    (inspected.counts) "." }
                @for unit in &inspected.units { (unit_takeover(unit)) }
                @if inspected.units.is_empty() { p { "There was no remapping unit: devices could reach all memory." } }
                (unlisted_units(inspected))
            }
        }
    };
    part("takeover", "What the takeover did", content)
}

fn unlisted_units(inspected: &Inspected) -> Markup {
    html! {
        @if inspected.unlisted_units > 0 {
            p class="warning" { (inspected.unlisted_units) " more remapping units are not in the record." }
        }
    }
}

fn unit_takeover(unit: &UnitView) -> Markup {
    let class = if unit.takeover.is_some() || unit.state == "translation off" { "good" } else { "bad" };
    html! {
        h3 { "Remapping unit at " (unit.base) ", segment " (format!("{:04x}", unit.segment)) }
        p { span class=(class) { (unit.state) } @if let Some(why) = &unit.why { ": " (why) } }
        @if let Some(takeover) = &unit.takeover {
            ol { @for step in steps(takeover) { li { (step) } } }
            (hazards(takeover))
            (faults(takeover))
            details { summary { "Devices and domains" } (contexts(takeover)) (domains(takeover)) }
        }
        (registers(unit))
    }
}

/// What was done, in the order in which it was.
fn steps(takeover: &TakeoverView) -> [String; 5] {
    let sum = |count: fn(&DomainView) -> u64| -> u64 {
        takeover.domains.iter().map(count).fold(0, u64::saturating_add)
    };
    let carried = takeover.contexts.iter().filter(|context| context.domain.is_some()).count();
    let contexts = takeover.contexts.len() as u64 + takeover.unlisted_contexts;
    let fenced = match sum(|domain| domain.fenced) {
        0 => String::new(),
        fenced => format!("; left out {fenced} mappings that led where no device may write now"),
    };
    [
        format!(
            "Census: found {contexts} entries that say how devices\u{2019} requests are translated, under the root table at {}.",
            takeover.old_root
        ),
        format!(
            "Plan: {carried} of the listed entries were to be carried over, and {} domain-ids kept for them.",
            takeover.domains.len() as u64 + takeover.unlisted_domains
        ),
        format!(
            "Duplicate: copied {} page tables with {} mappings, and checked each copy{fenced}.",
            sum(|domain| domain.tables),
            sum(|domain| domain.leaves)
        ),
        format!("Old invalidation queue: {}.", takeover.queue),
        format!(
            "Swap: the root pointer went from {} to {}, while translation stayed on.",
            takeover.old_root, takeover.new_root
        ),
    ]
}

fn hazards(takeover: &TakeoverView) -> Markup {
    let cells = |hazard: &HazardView| vec![hazard.place.clone(), hazard.what.clone(), hazard.outcome.clone()];
    let rows: Vec<_> = takeover.hazards.iter().map(cells).collect();
    html! {
        @if rows.is_empty() && takeover.unlisted_hazards == 0 { p { "Hazards: none were found." } }
        (table("Hazards: what was wrong or dangerous, and what was done about it", &["Where", "What", "Outcome"], rows, takeover.unlisted_hazards))
    }
}

fn faults(takeover: &TakeoverView) -> Markup {
    let cells = |fault: &FaultView| {
        vec![device(&fault.device, fault.pasid), fault.address.to_string(), fault.reason.to_string()]
    };
    let rows: Vec<_> = takeover.faults.iter().map(cells).collect();
    html! {
        @if rows.is_empty() { p { "IOMMU faults: the unit had recorded none." } }
        (table("IOMMU faults that the unit had recorded (reasons as in the VT-d specification, 7.1.3)", &["Device", "Address", "Reason"], rows, 0))
    }
}

fn device(name: &str, pasid: Option<u32>) -> String {
    pasid.map_or_else(|| name.to_owned(), |pasid| format!("{name}/{pasid:#x}"))
}

fn contexts(takeover: &TakeoverView) -> Markup {
    let rows = takeover.contexts.iter().map(|context| {
        let domain = match context.domain {
            Some(id) if id == context.old_domain => format!("{id:#x}"),
            Some(id) => format!("{:#x} \u{2192} {id:#x}", context.old_domain),
            None => format!("{:#x}", context.old_domain),
        };
        vec![
            device(&context.device, context.pasid),
            domain,
            context.translation.clone(),
            context.outcome.clone(),
        ]
    });
    table("Devices", &["Device", "Domain", "Was translated by", "Outcome"], rows, takeover.unlisted_contexts)
}

fn domains(takeover: &TakeoverView) -> Markup {
    let rows = takeover.domains.iter().map(|domain| {
        let numbers = [domain.address_bits.into(), domain.tables, domain.leaves, domain.fenced];
        let mut row = vec![format!("{:#x}", domain.id)];
        row.extend(numbers.map(|number: u64| number.to_string()));
        row.push(domain.outcome.clone());
        row
    });
    let columns = ["Domain", "#Bits", "#Tables", "#Mappings", "#Fenced", "Outcome"];
    table("Domains", &columns, rows, takeover.unlisted_domains)
}

fn registers(unit: &UnitView) -> Markup {
    let found = unit.registers.iter().filter(|register| register.value.0 != 0);
    let rows: Vec<_> =
        found.map(|found| vec![found.name.clone(), found.value.to_string(), found.meaning.clone()]).collect();
    html! {
        @if !rows.is_empty() {
            details {
                summary { "Registers as they were found" }
                (table("But for those that are zero", &["Register", "Value", "Meaning"], rows, 0))
            }
        }
    }
}
