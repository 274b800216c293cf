//! `cargo xtask bench-dump`: how fast `holdover makedump` makes a dump of an ELF core, and makedumpfile of the same.
//!
//! Contenders take turns on one core, and their dumps must keep the same pages. What is measured is the time from a
//! program's start until its dump is safe: makedumpfile leaves that to whoever wants it. Dumps go to memory if there is enough, so
//! that no disk is measured. Such files are of pages of 4 KiB, for each of which Linux takes as long as a compressor; a folder can be
//! named in which it is otherwise.
//!
//! Two processors of a virtual machine are seldom equally fast, for their host has other work. So what one thread does is measured on
//! each, and its speed is the mean of both: else two threads would be compared with the faster one or the slower one, by chance. What two
//! threads could do at best is told by two programs with one thread each, at the same time.

mod gain;

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};

use self::gain::Gain;
use crate::files::Files;
use crate::kernels::Flavour;
use crate::spread::Spread;
use crate::tool::Tool;
use crate::witness::{Readers, kept_frames};
use crate::{process, scenario};

/// What is dumped: all that can be left out is.
const LEVEL: &str = "31";

/// Measures `holdover makedump` against makedumpfile
#[derive(Args)]
pub(crate) struct BenchDump {
    /// An ELF core of a kernel, such as a copy of /proc/vmcore
    core: PathBuf,
    /// Dumps by each
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Where dumps are made [default: in memory, if there is enough]
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Also write the results as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Who makes a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Maker {
    Holdover,
    Makedumpfile(#[serde(skip)] Reference),
}

/// Which makedumpfile, with its options for a codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reference {
    /// This machine's.
    Installed(&'static [&'static str]),
    /// The newest, for what this machine's does not know.
    Newer(&'static [&'static str]),
}

/// A codec, and who else knows it.
#[derive(Clone, Copy)]
struct Codec {
    name: &'static str,
    reference: Option<Reference>,
}

/// What works at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Crew {
    /// One program with one thread, on each processor in turn.
    OneThread,
    /// One program with two threads.
    TwoThreads,
    /// Two programs with one thread each, and a dump of its own.
    TwoPrograms,
}

/// Who makes a dump, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Contender {
    maker: Maker,
    codec: &'static str,
    crew: Crew,
}

/// The processors that are used.
const PROCESSORS: [&str; 2] = ["0", "1"];

/// How a contender did.
#[derive(Clone, Debug, Serialize)]
struct Standing {
    #[serde(flatten)]
    contender: Contender,
    seconds: Spread,
    /// How long it took to choose pages.
    choosing_seconds: Spread,
    dump_bytes: u64,
}

impl Contender {
    const CODECS: [Codec; 5] = [
        Codec { name: "zlib", reference: Some(Reference::Installed(&["-c"])) },
        Codec { name: "lzo", reference: Some(Reference::Installed(&["-l"])) },
        Codec { name: "none", reference: Some(Reference::Installed(&[])) },
        Codec { name: "zstd", reference: Some(Reference::Newer(&["-z"])) },
        Codec { name: "snappy", reference: None },
    ];

    fn all() -> impl Iterator<Item = Self> {
        Self::CODECS.into_iter().flat_map(|Codec { name, reference }| {
            let contender = |maker| move |crew| Self { maker, codec: name, crew };
            let ours = [Crew::OneThread, Crew::TwoThreads, Crew::TwoPrograms].map(contender(Maker::Holdover));
            let theirs = reference.map(Maker::Makedumpfile);
            let theirs = theirs.map(|maker| [Crew::OneThread, Crew::TwoThreads].map(contender(maker)));
            ours.into_iter().chain(theirs.into_iter().flatten())
        })
    }

    fn threads(&self) -> u32 {
        if self.crew == Crew::TwoThreads { 2 } else { 1 }
    }

    fn is_ours(&self) -> bool {
        self.maker == Maker::Holdover
    }

    fn is_reference(&self) -> bool {
        !self.is_ours()
    }

    /// How often it is asked for a dump: makedumpfile aborts now and then if it has threads ("libgcc_s.so.1 must be installed for
    /// pthread_exit to work").
    fn attempts(self) -> u32 {
        if self.is_reference() && self.threads() > 1 { 8 } else { 1 }
    }

