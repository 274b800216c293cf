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
mod failure;
mod format;
mod generate;
mod groups;
mod inspect;
mod load;
mod makedump;
mod progress;
mod question;
mod remove;
mod report;
mod setup;
mod sign;
mod simulate;
mod status;
mod summary;
mod test;
mod verify;

use std::process::ExitCode;

use anyhow::Result;
use clap::{FromArgMatches as _, Parser, Subcommand};
use host::doctor::diagnose;

use crate::report::Report;

/// Prepares a host for crash dumps with the IOMMU on, and fetches the dumps.
#[derive(Parser)]
#[command(version, long_version = embedded::LONG_VERSION, after_help = groups::EXIT_STATUSES)]
struct Arguments {
    /// Print the result as JSON, an error too
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make this host ready for a crash: a dump area, the configuration, memory, and what starts at each boot
    Setup(setup::Arguments),
    /// Tell in few lines whether the next panic will be dumped
    Status,
    /// Check whether this host is ready for a crash
    Doctor,
    /// Check the configuration, or show it
    #[command(subcommand)]
    Config(config::Arguments),
    /// Prepare a dump area on a disk, a partition, or a file
    Format(format::Arguments),
    /// Load the capture kernel, to be started by the next panic
    Load(load::Arguments),
    /// Sign the capture kernel's image for Secure Boot
    Sign(sign::Arguments),
    /// Check that the loaded capture kernel would still find its dump areas in their places
    Verify(verify::Arguments),
    /// Remove the loaded capture kernel
    Unload,
    /// Crash this host on request, and tell after the restart whether the dump came
    Test(test::Arguments),
    /// Copy a dump, or the dead kernel's log, out of its area, and check it
    Collect(collect::Arguments),
    /// Print the dead kernel's log, out of an area or a dump
    Dmesg(dmesg::Arguments),
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
            Self::Setup(arguments) => Box::new(setup::run(arguments)?),
            Self::Status => Box::new(host::status::status()?),
            Self::Doctor => Box::new(diagnose(&progress::Bar::of_pages())?),
            Self::Config(arguments) => config::run(arguments)?,
            Self::Format(arguments) => Box::new(format::run(arguments)?),
            Self::Load(arguments) => Box::new(load::run(arguments)?),
            Self::Sign(arguments) => Box::new(sign::run(arguments)?),
            Self::Verify(arguments) => Box::new(verify::run(arguments)?),
            Self::Unload => Box::new(load::unload()?),
            Self::Test(arguments) => Box::new(test::run(arguments)?),
            Self::Collect(arguments) => collect::run(arguments)?,
            Self::Dmesg(arguments) => Box::new(dmesg::run(arguments)?),
            Self::Remove(arguments) => remove::run(arguments)?,
            Self::Makedump(arguments) => Box::new(makedump::run(arguments)?),
            Self::Inspect(arguments) => inspect::run(arguments)?,
            Self::Summary(arguments) => Box::new(summary::run(arguments)?),
            Self::Simulate(arguments) => Box::new(simulate::run(arguments)?),
            Self::Generate(arguments) => Box::new(generate::run(arguments)?),
        })
    }
}

fn main() -> ExitCode {
    if let Some(image) = embedded::image() {
        host::image::carry(image);
    }
    let matches = groups::command::<Arguments>().try_get_matches();
    let arguments = match matches.and_then(|matches| Arguments::from_arg_matches(&matches)) {
        Ok(arguments) => arguments,
        Err(error) => return failure::of_usage(&error),
    };
    let shown = arguments.command.run().and_then(|report| report::show(&*report, arguments.json));
    shown.unwrap_or_else(|error| failure::show(&error, arguments.json))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_makes_sense_and_each_command_is_in_one_group() {
        let command = groups::command::<Arguments>();
        command.clone().debug_assert();
        let commands = command.get_subcommands().filter(|command| !command.is_hide_set());
        for name in commands.map(clap::Command::get_name) {
            assert_eq!(groups::all().filter(|grouped| *grouped == name).count(), 1, "{name}");
        }
    }

    #[test]
    fn the_exit_statuses_of_help_are_those_of_the_guide() {
        let guide = include_str!("../../docs/guide.md");
        for line in groups::EXIT_STATUSES.lines().skip(1) {
            let (status, meaning) = line.trim().split_once("  ").unwrap();
            let row = format!("| {status} | {} |", meaning.trim());
            assert!(guide.contains(&row), "docs/guide.md has no row {row}");
        }
    }
}
