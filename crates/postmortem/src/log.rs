//! What the kernel's log says of the crash: the panic, what went before, where, and the last lines.
//!
//! Formats are those of `kernel/panic.c`, `lib/dump_stack.c` and `kernel/module/main.c`; they differ a little from kernel to kernel.

use serde::Serialize;

use crate::modules::{Module, Modules};
use crate::taint::Taint;

/// Lines of the log that are kept.
const LINES: usize = 300;
/// Characters of a line that are kept.
const LINE: usize = 400;
/// Frames of a call trace that are kept.
const FRAMES: usize = 128;
/// Modules that are kept.
const MODULES: usize = 1024;
/// Lines before the panic among which its cause is looked for.
const BEFORE: usize = 200;

/// What a panic's message begins with.
const PANIC: &str = "Kernel panic - not syncing: ";
/// What lines are about that tell why a panic comes.
const CAUSES: [&str; 13] = [
    "BUG: ",
    "kernel BUG at",
    "Oops: ",
    "general protection fault",
    "invalid opcode",
    "divide error",
    "stack segment",
    "double fault",
    "Hardware Error",
    "watchdog: ",
    "blocked for more than",
    "NMI: ",
    "RIP: 0010:",
];

/// The last lines of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LastLines {
    /// The lines, the oldest first: printable ASCII and tabs.
    pub lines: Vec<String>,
    /// Number of the line with the panic, from 0 on.
    pub panic: Option<usize>,
    /// Lines that are not listed.
    pub left_out: usize,
    /// Why there is no log, if so.
    pub missing: Option<String>,
}

/// What the log says of the panic.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) message: Option<String>,
    pub(crate) seconds: Option<String>,
    pub(crate) causes: Vec<String>,
    pub(crate) cpu: Option<u32>,
    pub(crate) pid: Option<u32>,
    pub(crate) comm: Option<String>,
    pub(crate) hardware: Option<String>,
    pub(crate) taint: Option<Taint>,
    pub(crate) trace: Vec<String>,
    pub(crate) modules: Option<Modules>,
    pub(crate) last: LastLines,
}

impl Told {
    /// Reads a log of any content.
    pub(crate) fn of(log: &str) -> Self {
        let lines: Vec<&str> = log.lines().collect();
        let panic = lines.iter().rposition(|line| text(line).starts_with(PANIC));
        let from = panic.unwrap_or(lines.len());
        let after = lines.get(from..).unwrap_or_default();
        let before = lines.get(from.saturating_sub(BEFORE)..from).unwrap_or_default();
        // Where the oops told all, the panic that follows tells no more.
        let around = || after.iter().chain(before.iter().rev()).map(|line| text(line));
        let origin = around().find_map(origin);
        let taint = around().find_map(taint);
        Self {
            message: panic.and_then(|at| text(lines.get(at)?).strip_prefix(PANIC)).map(bounded),
            seconds: panic.and_then(|at| time(lines.get(at)?)).or_else(|| time(lines.last()?)),
            causes: causes(before),
            cpu: origin.as_ref().map(|origin| origin.0),
            pid: origin.as_ref().map(|origin| origin.1),
            comm: origin.map(|origin| origin.2),
            hardware: around().find_map(|line| line.strip_prefix("Hardware name: ")).map(bounded),
            taint,
            trace: trace(after).or_else(|| trace(before)).unwrap_or_default(),
            modules: around().find_map(modules),
            last: LastLines::of(&lines, panic),
        }
    }
}

impl LastLines {
    fn of(lines: &[&str], panic: Option<usize>) -> Self {
        // The panic is shown, whatever was printed after it.
        let start = lines.len().saturating_sub(LINES);
        let start = panic.map_or(start, |panic| start.min(panic.saturating_sub(20)));
        let shown = lines.get(start..).unwrap_or_default().iter().take(LINES);
        let lines_shown: Vec<String> = shown.map(|line| bounded(line)).collect();
        let left_out = lines.len() - lines_shown.len();
        let panic = panic.map(|panic| panic - start).filter(|&panic| panic < lines_shown.len());
        Self { lines: lines_shown, panic, left_out, missing: None }
    }
}

/// A line without its time.
fn text(line: &str) -> &str {
    let rest = line.strip_prefix('[').and_then(|line| line.split_once(']')).map(|(_, rest)| rest);
    rest.map_or(line, |rest| rest.strip_prefix(' ').unwrap_or(rest))
}

/// Seconds since the kernel's start, as the line gives them.
fn time(line: &str) -> Option<String> {
    let time = line.strip_prefix('[')?.split_once(']')?.0.trim();
    let is_time = time.len() <= 24 && time.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    is_time.then(|| time.to_owned())
}

fn bounded(line: &str) -> String {
    line.chars().take(LINE).collect()
}

fn causes(before: &[&str]) -> Vec<String> {
    let tells = |line: &&str| CAUSES.iter().any(|cause| text(line).contains(cause));
    let mut causes: Vec<String> =
        before.iter().rev().filter(|line| tells(line)).take(6).map(|line| bounded(line)).collect();
    causes.reverse();
    causes
}

