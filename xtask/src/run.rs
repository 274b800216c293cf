//! `cargo xtask run`: one crash, shown as it happens.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::console::Echo;
use crate::crash::Crash;
use crate::qemu::{self, Watch};
use crate::scenario::Scenario;

/// Crashes a Linux of your choice and shows its console; judges nothing.
#[derive(Args)]
pub(crate) struct Run {
    #[command(flatten)]
    scenario: Scenario,
    /// Capture kernel to load
    #[arg(long)]
    image: PathBuf,
    /// What is observed
    #[arg(long, value_enum, default_value = "console")]
    watch: Watch,
    /// Name of the folder under target/bench/runs that keeps the files
    #[arg(long, default_value = "run")]
    name: String,
}

impl Run {
    /// Runs it to the reset.
    pub(crate) fn run(&self) -> Result<()> {
        println!("{}", qemu::version()?);
        let crash =
            Crash { scenario: &self.scenario, image: &self.image, watch: self.watch, echo: Echo::Shown };
        let evidence = crash.run(&self.name)?;
        println!("reset; files are in {}", evidence.files.kept().display());
        Ok(())
    }
}
