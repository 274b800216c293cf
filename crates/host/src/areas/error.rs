//! Why a dump area was not found, or cannot be used; and what that says of the blocks it was in.

use std::io;
use std::path::{Path, PathBuf};

use area::{Damage, OpenError};
use uuid::Uuid;

use super::FileError;
use crate::Bytes;
use crate::loaded::area::{AreaPlace, LoadedArea};
use crate::sysfs::SysfsError;

/// Why a dump area was not found, or cannot be used.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum AreaError {
    /// No disk has it.
    #[error("no disk that you may read has dump area {uuid}; `holdover doctor` shows what there is")]
    NotFound {
        /// The UUID that was asked for.
        uuid: Uuid,
    },
    /// More than one disk has it.
    #[error("{uuid} is on {first} and on {copy}; name the device")]
    Ambiguous {
        /// The UUID that was asked for.
        uuid: Uuid,
        /// The first device that has it.
        first: PathBuf,
        /// Another one.
        copy: PathBuf,
    },
    /// The host refuses to open the device.
    #[error("cannot read {device}")]
    Open {
        /// The device.
        device: PathBuf,
        /// What the host said.
        source: io::Error,
    },
    /// The device has no label.
    #[error("{device} is not a dump area; `holdover format {device}` makes it one")]
    NoArea {
        /// The device.
        device: PathBuf,
    },
    /// The device is shorter than its label says.
    #[error(
        "{device} has the label of a dump area of {length}, which does not fit: was it cut, or copied in part? Make it as long as it was: `lsblk -b {device}` shows how long it is"
    )]
    Cut {
        /// The device.
        device: PathBuf,
        /// The length that its label says.
        length: Bytes,
    },
    /// The device has a label, and something is wrong.
    #[error("{device} is a dump area that cannot be used: {reason}")]
    Unusable {
        /// The device.
        device: PathBuf,
        /// What is wrong.
        reason: OpenError,
    },
    /// There is no such device or file any more.
    #[error(
        "{device} is gone: taken away, removed, renamed, or on a file system that is not mounted; attach or mount it, or run `holdover load` with another area"
    )]
    Gone {
        /// The device.
        device: PathBuf,
    },
    /// A file that was made an area, or is configured as one, is not there.
    #[error(
        "{file} is a dump area, and is not there: mount its file system and collect again, or, if the file was deleted, take it out of \
         {} if it names it, and run `holdover remove {file}`, which forgets it",
        crate::config::FILE
    )]
    NotThere {
        /// The file.
        file: PathBuf,
    },
    /// A file that was made an area has no label any more.
    #[error(
        "{file} was made a dump area, and has no label of one any more: it is damaged, or another file has its name; nothing of it is read or \
         changed. If no dump of it is missed, `holdover remove --discard-dump {file}` forgets it, and leaves the file"
    )]
    LabelGone {
        /// The file.
        file: PathBuf,
    },
    /// It begins elsewhere than when the capture kernel was loaded, which would write to where it was.
    #[error(
        "{device} begins at {now}, and began at {then} when the capture kernel was loaded: what is there may be another's; `holdover load` tells it the new place"
    )]
    Elsewhere {
        /// The device.
        device: PathBuf,
        /// Where it began.
        then: Box<AreaPlace>,
        /// Where it begins.
        now: Box<AreaPlace>,
    },
    /// A file is no area any more, or its disk cannot be found.
    #[error(transparent)]
    File(#[from] FileError),
    /// The disks cannot be listed.
    #[error(transparent)]
    Disks(#[from] SysfsError),
}

impl AreaError {
    /// `holdover format` is recommended only if there is no label: otherwise there may be a dump.
    pub(super) fn refused(device: &Path, reason: OpenError) -> Self {
        let device = device.to_owned();
        match reason {
            OpenError::Label(Damage::NoMagic) => Self::NoArea { device },
            OpenError::Length { length } => Self::Cut { device, length: Bytes(length) },
            _ => Self::Unusable { device, reason },
        }
    }

    /// Whether this user may not see what is there.
    pub(crate) fn is_forbidden(&self) -> bool {
        match self {
            Self::Open { source, .. } | Self::File(FileError::Open { source, .. }) => {
                source.kind() == io::ErrorKind::PermissionDenied
            }
            _ => false,
        }
    }

    /// Whether the blocks that an area was in may be others' by now. A disk that is away endangers nobody, nor does one without labels.
    pub(crate) fn is_lost(&self, area: &LoadedArea) -> bool {
        match self {
            Self::Gone { .. } | Self::NoArea { .. } | Self::Cut { .. } => area.is_on_lent_blocks(),
            Self::Unusable { reason, .. } => area.is_on_lent_blocks() && !is_failure(reason),
            Self::Elsewhere { .. } => true,
            Self::File(error) => error.is_another_place(),
            _ => false,
        }
    }

    /// Whether the device has a label, and something is wrong with it or with the area: not that it cannot be read.
    pub(crate) fn tells_of_a_label(&self) -> bool {
        match self {
            Self::Cut { .. } => true,
            Self::Unusable { reason, .. } => !is_failure(reason),
            _ => false,
        }
    }
}

/// Whether a device, or this host, failed: it is unknown what the area is like.
pub(super) const fn is_failure(reason: &OpenError) -> bool {
    matches!(reason, OpenError::Device(_) | OpenError::OutOfMemory(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_cannot_be_read_is_told_from_one_with_a_label_that_cannot_be() {
        let tells = |reason| AreaError::refused(Path::new("/dev/loop0"), reason).tells_of_a_label();
        assert!(!tells(machine::BlockError::OutOfBounds.into()), "it is empty");
        assert!(!tells(OpenError::Label(Damage::NoMagic)));
        assert!(tells(OpenError::Label(Damage::Checksum)) && tells(OpenError::LabelsDiffer));
        assert!(tells(OpenError::Length { length: 1 << 40 }));
    }
}
