//! The witnesses: they examine a crash by means that this project did not write: QEMU's trace, the guest's memory,
//! and other people's readers.

mod copies;
mod elf_core;
mod estimate;
mod inspected;
mod log;
mod memory;
pub(crate) mod mounted;
pub(crate) mod picture;
mod power_cuts;
pub(crate) mod reader;
pub(crate) mod readers;
pub(crate) mod report;
pub(crate) mod store;
mod summary;
pub(crate) mod tables;
pub(crate) mod trace;
mod writable;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fmt, fs};

use anyhow::{Context, Result, ensure};
use handoff::Completeness;
use machine::{PAGE_SIZE, Range};
use serde::Serialize;

use crate::crashes::crash::{Evidence, PANIC};
use crate::guests::archive::Suite;
use crate::guests::kernels::Kernel;
use crate::guests::stock;
use crate::guests::target;
use crate::guests::tool::Tool;
use crate::machines::area;
use crate::machines::files::Files;
use crate::machines::ram::Ram;
use crate::machines::reserved::Reserved;
use crate::machines::scenario::device::Device;
use crate::process;
use crate::witnesses::report::Report;
use copies::{Copied, Copies};
pub(crate) use estimate::compare_estimate;
use inspected::Inspected;
pub(crate) use log::compare_with_console;
pub(crate) use memory::{Remembered, codec_of, kept_frames};
pub(crate) use power_cuts::cut_power;
pub(crate) use reader::Readers;
pub(crate) use readers::Readings;
pub(crate) use summary::{compare_summary, open_summary};
use tables::{Layout, Root, Tables};
use trace::Trace;
pub(crate) use trace::Traced;
use writable::{EventLog, Writable};

/// The witness that found a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Witness {
    /// What Holdover itself said.
    Console,
    /// QEMU's trace.
    Trace,
    /// The tables that Holdover left in the guest's memory.
    Tables,
    /// The dead kernel's tables, against what `holdover inspect` says of the dump.
    Inspection,
    /// The guest's memory.
    Memory,
    /// `makedumpfile`, `crash` and drgn.
    Readers,
}

/// A problem, and the witness that found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Who.
    pub(crate) witness: Witness,
    /// What.
    pub(crate) what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} witness: {}", self.witness, self.what)
    }
}

/// Everything that the witnesses found in a crash that was watched down to its memory.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Findings {
    /// What QEMU's trace shows.
    pub(crate) traced: Traced,
    /// What the tables in memory show.
    pub(crate) copied: Copied,
    /// What `holdover inspect` shows; `None` where there may be no end to the dead kernel's tables.
    pub(crate) inspected: Option<Inspected>,
    /// What memory shows.
    pub(crate) remembered: Remembered,
    /// What the readers show.
    pub(crate) readings: Readings,
}

impl Findings {
    /// Everything that is wrong.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let traced = self.traced.problems.iter().map(problem(Witness::Trace));
        let remembered = self.remembered.problems.iter().map(problem(Witness::Memory));
        let copied = self.copied.problems.iter().map(problem(Witness::Tables));
        let inspected = self.inspected.iter().flat_map(|inspected| &inspected.problems);
        traced
            .chain(copied)
            .chain(inspected.map(problem(Witness::Inspection)))
            .chain(remembered)
            .chain(self.readings.problems.iter().map(problem(Witness::Readers)))
            .collect()
    }
}

/// A crash in which Holdover should have taken over the remapping unit, and the findings of all witnesses.
pub(crate) struct Examination {
    /// What Holdover said.
    pub(crate) report: Report,
    /// What the witnesses said.
    pub(crate) findings: Findings,
    /// Everything that is wrong.
    pub(crate) problems: Vec<Problem>,
}

/// Collects the dump and asks all witnesses; keeps their findings beside the other files of the run.
pub(crate) fn examine(evidence: &Evidence, tool: &Tool) -> Result<Examination> {
    let report = Report::of(&evidence.lines)?;
    let unsealed = check_seal(&report, Completeness::Complete);
    tool.collect(&evidence.files.disk(), &evidence.files.dump())?;
    let findings = ask_all(evidence, &report, tool)?;
    fs::write(evidence.files.findings(), serde_json::to_string_pretty(&findings)?)?;
    let problems = unsealed.into_iter().chain(findings.problems()).collect();
    Ok(Examination { report, findings, problems })
}

