//! What became of all areas, and of each.

use std::path::PathBuf;

use uuid::Uuid;

use super::super::crash::FolderContent;
use super::super::dump::{CollectError, MarkError};
use super::super::folder::CrashFolder;
use super::super::history::History;

/// What became of all areas.
#[derive(Debug)]
pub struct CollectedAll {
    /// Each area.
    pub areas: Vec<AreaReport>,
    /// Older folders that were removed.
    pub removed: Vec<PathBuf>,
    /// How many crashes followed each other too soon, if they are so many that they are called a boot loop.
    pub boot_loop: Option<u32>,
    /// What went wrong beside the dumps, in words.
    pub warnings: Vec<String>,
    /// The history with what was collected now.
    pub history: History,
}

/// What became of one area.
#[derive(Debug)]
pub struct AreaReport {
    /// Its device, or the name by which it was not found.
    pub area: String,
    /// What became of it.
    pub outcome: Result<AreaOutcome, CollectError>,
}

/// What was taken from an area.
#[derive(Debug)]
pub enum AreaOutcome {
    /// It holds nothing that was not collected before.
    Nothing,
    /// It was left alone.
    Skipped(Skipped),
    /// All that it holds.
    Collected {
        /// Where that is.
        folder: CrashFolder,
        /// Whether the area is free now.
        mark: Result<(), MarkError>,
        /// Pages that could not be made.
        lacks: Vec<LackingPage>,
    },
    /// Only the log could be saved. The dump is still in the area, and the next run tries again.
    LogOnly {
        /// Where the log is.
        folder: CrashFolder,
        /// Why not more.
        why: CollectError,
    },
}

/// Why an area was left alone. Its text says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Skipped {
    /// It is another's.
    #[error(
        "left alone: dump area {uuid} is not named in the configuration, and was neither formatted nor loaded on this host: it may be a \
         guest's; `holdover collect --everywhere` collects from it too, and frees it"
    )]
    Foreign {
        /// Its UUID.
        uuid: Uuid,
    },
    /// It is damaged, and none of this host's areas is missing.
    #[error("left alone: no area of this host is missing, and this is none that can be read: {error}")]
    ForeignUnusable {
        /// What is wrong with it.
        error: String,
    },
    /// It is a file that is not there, and nothing else speaks of it.
    #[error("{error}")]
    Deleted {
        /// What to do.
        error: String,
    },
}

/// A page that is not beside its dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LackingPage {
    /// The name of its file.
    pub name: String,
    /// Why it could not be made.
    pub why: String,
}

impl CollectedAll {
    /// The folders that this run made or met, and those with a log only too.
    pub fn crashes(&self) -> impl Iterator<Item = &CrashFolder> {
        self.areas.iter().filter_map(|report| match &report.outcome {
            Ok(AreaOutcome::Collected { folder, .. } | AreaOutcome::LogOnly { folder, .. }) => Some(folder),
            _ => None,
        })
    }

    /// Whether everything that the areas hold is collected, and nothing of it is missing.
    pub fn is_whole(&self) -> bool {
        self.areas.iter().all(AreaReport::is_whole)
    }
}

impl AreaReport {
    /// Whether everything that the area holds is collected, and nothing of it is missing.
    pub fn is_whole(&self) -> bool {
        match &self.outcome {
            Ok(AreaOutcome::Nothing | AreaOutcome::Skipped(_)) => true,
            Ok(AreaOutcome::Collected { folder, mark, .. }) => {
                folder.note.crash.content == FolderContent::Complete && mark.is_ok()
            }
            _ => false,
        }
    }

    /// Whether something may be in the area that is not collected.
    pub(super) fn is_left(&self) -> bool {
        use AreaOutcome::{Collected, Nothing, Skipped};
        !matches!(self.outcome, Ok(Nothing | Skipped(_) | Collected { mark: Ok(()), .. }))
    }
}