    /// Makes a dump on these processors; returns how long the choice of pages took, in seconds.
    fn make(self, tool: &Tool, processors: &str, core: &Path, dump: &Path) -> Result<f64> {
        match self.maker {
            Maker::Holdover => {
                let mut command = on(processors, &self.holdover(tool));
                let said: Value = serde_json::from_str(&process::stdout(command.arg(core).arg(dump))?)?;
                let choosing = said["choosing_seconds"].as_f64();
                choosing.context("`holdover makedump` does not say how long it chose pages")
            }
            Maker::Makedumpfile(reference) => {
                let mut command = on(processors, &self.makedumpfile(reference)?);
                choosing_seconds(&process::stdout(command.arg(core).arg(dump))?)
            }
        }
    }

    fn holdover(self, tool: &Tool) -> Command {
        let mut holdover = Command::new(tool.program());
        holdover.args(["makedump", "--json", "--force", "-d", LEVEL, "--codec", self.codec]);
        holdover.args(["--threads", &self.threads().to_string()]);
        holdover
    }

    fn makedumpfile(self, reference: Reference) -> Result<Command> {
        let (programs, options) = match reference {
            Reference::Installed(options) => (Readers::Installed, options),
            Reference::Newer(options) => (Readers::of(Flavour::Cloud, scenario::Codec::Zstd)?, options),
        };
        let mut makedumpfile = programs.makedumpfile();
        makedumpfile.args(["-f", "-d", LEVEL, "--message-level", "31"]).args(options);
        if self.threads() > 1 {
            makedumpfile.args(["--num-threads", &self.threads().to_string()]);
        }
        Ok(makedumpfile)
    }
}

/// A program that keeps to some processors.
fn on(processors: &str, program: &Command) -> Command {
    let mut taskset = Command::new("taskset");
    taskset.args(["--cpu-list", processors]).arg(program.get_program()).args(program.get_args());
    taskset
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { maker, codec, crew } = self;
        let maker = match maker {
            Maker::Holdover => "Holdover",
            Maker::Makedumpfile(_) => "makedumpfile",
        };
        let crew = match crew {
            Crew::OneThread => "1 thread",
            Crew::TwoThreads => "2 threads",
            Crew::TwoPrograms => "2 programs",
        };
        write!(f, "{codec}, {maker}, {crew}")
    }
}

/// Sums up the passes in which makedumpfile chooses pages.
fn choosing_seconds(said: &str) -> Result<f64> {
    let passes = said.lines().filter(|line| line.starts_with("STEP [Excluding unnecessary pages]"));
    let seconds = passes.filter_map(|line| line.split(": ").nth(1)?.split(' ').next()?.parse::<f64>().ok());
    seconds.reduce(|sum, pass| sum + pass).context("makedumpfile does not say how long it chose pages")
}

impl BenchDump {
    pub(crate) fn run(&self) -> Result<()> {
        let tool = Tool::build()?;
        let files = Files::new("bench-dump")?;
        let mut runs: Vec<(Contender, Vec<Run>)> =
            Contender::all().map(|contender| (contender, vec![])).collect();
        for round in 1..=self.runs {
            println!("round {round} of {}", self.runs);
            for (contender, runs) in &mut runs {
                runs.push(self.measure(*contender, &tool, &files)?);
            }
        }
        let standings: Vec<_> =
            runs.iter().filter_map(|(contender, runs)| standing(*contender, runs)).collect();
        let gains = Gain::all(&runs);
        print!("{}{}", Table(&standings), gain::Table(&gains));
        if let Some(path) = &self.json {
            let results = json!({ "dumps": standings, "gains": gains });
            std::fs::write(path, serde_json::to_string_pretty(&results)?)?;
        }
        Ok(())
    }

    fn measure(&self, contender: Contender, tool: &Tool, files: &Files) -> Result<Run> {
        let both = PROCESSORS.join(",");
        let run = |processors: &str| self.run_on(processors, contender, tool, files);
        match contender.crew {
            Crew::OneThread => {
                let [first, second] = PROCESSORS.map(run);
                Ok(Run::mean(&first?, &second?))
            }
            Crew::TwoThreads => run(&both),
            Crew::TwoPrograms => thread::scope(|scope| {
                let [first, second] = PROCESSORS.map(|processor| scope.spawn(move || run(processor)));
                let [first, second] =
                    [first, second].map(|run| run.join().map_err(|_| anyhow!("a thread panicked")));
                Ok(Run::together(&first??, &second??))
            }),
        }
    }