fn ask_all(evidence: &Evidence, report: &Report, tool: &Tool) -> Result<Findings> {
    let Evidence { files, reserved, disk, stop, persistent, .. } = evidence;
    let wound = stop.as_ref().and_then(|stop| stop.wound.as_ref());
    // A machine that was not stopped at Holdover's start has only one state of memory to show.
    let before = if stop.is_some() { files.snapshot() } else { files.ram() };
    // Devices must find what they found before the bench has damaged anything.
    let sound = Ram::open(&before)?.overlaid(wound.map_or(&[], |wound| &wound.words));
    let (before, after) = (Ram::open(&before)?, Ram::open(&files.ram())?);
    let trace = Trace::read(&files.trace(), report.panic)?;
    let roots = roots(&trace, reserved)?;
    let [dead, new] = [Tables::new(&sound, roots[0]), Tables::new(&after, roots[1])];
    let damaged = Tables::new(&before, roots[0]);
    // Requests of the victim fault already while the dead kernel's log is in use.
    let log = wound.zip(trace.dead_log());
    let log = log.map(|(wound, memory)| EventLog { memory, source: wound.source });
    let is_in_place = new.are_in_place_of(&dead);
    let in_place = dead.device_table_pages().filter(|_| is_in_place);
    let writable = Writable::of(&dead, &trace.used_by(&dead.untranslated()));
    let writable = writable.and_pages(in_place).and_events(log);
    let states = memory::States { before: &before, after: &after, reserved, writable: &writable };
    let remembered = states.check(&files.dump())?;
    let readings = read_all(evidence, tool, [&before, &after], &writable)?;
    let entered = stop.as_ref().map(|stop| stop.entered).or(report.first_line);
    let entered = entered.context("Holdover did not start")?;
    let traced = trace::Reference { dead, damaged, new, reserved, disk, entered, wound }.check(&trace)?;
    let copied = Copies { dead, new, reserved, disk, persistent, wound }.check();
    // A device table in place is in the dump as Holdover left it, and names tables that are not there.
    let expected = Some(inspected::Expected { dead, roots, report, wound }).filter(|_| !is_in_place);
    let inspected = expected.and_then(|expected| expected.check(tool, &files.dump()));
    Ok(Findings { traced, copied, inspected, remembered, readings })
}

/// The root tables before and after. The base of a device table must not move across 4 GiB: where all of Holdover's memory is on the
/// other side, the table of before stays in force.
fn roots(trace: &Trace, reserved: &Reserved) -> Result<[Root; 2]> {
    let dead = trace.dead_root()?;
    let is_beyond = |piece: &Range<u64>| piece.start >> 32 != dead.address >> 32;
    let must_stay = matches!(dead.layout, Layout::Devices { .. }) && reserved.pieces().iter().all(is_beyond);
    let new = trace.new_root();
    ensure!(!must_stay || new.is_none(), "the device table's base moved across 4 GiB");
    let new = new.or(Some(dead).filter(|_| must_stay));
    Ok([dead, new.context("the root pointer was never swapped")?])
}

