//! Shows a dump's record and its reachable memory to people.

use std::fmt::Write;

use anyhow::Result;
use host::Bytes;
use host::inspect::{Asked, Inspected, ReachView, RouteView, RunView, TakeoverView, UnitView, UserView};
use serde_json::Value;

use crate::report::{Report, row, table};

/// Runs of one device that are shown; JSON has all.
const RUNS_SHOWN: usize = 1000;

impl Report for Inspected {
    fn rows(&self) -> Vec<Vec<String>> {
        head(self)
    }

    fn text(&self) -> String {
        text(self)
    }

    fn json(&self) -> Result<Value> {
        Ok(serde_json::to_value(self)?)
    }

    fn is_whole(&self) -> bool {
        self.whole
    }
}

/// Everything that was asked for.
fn text(inspected: &Inspected) -> String {
    let mut text = table(&head(inspected));
    for unit in &inspected.units {
        let parts = match inspected.asked {
            Asked::Everything => vec![unit_head(unit), registers(unit), takeover(unit), summary(unit)],
            Asked::Device => vec![unit_head(unit), mappings(unit)],
            Asked::Address => vec![unit_head(unit), mappers(unit)],
        };
        for part in parts.iter().filter(|part| !part.is_empty()) {
            text.push('\n');
            text.push_str(part);
        }
    }
    text
}

/// What the dump is, and the takeover in one line.
fn head(inspected: &Inspected) -> Vec<Vec<String>> {
    let Inspected { dump, kernel, holdover, counts, .. } = inspected;
    let state = if inspected.dump_complete { "" } else { ", incomplete" };
    let mut rows = vec![
        row("dump", format!("{}{state}", dump.display())),
        row("kernel", kernel),
        row("Holdover", holdover),
        row("takeover", counts.to_string()),
    ];
    if inspected.unlisted_units > 0 {
        rows.push(row("left out", format!("{} remapping units", inspected.unlisted_units)));
    }
    rows
}

fn unit_head(unit: &UnitView) -> String {
    let UnitView { base, segment, state, why, takeover, .. } = unit;
    let mut line = format!("Remapping unit {base}, segment {segment:04x}: {state}");
    if let Some(why) = why {
        let _ = write!(line, ": {why}");
    }
    if let Some(TakeoverView { old_root, new_root, queue, .. }) = takeover {
        let _ = write!(line, ", root {old_root} -> {new_root}, old invalidation queue {queue}");
    }
    line + "\n"
}

/// A table with a heading, indented; nothing if there are no rows.
fn section(title: &str, columns: &[&str], rows: Vec<Vec<String>>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut all = vec![columns.iter().map(ToString::to_string).collect()];
    all.extend(rows);
    let mut text = format!("  {title}\n");
    for line in table(&all).lines() {
        let _ = writeln!(text, "    {line}");
    }
    text
}

fn registers(unit: &UnitView) -> String {
    let rows = unit.registers.iter().filter(|register| register.value.0 != 0);
    let rows = rows.map(|found| vec![found.name.clone(), found.value.to_string(), found.meaning.clone()]);
    section(
        "Registers as found, but for those that are zero",
        &["register", "value", "meaning"],
        rows.collect(),
    )
}

fn takeover(unit: &UnitView) -> String {
    let Some(takeover) = &unit.takeover else { return String::new() };
    [faults(takeover), contexts(takeover), domains(takeover), hazards(takeover)].concat()
}

fn faults(takeover: &TakeoverView) -> String {
    let rows = takeover.faults.iter().map(|fault| {
        vec![with_pasid(&fault.device, fault.pasid), fault.address.to_string(), fault.reason.to_string()]
    });
    section("Faults recorded before the takeover was done", &["device", "address", "reason"], rows.collect())
}

fn contexts(takeover: &TakeoverView) -> String {
    let rows = takeover.contexts.iter().map(|context| {
        let domain = match context.domain {
            Some(id) if id == context.old_domain => format!("{id:#x}"),
            Some(id) => format!("{:#x} -> {id:#x}", context.old_domain),
            None => format!("{:#x}", context.old_domain),
        };
        let device = with_pasid(&context.device, context.pasid);
        vec![device, domain, context.translation.clone(), context.outcome.clone()]
    });
    let rows = rows.chain(left_out(takeover.unlisted_contexts));
    section("Devices", &["device", "domain", "was translated by", "outcome"], rows.collect())
}

fn domains(takeover: &TakeoverView) -> String {
    let rows = takeover.domains.iter().map(|domain| {
        let numbers = [domain.tables, domain.leaves, domain.fenced].map(|number| number.to_string());
        let mut row = vec![format!("{:#x}", domain.id), domain.address_bits.to_string()];
        row.extend(numbers);
        row.push(domain.outcome.clone());
        row
    });
    let rows = rows.chain(left_out(takeover.unlisted_domains));
    section("Domains", &["domain", "bits", "tables", "mappings", "fenced", "outcome"], rows.collect())
}

fn hazards(takeover: &TakeoverView) -> String {
    let rows = takeover
        .hazards
        .iter()
        .map(|hazard| vec![hazard.place.clone(), hazard.what.clone(), hazard.outcome.clone()]);
    let rows = rows.chain(left_out(takeover.unlisted_hazards));
    section("Hazards", &["where", "what", "outcome"], rows.collect())
}

