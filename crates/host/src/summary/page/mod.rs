//! The page, from top to bottom; each part has a module. `maud` escapes every text that is put into it.

mod backtraces;
mod crash;
mod dma;
mod dump;
mod elements;
mod log;
mod system;
mod takeover;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use postmortem::Postmortem;

use self::backtraces::backtraces;
use self::crash::crash;
use self::dma::dma;
use self::dump::{dump, open};
use self::log::log;
use self::system::{modules, system};
use self::takeover::takeover;
use super::Summary;
use super::date::date;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::AboutFile;
    use fixtures::Memory;
    use postmortem::{Address, Backtrace, BacktraceSource, Cpu, Frame, LastLines, Module, Task};
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
}
