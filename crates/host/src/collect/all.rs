//! Collects what all areas of this host hold, without a person: at each boot, and therefore after each crash.
//!
//! Each area has the same way: copy into a folder under another name, read the copy back from its disk, publish the folder, and only
//! then tell the area that it is free for the next dump. Wherever that is interrupted, the next run begins again, or goes on where the
//! folder was published already. An area with which something is wrong does not hinder the others.

mod outcome;
mod room;
mod run;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

use self::room::{Free, free};
use self::run::Run;
use super::folder;
use super::history::BootLoop;
use super::pages::Pages;
use super::places::{self, NotTaken, Place};
use super::retention::Retention;
use crate::areas::{AreaError, AreaName};
use crate::chain;
use crate::lock::Lock;
use crate::progress::Progress;
pub use outcome::{AreaOutcome, AreaReport, CollectedAll, LackingPage, Skipped};

/// What to collect, and where it goes.
#[derive(Clone, Debug)]
pub struct CollectAllRequest {
    /// The areas that the configuration names.
    pub areas: Vec<AreaName>,
    /// Where else to look for areas.
    pub search: Search,
    /// The directory in which each crash gets a folder.
    pub directory: PathBuf,
    /// What is kept of older folders.
    pub retention: Retention,
    /// Whether something is to be done for each crash afterwards. A folder for which that was not begun stays while there is room.
    pub actions_follow: bool,
    /// When crashes are called a boot loop.
    pub boot_loop: BootLoop,
    /// The file of the history, [`HISTORY`](super::HISTORY) on a host.
    pub history: PathBuf,
    /// What is written beside a dump.
    pub pages: Pages,
}

/// Where to look for areas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    /// Only where the request says.
    Named,
    /// On all disks of this host, and in the files that it made areas. Areas on disks that were neither formatted nor loaded here are
    /// another's, such as a guest's: they are told, and left alone.
    Own,
    /// In the same places, whosever the areas are.
    Everywhere,
}

/// Why nothing was collected.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum CollectAllError {
    /// The directory cannot be used.
    #[error(
        "cannot use {path}, where dumps are collected; `directory` in [collect] of /etc/holdover.toml names it"
    )]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the host said.
        source: io::Error,
    },
    /// Another run is at work.
    #[error("another `holdover collect` is at work in {path}")]
    Busy {
        /// The directory.
        path: PathBuf,
    },
}

/// Collects from all areas that are named or found. The steps of `progress` are bytes, of one copy after the other.
pub fn collect_all(
    request: &CollectAllRequest,
    progress: &dyn Progress,
) -> Result<CollectedAll, CollectAllError> {
    collect_where(request, progress, free, Place::search)
}

/// Does so where `free` tells how many bytes are free, and `search` which areas there are besides those that are named.
fn collect_where(
    request: &CollectAllRequest,
    progress: &dyn Progress,
    free: Free,
    search: impl FnOnce(&[AreaName]) -> Result<Vec<Place>, AreaError>,
) -> Result<CollectedAll, CollectAllError> {
    let _at_work = lock(&request.directory)?;
    let mut run = Run::begin(request, progress, free);
    let searched = if request.search == Search::Named { Ok(Vec::new()) } else { search(&request.areas) };
    run.warnings.extend(searched.as_ref().err().map(|error| chain(error)));
    let places = places::all(request, searched.unwrap_or_default());
    let areas = places.into_iter().map(|place| {
        let outcome = match place.found {
            Ok(found) => run.collect(&found),
            Err(NotTaken::Failed(error)) => Err(error.into()),
            Err(NotTaken::Skipped(skipped)) => Ok(AreaOutcome::Skipped(skipped)),
        };
        AreaReport { area: place.name, outcome }
    });
    let areas = areas.collect();
    Ok(run.end(areas))
}

/// Makes sure that the directory is there, and that nobody else collects into it. A full file system may have no room for a directory
/// either: that is no matter where no area holds a dump, and each area that does tells of it.
pub(super) fn lock(directory: &Path) -> Result<Option<Lock>, CollectAllError> {
    let failed = |source| CollectAllError::Directory { path: directory.to_owned(), source };
    match folder::make_directory(directory) {
        Err(error) if error.kind() == io::ErrorKind::StorageFull => return Ok(None),
        made => made.map_err(failed)?,
    }
    Lock::take(directory).map(Some).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => CollectAllError::Busy { path: directory.to_owned() },
        _ => failed(error),
    })
}
