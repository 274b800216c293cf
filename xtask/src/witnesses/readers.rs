//! The third witness: the programs that people open dumps with.

mod made;
mod pages;
mod selection;
mod stock;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::reader::Readers;
use crate::crashes::crash::PANIC;
use crate::machines::files::Files;
use crate::process;
pub(crate) use made::read_made;
pub(crate) use pages::Sample;
pub(crate) use selection::{compare_every_level, compare_levels, compare_selection};
pub(crate) use stock::read_stock;

/// No reader needs more than a small part of this, unless the dump leads it astray.
const LIMIT: Duration = Duration::from_secs(180);

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
    /// Number of pages for which each reader returned the content of memory, of all dumps that it opened.
    pub(crate) pages_returned: BTreeMap<&'static str, usize>,
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

/// A dump, and the programs that read it.
#[derive(Clone, Copy)]
pub(crate) struct Dump<'a> {
    /// Its file.
    pub(crate) path: &'a Path,
    /// The programs.
    pub(crate) programs: &'a Readers,
    /// The dead kernel with debug information, if there is any.
    pub(crate) kernel: Option<&'a Path>,
    /// Where files can be kept for a while.
    pub(crate) files: &'a Files,
}

impl Dump<'_> {
    /// Has every program show what people look for first.
    pub(crate) fn read(&self, readings: &mut Readings) {
        self.read_log(readings);
        if let Some(kernel) = self.kernel {
            if self.programs.crash().is_some() {
                self.read_with_crash(kernel, readings);
            }
            self.read_with_drgn(kernel, readings);
        }
    }

    /// Reads the kernel's log with `makedumpfile`.
    pub(crate) fn read_log(&self, readings: &mut Readings) {
        let log = self.files.scratch("log");
        let mut makedumpfile = self.programs.makedumpfile();
        makedumpfile.args(["-f", "--dump-dmesg"]).arg(self.path).arg(&log);
        let read =
            process::stdout_within(&mut makedumpfile, "", LIMIT).and_then(|_| Ok(fs::read_to_string(&log)?));
        let Some(text) = readings.take("makedumpfile --dump-dmesg", read) else { return };
        readings.expect("the log", &text, PANIC);
        readings.log = text.lines().skip_while(|line| !line.contains(PANIC)).map(str::to_owned).collect();
    }

    /// Has `crash` show the backtrace, the log and the system.
    fn read_with_crash(&self, kernel: &Path, readings: &mut Readings) {
        let output = self.crash(kernel, "bt\nlog\nsys\n");
        let Some(output) = readings.take("crash", output) else {
            readings.crash_reads = Some(false);
            return;
        };
        readings.backtrace = backtrace(&output);
        let wanted = ["sysrq_handle_crash", PANIC, "bench: loaded", "RELEASE: ", "PANIC: "];
        let shown = wanted.map(|wanted| readings.expect("crash", &output, wanted));
        readings.crash_reads = Some(shown.into_iter().all(|shown| shown));
    }

    /// Has `crash` do what these lines say.
    fn crash(&self, kernel: &Path, commands: &str) -> Result<String> {
        let mut crash = self.programs.crash().context("there is none that knows this kernel")?;
        crash.args(["-s", "--no_scroll"]).arg(kernel).arg(self.path);
        process::stdout_within(&mut crash, &format!("{commands}quit\n"), LIMIT)
    }

    /// Has drgn list all tasks with their stacks.
    fn read_with_drgn(&self, kernel: &Path, readings: &mut Readings) {
        let Some(tasks) = readings.take("drgn", self.count_tasks(kernel)) else { return };
        if tasks.with_stack < tasks.tasks || tasks.tasks < 20 {
            let Tasks { tasks, with_stack } = tasks;
            readings.problems.push(format!("drgn finds {tasks} tasks, {with_stack} of them with a stack"));
        }
        readings.drgn_tasks = Some(tasks.tasks);
    }

    fn count_tasks(&self, kernel: &Path) -> Result<Tasks> {
        let said = self.run_drgn(kernel, "tasks.py", include_str!("readers/tasks.py"))?;
        serde_json::from_str(said.trim()).with_context(|| format!("drgn printed `{said}`"))
    }

    /// Has drgn run a script; returns what it prints.
    pub(crate) fn ask_drgn(&self, name: &str, script: &str) -> Result<String> {
        self.run_drgn(self.kernel.context("no kernel with debug information is here")?, name, script)
    }

    fn run_drgn(&self, kernel: &Path, name: &str, script: &str) -> Result<String> {
        let script = self.script(name, script)?;
        let mut drgn = self.programs.drgn();
        drgn.arg("-q").arg("-c").arg(self.path).arg("-s").arg(kernel).arg(script);
        process::stdout_within(&mut drgn, "", LIMIT)
    }

    /// Makes a script a file.
    fn script(&self, name: &str, text: &str) -> Result<PathBuf> {
        let script = self.files.scratch(name);
        fs::write(&script, text)?;
        Ok(script)
    }
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