/// Asks the readers, and makedumpfile on the memory of which the dump was made.
fn read_all(
    evidence: &Evidence,
    tool: &Tool,
    [before, after]: [&Ram; 2],
    writable: &Writable,
) -> Result<Readings> {
    let Evidence { files, reserved, .. } = evidence;
    let mut readings = read(evidence)?;
    readings.problems.extend(log::compare_with_reader(evidence, tool)?);
    let core = files.scratch("core");
    let programs = &programs(evidence)?;
    let cut = elf_core::write(before, reserved, &core)?;
    let lost = |frame: u64| programs.lose_cut_pages() && cut.contains(&frame);
    let may_differ = |frame: u64| writable.may_change(frame * PAGE_SIZE) || lost(frame);
    readers::compare_selection(programs, files, &core, may_differ, &mut readings)?;
    with_readers(evidence, |dump| {
        let safe = readers::Sample::of(dump, before, may_differ)?;
        // If devices may write all of memory, no page is unchangeable, but most pages have not changed.
        let changed = |frame: u64| before.page(frame * PAGE_SIZE).ok() != after.page(frame * PAGE_SIZE).ok();
        let sample = if safe.is_empty() { readers::Sample::of(dump, before, changed)? } else { safe };
        sample.read_with_kdumpfile(&mut readings);
        Ok(())
    })?;
    // It is in newer kernels that page types have changed.
    if evidence.kernel.suite() != Suite::Installed {
        readers::compare_levels(programs, tool, files, &core, &mut readings)?;
    }
    Ok(readings)
}

/// Asks only the reader that shows the dead kernel's log, which every dump must have.
pub(crate) fn read_log(programs: &Readers, files: &Files) -> Readings {
    let mut readings = Readings::default();
    readers::Dump { path: &files.dump(), programs, kernel: None, files }.read_log(&mut readings);
    readings
}

/// Asks the readers only: there is a dump, but nothing was taken over.
pub(crate) fn read(evidence: &Evidence) -> Result<Readings> {
    let mut readings = Readings::default();
    with_readers(evidence, |dump| {
        dump.read(&mut readings);
        Ok(readings)
    })
}

/// Asks the readers on the dump where it lies in its area, through a loop device that nobody can write to.
pub(crate) fn read_in_place(evidence: &Evidence) -> Result<Readings> {
    let mut readings = Readings::default();
    let place = InPlace::new(&evidence.files.disk())?;
    with_readers(evidence, |dump| {
        readers::Dump { path: &place.device, ..dump }.read(&mut readings);
        Ok(readings)
    })
}

/// The dump in an area as a device of its own.
struct InPlace {
    device: PathBuf,
}

impl InPlace {
    fn new(disk: &Path) -> Result<Self> {
        let mut losetup = Command::new("losetup");
        losetup.args(["--find", "--show", "--read-only", "--offset", &area::DUMP.to_string()]);
        let device =
            process::stdout(losetup.arg(disk)).context("cannot make a loop device (that takes root)")?;
        Ok(Self { device: device.trim().into() })
    }
}

impl Drop for InPlace {
    fn drop(&mut self) {
        // A loop device that stays is a nuisance and no failure.
        let _ = Command::new("losetup").arg("--detach").arg(&self.device).status();
    }
}

/// Writes the memory of which the dump was made as an ELF core.
pub(crate) fn write_core(Evidence { files, reserved, .. }: &Evidence, core: &Path) -> Result<()> {
    elf_core::write(&Ram::open(&files.snapshot())?, reserved, core).map(|_| ())
}

/// Asks the readers on dumps that `holdover makedump` makes of the memory of which the dump was made.
pub(crate) fn read_made(evidence: &Evidence, tool: &Tool) -> Result<Readings> {
    let files = &evidence.files;
    let (before, core) = (Ram::open(&files.snapshot())?, files.scratch("core"));
    write_core(evidence, &core)?;
    let mut readings = Readings::default();
    with_readers(evidence, |dump| {
        let core = readers::Dump { path: &core, ..dump };
        readers::read_made(core, tool, &before, &mut readings)?;
        Ok(readings)
    })
}

/// Compares `holdover makedump` and makedumpfile at every level, on the memory of which the dump was made.
pub(crate) fn compare_every_level(evidence: &Evidence, tool: &Tool) -> Result<Readings> {
    let (files, core) = (&evidence.files, evidence.files.scratch("core"));
    write_core(evidence, &core)?;
    let mut readings = Readings::default();
    readers::compare_every_level(&programs(evidence)?, tool, files, &core, &mut readings)?;
    Ok(readings)
}

