//! `holdover simulate`: runs a takeover on a simulated machine, and draws it.

use std::fs;
use std::io::{IsTerminal, Read as _};
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use serde_json::Value;
use simulation::draw::{self, Ink};
use simulation::{File, Simulation, Stage};

use crate::report::Report;

/// No scenario is longer, in bytes.
const LONGEST: u64 = 1 << 20;

/// What the command was told.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The machine and what happens on it; an example if none is given
    scenario: Option<PathBuf>,
    /// Draw the picture into this file too
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print the example scenario, to be changed and given to this command
    #[arg(long, conflicts_with_all = ["scenario", "svg"])]
    example: bool,
}

/// Runs the scenario.
pub(crate) fn run(arguments: &Arguments) -> Result<Drawing> {
    if arguments.example {
        return Ok(Drawing::Example);
    }
    let name = arguments.scenario.as_ref().map_or("example".into(), |path| path.display().to_string());
    let text = arguments.scenario.as_ref().map_or(Ok(simulation::EXAMPLE.to_owned()), read)?;
    let stage = File::parse(&text).and_then(|file| Stage::set(file, &text));
    let simulation = simulation::run(&stage.map_err(|error| anyhow!("{name}: {error}"))?);
    if let Some(path) = &arguments.svg {
        fs::write(path, draw::svg(&simulation)).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(Drawing::Simulation(Box::new(simulation)))
}

fn read(path: &PathBuf) -> Result<String> {
    let reading = || format!("reading {}", path.display());
    let mut text = String::new();
    let file = fs::File::open(path).with_context(reading)?;
    file.take(LONGEST + 1).read_to_string(&mut text).with_context(reading)?;
    anyhow::ensure!(text.len() as u64 <= LONGEST, "{} is too long for a scenario", path.display());
    Ok(text)
}

/// What the command shows.
pub(crate) enum Drawing {
    /// The example's text.
    Example,
    /// What happened.
    Simulation(Box<Simulation>),
}

impl Report for Drawing {
    fn rows(&self) -> Vec<Vec<String>> {
        Vec::new()
    }

    fn text(&self) -> String {
        match self {
            Self::Example => simulation::EXAMPLE.to_owned(),
            Self::Simulation(simulation) => draw::text(simulation, ink()),
        }
    }

    fn json(&self) -> Result<Value> {
        Ok(match self {
            Self::Example => Value::from(simulation::EXAMPLE),
            Self::Simulation(simulation) => serde_json::to_value(simulation)?,
        })
    }

    fn is_whole(&self) -> bool {
        match self {
            Self::Example => true,
            Self::Simulation(simulation) => simulation.failure.is_none(),
        }
    }
}

/// Colours on a terminal, unless its owner wants none (<https://no-color.org>).
fn ink() -> Ink {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if std::io::stdout().is_terminal() && !unwanted { Ink::Colour } else { Ink::Plain }
}
