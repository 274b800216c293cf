//! `cargo xtask demo`: shows a person the whole job, from a panic to a dump that other programs read.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Serialize;

use crate::crashes::crash::{Crash, Evidence};
use crate::guests::image::{self, Image, Variant};
use crate::guests::kernels::{Flavour, Kernel};
use crate::guests::tool::Tool;
use crate::machines::console::Echo;
use crate::machines::qemu::Watch;
use crate::machines::scenario::Scenario;
use crate::machines::scenario::unit::Iommu;
use crate::parallel;
use crate::tasks::setup::Setup;
use crate::witnesses::report::Report;
use crate::witnesses::{self, Examination, Findings, Remembered};

/// Lines of the dead kernel's log and backtrace that are shown.
const LINES_SHOWN: usize = 12;

/// Shows the whole job on real kernels, and what independent witnesses say of it
#[derive(Args)]
pub(crate) struct Demo {
    /// Whose IOMMU is taken over
    #[arg(long, value_enum, default_value = "intel")]
    iommu: Iommu,
    /// Also write the results as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What the demonstration is made with.
struct Stage {
    tool: Tool,
    image: Image,
    iommu: Iommu,
}

/// The three crashes of a demonstration.
struct Crashes {
    /// The general kernel, with all its devices, watched down to its memory.
    watched: Examination,
    /// Another kernel, watched alike: the one for which there is debug information or, as that one has no driver for AMD's IOMMUs,
    /// the newest.
    other: Examination,
    /// The general kernel again, watched by nobody: the times are those of this one.
    timed: Report,
}

/// The results, under the names that the project's figures have.
#[derive(Serialize)]
struct Results {
    qemu: String,
    kernel: String,
    contexts_accepted: u64,
    tables_duplicated: u64,
    leaf_mappings: u64,
    domains_reserved: u64,
    faults_after_panic: u64,
    legacy_devices_active_after_swap: usize,
    legacy_translations_changed: u64,
    pages_in_dump: u64,
    pages_compared: u64,
    pages_different: u64,
    old_memory_pages_changed_unexplained: u64,
    dump_bytes: u64,
    /// `None` where there is no debug information of the kernel.
    crash_reads: Option<bool>,
    drgn_tasks: Option<u64>,
    panic_to_first_line_s: f64,
    panic_to_takeover_done_s: f64,
    panic_to_sealed_s: f64,
    reserved_mib: u64,
    image_bytes: u64,
    /// All that the witnesses found in the crash of the general kernel.
    general_kernel: Findings,
    /// All that they found in the crash of the other kernel.
    #[serde(rename = "cloud_kernel")]
    other_kernel: Findings,
    /// Everything that is wrong.
    problems: Vec<String>,
}

impl Demo {
    /// Shows it; fails if any witness objects.
    pub(crate) fn run(&self) -> Result<()> {
        Setup::default().run()?;
        println!("building the capture kernel and the host's tool");
        let iommu = self.iommu;
        let stage = Stage { tool: Tool::build()?, image: image::build(Variant::Release)?, iommu };
        let results = stage.results(&stage.crash_all()?)?;
        print!("{}", story(&results));
        if let Some(file) = &self.json {
            write_json(&results, file)?;
        }
        if !results.problems.is_empty() {
            bail!("the witnesses object:\n{}", results.problems.join("\n"));
        }
        Ok(())
    }
}

impl Stage {
    /// The two crashes that are watched run side by side, the one that is timed runs alone.
    fn crash_all(&self) -> Result<Crashes> {
        println!("crashing two kernels under the eyes of the witnesses");
        let [general, other] = self.kernels();
        let examine = |kernel: Flavour| self.examine(kernel, &format!("demo-{}", kernel.name()));
        let (watched, other) = parallel::both(|| examine(general), || examine(other));
        println!("crashing the general kernel once more, unwatched, for the times");
        let timed = self.crash(general, Watch::Console, "demo-timed")?;
        Ok(Crashes { watched: watched?, other: other?, timed: Report::of(&timed.lines)? })
    }

    /// The general kernel, and the other one.
    fn kernels(&self) -> [Flavour; 2] {
        match self.iommu {
            Iommu::Intel => [Flavour::Amd64, Flavour::Cloud],
            Iommu::Amd => [Flavour::Amd64Backports, Flavour::Amd64Testing],
        }
    }

    fn scenario(&self, kernel: Flavour) -> Scenario {
        match self.iommu {
            Iommu::Intel => Scenario::plain(kernel),
            Iommu::Amd => Scenario::amd(kernel),
        }
    }

    fn examine(&self, kernel: Flavour, name: &str) -> Result<Examination> {
        witnesses::examine(&self.crash(kernel, Watch::Memory, name)?, &self.tool)
    }

    fn crash(&self, kernel: Flavour, watch: Watch, name: &str) -> Result<Evidence> {
        let scenario = self.scenario(kernel);
        let crash = Crash {
            scenario: &scenario,
            image: &self.image.path,
            tool: &self.tool,
            watch,
            echo: Echo::Hidden,
            used: None,
        };
        crash.run(name)
    }

