//! `cargo xtask fuzz`: runs coverage-guided fuzzing, for a bounded time, on all code that reads untrusted input.
//!
//! The targets are those of `fuzz/`, laid out so that `cargo fuzz` knows them too. This task builds them with the
//! stable toolchain: LLVM's coverage instrumentation needs no other, and none of the code that they reach is unsafe,
//! so an address sanitizer would find nothing more.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::cargo::{TARGET, cargo, target_folder};
use crate::{parallel, paths, process};

/// Campaigns at a time: the machines that run this have two processors at least.
pub(crate) const CAMPAIGNS: usize = 2;

/// LLVM's coverage instrumentation as libFuzzer wants it, and every check that debug builds have.
const FLAGS: [&str; 10] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions=yes",
    "-Coverflow-checks=yes",
    "-Ccodegen-units=1",
    "-Cforce-frame-pointers=yes",
];

/// No input may take longer, in seconds, or more memory, in MiB.
const SLOWEST: u32 = 10;
const LARGEST: u32 = 1024;

/// How long a campaign may take to start and to end, beside the time that it was given.
const GRACE: Duration = Duration::from_secs(60);

/// Fuzzes the parsers and walkers, each for a bounded time
#[derive(Args)]
pub(crate) struct Fuzz {
    /// Only this target
    target: Option<String>,
    /// How long each target runs
    #[arg(long, default_value_t = 60, value_name = "N")]
    seconds: u32,
}

impl Fuzz {
    /// Runs the campaigns, and fails if one of them found something.
    pub(crate) fn run(&self) -> Result<()> {
        let mut targets = build()?;
        if let Some(wanted) = &self.target {
            let known = targets.iter().map(|target| &*target.name).collect::<Vec<_>>().join(", ");
            targets.retain(|target| target.name == *wanted);
            ensure!(!targets.is_empty(), "no target is called {wanted}; there are {known}");
        }
        let found = AtomicUsize::new(0);
        parallel::for_each(&targets, CAMPAIGNS, |target| match target.campaign(self.seconds) {
            Ok(executions) => println!("ok    {:16} {executions:>12} inputs", target.name),
            Err(error) => {
                found.fetch_add(1, Ordering::Relaxed);
                println!("FAIL  {:16} {error:#}", target.name);
            }
        });
        let found = found.into_inner();
        ensure!(found == 0, "{found} of {} campaigns found something", targets.len());
        Ok(())
    }
}

/// A fuzz target that was built.
pub(crate) struct Target {
    /// Its name: that of its source, and of its folders.
    pub(crate) name: String,
    program: PathBuf,
}

/// Builds all targets, in a target folder of their own because of the flags. Fails if seeds are not as they would be written today.
pub(crate) fn build() -> Result<Vec<Target>> {
    let folder = target_folder().join("fuzz");
    let mut command = cargo(&["build", "--quiet", "--release", "--bins", "--examples", "--target", TARGET]);
    command
        .arg("--target-dir")
        .arg(&folder)
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"))
        .current_dir(fuzz_folder());
    process::run(&mut command)?;
    let programs = folder.join(TARGET).join("release");
    process::stdout(Command::new(programs.join("examples/seeds")).arg("--check"))?;
    Ok(names()?.into_iter().map(|name| Target { program: programs.join(&name), name }).collect())
}

