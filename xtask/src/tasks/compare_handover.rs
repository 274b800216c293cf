//! `cargo xtask compare-handover`: puts each hand-over of the matrix beside stock kdump alone, with the same kernels, command line and
//! disk.
//!
//! One run of each is traced: whether there is a dump, which requests the remapping unit refused before and after drivers were loaded,
//! and whether translation was turned off. Traced runs cannot be timed; `--runs` asks for others, in turn, that only the console
//! watches.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;

use crate::crashes::crash::{Crash, PANIC};
use crate::crashes::matrix;
use crate::crashes::row::Row;
use crate::guests::image::{self, Image, Variant};
use crate::guests::stock;
use crate::guests::tool::Tool;
use crate::machines::console::{Echo, Line};
use crate::machines::files::Files;
use crate::machines::qemu::Watch;
use crate::machines::scenario::Scenario;
use crate::machines::scenario::capture::Capture;
use crate::tasks::setup::Setup;
use crate::tasks::spread::{Spread, float};
use crate::witnesses::trace::{HandedOver, Times, Trace};

/// From the panic to the first dump. What takes longer hangs: the slowest that did not took a third of it.
const LIMIT: Duration = Duration::from_secs(150);

/// The first line of any Linux.
const FIRST_LINE: &str = "Linux version ";
/// Holdover's last line before it hands the machine over.
const HANDING_OVER: &str = "handing over to the fallback kernel";

/// Who takes the dump.
const BOTH: [Capture; 2] = [Capture::Stock, Capture::HandedOver];

/// Puts each hand-over beside stock kdump alone: dump or none, refused requests, seconds, memory
#[derive(Args)]
pub(crate) struct CompareHandover {
    /// Only rows that have one of these in their names
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    only: Vec<String>,
    /// Runs of each that are timed, besides the one that is traced
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100))]
    runs: u32,
    /// Also write the results as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What one row showed, of stock kdump alone and of the hand-over.
#[derive(Serialize)]
struct Standing {
    row: String,
    traced: [Seen; 2],
    /// Each pair followed each other.
    timed: Vec<[Timed; 2]>,
}

/// What a traced run showed.
#[derive(Serialize)]
struct Seen {
    /// Whether the second Linux started its first program.
    started: bool,
    dump: bool,
    unit: HandedOver,
}

/// Seconds after the panic line; `None` for what never was.
#[derive(Clone, Copy, Serialize)]
struct Timed {
    /// Holdover's own clock when it hands over: its whole part, from its first instruction on.
    holdover_s: Option<f64>,
    first_line_s: Option<f64>,
    dump_s: Option<f64>,
    /// Memory of the second Linux.
    kib: Option<u64>,
}

/// What all runs need.
struct Stage {
    tool: Tool,
    image: Image,
}

impl CompareHandover {
    /// Measures, prints the tables, and writes the JSON.
    pub(crate) fn run(&self) -> Result<()> {
        Setup::default().run()?;
        let stage = Stage { tool: Tool::build()?, image: image::build(Variant::Release)? };
        let mut standings = Vec::new();
        for row in matrix::rows().into_iter().filter(|row| self.includes(row)) {
            let standing = stage.compare(&row.name, &row.scenario, self.runs)?;
            println!("{standing}");
            standings.push(standing);
        }
        println!("\n{HEAD}");
        for standing in &standings {
            println!("{standing}");
        }
        standings.iter().for_each(Standing::tell_times);
        let Some(file) = &self.json else { return Ok(()) };
        let text = serde_json::to_string_pretty(&standings)?;
        fs::write(file, text + "\n").with_context(|| format!("cannot write {}", file.display()))
    }

    fn includes(&self, row: &Row) -> bool {
        let asked = self.only.is_empty() || self.only.iter().any(|part| row.name.contains(part));
        asked && row.scenario.capture == Capture::HandedOver
    }
}

impl Stage {
    fn compare(&self, name: &str, scenario: &Scenario, runs: u32) -> Result<Standing> {
        let traced = BOTH.map(|capture| {
            let (files, lines) = self.crash(name, scenario, capture, Watch::Trace)?;
            Seen::of(&files, &lines)
        });
        let [stock, handed_over] = traced;
        let mut timed = Vec::new();
        for _ in 0..runs {
            let [stock, handed_over] = BOTH.map(|capture| {
                let (_, lines) = self.crash(name, scenario, capture, Watch::Console)?;
                Timed::of(&lines)
            });
            timed.push([stock?, handed_over?]);
        }
        Ok(Standing { row: name.to_owned(), traced: [stock?, handed_over?], timed })
    }

    fn crash(
        &self,
        name: &str,
        scenario: &Scenario,
        capture: Capture,
        watch: Watch,
    ) -> Result<(Files, Vec<Line>)> {
        let scenario = &Scenario { capture, ..scenario.clone() };
        let (image, tool, echo) = (&self.image.path, &self.tool, Echo::Hidden);
        let crash = Crash { scenario, image, tool, watch, echo, used: None };
        crash.run_until(stock::FIRST_DUMP, LIMIT, &format!("compare-{name}-{capture:?}").to_lowercase())
    }
}

