//! What a crash dump says of the crash, without debug symbols: the panic, each processor's backtrace, modules, taint and log.
//!
//! [`Postmortem::read`] finds everything in the dead kernel's own memory. The kernel carries what it takes:
//!
//! | module | what the kernel carries |
//! |---|---|
//! | `symbols` | kallsyms: names and addresses of its functions and variables |
//! | `btf` | the layout of its structures |
//! | `orc`, `unwind` | tables by which it unwinds its own stacks |
//! | `modules` | the list of its modules |
//! | `cpus`, `registers` | what each processor was running, and the registers that it left |
//! | `log`, `taint` | what it printed; the rest falls back on this |
//!
//! The dead kernel's memory is an allegation: each length has a limit, each list an end, and every text that comes out is printable
//! ASCII. What is missing is told in [`Sources`], and never an error.

#![forbid(unsafe_code)]

mod btf;
mod cpus;
mod log;
mod modules;
mod orc;
mod registers;
mod symbols;
mod taint;
mod unwind;
mod view;

use core::cell::Cell;
use core::convert::Infallible;
use core::fmt;

use machine::OldMemory;
use serde::{Serialize, Serializer};
use vmcore::{Kernel, Notes};

use crate::btf::Btf;
use crate::cpus::Finder;
use crate::log::Told;
use crate::modules::List;
use crate::orc::Table;
use crate::symbols::Symbols;
use crate::taint::Taint;
use crate::view::{View, printable};

pub use crate::cpus::{Backtrace, BacktraceSource, Cpu, Frame, Task};
pub use crate::log::LastLines;
pub use crate::modules::{Module, Modules};
pub use crate::taint::TaintFlag;

/// Bytes of a command line that are kept (`COMMAND_LINE_SIZE` of x86).
const COMMAND_LINE: usize = 2048;
/// Bytes of a processor's name.
const MODEL: usize = 64;

/// A virtual address of the dead kernel. JSON has it as text: readers of JSON do not all keep numbers of 64 bits exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address(pub u64);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What a dump says of the crash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Postmortem {
    /// The panic.
    pub panic: Panic,
    /// The machine and its kernel.
    pub system: System,
    /// Processors that were online.
    pub cpus: Vec<Cpu>,
    /// Processors that are not listed.
    pub cpus_left_out: usize,
    /// Loaded modules.
    pub modules: Modules,
    /// What tainted the kernel; `None` if that is not known.
    pub taint: Option<Vec<TaintFlag>>,
    /// The last lines of the log.
    pub log: LastLines,
    /// What the above was read from.
    pub sources: Sources,
}

/// The panic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Panic {
    /// What the kernel said, without "Kernel panic - not syncing".
    pub message: Option<String>,
    /// Lines of the log before it that may say why.
    pub causes: Vec<String>,
    /// When, in seconds since 1970.
    pub time: Option<i64>,
    /// How long the kernel had run, in seconds: a decimal fraction as the log gives it.
    pub uptime: Option<String>,
    /// The processor.
    pub cpu: Option<u32>,
    /// The task that it was running.
    pub task: Option<Task>,
}

/// The machine and its kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct System {
    /// Host name.
    pub host: Option<String>,
    /// Release of the kernel: `uname -r`.
    pub release: Option<String>,
    /// Version of the kernel: `uname -v`.
    pub version: Option<String>,
    /// Build id of the kernel, which names its debug symbols.
    pub build_id: Option<String>,
    /// The kernel's command line.
    pub command_line: Option<String>,
    /// The machine's maker, model and firmware.
    pub hardware: Option<String>,
    /// The processors' name.
    pub processor: Option<String>,
}

/// What was read without debug symbols: how much, or why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sources {
    /// Names of functions and variables.
    pub kallsyms: Source,
    /// Layouts of structures.
    pub btf: Source,
    /// Tables to unwind stacks by.
    pub orc: Source,
}

/// How much was read, or why nothing was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Source {
    /// Whether it could be read.
    pub found: bool,
    /// How much there is, or what is missing.
    pub remark: String,
}

impl Source {
    fn of<T>(found: &Result<T, &'static str>, about: impl Fn(&T) -> String) -> Self {
        match found {
            Ok(value) => Self { found: true, remark: about(value) },
            Err(missing) => Self { found: false, remark: (*missing).to_owned() },
        }
    }
}

impl Postmortem {
    /// Reads what there is; any memory and any notes will do.
    pub fn read<M: OldMemory>(memory: &M, notes: &Notes) -> Self {
        let info = notes.vmcoreinfo();
        let kernel = Kernel::new(info);
        let (log, missing) = read_log(&kernel, memory);
        let mut told = Told::of(&log);
        told.last.missing = missing;
        let view = kernel.address_space().ok().map(|space| View::new(memory, space));
        let unknown = "VMCOREINFO does not say how the kernel's addresses translate";
        let symbols = view.ok_or(unknown).and_then(|view| Symbols::read(&view, info));
        let with_symbols =
            view.ok_or(unknown).and_then(|view| Ok((view, symbols.as_ref().map_err(|why| *why)?)));
        let btf = with_symbols.and_then(|(view, symbols)| Btf::read(&view, symbols));
        let orc = with_symbols.and_then(|(view, symbols)| Table::of_kernel(&view, symbols));
        let sources = Sources {
            kallsyms: Source::of(&symbols, |symbols| format!("{} symbols", symbols.count())),
            btf: Source::of(&btf, |btf| format!("{} types", btf.count())),
            orc: Source::of(&orc, |orc| format!("{} entries", orc.count())),
        };
        let found = with_symbols
            .ok()
            .map(|(view, symbols)| Found::read(view, notes, symbols, btf.as_ref().ok(), orc.as_ref().ok()));
        let system = system(&kernel, memory, notes, found.as_ref(), told.hardware.take());
        let found = found.unwrap_or_default();
        Self::join(info.crash_time(), told, found, system, sources)
    }

