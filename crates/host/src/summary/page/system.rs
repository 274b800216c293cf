//! The machine and its kernel: modules, release, command line.

use maud::{Markup, html};
use postmortem::Postmortem;

use super::elements::{fact, part, table};
use crate::Bytes;

pub(super) fn modules(postmortem: &Postmortem) -> Markup {
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

pub(super) fn system(postmortem: &Postmortem) -> Markup {
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