    /// Makes a dump on these processors, and removes it.
    fn run_on(&self, processors: &str, contender: Contender, tool: &Tool, files: &Files) -> Result<Run> {
        let name = format!("dump-{processors}");
        let dump = self.folder.as_ref().map_or_else(|| files.scratch(&name), |folder| folder.join(&name));
        let make = || {
            let start = Instant::now();
            let choosing = contender.make(tool, processors, &self.core, &dump)?;
            File::open(&dump)?.sync_all()?;
            anyhow::Ok((choosing, start.elapsed().as_secs_f64()))
        };
        let mut outcome = make();
        for _ in 1..contender.attempts() {
            outcome = outcome.or_else(|_| make());
        }
        let (choosing, seconds) = outcome?;
        self.check(contender, &dump, files)?;
        let bytes = dump.metadata()?.len();
        std::fs::remove_file(&dump)?;
        Ok(Run { seconds, choosing, bytes })
    }

    /// The first dump is what all others must be like.
    fn check(&self, contender: Contender, dump: &Path, files: &Files) -> Result<()> {
        let first = files.scratch("first");
        if !first.exists() {
            std::fs::copy(dump, &first)?;
        }
        ensure!(
            kept_frames(dump)? == kept_frames(&first)?,
            "{contender}: the dump of {} keeps other pages",
            self.core.display()
        );
        Ok(())
    }
}

/// One dump.
struct Run {
    seconds: f64,
    choosing: f64,
    bytes: u64,
}

impl Run {
    /// Of the mean speed of two.
    fn mean(first: &Self, second: &Self) -> Self {
        Self {
            seconds: harmonic_mean(first.seconds, second.seconds),
            choosing: harmonic_mean(first.choosing, second.choosing),
            bytes: first.bytes,
        }
    }

    /// Each of two that were made at the same time: half of their time.
    fn together(first: &Self, second: &Self) -> Self {
        let Self { seconds, choosing, bytes } = Self::mean(first, second);
        Self { seconds: seconds / 2.0, choosing: choosing / 2.0, bytes }
    }
}

fn harmonic_mean(first: f64, second: f64) -> f64 {
    2.0 / (first.recip() + second.recip())
}

fn standing(contender: Contender, runs: &[Run]) -> Option<Standing> {
    Some(Standing {
        contender,
        seconds: Spread::of(runs.iter().map(|run| run.seconds))?,
        choosing_seconds: Spread::of(runs.iter().map(|run| run.choosing))?,
        dump_bytes: runs.first()?.bytes,
    })
}

/// The results as a person wants to see them.
struct Table<'a>(&'a [Standing]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nSeconds for a dump, median (least – most):\n")?;
        writeln!(f, "| | dump | choosing pages, ms | bytes |\n|---|---:|---:|---:|")?;
        for Standing { contender, seconds, choosing_seconds, dump_bytes } in self.0 {
            let choosing = choosing_seconds.median * 1e3;
            writeln!(f, "| {contender} | {seconds} | {choosing:.1} | {dump_bytes} |")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_speed_of_two_is_their_mean() {
        let run = |seconds| Run { seconds, choosing: seconds / 10.0, bytes: 1 };
        // One dump in a second and one in three are two thirds of a dump in a second, each.
        let mean = Run::mean(&run(1.0), &run(3.0));
        assert!((mean.seconds - 1.5).abs() < 1e-9 && (mean.choosing - 0.15).abs() < 1e-9);
        assert!((Run::together(&run(1.0), &run(3.0)).seconds - 0.75).abs() < 1e-9);
    }

    #[test]
    fn the_passes_of_makedumpfile_are_summed_up() {
        let said = "mmap() is available on the kernel.\n\
            STEP [Checking for memory holes  ] : 0.000063 seconds\n\
            STEP [Excluding unnecessary pages] : 0.015431 seconds\n\
            STEP [Excluding unnecessary pages] : 0.004348 seconds\n\
            STEP [Copying data               ] : 6.587904 seconds\n";
        assert!((choosing_seconds(said).unwrap() - 0.019779).abs() < 1e-9);
        assert!(choosing_seconds("").is_err());
    }
}