    /// Puts together what memory and log say; memory first.
    fn join(time: Option<i64>, told: Told, found: Found, system: System, sources: Sources) -> Self {
        let Found { mut cpus, cpus_left_out, modules, taint, .. } = found;
        let has_none = cpus.is_empty();
        let panicked = cpus.iter_mut().find(|cpu| cpu.panicked);
        let cpu = panicked.as_ref().map(|cpu| cpu.number).or(told.cpu);
        let from_log = told.pid.map(|pid| Task { pid, comm: told.comm });
        let task = panicked.as_ref().and_then(|cpu| cpu.task.clone().filter(|task| task.comm.is_some()));
        let task = task.or(from_log);
        match panicked {
            Some(cpu) => cpu.backtrace = cpu.backtrace.clone().or_of_log(&told.trace),
            None if !told.trace.is_empty() && has_none => {
                let backtrace = Backtrace::of_log(&told.trace);
                cpus.push(Cpu {
                    number: cpu.unwrap_or_default(),
                    panicked: true,
                    task: task.clone(),
                    backtrace,
                });
            }
            None => {}
        }
        let Told { message, seconds, causes, .. } = told;
        Self {
            panic: Panic { message, causes, time, uptime: seconds, cpu, task },
            system,
            cpus,
            cpus_left_out,
            modules: modules.or(told.modules).unwrap_or(Modules { source: "nowhere", ..Modules::default() }),
            taint: taint.or(told.taint).map(Taint::flags),
            log: told.last,
            sources,
        }
    }
}

/// What memory says.
#[derive(Default)]
struct Found {
    cpus: Vec<Cpu>,
    cpus_left_out: usize,
    modules: Option<Modules>,
    taint: Option<Taint>,
    command_line: Option<String>,
    processor: Option<String>,
}

impl Found {
    fn read<M: OldMemory>(
        view: View<'_, M>,
        notes: &Notes,
        symbols: &Symbols,
        btf: Option<&Btf>,
        orc: Option<&Table>,
    ) -> Self {
        let list = btf.and_then(|btf| List::read(&view, symbols, btf));
        let finder = Finder {
            view,
            notes,
            symbols,
            btf,
            orc,
            modules: list.as_ref(),
            budget: Cell::new(cpus::MODULES_BUDGET),
        };
        let (cpus, cpus_left_out) = finder.cpus();
        let taint = symbols.address("tainted_mask").and_then(|mask| view.u64(mask)).map(Taint);
        let line = symbols.address("saved_command_line").and_then(|line| view.u64(line));
        let model = symbols
            .address("boot_cpu_data")
            .zip(btf.and_then(|btf| btf.offset("cpuinfo_x86", "x86_model_id")));
        let model = model.and_then(|(data, offset)| view.text(data.checked_add(offset)?, MODEL));
        Self {
            cpus,
            cpus_left_out,
            modules: list.as_ref().map(List::shown),
            taint,
            command_line: line.and_then(|line| view.text(line, COMMAND_LINE)),
            processor: model.map(|model| model.trim().to_owned()).filter(|model| !model.is_empty()),
        }
    }
}

/// The log as text, and why there is none.
fn read_log<M: OldMemory>(kernel: &Kernel, memory: &M) -> (String, Option<String>) {
    let mut text = Vec::new();
    let missing = match kernel.log(memory, || true) {
        Ok(log) => {
            let Ok(()) = log.print(|piece| -> Result<(), Infallible> {
                text.extend_from_slice(piece);
                Ok(())
            });
            None
        }
        Err(error) => Some(error.to_string()),
    };
    // The log is printable ASCII, tabs and line feeds.
    (String::from_utf8(text).unwrap_or_default(), missing)
}

fn system<M: OldMemory>(
    kernel: &Kernel,
    memory: &M,
    notes: &Notes,
    found: Option<&Found>,
    hardware: Option<String>,
) -> System {
    let info = notes.vmcoreinfo();
    let names = kernel.utsname(memory);
    let name = |at: usize| {
        names.as_ref().map(|names| printable(&names.fields()[at])).filter(|name| !name.is_empty())
    };
    let short = |value: &[u8]| printable(value.get(..128).unwrap_or(value));
    System {
        host: name(1),
        release: name(2).or_else(|| info.os_release().map(|release| short(release.as_bytes()))),
        version: name(3),
        build_id: info.value("BUILD-ID").map(short),
        command_line: found.and_then(|found| found.command_line.clone()),
        hardware,
        processor: found.and_then(|found| found.processor.clone()),
    }
}
