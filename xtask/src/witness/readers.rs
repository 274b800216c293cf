//! The third witness: the programs that people open dumps with.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::memory::kept_frames;
use super::reader::Readers;
use crate::crash::PANIC;
use crate::files::Files;
use crate::process;
use crate::tool::Tool;

/// No reader needs more than a small part of this, unless the dump leads it astray.
const LIMIT: Duration = Duration::from_secs(180);

/// The level whose pages are compared: everything that can be left out is.
const LEVEL: &str = "31";
/// Levels that leave out one kind of pages each. (1 is about pages' content, and changes no bitmap.)
const SINGLE_LEVELS: [&str; 5] = ["0", "2", "4", "8", "16"];

/// What the readers found.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Readings {
    /// The end of the dead kernel's log, from the panic on.
    pub(crate) log: Vec<String>,
    /// The dead kernel's backtrace as `crash` shows it.
    pub(crate) backtrace: Vec<String>,
    /// Whether `crash` showed backtrace, log and system; `None` without a kernel with debug information.
    pub(crate) crash_reads: Option<bool>,
    /// Tasks that drgn counts.
    pub(crate) drgn_tasks: Option<u64>,
    /// Pages that makedumpfile keeps and the dump does not.
    pub(crate) pages_only_in_reference: Option<u64>,
    /// Pages that the dump keeps and makedumpfile does not.
    pub(crate) pages_only_in_dump: Option<u64>,
    /// What is wrong.
    #[serde(skip)]
    pub(crate) problems: Vec<String>,
}

impl Readings {
    /// Notes a reader's failure as a problem of the dump.
    fn take<T>(&mut self, reader: &str, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.problems.push(format!("{reader}: {error:#}"))).ok()
    }

    fn expect(&mut self, reader: &str, output: &str, wanted: &str) -> bool {
        let found = output.contains(wanted);
        if !found {
            self.problems.push(format!("{reader} shows no `{wanted}`"));
        }
        found
    }
}

/// Reads the kernel's log with `makedumpfile`.
pub(crate) fn read_log(programs: &Readers, files: &Files, readings: &mut Readings) {
    let log = files.scratch("log");
    let mut makedumpfile = programs.makedumpfile();
    makedumpfile.arg("--dump-dmesg").arg(files.dump()).arg(&log);
    let read =
        process::stdout_within(&mut makedumpfile, "", LIMIT).and_then(|_| Ok(fs::read_to_string(&log)?));
    let Some(text) = readings.take("makedumpfile --dump-dmesg", read) else { return };
    readings.expect("the log", &text, PANIC);
    readings.log = text.lines().skip_while(|line| !line.contains(PANIC)).map(str::to_owned).collect();
}

/// Has `crash` show the backtrace, the log and the system.
pub(crate) fn read_with_crash(files: &Files, kernel: &Path, readings: &mut Readings) {
    let mut crash = Command::new("crash");
    crash.args(["-s", "--no_scroll"]).arg(kernel).arg(files.dump());
    let output = process::stdout_within(&mut crash, "bt\nlog\nsys\nquit\n", LIMIT);
    let Some(output) = readings.take("crash", output) else {
        readings.crash_reads = Some(false);
        return;
    };
    readings.backtrace = backtrace(&output);
    let wanted = ["sysrq_handle_crash", PANIC, "bench: loaded", "RELEASE: ", "PANIC: "];
    let shown = wanted.map(|wanted| readings.expect("crash", &output, wanted));
    readings.crash_reads = Some(shown.into_iter().all(|shown| shown));
}

/// The part of `crash`'s output that `bt` has printed: from the task to the first line of the log.
fn backtrace(output: &str) -> Vec<String> {
    let from_task = output.lines().skip_while(|line| !line.starts_with("PID: "));
    from_task.take_while(|line| !line.starts_with("[ ")).map(str::to_owned).collect()
}

/// What tasks.py prints.
#[derive(Deserialize)]
struct Tasks {
    tasks: u64,
    with_stack: u64,
}