/// Asks the readers on the dumps that a stock crash kernel has made of its `/proc/vmcore`.
pub(crate) fn read_stock(evidence: &Evidence) -> Result<Readings> {
    let files = &evidence.files;
    let (before, after) = (Ram::open(&files.snapshot())?, Ram::open(&files.ram())?);
    let mut readings = Readings::default();
    with_readers(evidence, |dump| {
        readers::read_stock(dump, evidence.target, [&before, &after], &mut readings)?;
        Ok(readings)
    })
}

/// Asks QEMU's trace about the hand-over to another Linux; keeps what it shows beside the other files of the run.
pub(crate) fn check_hand_over(evidence: &Evidence) -> Result<Readings> {
    let Evidence { files, lines, reserved, second_tables, .. } = evidence;
    let at = |words: &str| {
        let line = lines.iter().find(|line| line.text.contains(words));
        line.map(|line| line.at).with_context(|| format!("the console does not show `{words}`"))
    };
    let times = trace::Times { init: Some(at(stock::INIT)?), complete: Some(at(stock::COMPLETE)?) };
    let trace = Trace::read(&files.trace(), at(PANIC)?)?;
    let seen = trace::HandedOver::of(&trace, times)?;
    fs::write(files.findings(), serde_json::to_string_pretty(&seen)?)?;
    let kept = lines.iter().find_map(|line| kept_from_second(&line.text));
    let is_little = kept.is_some_and(|kib| kib < MOST_KEPT_KIB);
    let too_much =
        (!is_little).then(|| format!("of the reservation {kept:?} KiB are kept from the second Linux"));
    // What sends the dump is the card that goes on receiving until its driver starts it anew.
    let at_work = evidence.target.is_remote().then_some(Device::NETWORK);
    let problems = seen.problems(&trace, reserved, *second_tables, at_work).into_iter();
    let problems = problems.chain(too_much).collect();
    Ok(Readings { problems, ..Readings::default() })
}

/// Holdover's own memory on the small machines of the bench (16 MiB), all of which is kept after a failure of its own.
const MOST_KEPT_KIB: u64 = (16 << 10) + 1;

/// What Holdover keeps of the reservation, in KiB, in its last line.
fn kept_from_second(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once("handing over to the fallback kernel at ")?;
    rest.split_once(" KiB are kept")?.0.rsplit(' ').next()?.parse().ok()
}

/// Complains if a dump of a Linux to which the machine was handed over lacks the record of the takeover, whichever program made it.
pub(crate) fn check_handed_record(evidence: &Evidence, tool: &Tool) -> Result<Readings> {
    let mut readings = Readings::default();
    for dump in [evidence.files.dump(), target::reference(&evidence.files)] {
        let name = dump.display();
        let has_takeover = inspected::has_takeover(tool, &dump)
            .with_context(|| format!("{name} has no record of the takeover"))?;
        if !has_takeover {
            readings.problems.push(format!("the record in {name} has no takeover"));
        }
    }
    Ok(readings)
}

/// The programs that know the kernel and the dump's codec.
fn programs(evidence: &Evidence) -> Result<Readers> {
    Readers::of(evidence.kernel, evidence.codec)
}

/// Passes the dump on with all that it is read with.
fn with_readers<T>(evidence: &Evidence, read: impl FnOnce(readers::Dump) -> Result<T>) -> Result<T> {
    let programs = &programs(evidence)?;
    let kernel = Kernel::load(evidence.kernel)?.debug;
    let files = &evidence.files;
    read(readers::Dump { path: &files.dump(), programs, kernel: kernel.as_deref(), files })
}

/// Checks that Holdover itself says that it has come to the end that was expected: an early exit is no pass.
pub(crate) fn check_seal(report: &Report, wanted: Completeness) -> Option<Problem> {
    let sealed = report.sealed.map(|sealed| sealed.completeness);
    let what = match sealed {
        Some(sealed) if sealed == wanted => return None,
        Some(sealed) => format!("the dump was sealed as {sealed:?}, not as {wanted:?}"),
        None => "no dump was sealed".to_owned(),
    };
    Some(Problem { witness: Witness::Console, what })
}

fn problem(witness: Witness) -> impl Fn(&String) -> Problem {
    move |what| Problem { witness, what: what.clone() }
}
