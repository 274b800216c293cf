//! `cargo xtask run`: one crash, shown as it happens.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::crashes::crash::Crash;
use crate::guests::image::{self, Variant};
use crate::guests::tool::Tool;
use crate::machines::console::Echo;
use crate::machines::qemu::Watch;
use crate::machines::scenario::Scenario;

/// Crashes a Linux of your choice and shows its console; checks nothing.
#[derive(Args)]
pub(crate) struct Run {
    #[command(flatten)]
    scenario: Scenario,
    /// Capture kernel to load, instead of the one that is built from the sources
    #[arg(long)]
    image: Option<PathBuf>,
    /// What is observed
    #[arg(long, value_enum, default_value = "console")]
    watch: Watch,
    /// Name of the folder under target/bench/runs that keeps the files
    #[arg(long, default_value = "run")]
    name: String,
}

impl Run {
    /// Runs it to its end.
    pub(crate) fn run(&self) -> Result<()> {
        println!("{}", self.scenario.emulator.version()?);
        let tool = Tool::build()?;
        let image = self.image.clone().map_or_else(|| self.build(), Ok)?;
        let (scenario, watch) = (&self.scenario, self.watch);
        let (tool, echo) = (&tool, Echo::Shown);
        let crash = Crash { scenario, image: &image, tool, watch, echo, used: None };
        let evidence = crash.run(&self.name)?;
        println!("the machine has ended; files are in {}", evidence.files.kept().display());
        Ok(())
    }

    fn build(&self) -> Result<PathBuf> {
        let flavor = if self.scenario.mutation.is_some() { Variant::Mutations } else { Variant::Release };
        Ok(image::build(flavor)?.path)
    }
}
