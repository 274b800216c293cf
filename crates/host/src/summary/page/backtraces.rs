//! What each processor was doing.

use maud::{Markup, html};
use postmortem::{Backtrace, BacktraceSource, Cpu, Frame, Postmortem};

use super::crash::task;
use super::elements::part;

/// Processors whose stacks are shown.
const CPUS: usize = 64;

pub(super) fn backtraces(postmortem: &Postmortem) -> Markup {
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
