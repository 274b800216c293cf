//! `holdover remove`: makes a dump area none any more.

use anyhow::Result;
use host::areas::{self, AreaName, IfUncollected, RemoveError, Removed, RemovedKind};
use host::programs::HostPrograms;
use serde_json::{Value, json};

use crate::report::{Report, row};

/// What the command is told.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The dump area: its UUID, its device, or its file, which is deleted; of one that is gone, the note is
    #[arg(value_name = "UUID|DEVICE")]
    area: AreaName,
    /// Give up a dump that was not collected
    #[arg(long)]
    discard_dump: bool,
}

/// Removes the area.
pub(crate) fn run(arguments: &Arguments) -> Result<Removed, RemoveError> {
    let if_uncollected = if arguments.discard_dump { IfUncollected::Discard } else { IfUncollected::Keep };
    areas::remove(&arguments.area, if_uncollected, &HostPrograms)
}

impl Report for Removed {
    fn rows(&self) -> Vec<Vec<String>> {
        let device = self.device.as_ref().map(|device| device.display().to_string());
        let device = device.unwrap_or_else(|| "the area".into());
        let what = match self.kind {
            RemovedKind::Device => format!("{device} is free"),
            RemovedKind::File => format!("{device} is deleted"),
            RemovedKind::Note => {
                format!(
                    "{device} was not there, and is forgotten; where its disk is only away, it is as it was"
                )
            }
        };
        let uuid = self.uuid.map(|uuid| row("removed", uuid.to_string()));
        uuid.into_iter().chain([row("device", what)]).collect()
    }

    fn json(&self) -> Result<Value> {
        let forgotten = self.kind == RemovedKind::Note;
        Ok(json!({ "uuid": self.uuid, "device": self.device, "forgotten": forgotten }))
    }
}