impl Target {
    /// Fuzzes for so many seconds, from the seeds and what earlier campaigns found worth keeping; tells how many inputs were
    /// tried. The error names the file with the input that the target did not survive.
    pub(crate) fn campaign(&self, seconds: u32) -> Result<u64> {
        let [corpus, artifacts] =
            ["corpus", "artifacts"].map(|kind| paths::made(fuzz_folder().join(kind).join(&self.name)));
        let (corpus, artifacts) = (corpus?, artifacts?);
        let log = artifacts.join("log");
        let mut command = Command::new(&self.program);
        command
            .args([
                format!("-max_total_time={seconds}"),
                format!("-timeout={SLOWEST}"),
                format!("-rss_limit_mb={LARGEST}"),
                "-print_final_stats=1".into(),
            ])
            .arg(prefix(&artifacts))
            .arg(&corpus)
            .arg(fuzz_folder().join("seeds").join(&self.name))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).with_context(|| format!("creating {}", log.display()))?);
        let mut child = process::Killed(command.spawn().context("starting a fuzz target")?);
        let limit = Duration::from_secs(seconds.into()) + GRACE;
        let status = process::wait_within(&mut child.0, limit)?;
        let said = fs::read_to_string(&log).unwrap_or_default();
        match status {
            Some(status) if status.success() => executions(&said).context("the campaign counted no inputs"),
            Some(_) => bail!("{}\n      log: {}", finding(&said, &self.program), log.display()),
            None => bail!("did not end; log: {}", log.display()),
        }
    }
}

/// libFuzzer puts this before the name of each file that it writes.
fn prefix(artifacts: &Path) -> OsString {
    let mut argument = OsString::from("-artifact_prefix=");
    argument.push(artifacts);
    argument.push("/");
    argument
}

/// The names of the targets: one source each.
pub(crate) fn names() -> Result<Vec<String>> {
    let folder = fuzz_folder().join("fuzz_targets");
    let entries = fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?;
    let sources = entries.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some());
    let mut names: Vec<String> =
        sources.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
    names.sort();
    Ok(names)
}

fn fuzz_folder() -> PathBuf {
    paths::repository().join("fuzz")
}

/// How many inputs libFuzzer's statistics tell of.
fn executions(said: &str) -> Option<u64> {
    let line = said.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"))?;
    line.trim().parse().ok()
}

/// What went wrong, and how to see it again.
fn finding(said: &str, program: &Path) -> String {
    let after_panic = || said.lines().skip_while(|line| !line.contains("panicked at")).take(2);
    let error = || said.lines().filter(|line| line.contains("ERROR: libFuzzer")).take(1);
    let mut what: Vec<&str> = after_panic().collect();
    if what.is_empty() {
        what = error().collect();
    }
    let input = said.lines().find_map(|line| line.split_once("Test unit written to "));
    let again =
        input.map_or(String::new(), |(_, path)| format!("\n      again: {} {path}", program.display()));
    format!("{}{again}", what.join(": "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_tells_how_many_inputs_were_tried() {
        let log =
            "Done 25 runs in 1 second(s)\nstat::number_of_executed_units: 25\nstat::peak_rss_mb:      39\n";
        assert_eq!(executions(log), Some(25));
        assert_eq!(executions("nothing"), None);
    }

    #[test]
    fn a_finding_is_told_with_the_input_that_shows_it() {
        let log = "thread '<unnamed>' panicked at src/reader.rs:7:5:\nattempt to add with overflow\n\
                   stack backtrace:\n==1== ERROR: libFuzzer: deadly signal\n\
                   artifact_prefix='/f/'; Test unit written to /f/crash-12\n";
        let told = finding(log, Path::new("/t/dump"));
        assert!(told.contains("reader.rs:7:5:: attempt to add with overflow"), "{told}");
        assert!(told.ends_with("again: /t/dump /f/crash-12"), "{told}");
        let slow = finding("==1== ERROR: libFuzzer: timeout after 10 seconds\n", Path::new("x"));
        assert!(slow.contains("timeout after 10 seconds"), "{slow}");
    }

    #[test]
    fn every_target_has_seeds_and_is_declared() {
        let manifest = fs::read_to_string(fuzz_folder().join("Cargo.toml")).unwrap();
        let names = names().unwrap();
        assert!(!names.is_empty());
        for name in names {
            let seeds = fuzz_folder().join("seeds").join(&name);
            assert!(
                fs::read_dir(&seeds).is_ok_and(|mut seeds| seeds.next().is_some()),
                "{name} has no seeds"
            );
            assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in fuzz/Cargo.toml");
        }
    }
}
