//! `cargo xtask test`: checks everything that must hold, from formatting to the crashes of the matrix.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use clap::Args;

use crate::cargo::cargo;
use crate::crashes::matrix;
use crate::crashes::row::{Built, Row};
use crate::debian::rows::{self as debian, Among, Stage};
use crate::guests::image;
use crate::guests::tool::Tool;
use crate::machines::emulator::Emulator;
use crate::machines::files;
use crate::sources::{freestanding, packages, walls};
use crate::tasks::fuzz;
use crate::tasks::setup::Setup;
use crate::witnesses::store;
use crate::{parallel, process};

/// Rows that `--quick` runs: each kernel, each way of loading, each depth of paging, one mistake, one bad input.
const QUICK: [&str; 4] = ["amd64-s-4level", "cloud-c-5level", "mutation-skip-table", "translation-off"];

/// The row that makes areas in files: it takes the programs of the file systems.
const FILE_AREAS: &str = "file-areas";

/// The row that delivers dumps to an object store and to a host behind SSH: it takes these servers.
const DELIVERIES: &str = "s3-and-ssh-deliveries";

/// The rows that check the sources by cargo: arguments for it.
const SOURCES: [(&str, &[&str]); 6] = [
    ("format", &["fmt", "--all", "--check"]),
    ("lints", &["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]),
    ("unit-tests", &["test", "--workspace", "--no-fail-fast"]),
    ("allocations", &["test", "--package", "capture", "--test", "allocations"]),
    // They take root, as the rows do that mount the dump's disk; they share the note of where files are.
    (
        FILE_AREAS,
        &["test", "--package", "holdover", "--test", "file_areas", "--", "--ignored", "--test-threads=1"],
    ),
    (
        DELIVERIES,
        &[
            "test",
            "--package",
            "holdover",
            "--package",
            "delivery",
            "--test",
            "deliveries",
            "--test",
            "ssh",
            "--",
            "--ignored",
        ],
    ),
];

type Check = fn() -> Result<Vec<String>>;

/// The rows that compare the sources with claims about them; each returns the problems.
const CLAIMS: [(&str, Check); 3] =
    [("walls", walls::problems), ("packages", packages::problems), ("freestanding", freestanding::problems)];

/// How long each fuzz target runs.
const FUZZ_SECONDS: u32 = 6;

/// Checks the sources, then crashes Linux in many ways and asks all witnesses
#[derive(Args)]
pub(crate) struct Test {
    /// Only what has one of these in its name
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    only: Vec<String>,
    /// Only the most telling rows
    #[arg(long)]
    quick: bool,
    /// Also rows that combine what others show apart from each other
    #[arg(long, conflicts_with = "quick")]
    all: bool,
    /// Guests at a time; two keep two processors busy
    #[arg(long, value_name = "N", default_value_t = 2)]
    guests: usize,
    /// Keeps disk, dump and trace also of rows that pass, 100 MB each
    #[arg(long)]
    keep: bool,
}

/// How many passed and failed so far.
#[derive(Default)]
struct Tally {
    passed: AtomicUsize,
    failed: AtomicUsize,
    /// One report at a time.
    printing: Mutex<()>,
}

impl Test {
    /// Runs everything that was asked for; fails if anything failed.
    pub(crate) fn run(&self) -> Result<()> {
        let targets = fuzz::names()?;
        self.check_parts(&targets)?;
        if self.needs_setup(&targets) {
            set_up()?;
        }
        let tally = Tally::default();
        self.check_sources(&tally);
        self.fuzz(&targets, &tally);
        self.crash(&tally);
        self.administer(&tally);
        let (passed, failed) = (tally.passed.into_inner(), tally.failed.into_inner());
        println!("{passed} passed, {failed} failed");
        if failed > 0 || passed == 0 {
            bail!("not everything holds");
        }
        Ok(())
    }

    /// Whether a requested row needs more than Rust: guests, the compiler of the fuzzer, or file systems.
    fn needs_setup(&self, targets: &[String]) -> bool {
        self.asks_for(FILE_AREAS)
            || self.asks_for(DELIVERIES)
            || self.fuzzes(targets)
            || matrix::rows().iter().any(|row| self.includes(row))
            || debian::ROWS.iter().any(|row| self.includes_debian(row))
    }

    /// Checks that each requested part occurs in a name; otherwise it would be ignored silently.
    fn check_parts(&self, targets: &[String]) -> Result<()> {
        let sources = SOURCES.map(|(name, _)| name).into_iter().chain(CLAIMS.map(|(name, _)| name));
        let sources = sources.map(str::to_owned);
        let rows = matrix::rows().into_iter().map(|row| row.name);
        let rows = rows.chain(debian::ROWS.iter().map(|row| row.name.to_owned()));
        let names: Vec<_> =
            sources.chain(targets.iter().map(|target| fuzz_name(target))).chain(rows).collect();
        for part in &self.only {
            let known = names.iter().any(|name| name.contains(part.as_str()));
            ensure!(known, "{part} is in no name; there are {}", names.join(", "));
        }
        Ok(())
    }

    fn check_sources(&self, tally: &Tally) {
        for (name, arguments) in SOURCES.into_iter().filter(|(name, _)| self.asks_for(name)) {
            let mut check = cargo(arguments);
            check.env("HOLDOVER_PYTHON", store::python());
            tally.take(name, || process::run(&mut check).map(|()| Vec::new()));
        }
        for (name, problems) in CLAIMS.into_iter().filter(|(name, _)| self.asks_for(name)) {
            tally.take(name, problems);
        }
    }

    /// Fuzzes all code that reads untrusted input.
    fn fuzz(&self, names: &[String], tally: &Tally) {
        if !self.fuzzes(names) {
            return;
        }
        let mut targets = Vec::new();
        tally.take("fuzz-build", || {
            targets = fuzz::build()?;
            Ok(Vec::new())
        });
        targets.retain(|target| self.asks_for(&fuzz_name(&target.name)));
        parallel::for_each(&targets, fuzz::CAMPAIGNS, |target| {
            tally.take(&fuzz_name(&target.name), || target.campaign(FUZZ_SECONDS).map(|_| Vec::new()));
        });
    }

    fn crash(&self, tally: &Tally) {
        let rows: Vec<_> = matrix::rows().into_iter().filter(|row| self.includes(row)).collect();
        if rows.is_empty() {
            return;
        }
        let mut built = None;
        tally.take("build", || {
            built = Some(build(&rows)?);
            Ok(Vec::new())
        });
        if let Some(built) = built {
            parallel::for_each(&rows, self.guests, |row| {
                let crash = || Ok(row.problems(&built)?.iter().map(ToString::to_string).collect());
                tally.take(&row.name, || self.tidied(&row.name, crash));
            });
        }
    }

    /// Installs the package, and uses it as an administrator does.
    fn administer(&self, tally: &Tally) {
        let rows: Vec<_> = debian::ROWS.iter().filter(|row| self.includes_debian(row)).collect();
        if rows.is_empty() {
            return;
        }
        let mut stage = None;
        tally.take("build-package", || {
            stage = Some(Stage::build()?);
            Ok(Vec::new())
        });
        if let Some(stage) = stage {
            parallel::for_each(&rows, self.guests, |row| {
                tally.take(row.name, || self.tidied(row.name, || row.problems(&stage)));
            });
        }
    }

    /// Runs a row, and leaves its large files only if there are problems to look for in them: those of all rows fill a disk.
    fn tidied(&self, name: &str, run: impl FnOnce() -> Result<Vec<String>>) -> Result<Vec<String>> {
        let problems = run()?;
        if problems.is_empty() && !self.keep {
            files::remove_large(name)?;
        }
        Ok(problems)
    }

    fn fuzzes(&self, targets: &[String]) -> bool {
        !self.quick && targets.iter().any(|target| self.asks_for(&fuzz_name(target)))
    }

    fn includes(&self, row: &Row) -> bool {
        let left_out = row.only_among_all && !self.all && self.only.is_empty();
        let quick_enough = !self.quick || QUICK.contains(&row.name.as_str());
        self.asks_for(&row.name) && quick_enough && !left_out
    }

    fn includes_debian(&self, row: &debian::Row) -> bool {
        let left_out = row.among == Among::All && !self.all && self.only.is_empty();
        self.asks_for(row.name) && !self.quick && !left_out
    }

    fn asks_for(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| name.contains(part.as_str()))
    }
}

impl Tally {
    /// Does some work, prints its result, and counts it. The work returns the problems.
    fn take(&self, name: &str, work: impl FnOnce() -> Result<Vec<String>>) {
        let start = Instant::now();
        let problems = work().unwrap_or_else(|error| vec![format!("{error:#}")]);
        let count = if problems.is_empty() { &self.passed } else { &self.failed };
        count.fetch_add(1, Ordering::Relaxed);
        self.report(name, start.elapsed(), &problems);
    }

    fn report(&self, name: &str, took: Duration, problems: &[String]) {
        // A thread that panicked while printing has left at worst a torn line.
        let _one_at_a_time = self.printing.lock();
        let mark = if problems.is_empty() { "ok  " } else { "FAIL" };
        println!("{mark}  {name:24} {:6.1} s", took.as_secs_f64());
        for problem in problems {
            println!("      {problem}");
        }
    }
}

/// Makes the machine ready, and names what guests run on.
fn set_up() -> Result<()> {
    Setup::default().run()?;
    for emulator in Emulator::ALL {
        println!("{}", emulator.version()?);
    }
    Ok(())
}

fn fuzz_name(target: &str) -> String {
    format!("fuzz-{target}")
}

/// Builds what the crashes need; the size of the image is checked there.
fn build(rows: &[Row]) -> Result<Built> {
    let variants: BTreeSet<_> = rows.iter().map(Row::image).collect();
    let images = variants.into_iter().map(|variant| Ok((variant, image::build(variant)?)));
    Ok(Built { tool: Tool::build()?, images: images.collect::<Result<_>>()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked_for(parts: &[&str]) -> Test {
        Test {
            only: parts.iter().map(|&part| part.to_owned()).collect(),
            quick: false,
            all: false,
            guests: 1,
            keep: false,
        }
    }

    #[test]
    fn a_part_that_is_in_no_name_is_told_of() {
        let check = |parts: &[&str]| asked_for(parts).check_parts(&["kdump".to_owned()]);
        assert!(check(&[]).is_ok());
        assert!(check(&["lints", "fuzz-kdump", "amd64"]).is_ok());
        assert!(check(&["lints", "fuzz-tea"]).unwrap_err().to_string().starts_with("fuzz-tea is in no name"));
    }

    #[test]
    fn checks_of_sources_need_no_setup() {
        let needs_setup = |parts: &[&str]| asked_for(parts).needs_setup(&["kdump".to_owned()]);
        let with_programs = [FILE_AREAS, DELIVERIES];
        let of_rust = SOURCES.map(|(name, _)| name).into_iter().filter(|name| !with_programs.contains(name));
        for sources in of_rust.chain(CLAIMS.map(|(name, _)| name)) {
            assert!(!needs_setup(&[sources]), "{sources}");
            assert!(needs_setup(&[sources, "fuzz-kdump"]));
            assert!(needs_setup(&[sources, "power-cut"]));
        }
        assert!(needs_setup(&[FILE_AREAS]) && needs_setup(&[DELIVERIES]));
        assert!(needs_setup(&[]));
    }
}
