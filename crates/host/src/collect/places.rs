//! From where an automatic collect takes: the areas that the configuration names, then those of this host that a search finds. What is
//! another's is left alone: a disk of this host may be a guest's, and the dump in it the guest's.

use std::path::PathBuf;

use super::all::{CollectAllRequest, Search, Skipped};
use crate::areas::registry::Registry;
use crate::areas::search::{self, Candidate, OwnAreas};
use crate::areas::{self, AreaError, AreaName, FoundArea};
use crate::{chain, sysfs};

/// An area, or what should be one.
#[derive(Debug)]
pub(super) struct Place {
    /// As the configuration calls it, or its device.
    pub(super) name: String,
    /// Where it is; `None` if only its name is known.
    device: Option<PathBuf>,
    /// Whose it is.
    owner: Owner,
    /// The area, or why nothing is taken from it.
    pub(super) found: Result<FoundArea, NotTaken>,
}

/// Whose an area is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// This host's.
    Host,
    /// Another's, or nobody knows.
    Unknown,
}

/// Why nothing is taken from an area.
#[derive(Debug)]
pub(super) enum NotTaken {
    /// It cannot be used.
    Failed(AreaError),
    /// It is left alone.
    Skipped(Skipped),
}

impl Place {
    /// What a search of this host finds: its disks, and the files that it made areas.
    pub(super) fn search(configured: &[AreaName]) -> Result<Vec<Self>, AreaError> {
        let files = Registry::of_host().files().into_iter().map(Self::file);
        Ok(Self::on_disks(search::candidates()?, &OwnAreas::of_host(configured)).chain(files).collect())
    }

    /// What was found on disks, and whose it is.
    pub(super) fn on_disks(all: Vec<Candidate>, own: &OwnAreas) -> impl Iterator<Item = Self> {
        let owner = |one| if own.has(one, &all) { Owner::Host } else { Owner::Unknown };
        let owners: Vec<_> = all.iter().map(owner).collect();
        all.into_iter().zip(owners).map(|(Candidate { device, found, .. }, owner)| Self {
            name: device.display().to_string(),
            device: Some(device),
            owner,
            found: found.map_err(NotTaken::Failed),
        })
    }

    /// The area that a file was noted to be.
    pub(super) fn file(path: PathBuf) -> Self {
        let found = search::noted(&path).map_err(|error| match error {
            AreaError::NotThere { .. } => NotTaken::Skipped(Skipped::Deleted { error: chain(&error) }),
            error => NotTaken::Failed(error),
        });
        Self { name: path.display().to_string(), device: Some(path), owner: Owner::Host, found }
    }

    /// The area that the configuration names. One that is away may come.
    fn named(name: &AreaName) -> Self {
        let found = match name {
            AreaName::Device(path) if !path.starts_with("/dev") && matches!(path.try_exists(), Ok(false)) => {
                Err(AreaError::NotThere { file: path.clone() })
            }
            name => areas::find_only(name),
        };
        let device = match (&found, name) {
            (Ok(found), _) => Some(found.device.clone()),
            (Err(_), AreaName::Device(device)) => Some(device.clone()),
            (Err(_), AreaName::Uuid(_)) => None,
        };
        Self { name: name.to_string(), device, owner: Owner::Host, found: found.map_err(NotTaken::Failed) }
    }

    /// Leaves alone what is not this host's.
    fn left_alone(self) -> Self {
        let skipped = match self.found {
            found if self.owner == Owner::Host => return Self { found, ..self },
            Ok(found) => Skipped::Foreign { uuid: found.label.uuid },
            Err(NotTaken::Failed(error)) => Skipped::ForeignUnusable { error: chain(&error) },
            Err(NotTaken::Skipped(skipped)) => skipped,
        };
        Self { found: Err(NotTaken::Skipped(skipped)), ..self }
    }

    fn is_same(&self, other: &Self) -> bool {
        match (&self.device, &other.device) {
            (Some(one), Some(other)) => sysfs::are_same(one, other),
            _ => self.name == other.name,
        }
    }
}

/// All places, each once, those of the configuration first.
pub(super) fn all(request: &CollectAllRequest, searched: Vec<Place>) -> Vec<Place> {
    let mut all: Vec<Place> = Vec::new();
    for place in request.areas.iter().map(Place::named).chain(searched) {
        if !all.iter().any(|other| other.is_same(&place)) {
            all.push(if request.search == Search::Everywhere { place } else { place.left_alone() });
        }
    }
    all
}
