//! `holdover remove`: makes a dump area none any more.

use std::path::{Path, PathBuf};

use anyhow::Result;
use host::areas::{self, AreaName, IfUncollected, RemoveError, Removed, RemovedKind};
use host::programs::{HostPrograms, NoPrograms, Programs};
use host::{chain, codes};
use serde_json::{Value, json};

use crate::report::{Report, row};

/// What the command is told.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The dump area: its UUID, its device, or its file, which is deleted; of one that is gone, the note is
    #[arg(value_name = "UUID|DEVICE", required_unless_present = "all_files")]
    area: Option<AreaName>,
    /// Give up a dump that was not collected; of a file that has lost its label, the note
    #[arg(long)]
    discard_dump: bool,
    /// Delete all files that were made dump areas here, as the package does when it is removed; those that are in use, hold a dump or
    /// have lost their labels stay
    #[arg(long, conflicts_with_all = ["area", "discard_dump"])]
    all_files: bool,
    /// Take the notes of which areas are this system's from this folder instead of /
    #[arg(long, value_name = "FOLDER", default_value = "/", hide_default_value = true)]
    root: PathBuf,
}

/// Removes the area, or all files.
pub(crate) fn run(arguments: &Arguments) -> Result<Box<dyn Report>> {
    let Arguments { area, discard_dump, all_files: _, root } = arguments;
    // The units of another system are not this one's.
    let programs: &dyn Programs = if root == Path::new("/") { &HostPrograms } else { &NoPrograms };
    let if_uncollected = if *discard_dump { IfUncollected::Discard } else { IfUncollected::Keep };
    Ok(match area {
        Some(area) => Box::new(areas::remove(area, if_uncollected, root, programs)?),
        None => Box::new(RemovedFiles(areas::remove_files(root, programs))),
    })
}

/// What became of each file.
struct RemovedFiles(Vec<(PathBuf, Result<Removed, RemoveError>)>);

impl Report for RemovedFiles {
    fn rows(&self) -> Vec<Vec<String>> {
        let told = |(file, removed): &(PathBuf, Result<Removed, RemoveError>)| match removed {
            Ok(removed) => row("removed", what(removed)),
            Err(error) => row("stays", format!("{}: {}", file.display(), chain(error))),
        };
        let none = self.0.is_empty().then(|| row("removed", "nothing: no file was made a dump area here"));
        none.into_iter().chain(self.0.iter().map(told)).collect()
    }

    fn json(&self) -> Result<Value> {
        let told = |(file, removed): &(PathBuf, Result<Removed, RemoveError>)| match removed {
            Ok(removed) => removed.json(),
            Err(error) => Ok(json!({ "device": file, "error": chain(error), "code": codes::of(error) })),
        };
        Ok(json!({ "files": self.0.iter().map(told).collect::<Result<Vec<_>>>()? }))
    }

    fn is_whole(&self) -> bool {
        self.0.iter().all(|(_, removed)| removed.is_ok())
    }
}

/// What became of an area.
fn what(removed: &Removed) -> String {
    let device = removed.device.as_ref().map(|device| device.display().to_string());
    let device = device.unwrap_or_else(|| "the area".into());
    match removed.kind {
        RemovedKind::Device => format!("{device} is free"),
        RemovedKind::File => format!("{device} is deleted"),
        RemovedKind::Note => {
            format!("{device} was not there, and is forgotten; where its disk is only away, it is as it was")
        }
        RemovedKind::Unlabelled => {
            format!(
                "{device} is forgotten, and is there as it was: it has no label; delete it if nobody needs it"
            )
        }
    }
}

impl Report for Removed {
    fn rows(&self) -> Vec<Vec<String>> {
        let uuid = self.uuid.map(|uuid| row("removed", uuid.to_string()));
        uuid.into_iter().chain([row("device", what(self))]).collect()
    }

    fn json(&self) -> Result<Value> {
        let forgotten = matches!(self.kind, RemovedKind::Note | RemovedKind::Unlabelled);
        Ok(json!({ "uuid": self.uuid, "device": self.device, "forgotten": forgotten }))
    }
}
