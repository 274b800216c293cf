//! The programs that make a dump, with their options.

use std::fmt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;

use crate::guests::kernels::Flavour;
use crate::guests::tool::Tool;
use crate::machines::scenario;
use crate::process;
use crate::witnesses::Readers;

/// What is dumped: all that can be left out is.
const LEVEL: &str = "31";

/// The program that makes a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Maker {
    Holdover,
    Makedumpfile(#[serde(skip)] Reference),
}

/// Which makedumpfile, with its options for a codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reference {
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
pub(super) enum Crew {
    /// One program with one thread, on each processor in turn.
    OneThread,
    /// One program with two threads.
    TwoThreads,
    /// Two programs with one thread each, and a dump of its own.
    TwoPrograms,
}

/// A program that makes a dump, with its options.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Contender {
    pub(super) maker: Maker,
    pub(super) codec: &'static str,
    pub(super) crew: Crew,
}

impl Contender {
    const CODECS: [Codec; 5] = [
        Codec { name: "zlib", reference: Some(Reference::Installed(&["-c"])) },
        Codec { name: "lzo", reference: Some(Reference::Installed(&["-l"])) },
        Codec { name: "none", reference: Some(Reference::Installed(&[])) },
        Codec { name: "zstd", reference: Some(Reference::Newer(&["-z"])) },
        Codec { name: "snappy", reference: None },
    ];

    /// All codecs by name.
    pub(super) fn codecs() -> [&'static str; Self::CODECS.len()] {
        Self::CODECS.map(|codec| codec.name)
    }

    /// All who use one of these codecs.
    pub(super) fn with(codecs: &[String]) -> impl Iterator<Item = Self> {
        let wanted = |codec: &Codec| codecs.iter().any(|name| name == codec.name);
        Self::CODECS.into_iter().filter(wanted).flat_map(|Codec { name, reference }| {
            let contender = |maker| move |crew| Self { maker, codec: name, crew };
            let ours = [Crew::OneThread, Crew::TwoThreads, Crew::TwoPrograms].map(contender(Maker::Holdover));
            let theirs = reference.map(Maker::Makedumpfile);
            let theirs = theirs.map(|maker| [Crew::OneThread, Crew::TwoThreads].map(contender(maker)));
            ours.into_iter().chain(theirs.into_iter().flatten())
        })
    }

    pub(super) fn threads(&self) -> u32 {
        if self.crew == Crew::TwoThreads { 2 } else { 1 }
    }

    pub(super) fn is_ours(&self) -> bool {
        self.maker == Maker::Holdover
    }

    pub(super) fn is_reference(&self) -> bool {
        !self.is_ours()
    }

    /// How often it is asked for a dump: makedumpfile aborts now and then if it has threads ("libgcc_s.so.1 must be installed for
    /// pthread_exit to work").
    pub(super) fn attempts(self) -> u32 {
        if self.is_reference() && self.threads() > 1 { 8 } else { 1 }
    }

    /// Makes a dump; returns how long the choice of pages took, in seconds.
    pub(super) fn make(self, tool: &Tool, core: &Path, dump: &Path) -> Result<f64> {
        match self.maker {
            Maker::Holdover => {
                let mut command = self.holdover(tool);
                let said: Value = serde_json::from_str(&process::stdout(command.arg(core).arg(dump))?)?;
                let choosing = said["choosing_seconds"].as_f64();
                choosing.context("`holdover makedump` does not say how long it chose pages")
            }
            Maker::Makedumpfile(reference) => {
                let mut command = self.makedumpfile(reference)?;
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

/// Steps at whose end makedumpfile has chosen pages: it makes the bitmap of those that there are, and then that of those that are kept.
/// So does what is measured of Holdover.
const CHOOSING: [&str; 2] = ["STEP [Checking for memory holes  ]", "STEP [Excluding unnecessary pages]"];

/// Sums up the steps in which makedumpfile chooses pages.
fn choosing_seconds(said: &str) -> Result<f64> {
    let steps = said.lines().filter(|line| CHOOSING.iter().any(|step| line.starts_with(step)));
    let seconds = steps.filter_map(|line| line.split(": ").nth(1)?.split(' ').next()?.parse::<f64>().ok());
    seconds.reduce(|sum, step| sum + step).context("makedumpfile does not say how long it chose pages")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_in_which_makedumpfile_chooses_are_summed_up() {
        let said = "mmap() is available on the kernel.\n\
            STEP [Checking for memory holes  ] : 0.000063 seconds\n\
            STEP [Excluding unnecessary pages] : 0.015431 seconds\n\
            STEP [Excluding unnecessary pages] : 0.004348 seconds\n\
            STEP [Copying data               ] : 6.587904 seconds\n";
        assert!((choosing_seconds(said).unwrap() - 0.019842).abs() < 1e-9);
        assert!(choosing_seconds("").is_err());
    }
}
