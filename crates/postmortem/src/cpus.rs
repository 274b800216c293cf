//! Processors: which there were, what each was running, and its stack.

use std::cell::{Cell, OnceCell};

use machine::OldMemory;
use serde::Serialize;
use vmcore::{Notes, notes_in};

use crate::Address;
use crate::btf::Btf;
use crate::log;
use crate::modules::{List, Loaded, Names};
use crate::orc::{Format, Table};
use crate::registers::Status;
use crate::symbols::Symbols;
use crate::unwind::{self, End, Found};
use crate::view::View;

/// Most processors that are looked at (`NR_CPUS` of distributions' kernels).
const MOST: u32 = 8192;
/// Most processors whose stacks are unwound.
const MOST_STACKS: usize = 512;
/// Most bytes of modules' tables for unwinding, and of their symbols that are read.
pub(crate) const MODULES_BUDGET: u64 = 64 << 20;
/// Bytes of a processor's crash notes that are read: `NT_PRSTATUS` takes 356.
const NOTE: usize = 512;
/// Bytes of a task's name (`TASK_COMM_LEN`).
const COMM: usize = 16;
/// The type and the name of the note with a processor's registers.
const PRSTATUS: (u32, &[u8]) = (1, b"CORE\0");

/// A task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Task {
    /// Its id; 0 is a processor's idle task.
    pub pid: u32,
    /// Its name, if it is known.
    pub comm: Option<String>,
}

/// A processor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cpu {
    /// Its number.
    pub number: u32,
    /// Whether it panicked.
    pub panicked: bool,
    /// What it was running.
    pub task: Option<Task>,
    /// Its stack.
    pub backtrace: Backtrace,
}

/// A stack, the innermost frame first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Backtrace {
    /// How it was found.
    pub source: BacktraceSource,
    /// The frames.
    pub frames: Vec<Frame>,
    /// Whether it is known to lead to the first function of the kernel, or to a program.
    pub whole: bool,
    /// What is to be said of its end, or why there is none.
    pub remark: Option<&'static str>,
}

/// How a stack was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BacktraceSource {
    /// Unwound by the kernel's ORC tables.
    Orc,
    /// The call trace in the kernel's log.
    Log,
    /// It was not.
    None,
}

/// A frame of a stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Frame {
    /// Where the processor was, or where it returns to; not known of lines of the log.
    pub address: Option<Address>,
    /// The function, with the distance from its start: `panic+0x118`.
    pub function: Option<String>,
    /// The module that it belongs to; `None` is the kernel itself.
    pub module: Option<String>,
    /// Whether an interrupt or an exception stopped the processor there.
    pub interrupted: bool,
}

/// What was read of a module.
struct OfModule {
    orc: Option<Table>,
    names: OnceCell<Option<Names>>,
}

/// What is needed to find processors and to unwind their stacks.
pub(crate) struct Finder<'a, M> {
    pub(crate) view: View<'a, M>,
    pub(crate) notes: &'a Notes,
    pub(crate) symbols: &'a Symbols,
    pub(crate) btf: Option<&'a Btf>,
    pub(crate) orc: Option<&'a Table>,
    pub(crate) modules: Option<&'a List>,
    /// Bytes of modules' symbols that may still be read.
    pub(crate) budget: Cell<u64>,
}

