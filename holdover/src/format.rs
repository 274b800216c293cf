//! `holdover format`: makes a disk, a partition or a file a dump area.

use std::path::PathBuf;

use anyhow::Result;
use host::Bytes;
use host::areas::{self, FormatError, Formatted, IfUsed};
use serde_json::Value;

use crate::report::{Report, row};

/// What the command is told.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Disk, partition or file; all that is on it is lost
    device: PathBuf,
    /// Overwrite what looks used
    #[arg(long)]
    force: bool,
}

/// Makes the device a dump area.
pub(crate) fn run(arguments: &Arguments) -> Result<Formatted, FormatError> {
    let if_used = if arguments.force { IfUsed::Overwrite } else { IfUsed::Refuse };
    areas::format(&arguments.device, if_used)
}

impl Report for Formatted {
    fn rows(&self) -> Vec<Vec<String>> {
        vec![
            row("dump area", self.uuid.to_string()),
            row("device", self.device.display().to_string()),
            row("room for a dump", Bytes(self.capacity).to_string()),
            row("next", format!("holdover load --image IMAGE --area {}", self.uuid)),
        ]
    }

    fn json(&self) -> Result<Value> {
        Ok(serde_json::to_value(self)?)
    }
}
