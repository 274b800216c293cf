//! The dump: what is in it, and how to open it.

use maud::{Markup, html};
use postmortem::{Postmortem, Source};

use super::elements::{fact, part, scrolled, table};
use crate::Bytes;
use crate::summary::{Summary, opening};

pub(super) fn dump(summary: &Summary) -> Markup {
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

pub(super) fn open(summary: &Summary) -> Markup {
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

    #[test]
    fn a_level_names_what_it_leaves_out() {
        assert_eq!(level(0), "nothing");
        assert_eq!(level(17), "pages of zeros, free pages");
    }
}