impl<M: OldMemory> Finder<'_, M> {
    /// All processors that were online, in the order of their numbers; and how many more there are.
    pub(crate) fn cpus(&self) -> (Vec<Cpu>, usize) {
        let online = self.online();
        let panicked = self.panicked();
        let of_modules = self.of_modules();
        let cpu = |(place, &number): (usize, &u32)| self.cpu(number, place, panicked, &of_modules);
        // The one that matters is not left out.
        let matters = |(place, number): &(usize, &u32)| *place < MOST_STACKS || Some(**number) == panicked;
        let mut looked_at: Vec<_> = online.iter().enumerate().filter(matters).collect();
        // What others use up of the budget must not be missing in its stack.
        looked_at.sort_by_key(|(_, number)| Some(**number) != panicked);
        let mut cpus: Vec<Cpu> = looked_at.into_iter().map(cpu).collect();
        cpus.sort_by_key(|cpu| cpu.number);
        let left_out = online.len() - cpus.len();
        (cpus, left_out)
    }

    /// Which processor panicked: the kernel notes it before all else.
    fn panicked(&self) -> Option<u32> {
        let number = |name| self.view.u32(self.symbols.address(name)?).filter(|&number| number < MOST);
        number("panic_cpu").or_else(|| number("crashing_cpu"))
    }

    fn online(&self) -> Vec<u32> {
        let count = self.symbols.address("nr_cpu_ids").and_then(|address| self.view.u32(address));
        let count = count.unwrap_or(MOST).min(MOST);
        let mask = self.symbols.address("__cpu_online_mask");
        let mask =
            mask.and_then(|mask| self.view.bytes(mask, u64::from(count.next_multiple_of(64)) / 8, 1 << 12));
        let Some(mask) = mask else {
            return (0..self.notes.processors().min(MOST as usize) as u32).collect();
        };
        let is_set = |cpu: &u32| mask.get(*cpu as usize / 8).is_some_and(|byte| byte >> (cpu % 8) & 1 == 1);
        (0..count).filter(is_set).collect()
    }

    fn cpu(&self, number: u32, place: usize, panicked: Option<u32>, modules: &[OfModule]) -> Cpu {
        let own = self.own_data(number);
        let status = own.and_then(|own| self.status_in_memory(own)).or_else(|| self.status_in_notes(place));
        let task = own.and_then(|own| self.task(own));
        let task = task.or_else(|| status.map(|status| Task { pid: status.pid, comm: None }));
        Cpu { number, panicked: panicked == Some(number), task, backtrace: self.backtrace(status, modules) }
    }

    /// What the addresses of a processor's own data are counted from.
    fn own_data(&self, cpu: u32) -> Option<u64> {
        self.view.u64(self.symbols.address("__per_cpu_offset")?.checked_add(u64::from(cpu) * 8)?)
    }

    /// The registers that this processor left, in the place where the kernel keeps them for the next one.
    fn status_in_memory(&self, own: u64) -> Option<Status> {
        let notes = self.view.u64(self.symbols.address("crash_notes")?)?.wrapping_add(own);
        status(&self.view.array::<NOTE>(notes)?, 0)
    }

    /// The registers in the dump's notes, which are in the order of processors if each has left some.
    fn status_in_notes(&self, place: usize) -> Option<Status> {
        status(self.notes.bytes(), place)
    }

    /// The task that was running (`current`).
    fn task(&self, own: u64) -> Option<Task> {
        // From 6.2 to 6.14, the first member of `struct pcpu_hot`.
        let pointer = self.symbols.address("current_task").or_else(|| self.symbols.address("pcpu_hot"))?;
        let task = self.view.u64(pointer.wrapping_add(own))?;
        let field = |name| task.checked_add(self.btf?.offset("task_struct", name)?);
        let comm = field("comm").and_then(|comm| self.view.text(comm, COMM));
        Some(Task { pid: self.view.u32(field("pid")?)?, comm })
    }

    fn of_modules(&self) -> Vec<OfModule> {
        let modules = self.modules.map_or(&[][..], |list| &list.modules);
        let mut left = MODULES_BUDGET;
        let mut read = |module: &Loaded| {
            let table = module.orc(&self.view, self.btf?).filter(|table| table.bytes() <= left)?;
            left -= table.bytes();
            Some(table)
        };
        modules.iter().map(|module| OfModule { orc: read(module), names: OnceCell::new() }).collect()
    }

    fn backtrace(&self, status: Option<Status>, modules: &[OfModule]) -> Backtrace {
        let Some(Status { registers, .. }) = status else { return Backtrace::none("it left no registers") };
        if registers.is_user() {
            return Backtrace::none("it was running a program, outside the kernel");
        }
        let Some(orc) = self.orc else {
            return Backtrace::none("there are no tables to unwind its stack by");
        };
        let format = Format::of(self.btf, orc);
        let find = |address: u64| match self.modules.and_then(|list| list.at(address)) {
            Some(at) => modules.get(at)?.orc.as_ref()?.find(address, format),
            None => orc.find(address, format),
        };
        let start = |address: u64| self.symbols.at(address).map(|(_, offset)| address - offset);
        let unwound = unwind::unwind(&self.view, registers, find, start);
        let frames = unwound.frames.iter().map(|&found| self.frame(found, modules)).collect();
        let whole = unwound.end == End::Whole;
        Backtrace { source: BacktraceSource::Orc, frames, whole, remark: remark(unwound.end) }
    }

    fn frame(&self, found: Found, modules: &[OfModule]) -> Frame {
        let Found { ip, is_exact } = found;
        // A call may be the last instruction of its function.
        let inside = ip.wrapping_sub(u64::from(!is_exact));
        let offset = |(name, offset): (&str, u64)| format!("{name}+{:#x}", offset + ip.wrapping_sub(inside));
        let module = self.modules.and_then(|list| {
            let at = list.at(inside)?;
            list.modules.get(at).zip(modules.get(at))
        });
        let function = match module {
            Some((module, of_module)) => {
                let found = self.names(module, of_module).and_then(|names| names.at(&self.view, inside));
                found.map(|(name, at)| offset((&name, at)))
            }
            None => self.symbols.at(inside).map(offset),
        };
        let module = module.map(|(module, _)| module.name().to_owned());
        Frame { address: Some(Address(ip)), function, module, interrupted: is_exact }
    }

    /// A module's symbols, which are read when the first frame asks for them.
    fn names<'m>(&self, module: &Loaded, of_module: &'m OfModule) -> Option<&'m Names> {
        let read = || module.names(&self.view, self.btf?, &self.budget);
        of_module.names.get_or_init(read).as_ref()
    }
}