fn left_out(count: u64) -> Option<Vec<String>> {
    (count > 0).then(|| vec![format!("and {count} more")])
}

/// How much each device could reach.
fn summary(unit: &UnitView) -> String {
    let Some(reach) = &unit.reach else { return String::new() };
    let rows = reach.routes.iter().flat_map(|route| {
        route.users.iter().map(|user| {
            let runs = route.runs.len() as u64 + route.unlisted_runs;
            let sizes = [route.readable_bytes, route.writable_bytes].map(|bytes| Bytes(bytes).to_string());
            let [readable, writable] = sizes;
            let (requester, how) = (user.name.clone(), way(route));
            vec![requester, format!("{:#x}", user.domain), how, readable, writable, runs.to_string()]
        })
    });
    let columns = ["device", "domain", "translated by", "readable", "writable", "runs"];
    let reachable = section("What devices could reach", &columns, rows.collect());
    [reachable, obstacles(reach)].concat()
}

/// All that was found; these devices only.
fn mappings(unit: &UnitView) -> String {
    let Some(reach) = &unit.reach else { return no_tables() };
    let routes: String = reach.routes.iter().map(route_mappings).collect();
    let found = if routes.is_empty() && reach.obstacles.is_empty() {
        "  No entry: all its requests were blocked\n".to_owned()
    } else {
        routes
    };
    [found, obstacles(reach)].concat()
}

fn route_mappings(route: &RouteView) -> String {
    let users: Vec<String> = route.users.iter().map(|user| user.name.clone()).collect();
    let domains = route.users.first().map_or(0, |user| user.domain);
    let tlb = if route.users.iter().any(|user| user.device_tlb) {
        ", with a device-TLB: what it asked for as translated is not checked"
    } else {
        ""
    };
    let title = format!("{}: domain {domains:#x}, {}{tlb}", users.join(", "), way(route));
    let rows = route.runs.iter().take(RUNS_SHOWN).map(run_cells);
    let hidden = route.runs.len().saturating_sub(RUNS_SHOWN) as u64 + route.unlisted_runs;
    let rows: Vec<_> = rows.chain(left_out(hidden)).collect();
    if rows.is_empty() {
        return format!("  {title}\n    nothing is mapped\n");
    }
    section(&title, &["I/O addresses", "physical", "size", "rights", "pages"], rows)
}

/// Who could reach the page.
fn mappers(unit: &UnitView) -> String {
    let Some(reach) = &unit.reach else { return no_tables() };
    let rows: Vec<_> = reach
        .routes
        .iter()
        .flat_map(|route| route.users.iter().map(move |user| (user, route)))
        .flat_map(|(user, route)| route.runs.iter().map(move |run| mapper_cells(user, route, run)))
        .collect();
    let found = if rows.is_empty() {
        "  No device could reach it\n".to_owned()
    } else {
        section(
            "Who could reach it",
            &["device", "domain", "translated by", "I/O addresses", "physical", "size", "rights", "pages"],
            rows,
        )
    };
    [found, obstacles(reach)].concat()
}

fn mapper_cells(user: &UserView, route: &RouteView, run: &RunView) -> Vec<String> {
    let mut cells = vec![user.name.clone(), format!("{:#x}", user.domain), way(route)];
    cells.extend(run_cells(run));
    cells
}

fn run_cells(run: &RunView) -> Vec<String> {
    let last = run.bytes - 1;
    let iova = format!("{:#x}-{:#x}", run.iova.0, run.iova.0.wrapping_add(last));
    let Some(physical) = run.physical else {
        let what = run.obstacle.clone().unwrap_or_default();
        return vec![iova, what];
    };
    vec![
        iova,
        format!("{:#x}-{:#x}", physical.0, physical.0.wrapping_add(last)),
        Bytes(run.bytes).to_string(),
        run.rights.clone().unwrap_or_default(),
        run.page_bytes.map(|bytes| Bytes(bytes).to_string()).unwrap_or_default(),
    ]
}

fn way(route: &RouteView) -> String {
    let tables: Vec<String> = route.tables.iter().map(ToString::to_string).collect();
    match route.address_bits {
        Some(bits) => format!("{} {}, {bits} bits", route.translation, tables.join(" over ")),
        None => route.translation.to_owned(),
    }
}

fn obstacles(reach: &ReachView) -> String {
    let rows = reach.obstacles.iter().map(|obstacle| vec![obstacle.place.clone(), obstacle.what.clone()]);
    let rows = rows.chain(left_out(reach.unlisted));
    let listed = section("What could not pass, or is not known", &["where", "what"], rows.collect());
    let cut = if reach.cut { "  There are more tables than are looked at: this is not all\n" } else { "" };
    [listed.as_str(), cut].concat()
}

fn no_tables() -> String {
    "  Its translation was off: its devices could reach all memory\n".to_owned()
}

fn with_pasid(device: &str, pasid: Option<u32>) -> String {
    pasid.map_or_else(|| device.to_owned(), |pasid| format!("{device}/{pasid:#x}"))
}
