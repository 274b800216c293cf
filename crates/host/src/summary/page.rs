//! The page, from top to bottom. `maud` escapes every text that is put into it.

use maud::{DOCTYPE, Markup, PreEscaped, Render, html};
use postmortem::{Backtrace, BacktraceSource, Cpu, Frame, LastLines, Postmortem, Source, Task};

use super::date::date;
use super::{Summary, map, opening};
use crate::Bytes;
use crate::inspect::{Inspected, ReachView, RouteView, TakeoverView, UnitView, UserView};

/// Rows of a table that are shown; JSON has all.
const ROWS: usize = 200;
/// Lines of the log before the panic that are not folded away.
const BEFORE_PANIC: usize = 15;
/// Processors whose stacks are shown.
const CPUS: usize = 64;
/// The page may load nothing and run nothing, whatever got into it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";
const STYLE: &str = include_str!("style.css");
/// Name and title of each part.
const PARTS: [(&str, &str); 9] = [
    ("crash", "Crash"),
    ("backtraces", "Backtraces"),
    ("log", "Log"),
    ("dma", "DMA"),
    ("takeover", "Takeover"),
    ("modules", "Modules"),
    ("system", "System"),
    ("dump", "Dump"),
    ("open", "Open it"),
];

pub(super) fn page(summary: &Summary) -> String {
    let Summary { postmortem, .. } = summary;
    let message = postmortem.panic.message.as_deref().unwrap_or("A crash without a message");
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="referrer" content="no-referrer";
                meta name="generator" content={ "Holdover " (env!("CARGO_PKG_VERSION")) };
                title { (message) " \u{2013} " (host(postmortem)) }
                // Its only content is this crate's own.
                style { (PreEscaped(STYLE)) }
            }
            body {
                (header(postmortem, message))
                main {
                    (crash(postmortem))
                    (backtraces(postmortem))
                    (log(&postmortem.log))
                    (dma(summary))
                    (takeover(summary))
                    (modules(postmortem))
                    (system(postmortem))
                    (dump(summary))
                    (open(summary))
                }
                footer {
                    p { "Written by Holdover " (env!("CARGO_PKG_VERSION")) " from the dump alone. "
                        "This page holds parts of the kernel\u{2019}s memory: treat it as you treat the dump." }
                }
            }
        }
    };
    page.into_string()
}

fn host(postmortem: &Postmortem) -> &str {
    match postmortem.system.host.as_deref() {
        None | Some("(none)") => "a host without a name",
        Some(host) => host,
    }
}

fn header(postmortem: &Postmortem, message: &str) -> Markup {
    let release = postmortem.system.release.as_deref().unwrap_or("an unknown kernel");
    html! {
        header {
            p class="kicker" { "Kernel panic" }
            h1 { (message) }
            p class="where" {
                (host(postmortem)) ", Linux " (release)
                @if let Some(time) = postmortem.panic.time { ", " (date(time)) }
            }
            nav aria-label="Parts of this page" {
                ul { @for (name, title) in PARTS { li { a href={ "#" (name) } { (title) } } } }
            }
        }
    }
}

/// A part of the page with its heading.
fn part(name: &str, title: &str, content: impl Render) -> Markup {
    let heading = format!("{name}-heading");
    html! {
        section id=(name) aria-labelledby=(heading) { h2 id=(heading) { (title) } (content) }
    }
}

/// A term and what it is, if that is known.
fn fact(term: &str, value: Option<impl Render>) -> Markup {
    html! { @if let Some(value) = value { dt { (term) } dd { (value) } } }
}

fn crash(postmortem: &Postmortem) -> Markup {
    let panic = &postmortem.panic;
    let unknown = || "not known".to_owned();
    let content = html! {
        dl {
            (fact("Message", Some(panic.message.as_deref().unwrap_or("the log has none"))))
            (fact("Time", Some(panic.time.map_or_else(unknown, date))))
            (fact("Uptime", Some(panic.uptime.as_deref().map_or_else(unknown, uptime))))
            (fact("Processor", Some(panic.cpu.map_or_else(unknown, |cpu| cpu.to_string()))))
            (fact("Task", Some(panic.task.as_ref().map_or_else(unknown, task))))
            (fact("Tainted", Some(taint(postmortem))))
        }
        @if !panic.causes.is_empty() {
            h3 { "What the log said before" }
            (scrolled("Lines before the panic", html! {
                @for line in &panic.causes { (line) "\n" }
            }))
        }
    };
    part("crash", "The crash", content)
}

/// Text of fixed width that may be wider than the page.
fn scrolled(label: &str, text: impl Render) -> Markup {
    html! { pre tabindex="0" role="region" aria-label=(label) { (text) } }
}

