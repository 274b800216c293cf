//! `holdover`, the command line for a host that uses Holdover.
//!
//! The library `host` does the work, except for `holdover simulate`, which is in `simulation`. Each command has a module here: it
//! reads the command's arguments, calls the library, and shows the value that comes back as a table or as JSON. `main` decides
//! the exit status.
//!
//! A new command is a module of `host`, a module here, and a line in [`Command`] with one in its `run`.

#![forbid(unsafe_code)]

mod codec;
mod collect;
mod config;
mod dmesg;
mod doctor;
mod embedded;
mod format;
mod generate;
mod inspect;
mod load;
mod makedump;
mod progress;
mod remove;
mod report;
mod simulate;
mod summary;
mod test;
mod verify;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use host::doctor::diagnose;

use crate::report::Report;

/// Prepares a host for crash dumps with the IOMMU on, and fetches the dumps.
#[derive(Parser)]
#[command(
    version,
    long_version = embedded::LONG_VERSION,
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
    /// Check the configuration, or show it
    #[command(subcommand)]
    Config(config::Arguments),
    /// Prepare a dump area on a disk, a partition, or a file
    Format(format::Arguments),
    /// Load the capture kernel, to be started by the next panic
    Load(load::Arguments),
    /// Check that the loaded capture kernel would still find its dump areas in their places
    Verify(verify::Arguments),
    /// Remove the loaded capture kernel
    Unload,
    /// Crash this host on request, and tell after the restart whether the dump came
    Test(test::Arguments),
    /// Copy a dump, or the dead kernel's log, out of its area, and check it
    Collect(collect::Arguments),
    /// Make a dump area none any more, and delete it if it is a file
    Remove(remove::Arguments),
    /// Make a small dump of an ELF core such as /proc/vmcore
    Makedump(makedump::Arguments),
    /// Show what the capture kernel found, and which memory devices could reach
    Inspect(inspect::Arguments),
    /// Write a page that says what happened: panic, backtraces, log, and what devices could reach
    Summary(summary::Arguments),
    /// Run a takeover on a software machine, and draw what happens
    Simulate(simulate::Arguments),
    /// Write the man pages and the completions of shells, for a package
    #[command(hide = true)]
    Generate(generate::Arguments),
}

impl Command {
    fn run(&self) -> Result<Box<dyn Report>> {
        Ok(match self {
            Self::Doctor => Box::new(diagnose(&progress::Bar::of_pages())?),
            Self::Config(arguments) => config::run(arguments)?,
            Self::Format(arguments) => Box::new(format::run(arguments)?),
            Self::Load(arguments) => Box::new(load::run(arguments)?),
            Self::Verify(arguments) => Box::new(verify::run(arguments)?),
            Self::Unload => Box::new(load::unload()?),
            Self::Test(arguments) => Box::new(test::run(arguments)?),
            Self::Collect(arguments) => collect::run(arguments)?,
            Self::Remove(arguments) => Box::new(remove::run(arguments)?),
            Self::Makedump(arguments) => Box::new(makedump::run(arguments)?),
            Self::Inspect(arguments) => inspect::run(arguments)?,
            Self::Summary(arguments) => Box::new(summary::run(arguments)?),
            Self::Simulate(arguments) => Box::new(simulate::run(arguments)?),
            Self::Generate(arguments) => Box::new(generate::run(arguments)?),
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
