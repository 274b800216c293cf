//! `cargo xtask core`: saves a dead kernel's memory as a file, for measurements and comparisons.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use crate::crashes::crash::Crash;
use crate::guests::image::{self, Variant};
use crate::guests::tool::Tool;
use crate::machines::console::Echo;
use crate::machines::qemu::Watch;
use crate::machines::scenario::Scenario;
use crate::witnesses;

/// Crashes a Linux of your choice and writes its memory as the ELF core that /proc/vmcore would be.
#[derive(Args)]
pub(crate) struct Core {
    #[command(flatten)]
    scenario: Scenario,
    /// The core to write
    core: PathBuf,
}

impl Core {
    /// Writes it; the machine is stopped for that between the dead kernel and Holdover.
    pub(crate) fn run(&self) -> Result<()> {
        let (tool, image) = (Tool::build()?, image::build(Variant::Release)?.path);
        println!("crashing a machine for its memory");
        let (scenario, watch) = (&self.scenario, Watch::Memory);
        let (tool, echo) = (&tool, Echo::Hidden);
        let crash = Crash { scenario, image: &image, tool, watch, echo, used: None };
        witnesses::write_core(&crash.run("core")?, &self.core)?;
        let bytes = fs::metadata(&self.core).with_context(|| self.core.display().to_string())?.len();
        println!("{} has {bytes} bytes", self.core.display());
        Ok(())
    }
}