impl Seen {
    fn of(files: &Files, lines: &[Line]) -> Result<Self> {
        let lines = since_panic(lines)?;
        let at = |words| moment(lines, words);
        let (init, complete) = (at(stock::INIT), at(stock::FIRST_DUMP));
        let trace = Trace::read(&files.trace(), lines[0].at)?;
        let unit = HandedOver::of(&trace, Times { init, complete })?;
        Ok(Self { started: init.is_some(), dump: complete.is_some(), unit })
    }
}

impl Timed {
    fn of(lines: &[Line]) -> Result<Self> {
        let lines = since_panic(lines)?;
        let seconds = |words| Some(moment(lines, words)?.duration_since(lines[0].at).ok()?.as_secs_f64());
        let mut said = lines.iter().filter_map(Line::bench);
        let kib = said.find_map(|said| said.strip_prefix(stock::MEMORY)?.trim().parse().ok());
        let handing_over = lines.iter().find(|line| line.text.contains(HANDING_OVER));
        Ok(Self {
            holdover_s: handing_over.and_then(|line| clock(&line.text)),
            first_line_s: seconds(FIRST_LINE),
            dump_s: seconds(stock::FIRST_DUMP),
            kib,
        })
    }
}

impl Standing {
    /// Tells what the hand-over adds to stock kdump's time, pair by pair, and what it takes of its memory.
    fn tell_times(&self) {
        let added = |value: fn(&Timed) -> Option<f64>| {
            let pairs = self.timed.iter();
            Spread::of(pairs.filter_map(|[stock, ours]| Some(value(ours)? - value(stock)?)))
        };
        let of = |which: usize, value: fn(&Timed) -> Option<f64>| {
            Spread::of(self.timed.iter().filter_map(|pair| value(&pair[which])))
        };
        let kept = added(|timed| timed.kib.map(|kib| float(kib) / 1024.0));
        let figures = [
            ("s, Holdover's part by its own clock", of(1, |timed| timed.holdover_s)),
            ("s to the second Linux' first line, stock", of(0, |timed| timed.first_line_s)),
            ("s to the second Linux' first line, handed over", of(1, |timed| timed.first_line_s)),
            ("s to the dump, stock", of(0, |timed| timed.dump_s)),
            ("s to the dump, handed over", of(1, |timed| timed.dump_s)),
            ("s added to the first line", added(|timed| timed.first_line_s)),
            ("s added to the dump", added(|timed| timed.dump_s)),
            ("MiB added to the second Linux' memory", kept),
        ];
        for (what, figure) in figures {
            if let Some(figure) = figure {
                println!("{}: {figure} {what}", self.row);
            }
        }
    }
}

const HEAD: &str = "\
| row | stock: dump | refused before drivers | with drivers | translation | handed over: dump | refused before drivers | with drivers | translation |
|---|---|---:|---:|---|---|---:|---:|---|";

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "| {} |", self.row)?;
        for seen in &self.traced {
            let dump = match (seen.dump, seen.started) {
                (true, _) => "yes",
                (false, true) => "**no**",
                (false, false) => "**no**, hangs before its first program",
            };
            let refused = |faults: &BTreeMap<String, u64>| faults.values().sum::<u64>();
            let HandedOver { faults_before_drivers, faults_with_drivers, turned_off, .. } = &seen.unit;
            let translation = if *turned_off > 0 { "turned off" } else { "on" };
            let (before, with) = (refused(faults_before_drivers), refused(faults_with_drivers));
            write!(f, " {dump} | {before} | {with} | {translation} |")?;
        }
        Ok(())
    }
}

/// The lines from the panic on.
fn since_panic(lines: &[Line]) -> Result<&[Line]> {
    let panic = lines.iter().position(|line| line.text.contains(PANIC)).context("the guest did not panic")?;
    Ok(&lines[panic..])
}

fn moment(lines: &[Line], words: &str) -> Option<SystemTime> {
    lines.iter().find(|line| line.text.contains(words)).map(|line| line.at)
}

/// The seconds in `holdover: [0.123] …`.
fn clock(line: &str) -> Option<f64> {
    line.split_once("holdover: [")?.1.split_once(']')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_came_has_no_time() {
        let lines = Line::a_second_apart(&[
            "[    0.0] Linux version 6.1",
            "[    9.0] Kernel panic - not syncing: sysrq triggered crash",
            "holdover: [0.125000] handing over to the fallback kernel at 0x2e000000: quiet",
            "[    0.0] Linux version 6.1",
            "[    1.0] bench: crash kernel's memory 230456",
        ]);
        let timed = Timed::of(&lines).unwrap();
        assert_eq!((timed.holdover_s, timed.first_line_s), (Some(0.125), Some(2.0)));
        assert_eq!((timed.kib, timed.dump_s), (Some(230_456), None));
    }
}
