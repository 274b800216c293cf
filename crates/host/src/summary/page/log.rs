//! The end of the log.

use maud::{Markup, html};
use postmortem::LastLines;

use super::elements::{part, scrolled};

/// Lines of the log before the panic that are not folded away.
const BEFORE_PANIC: usize = 15;

pub(super) fn log(log: &LastLines) -> Markup {
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
