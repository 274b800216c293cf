//! Compares the page that `holdover summary` makes of a dump with what drgn finds by the kernel's debug symbols.
//!
//! Holdover has no debug symbols: names, stacks and modules are what the kernel carries itself. Here it must find all that drgn finds, and
//! nothing else. The page is read by a strict parser, and must lead nowhere and run nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::{Readings, readers, with_readers};
use crate::crashes::crash::Evidence;
use crate::guests::tool::Tool;
use crate::process;

/// Neither program needs more than a small part of this.
const LIMIT: Duration = Duration::from_secs(180);

/// What the page says.
#[derive(Debug, Deserialize)]
struct Page {
    title: String,
    facts: BTreeMap<String, String>,
    /// Address and function of each frame of the processor that panicked.
    frames: Vec<(String, String)>,
    modules: BTreeSet<String>,
    /// Pictures.
    maps: usize,
    /// Lines that are highlighted.
    marked: Vec<String>,
    /// What a page must not have.
    problems: Vec<String>,
}

/// What drgn says.
#[derive(Debug, Deserialize)]
struct Known {
    pid: u32,
    comm: String,
    /// Address and function of each frame; code in assembler may have no function.
    frames: Vec<(String, Option<String>)>,
    modules: BTreeSet<String>,
    online: u32,
    release: String,
    panic_cpu: u32,
}

/// Makes the page of the crash's dump, and compares it.
pub(crate) fn compare_summary(evidence: &Evidence, tool: &Tool) -> Result<Readings> {
    let mut readings = Readings::default();
    let path = evidence.files.kept().join("summary.html");
    tool.summary(&evidence.files.dump(), &path)?;
    let page = Page::read(evidence, &path)?;
    with_readers(evidence, |dump| {
        let known = Known::read(&dump)?;
        readings.problems = page.problems(&known);
        Ok(readings)
    })
}

/// Makes the page of the crash's dump, and opens it in a real browser: in light and in dark, without a network.
pub(crate) fn open_summary(evidence: &Evidence, tool: &Tool) -> Result<Readings> {
    let path = evidence.files.kept().join("summary.html");
    tool.summary(&evidence.files.dump(), &path)?;
    let script = evidence.files.scratch("browser.py");
    std::fs::write(&script, include_str!("summary/browser.py"))?;
    let folder = evidence.files.scratch("browser");
    std::fs::create_dir_all(&folder)?;
    let mut python = Command::new("/usr/bin/python3");
    let said = process::stdout_within(python.arg(script).arg(path).arg(folder), "", LIMIT)?;
    let problems: Vec<String> =
        serde_json::from_str(said.trim()).with_context(|| format!("browser.py printed `{said}`"))?;
    let problems = problems.into_iter().map(|what| format!("the page {what}")).collect();
    Ok(Readings { problems, ..Readings::default() })
}

impl Page {
    fn read(evidence: &Evidence, path: &Path) -> Result<Self> {
        let script = evidence.files.scratch("page.py");
        std::fs::write(&script, include_str!("summary/page.py"))?;
        // The one that Debian's packages of libraries are for.
        let mut python = Command::new("/usr/bin/python3");
        let said = process::stdout_within(python.arg(script).arg(path), "", LIMIT)?;
        serde_json::from_str(said.trim()).with_context(|| format!("page.py printed `{said}`"))
    }

    fn problems(&self, known: &Known) -> Vec<String> {
        let mut problems: Vec<String> = self.problems.iter().map(|what| format!("the page {what}")).collect();
        let mut expect = |is_right: bool, what: String| {
            if !is_right {
                problems.push(format!("the page says {what}"));
            }
        };
        let fact = |term: &str| self.facts.get(term).map_or("", String::as_str);
        let Known { pid, comm, online, release, panic_cpu, .. } = known;
        let task = format!("{comm}, PID {pid}");
        expect(fact("Task") == task, format!("task `{}`, drgn `{task}`", fact("Task")));
        expect(fact("Kernel") == release, format!("kernel `{}`, drgn `{release}`", fact("Kernel")));
        let online = format!("{online} online");
        expect(fact("Processors") == online, format!("processors `{}`, drgn `{online}`", fact("Processors")));
        let cpu = panic_cpu.to_string();
        expect(fact("Processor") == cpu, format!("processor `{}`, drgn `{cpu}`", fact("Processor")));
        expect(
            self.modules == known.modules,
            format!("modules {:?}, drgn {:?}", self.modules, known.modules),
        );
        expect(self.title == fact("Message"), format!("`{}` of `{}`", self.title, fact("Message")));
        let is_marked = matches!(&self.marked[..], [line] if line.contains(&self.title));
        expect(is_marked, format!("that {:?} are the panic", self.marked));
        expect(self.maps == 1, format!("the map {} times", self.maps));
        let same_stack = same_stack(&self.frames, &known.frames);
        expect(same_stack, format!("stack {:?}, drgn {:?}", self.frames, known.frames));
        problems
    }
}

impl Known {
    fn read(dump: &readers::Dump<'_>) -> Result<Self> {
        let said = dump.ask_drgn("crash.py", include_str!("summary/crash.py"))?;
        serde_json::from_str(said.trim()).with_context(|| format!("drgn printed `{said}`"))
    }
}

/// Whether both list the same frames, of which those that drgn cannot name are known by their addresses only.
fn same_stack(ours: &[(String, String)], known: &[(String, Option<String>)]) -> bool {
    let same = |(ours, known): (&(String, String), &(String, Option<String>))| {
        ours.0 == known.0 && known.1.as_ref().is_none_or(|name| function(&ours.1) == function(name))
    };
    ours.len() > 3 && ours.len() == known.len() && ours.iter().zip(known).all(same)
}

/// The name of a function, without distance and module behind it, and without what the compiler has appended.
fn function(text: &str) -> &str {
    text.split(['+', '.', ' ']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(address: &str, function: &str) -> (String, String) {
        (address.to_owned(), function.to_owned())
    }

    #[test]
    fn a_frame_too_much_or_of_another_name_is_noticed() {
        let ours: Vec<_> = (0..5).map(|at| frame(&format!("{at:#x}"), "f.cold+0x1 stopped here")).collect();
        let known: Vec<_> = (0..5).map(|at| (format!("{at:#x}"), Some("f".to_owned()))).collect();
        assert!(same_stack(&ours, &known));
        assert!(!same_stack(&ours, &known[..4]));
        let other: Vec<_> = known.iter().map(|(at, _)| (at.clone(), Some("g".to_owned()))).collect();
        assert!(!same_stack(&ours, &other));
    }
}