impl Backtrace {
    pub(crate) fn none(remark: &'static str) -> Self {
        Self { source: BacktraceSource::None, frames: Vec::new(), whole: false, remark: Some(remark) }
    }

    /// The call trace of the log.
    pub(crate) fn of_log(lines: &[String]) -> Self {
        let frame = |line: &String| Frame {
            address: None,
            function: Some(line.clone()),
            module: None,
            interrupted: false,
        };
        let frames = lines.iter().map(frame).collect();
        let remark = Some("the kernel printed it; functions behind a question mark may be no callers");
        Self { source: BacktraceSource::Log, frames, whole: false, remark }
    }

    /// The call trace of the log where this stack ends early and that one leads further, otherwise this stack.
    pub(crate) fn or_of_log(self, lines: &[String]) -> Self {
        let leads = if self.frames.is_empty() { lines.len() } else { log::callers(lines) };
        if self.whole || leads <= self.frames.len() {
            return self;
        }
        let why = "the kernel printed it, and is shown because its tables lead through a part of the stack only; \
                   functions behind a question mark may be no callers";
        let remark = if self.frames.is_empty() { None } else { Some(why) };
        let of_log = Self::of_log(lines);
        Self { remark: remark.or(of_log.remark), ..of_log }
    }
}

fn remark(end: End) -> Option<&'static str> {
    match end {
        End::Whole => None,
        End::Long => Some("there are more frames"),
        End::Unknown => Some("nothing is known of what called this"),
        End::Broken => Some("the rest of the stack cannot be read"),
    }
}

/// The registers of the processor whose note is at this place among those of all.
fn status(notes: &[u8], place: usize) -> Option<Status> {
    let mut of_processors = notes_in(notes).filter(|note| (note.kind, note.name) == PRSTATUS);
    Status::parse(of_processors.nth(place)?.content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unwound(functions: usize, end: End) -> Backtrace {
        let frame = Frame { address: Some(Address(1)), function: None, module: None, interrupted: false };
        let frames = vec![frame; functions];
        Backtrace { source: BacktraceSource::Orc, frames, whole: end == End::Whole, remark: remark(end) }
    }

    /// Three callers, and what is none.
    const TRACE: [&str; 6] =
        ["<TASK>", "dump_stack_lvl+0x44/0x5c", "? x+0x1/0x2", "panic+0x1/0x2", "caller+0x1/0x2", "</TASK>"];

    #[test]
    fn the_logs_trace_is_shown_where_a_stack_ends_before_it_does() {
        let trace = TRACE.map(str::to_owned);
        for end in [End::Broken, End::Unknown] {
            let shown = unwound(2, end).or_of_log(&trace);
            assert_eq!((shown.source, shown.frames.len()), (BacktraceSource::Log, 6));
            assert!(shown.remark.is_some_and(|remark| remark.contains("a part of the stack only")));
            assert_eq!(unwound(3, end).or_of_log(&trace), unwound(3, end));
        }
        let none = Backtrace::none("it left no registers").or_of_log(&trace);
        assert_eq!(none, Backtrace::of_log(&trace));
        for whole in [unwound(2, End::Whole), unwound(2, End::Broken)] {
            let trace = if whole.whole { &trace[..] } else { &[] };
            assert_eq!(whole.clone().or_of_log(trace), whole);
        }
    }
}