/// `9.122247` as `9.1 s`, or in days, hours and minutes.
fn uptime(seconds: &str) -> String {
    let whole: u64 = seconds.split('.').next().and_then(|whole| whole.parse().ok()).unwrap_or_default();
    let (days, hours, minutes) = (whole / 86400, whole / 3600 % 24, whole / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, ..) => format!("{hours} h {minutes} min {} s", whole % 60),
        _ => format!("{days} d {hours} h {minutes} min"),
    }
}

fn task(task: &Task) -> String {
    match &task.comm {
        Some(comm) => format!("{comm}, PID {}", task.pid),
        None => format!("PID {}", task.pid),
    }
}

fn taint(postmortem: &Postmortem) -> Markup {
    html! {
        @match &postmortem.taint {
            None => "not known",
            Some(flags) if flags.is_empty() => "no",
            Some(flags) => {
                @for (at, flag) in flags.iter().enumerate() {
                    @if at > 0 { "; " }
                    strong { (flag.letter) } ": " (flag.meaning)
                }
            }
        }
    }
}

fn backtraces(postmortem: &Postmortem) -> Markup {
    let others = || postmortem.cpus.iter().filter(|cpu| !cpu.panicked);
    let hidden = others().count().saturating_sub(CPUS) + postmortem.cpus_left_out;
    let content = html! {
        @for cpu in postmortem.cpus.iter().filter(|cpu| cpu.panicked) {
            h3 { (cpu_title(cpu)) " \u{2013} panicked" }
            (backtrace(&cpu.backtrace))
        }
        @for cpu in others().take(CPUS) {
            details { summary { (cpu_title(cpu)) } (backtrace(&cpu.backtrace)) }
        }
        @if postmortem.cpus.is_empty() { p { "Nothing is known of the processors." } }
        @if hidden > 0 { p class="note" { (hidden) " more processors are not shown." } }
    };
    part("backtraces", "Backtraces", content)
}

fn cpu_title(cpu: &Cpu) -> String {
    let task = cpu.task.as_ref().map(|running| format!(": {}", task(running)));
    format!("CPU {}{}", cpu.number, task.unwrap_or_default())
}

fn backtrace(backtrace: &Backtrace) -> Markup {
    let source = match backtrace.source {
        BacktraceSource::Orc => {
            Some("Unwound from the stack in the dump, by the kernel\u{2019}s own tables (ORC)")
        }
        BacktraceSource::Log => Some("The call trace in the log"),
        BacktraceSource::None => None,
    };
    html! {
        @if !backtrace.frames.is_empty() {
            ol class="frames" { @for frame in &backtrace.frames { (shown_frame(frame)) } }
        }
        p class="note" {
            @if let Some(source) = source { (source) @if backtrace.remark.is_some() { "; " } @else { "." } }
            @if let Some(remark) = backtrace.remark { (remark) "." }
        }
    }
}

fn shown_frame(frame: &Frame) -> Markup {
    html! {
        li {
            span class="function mono" {
                (frame.function.as_deref().unwrap_or("?"))
                @if let Some(module) = &frame.module { " " span class="tag" { (module) } }
                @if frame.interrupted { " " span class="tag" { "stopped here" } }
            }
            @if let Some(address) = frame.address { span class="address mono" { (address) } }
        }
    }
}

fn log(log: &LastLines) -> Markup {
    let start = log.panic.unwrap_or(log.lines.len()).saturating_sub(BEFORE_PANIC);
    let (earlier, last) = log.lines.split_at(start.min(log.lines.len()));
    let content = html! {
        @if let Some(missing) = &log.missing { p class="warning" { "There is no log: " (missing) "." } }
        @if !last.is_empty() {
            (scrolled("The last lines of the log", html! {
                @for (at, line) in last.iter().enumerate() {
                    @if log.panic == Some(start + at) { mark { (line) } } @else { (line) }
                    "\n"
                }
            }))
        }
        @if !earlier.is_empty() {
            details class="folded" {
                summary { (earlier.len()) " earlier lines" }
                (scrolled("Earlier lines of the log", html! { @for line in earlier { (line) "\n" } }))
            }
        }
        @if log.left_out > 0 {
            p class="note" { (log.left_out) " more lines are in the dump, and in dmesg.txt where it was collected." }
        }
    };
    part("log", "Last lines of the log", content)
}