/// Has drgn list all tasks with their stacks.
pub(crate) fn read_with_drgn(programs: &Readers, files: &Files, kernel: &Path, readings: &mut Readings) {
    let Some(tasks) = readings.take("drgn", count_tasks(programs, files, kernel)) else { return };
    if tasks.with_stack < tasks.tasks || tasks.tasks < 20 {
        let Tasks { tasks, with_stack } = tasks;
        readings.problems.push(format!("drgn finds {tasks} tasks, {with_stack} of them with a stack"));
    }
    readings.drgn_tasks = Some(tasks.tasks);
}

fn count_tasks(programs: &Readers, files: &Files, kernel: &Path) -> Result<Tasks> {
    let script = files.scratch("tasks.py");
    fs::write(&script, include_str!("tasks.py"))?;
    let mut drgn = programs.drgn();
    drgn.arg("-q").arg("-c").arg(files.dump()).arg("-s").arg(kernel).arg(script);
    let said = process::stdout_within(&mut drgn, "", LIMIT)?;
    serde_json::from_str(said.trim()).with_context(|| format!("drgn printed `{said}`"))
}

/// Compares the dump's pages with those that `makedumpfile` keeps of the same memory.
///
/// What may differ is not compared.
pub(crate) fn compare_selection(
    programs: &Readers,
    files: &Files,
    core: &Path,
    may_differ: impl Fn(u64) -> bool,
    readings: &mut Readings,
) -> Result<()> {
    let reference = kept_by_makedumpfile(programs, files, core, LEVEL)?;
    let dump = kept_frames(&files.dump())?;
    let only = |these: &BTreeSet<u64>, those: &BTreeSet<u64>| {
        these.difference(those).filter(|&&frame| !may_differ(frame)).copied().collect::<Vec<_>>()
    };
    let (missing, more) = (only(&reference, &dump), only(&dump, &reference));
    if let Some(first) = missing.first() {
        readings
            .problems
            .push(format!("page frame {first:#x} should be in the dump, as makedumpfile has it"));
    }
    if let Some(first) = more.first() {
        readings.problems.push(format!("page frame {first:#x} is in the dump, and makedumpfile left it out"));
    }
    readings.pages_only_in_reference = Some(missing.len() as u64);
    readings.pages_only_in_dump = Some(more.len() as u64);
    Ok(())
}

/// Compares the pages that `holdover makedump` and `makedumpfile` keep of the same memory, at levels that each leave out one
/// kind of pages.
pub(crate) fn compare_levels(
    programs: &Readers,
    tool: &Tool,
    files: &Files,
    core: &Path,
    readings: &mut Readings,
) -> Result<()> {
    for level in SINGLE_LEVELS {
        let dump = files.scratch("dump");
        tool.makedump(level, core, &dump)?;
        if kept_frames(&dump)? != kept_by_makedumpfile(programs, files, core, level)? {
            readings.problems.push(format!("level {level}: `holdover makedump` keeps other pages"));
        }
    }
    Ok(())
}

fn kept_by_makedumpfile(
    programs: &Readers,
    files: &Files,
    core: &Path,
    level: &str,
) -> Result<BTreeSet<u64>> {
    let reference = files.scratch("reference");
    let mut makedumpfile = programs.makedumpfile();
    makedumpfile.args(["-f", "-l", "-d", level]).arg(core).arg(&reference);
    process::stdout_within(&mut makedumpfile, "", LIMIT)
        .context("makedumpfile cannot read the reference core")?;
    kept_frames(&reference)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backtrace_is_cut_out_of_what_crash_prints() {
        let output =
            "WARNING: something\n\nPID: 1  TASK: f  CPU: 0\n #0 [f] panic\n[    0.000000] Linux version\n";
        assert_eq!(backtrace(output), ["PID: 1  TASK: f  CPU: 0", " #0 [f] panic"]);
    }

    #[test]
    fn what_a_reader_does_not_show_is_a_problem() {
        let mut readings = Readings::default();
        assert!(readings.expect("crash", "a panic", "panic"));
        assert!(!readings.expect("crash", "nothing", "panic"));
        assert_eq!(readings.problems, ["crash shows no `panic`"]);
    }
}
