//! `holdover`, the command line for a host that uses Holdover.
//!
//! One module per command. A command returns its result as a value that can be shown as a table or as JSON; here is where it
//! is shown, and where the exit status is decided.

#![forbid(unsafe_code)]

mod simulate;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use host::areas::format;
use host::report::{self, Report};
use host::{collect, doctor, inspect, load, makedump};

/// Prepares a host for crash dumps with the IOMMU on, and fetches the dumps.
#[derive(Parser)]
#[command(
    version,
    after_help = "Exit status: 0 done, 1 error, 2 wrong usage, 3 something is missing or incomplete"
)]
struct Arguments {
    /// Print the result as JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check whether this host is ready for a crash
    Doctor,
    /// Prepare a dump area on a disk, a partition, or a file
    Format(format::Arguments),
    /// Load the capture kernel, to be started by the next panic
    Load(load::Arguments),
    /// Remove the loaded capture kernel
    Unload,
    /// Copy a dump out of its area, and check it
    Collect(collect::Arguments),
    /// Make a small dump of an ELF core such as /proc/vmcore
    Makedump(makedump::Arguments),
    /// Show what the capture kernel found, and which memory devices could reach
    Inspect(inspect::Arguments),
    /// Run a takeover on a software machine, and draw what happens
    Simulate(simulate::Arguments),
}

impl Command {
    fn run(&self) -> Result<Box<dyn Report>> {
        Ok(match self {
            Self::Doctor => Box::new(doctor::run()?),
            Self::Format(arguments) => Box::new(format::run(arguments)?),
            Self::Load(arguments) => Box::new(load::run(arguments)?),
            Self::Unload => Box::new(load::unload()?),
            Self::Collect(arguments) => Box::new(collect::run(arguments)?),
            Self::Makedump(arguments) => Box::new(makedump::run(arguments)?),
            Self::Inspect(arguments) => inspect::run(arguments)?,
            Self::Simulate(arguments) => Box::new(simulate::run(arguments)?),
        })
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command.run().and_then(|report| report::show(&*report, arguments.json)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("holdover: {error:#}");
            ExitCode::FAILURE
        }
    }
}