fn dma(summary: &Summary) -> Markup {
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

/// A table that may be wider than the page. Columns whose title begins with `#` are numbers.
fn table(caption: &str, columns: &[&str], rows: impl IntoIterator<Item = Vec<String>>, more: u64) -> Markup {
    let rows: Vec<Vec<String>> = rows.into_iter().collect();
    let is_number = |at: usize| columns.get(at).is_some_and(|title| title.starts_with('#'));
    let class = |at: usize| is_number(at).then_some("n");
    let hidden = rows.len().saturating_sub(ROWS) as u64 + more;
    html! {
        @if !rows.is_empty() {
            div class="scroll" tabindex="0" role="region" aria-label=(caption) {
                table {
                    caption { (caption) }
                    thead { tr {
                        @for (at, title) in columns.iter().enumerate() {
                            th scope="col" class=[class(at)] { (title.trim_start_matches('#')) }
                        }
                    } }
                    tbody { @for row in rows.iter().take(ROWS) {
                        tr { @for (at, cell) in row.iter().enumerate() { td class=[class(at)] { (cell) } } }
                    } }
                }
            }
            @if hidden > 0 { p class="note" { (hidden) " more are not shown; " code { "holdover inspect" } " shows them." } }
        }
    }
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

fn takeover(summary: &Summary) -> Markup {
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
    let sum = |count: fn(&crate::inspect::DomainView) -> u64| -> u64 {
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
    let cells = |hazard: &crate::inspect::HazardView| {
        vec![hazard.place.clone(), hazard.what.clone(), hazard.outcome.clone()]
    };
    let rows: Vec<_> = takeover.hazards.iter().map(cells).collect();
    html! {
        @if rows.is_empty() && takeover.unlisted_hazards == 0 { p { "Hazards: none were found." } }
        (table("Hazards: what was wrong or dangerous, and what was done about it", &["Where", "What", "Outcome"], rows, takeover.unlisted_hazards))
    }
}

fn faults(takeover: &TakeoverView) -> Markup {
    let cells = |fault: &crate::inspect::FaultView| {
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

fn modules(postmortem: &Postmortem) -> Markup {
    let modules = &postmortem.modules;
    let content = html! {
        @if modules.listed.is_empty() { p { "None are known." } }
        @else {
            ul class="chips" {
                @for module in &modules.listed {
                    li class="mono" {
                        (module.name)
                        @if !module.taints.is_empty() { " " strong { "(" (module.taints) ")" } }
                    }
                }
            }
            p class="note" { (modules.listed.len()) " modules, from " (modules.source) "." }
            (module_places(postmortem))
        }
        @if modules.cut { p class="warning" { "The list goes on, and cannot be followed or is not shown." } }
    };
    part("modules", "Modules", content)
}

fn module_places(postmortem: &Postmortem) -> Markup {
    let placed = postmortem.modules.listed.iter().filter_map(|module| {
        Some(vec![module.name.clone(), module.base?.to_string(), Bytes(module.bytes?).to_string()])
    });
    let rows: Vec<_> = placed.collect();
    html! {
        @if !rows.is_empty() {
            details { summary { "Where they were" } (table("Modules in memory", &["Module", "Code from", "#Size"], rows, 0)) }
        }
    }
}

fn system(postmortem: &Postmortem) -> Markup {
    let system = &postmortem.system;
    let cpus = postmortem.cpus.len() + postmortem.cpus_left_out;
    let content = html! {
        dl {
            (fact("Host", system.host.as_deref()))
            (fact("Kernel", system.release.as_deref()))
            (fact("Version", system.version.as_deref()))
            (fact("Build id", system.build_id.as_deref()))
            (fact("Hardware", system.hardware.as_deref()))
            (fact("Processors", Some(format!("{cpus} online"))))
            (fact("Model", system.processor.as_deref()))
            (fact("Command line", system.command_line.as_ref().map(|line| html! { code { (line) } })))
        }
    };
    part("system", "System", content)
}

fn dump(summary: &Summary) -> Markup {
    let file = &summary.dump;
    let shares = file.ram_pages.map(|ram| {
        format!("{} of {ram} pages of RAM ({})", file.pages, Bytes(file.pages.saturating_mul(4096)))
    });
    let content = html! {
        dl {
            (fact("File", Some(file.path.display().to_string())))
            (fact("Size", Some(Bytes(file.bytes).to_string())))
            (fact("Format", Some(file.format)))
            (fact("Kept", shares))
            (fact("Left out", Some(format!("level {}: {}", file.level, level(file.level)))))
            (fact("State", Some(if file.lacks.is_empty() { "nothing says that something is missing" } else { "something is missing" })))
        }
        @for lack in file.lacks.iter().chain(&summary.remarks) { p class="warning" { (lack) } }
        @let sources = postmortem_sources(&summary.postmortem);
        (table("What this page was read from, without debug symbols", &["What", "State"], sources, 0))
    };
    part("dump", "The dump, and what it leaves out", content)
}

fn postmortem_sources(postmortem: &Postmortem) -> Vec<Vec<String>> {
    let sources = &postmortem.sources;
    let named = [
        ("Symbols (kallsyms)", &sources.kallsyms),
        ("Structures (BTF)", &sources.btf),
        ("Stack tables (ORC)", &sources.orc),
    ];
    named.map(|(name, source): (&str, &Source)| vec![name.to_owned(), source.remark.clone()]).into()
}

/// The kinds of pages that a level leaves out.
fn level(level: u8) -> String {
    const KINDS: [&str; 5] = ["pages of zeros", "cache", "private cache", "user memory", "free pages"];
    let left_out: Vec<&str> = (0..5).filter(|bit| level >> bit & 1 == 1).map(|bit| KINDS[bit]).collect();
    if left_out.is_empty() { "nothing".to_owned() } else { left_out.join(", ") }
}

fn open(summary: &Summary) -> Markup {
    let openings = opening::openings(&summary.postmortem.system);
    let dump = opening::shell_word(&summary.dump.path);
    let content = html! {
        @for opening in &openings {
            h3 { "On " (opening.distribution.name()) }
            p { (opening.remark) }
            (scrolled("Commands", html! {
                @for command in &opening.install { "# " (command) "\n" }
                "# crash " (opening.kernel) " " (dump) "\n"
                "# drgn -c " (dump) " -s " (opening.kernel) "\n"
            }))
        }
        @if openings.is_empty() {
            p class="warning" { "The dump does not give the kernel\u{2019}s release, or as something that does not belong in a command." }
        }
        @if let Some(id) = opening::build_id(&summary.postmortem.system) {
            p { "Or by the kernel\u{2019}s build id, from a debuginfod server of its distribution:" }
            (scrolled("Command", html! { "$ debuginfod-find debuginfo " (id) "\n" }))
        }
        p { "What devices could reach, in full, and the record of the takeover:" }
        (scrolled("Command", html! { "$ holdover inspect " (dump) "\n" }))
    };
    part("open", "How to open it", content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::AboutFile;
    use fixtures::Memory;
    use postmortem::{Address, BacktraceSource, Module};
    use vmcore::Notes;

    /// A page in which each text that comes from a dump, a file's name or a caller is this one.
    fn page_of(text: &str) -> String {
        let some = || Some(text.to_owned());
        let mut postmortem = Postmortem::read(&Memory::new(0), &Notes::default());
        let task = Some(Task { pid: 1, comm: some() });
        let frame = Frame { address: Some(Address(1)), function: some(), module: some(), interrupted: true };
        let backtrace =
            Backtrace { source: BacktraceSource::Orc, frames: vec![frame], whole: true, remark: None };
        postmortem.panic.message = some();
        postmortem.panic.causes = vec![text.to_owned()];
        postmortem.panic.uptime = some();
        postmortem.panic.task.clone_from(&task);
        postmortem.cpus = vec![Cpu { number: 0, panicked: true, task, backtrace }];
        postmortem.modules.listed = vec![Module {
            name: text.to_owned(),
            base: Some(Address(0)),
            bytes: Some(1),
            taints: text.to_owned(),
        }];
        postmortem.log =
            LastLines { lines: vec![text.to_owned(); 2], panic: Some(1), left_out: 1, missing: some() };
        let system = &mut postmortem.system;
        let fields = [&mut system.host, &mut system.release, &mut system.version, &mut system.build_id];
        for field in fields {
            *field = some();
        }
        let fields = [&mut system.command_line, &mut system.hardware, &mut system.processor];
        for field in fields {
            *field = some();
        }
        let about = AboutFile {
            path: text.into(),
            bytes: 0,
            format: "ELF core",
            level: 31,
            pages: 1,
            ram_pages: Some(2),
            ram: vec![(0, 4096)],
            lacks: vec![text.to_owned()],
        };
        let remarks = vec![text.to_owned()];
        page(&Summary { dump: about, postmortem, takeover: None, no_takeover: some(), remarks })
    }

    /// Whatever a text is, the page has the elements and attributes that it has with a harmless one.
    #[test]
    fn no_text_of_a_dump_becomes_a_part_of_the_page() {
        let marks = |page: &str| ["<", ">", "\""].map(|mark| page.matches(mark).count());
        let harmless = marks(&page_of("x y"));
        for text in [
            "<script>alert(1)</script>",
            "\"><img src=x onerror=alert(1)>",
            "</style><b>",
            "</pre>",
            "-->",
            "&lt;",
            "]]>",
        ] {
            let page = page_of(text);
            assert_eq!(marks(&page), harmless, "{text}");
            assert!(!page.contains("<script") && !page.contains("<img"));
        }
    }

    #[test]
    fn an_uptime_is_told_in_units_that_fit() {
        assert_eq!(uptime("9.122247"), "9.122247 s");
        assert_eq!(uptime("3725.5"), "1 h 2 min 5 s");
        assert_eq!(uptime("200000.1"), "2 d 7 h 33 min");
        assert_eq!(uptime("99999999999999999999"), "99999999999999999999 s");
    }

    #[test]
    fn a_level_names_what_it_leaves_out() {
        assert_eq!(level(0), "nothing");
        assert_eq!(level(17), "pages of zeros, free pages");
    }
}
