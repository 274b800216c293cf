//! How a person names a dump area.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use uuid::Uuid;

/// The name of a dump area, as a person gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AreaName {
    /// By the UUID in its label, wherever it is.
    Uuid(Uuid),
    /// By its device: a disk, a partition or a file.
    Device(PathBuf),
}

impl FromStr for AreaName {
    type Err = std::convert::Infallible;

    /// Reads any text that is not a UUID as the path of a device.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(text.parse().map_or_else(|_| Self::Device(text.into()), Self::Uuid))
    }
}

impl From<OsString> for AreaName {
    /// Reads an argument, which may be the path of a device that is no text.
    fn from(argument: OsString) -> Self {
        let uuid = argument.to_str().and_then(|text| text.parse().ok());
        uuid.map_or_else(|| Self::Device(argument.into()), Self::Uuid)
    }
}

impl fmt::Display for AreaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uuid(uuid) => uuid.fmt(f),
            Self::Device(device) => device.display().fmt(f),
        }
    }
}