/// Processor, task's id and name: `CPU: 0 PID: 145 Comm: sh Kdump: loaded Not tainted …`; newer kernels have `UID: 0` between.
fn origin(line: &str) -> Option<(u32, u32, String)> {
    let rest = line.strip_prefix("CPU: ")?;
    let cpu = rest.split(' ').next()?.parse().ok()?;
    let (_, rest) = rest.split_once("PID: ")?;
    let (pid, rest) = rest.split_once(" Comm: ")?;
    let ends = [" Kdump: ", " Tainted: ", " Not tainted"].iter().filter_map(|end| rest.find(end));
    let comm = ends.min().and_then(|end| rest.get(..end))?;
    Some((cpu, pid.parse().ok()?, bounded(comm)))
}

/// `Tainted: G        W  O      6.1.0`, or `Tainted: [W]=WARN, [O]=OOT_MODULE` behind it in newer kernels.
fn taint(line: &str) -> Option<Taint> {
    if !line.starts_with("CPU: ") {
        return None;
    }
    let Some((_, letters)) = line.split_once("Tainted: ") else {
        return line.contains("Not tainted").then_some(Taint(0));
    };
    let end = letters.find(|letter: char| !letter.is_ascii_uppercase() && letter != ' ');
    Some(Taint::of_letters(letters.get(..end.unwrap_or(letters.len()))?))
}

/// The lines of the first call trace: `function+0x1/0x2`, with `?` before what may be no caller.
fn trace(lines: &[&str]) -> Option<Vec<String>> {
    let start = lines.iter().position(|line| text(line).starts_with("Call Trace:"))?;
    let inside = lines.get(start + 1..)?.iter().map(|line| text(line));
    let is_inside = |line: &&str| line.starts_with(' ') || line.starts_with('<') || line.starts_with('?');
    let frames = inside.take_while(is_inside).take(FRAMES);
    Some(frames.map(|line| bounded(line.trim())).filter(|line| !line.is_empty()).collect())
}

/// How many lines of a call trace name a function that has certainly been called.
pub(crate) fn callers(trace: &[String]) -> usize {
    trace.iter().filter(|line| !line.starts_with(['?', '<'])).count()
}

/// `Modules linked in: one(OE) two [last unloaded: three]`.
fn modules(line: &str) -> Option<Modules> {
    let names = line.strip_prefix("Modules linked in:")?;
    let names = names.split(" [last unloaded").next()?.split_whitespace();
    let module = |word: &str| {
        let (name, taints) = word.split_once('(').unwrap_or((word, ""));
        let taints = taints.chars().filter(char::is_ascii_uppercase).take(20).collect();
        Module { name: bounded(name), taints, ..Module::default() }
    };
    let listed: Vec<Module> = names.clone().take(MODULES).map(module).collect();
    let cut = names.count() > listed.len();
    Some(Modules { source: "the line \"Modules linked in\" of the log", listed, cut })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
[    8.000000] BUG: kernel NULL pointer dereference, address: 0000000000000000
[    8.000001] Modules linked in: e1000e(OE+) snd [last unloaded: x]
[    8.000002] CPU: 3 UID: 0 PID: 7 Comm: a b Kdump: loaded Tainted: G        W  O       6.12.1 #1
[    8.000003] Hardware name: QEMU
[    9.122247] Kernel panic - not syncing: Fatal exception
[    9.125571] Call Trace:
[    9.125571]  <TASK>
[    9.125571]  panic+0x118/0x2f4
[    9.125571]  ? _printk+0x68/0x83
[    9.125571]  </TASK>
[    9.125572] Kernel Offset: 0x7000000";

    #[test]
    fn the_log_tells_what_happened_where_and_to_whom() {
        let told = Told::of(LOG);
        assert_eq!(told.message.as_deref(), Some("Fatal exception"));
        assert_eq!(told.seconds.as_deref(), Some("9.122247"));
        assert_eq!((told.cpu, told.pid, told.comm.as_deref()), (Some(3), Some(7), Some("a b")));
        assert_eq!(told.taint, Some(Taint::of_letters("WO")));
        assert_eq!(told.trace, ["<TASK>", "panic+0x118/0x2f4", "? _printk+0x68/0x83", "</TASK>"]);
        assert_eq!(told.causes.len(), 1);
        assert_eq!(told.last.panic, Some(4));
        let modules = told.modules.unwrap_or_default();
        assert_eq!((modules.listed[0].name.as_str(), modules.listed[0].taints.as_str()), ("e1000e", "OE"));
        assert_eq!(modules.listed.len(), 2);
    }

    #[test]
    fn a_long_log_after_the_panic_does_not_hide_it() {
        let log = format!("{LOG}\n{}", "[   10.000000] noise\n".repeat(5000));
        let told = Told::of(&log);
        let last = told.last;
        assert!(last.panic.is_some_and(|panic| last.lines[panic].contains(PANIC)));
        assert_eq!(last.lines.len() + last.left_out, log.lines().count());
    }
}
