//! Checks that the loaded capture kernel would still write to what was made a dump area, and to nothing else: a timer asks for it.
//!
//! The capture kernel looks for an area's labels where they were when it was loaded. A file that has moved since leaves them behind, in
//! blocks that the file system gives to others, who may write them much later. So does one that was removed without `holdover remove`.
//! Only `swapoff` makes that possible; whoever runs `swapoff -a` does not think of a dump.

use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::areas::{AreaError, FoundArea};
use crate::kexec::KexecError;
use crate::{load, loaded};

/// What to do about what was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfWrong {
    /// Tell it.
    Tell,
    /// Pin again what is loose; unload the capture kernel if an area is no longer where it would write.
    Repair,
}

/// What became of the areas that the loaded capture kernel dumps to.
#[derive(Debug)]
pub struct Verified {
    /// Each of them, in their order; none if nothing is loaded.
    pub areas: Vec<VerifiedArea>,
    /// Whether the capture kernel was unloaded.
    pub unloaded: bool,
}

/// One of these areas.
#[derive(Debug)]
pub struct VerifiedArea {
    /// Its device.
    pub device: PathBuf,
    /// What became of it.
    pub state: AreaState,
}

/// What became of an area since the capture kernel was loaded.
#[derive(Debug)]
pub enum AreaState {
    /// It is in its place, and stays there.
    InPlace,
    /// It is a file in its place, and nothing keeps it there.
    Loose,
    /// The same, and it is kept there again.
    PinnedAgain,
    /// This user may not see it.
    Unknown(AreaError),
    /// It is not in its place: what is there may be another's.
    Lost(AreaError),
}

impl AreaState {
    /// Finds out.
    fn of(device: &Path, uuid: Uuid) -> (Self, Option<FoundArea>) {
        match FoundArea::again(device, uuid) {
            Ok(found) if found.is_loose() => (Self::Loose, Some(found)),
            Ok(found) => (Self::InPlace, Some(found)),
            Err(error) if error.is_forbidden() => (Self::Unknown(error), None),
            Err(error) => (Self::Lost(error), None),
        }
    }

    /// Whether nothing is to be done.
    pub fn is_good(&self) -> bool {
        matches!(self, Self::InPlace | Self::PinnedAgain)
    }
}

impl Verified {
    /// Whether a capture kernel is loaded, and would find each of its areas.
    pub fn is_good(&self) -> bool {
        !self.areas.is_empty() && self.areas.iter().all(|area| area.state.is_good())
    }
}

/// Checks each area that the loaded capture kernel dumps to.
pub fn verify(if_wrong: IfWrong) -> Result<Verified, KexecError> {
    let areas = loaded::areas().into_iter().map(|(uuid, device)| {
        let state = match (AreaState::of(&device, uuid), if_wrong) {
            ((AreaState::Loose, Some(found)), IfWrong::Repair) => pinned_again(&found),
            ((state, _), _) => state,
        };
        VerifiedArea { device, state }
    });
    let areas: Vec<_> = areas.collect();
    let is_lost = areas.iter().any(|area| matches!(area.state, AreaState::Lost(_)));
    let unloaded = is_lost && if_wrong == IfWrong::Repair;
    if unloaded {
        load::unload()?;
    }
    Ok(Verified { areas, unloaded })
}

/// Pins a file; between the check and the pin it may have moved.
fn pinned_again(found: &FoundArea) -> AreaState {
    match found.pin() {
        Ok(()) => AreaState::PinnedAgain,
        Err(error) if error.is_forbidden() => AreaState::Unknown(error),
        Err(error) => AreaState::Lost(error),
    }
}
