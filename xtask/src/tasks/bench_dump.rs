//! `cargo xtask bench-dump`: measures how fast `holdover makedump` and makedumpfile make a dump of the same ELF core.
//!
//! Contenders take turns on one core, and their dumps must keep the same pages. The bench measures the time from a
//! program's start until its dump is durable; makedumpfile itself does not wait for that. Dumps go to memory if there
//! is enough, so that the disk does not count. Linux takes as long for the 4 KiB pages of such files as a compressor
//! does; an option names a folder on a file system with larger pages.
//!
//! Two processors of a virtual machine are seldom equally fast, because their host has other work. So the bench
//! measures one thread on each processor, and takes the mean of both speeds: otherwise two threads would be compared
//! with the faster or the slower processor, by chance. Two programs with one thread each, run at the same time, tell
//! the most that two threads could gain. The processors' computing time tells how fast the contenders would be if
//! processors did not change their speed from dump to dump.

mod contender;
mod gain;
mod processors;

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Args;
use clap::builder::PossibleValuesParser;
use serde::Serialize;
use serde_json::json;

use self::contender::{Contender, Crew};
use self::gain::Gain;
use self::processors::Processors;
use crate::guests::tool::Tool;
use crate::machines::files::Files;
use crate::parallel;
use crate::tasks::spread::Spread;
use crate::witnesses::kept_frames;

/// Measures `holdover makedump` against makedumpfile
#[derive(Args)]
pub(crate) struct BenchDump {
    /// An ELF core of a kernel, such as a copy of /proc/vmcore
    core: PathBuf,
    /// Dumps by each
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// How pages are compressed
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_values = Contender::codecs())]
    #[arg(value_parser = PossibleValuesParser::new(Contender::codecs()))]
    codec: Vec<String>,
    /// Where dumps are made [default: in memory, if there is enough]
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Also write the results as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

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

impl BenchDump {
    pub(crate) fn run(&self) -> Result<()> {
        let tool = Tool::build()?;
        let files = Files::new("bench-dump")?;
        let processors = Processors::two()?;
        let mut runs: Vec<(Contender, Vec<Run>)> =
            Contender::with(&self.codec).map(|contender| (contender, vec![])).collect();
        for round in 1..=self.runs {
            println!("round {round} of {}", self.runs);
            for (contender, runs) in &mut runs {
                runs.push(self.measure(*contender, &tool, &files, &processors)?);
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

    fn measure(
        &self,
        contender: Contender,
        tool: &Tool,
        files: &Files,
        processors: &[Processors; 2],
    ) -> Result<Run> {
        let run = |name: &str| self.make(name, contender, tool, files);
        let [first, second] = processors;
        match contender.crew {
            Crew::OneThread => Ok(Run::mean(&first.run(|| run("first"))?, &second.run(|| run("second"))?)),
            Crew::TwoThreads => first.and(second).run(|| run("both")),
            Crew::TwoPrograms => {
                let (first, second) =
                    parallel::both(|| first.run(|| run("first")), || second.run(|| run("second")));
                Ok(Run::together(&first?, &second?))
            }
        }
    }

    /// Makes a dump, and removes it.
    fn make(&self, name: &str, contender: Contender, tool: &Tool, files: &Files) -> Result<Run> {
        let name = format!("dump-{name}");
        let dump = self.folder.as_ref().map_or_else(|| files.scratch(&name), |folder| folder.join(&name));
        let make = || {
            let (start, processor) = (Instant::now(), processors::time()?);
            let choosing = contender.make(tool, &self.core, &dump)?;
            File::open(&dump)?.sync_all()?;
            anyhow::Ok((choosing, start.elapsed().as_secs_f64(), processors::time()? - processor))
        };
        let mut outcome = make();
        for _ in 1..contender.attempts() {
            outcome = outcome.or_else(|_| make());
        }
        let (choosing, seconds, processor) = outcome?;
        let idle = seconds - processor / f64::from(contender.threads());
        self.check(contender, &dump, files)?;
        let bytes = dump.metadata()?.len();
        std::fs::remove_file(&dump)?;
        Ok(Run { seconds, processor, idle, choosing, bytes })
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
    /// Seconds in which processors worked for it. Of programs that run at the same time these cannot be told apart.
    processor: f64,
    /// What of `seconds` was something else, for each thread.
    idle: f64,
    choosing: f64,
    bytes: u64,
}

impl Run {
    /// Of the mean speed of two.
    fn mean(first: &Self, second: &Self) -> Self {
        Self {
            seconds: harmonic_mean(first.seconds, second.seconds),
            processor: f64::midpoint(first.processor, second.processor),
            idle: f64::midpoint(first.idle, second.idle),
            choosing: harmonic_mean(first.choosing, second.choosing),
            bytes: first.bytes,
        }
    }

    /// Each of two that were made at the same time: half of their time.
    fn together(first: &Self, second: &Self) -> Self {
        let mean = Self::mean(first, second);
        Self { seconds: mean.seconds / 2.0, choosing: mean.choosing / 2.0, ..mean }
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
        let run =
            |seconds| Run { seconds, processor: seconds, idle: 0.0, choosing: seconds / 10.0, bytes: 1 };
        // One dump in a second and one in three are two thirds of a dump in a second, each.
        let mean = Run::mean(&run(1.0), &run(3.0));
        assert!((mean.seconds - 1.5).abs() < 1e-9 && (mean.choosing - 0.15).abs() < 1e-9);
        assert!((Run::together(&run(1.0), &run(3.0)).seconds - 0.75).abs() < 1e-9);
    }
}