    fn results(&self, crashes: &Crashes) -> Result<Results> {
        let Examination { report, findings, .. } = &crashes.watched;
        let Findings { traced, remembered, .. } = findings;
        let readings = &crashes.other.findings.readings;
        let count = |key| report.count(key).with_context(|| format!("Holdover's summary has no {key}"));
        let timed = &crashes.timed;
        let seconds = |moment| timed.seconds_to(moment).context("the unwatched run did not come to its end");
        let problems = crashes.watched.problems.iter().chain(&crashes.other.problems);
        let [general, _] = self.kernels();
        let scenario = self.scenario(general);
        Ok(Results {
            qemu: scenario.emulator.version()?,
            kernel: Kernel::load(general)?.release,
            contexts_accepted: count("contexts_accepted")?,
            tables_duplicated: count("tables_duplicated")?,
            leaf_mappings: count("leaf_mappings")?,
            domains_reserved: count("domains_reserved")?,
            faults_after_panic: traced.faults,
            legacy_devices_active_after_swap: traced.active_after_swap.len(),
            legacy_translations_changed: traced.translations_changed,
            pages_in_dump: remembered.pages_in_dump,
            pages_compared: remembered.pages_compared,
            pages_different: remembered.pages_different,
            old_memory_pages_changed_unexplained: remembered.old_memory_pages_changed_unexplained,
            dump_bytes: report.sealed.map(|sealed| sealed.bytes).context("no dump was sealed")?,
            crash_reads: readings.crash_reads,
            drgn_tasks: readings.drgn_tasks,
            panic_to_first_line_s: seconds(timed.first_line)?,
            panic_to_takeover_done_s: seconds(timed.takeover_done)?,
            panic_to_sealed_s: seconds(timed.sealed.map(|sealed| sealed.at))?,
            reserved_mib: scenario.reserved_mib,
            image_bytes: self.image.bytes,
            general_kernel: findings.clone(),
            other_kernel: crashes.other.findings.clone(),
            problems: problems.map(ToString::to_string).collect(),
        })
    }
}

fn write_json(results: &Results, file: &Path) -> Result<()> {
    let text = serde_json::to_string_pretty(results)? + "\n";
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// The results as a person wants to read them.
fn story(results: &Results) -> String {
    [times(results), witnesses(results), last_words(results)].concat()
}

fn times(results: &Results) -> String {
    let Results { qemu, kernel, reserved_mib, image_bytes, .. } = results;
    let (contexts, tables) = (results.contexts_accepted, results.tables_duplicated);
    let (mappings, domains) = (results.leaf_mappings, results.domains_reserved);
    let (first, taken) = (results.panic_to_first_line_s, results.panic_to_takeover_done_s);
    let (sealed, pages) = (results.panic_to_sealed_s, results.pages_in_dump);
    let kilobytes = results.dump_bytes / 1000;
    let image = image_bytes >> 10;
    format!(
        "
Linux {kernel} panics with its IOMMU on, and Holdover ({image} KiB, in {reserved_mib} MiB) takes the dump
({qemu}, software emulation)

  seconds
     0.00  Kernel panic
    {first:5.2}  Holdover's first line
    {taken:5.2}  remapping unit taken over, translation never off:
           {contexts} devices' contexts accepted, {tables} tables with {mappings} mappings duplicated, {domains} domain-ids reserved
    {sealed:5.2}  dump sealed: {pages} pages in {kilobytes} kB; then reset

"
    )
}

fn witnesses(results: &Results) -> String {
    let Findings { traced, remembered, readings, .. } = &results.general_kernel;
    let active: Vec<_> =
        traced.active_after_swap.iter().map(|(device, count)| format!("{device} {count}")).collect();
    let Remembered { pages_in_dump, pages_compared, pages_different, .. } = remembered;
    let (busy, written) = (remembered.pages_different_explained, remembered.old_memory_pages_changed);
    let trespasses = remembered.old_memory_pages_changed_unexplained;
    let unread = || "not asked: this kernel's debug information is not downloaded".to_owned();
    let crash = results.crash_reads.map_or_else(unread, |reads| {
        if reads { "shows backtrace, log and system" } else { "does not read the dump" }.to_owned()
    });
    let drgn = results.drgn_tasks.map_or_else(unread, |tasks| format!("{tasks} tasks, each with its stack"));
    let (missing, more) = (readings.pages_only_in_reference, readings.pages_only_in_dump);
    format!(
        "  What the witnesses say
    QEMU's trace   {} DMA faults after the panic, {} translations changed
                   requests answered after the swap: {}
    guest memory   {pages_compared} of {pages_in_dump} pages of the dump compared: {pages_different} different,
                   beside {busy} into which devices were still writing
                   {written} pages of old memory changed: {trespasses} that no device may write
    makedumpfile   chooses {} pages that are not in the dump, leaves out {} that are
    crash          {crash}
    drgn           {drgn}

",
        traced.faults,
        traced.translations_changed,
        active.join(", "),
        missing.unwrap_or_default(),
        more.unwrap_or_default(),
    )
}

fn last_words(results: &Results) -> String {
    let mut text = "  The dead kernel's last words, read back from the dump\n".to_owned();
    add_lines(&mut text, &results.general_kernel.readings.log);
    if !results.other_kernel.readings.backtrace.is_empty() {
        text += "\n  A backtrace in `crash` (the cloud kernel's, which comes with debug information)\n";
        add_lines(&mut text, &results.other_kernel.readings.backtrace);
    }
    text
}

fn add_lines(text: &mut String, lines: &[String]) {
    for line in lines.iter().take(LINES_SHOWN) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "    {line}");
    }
}
