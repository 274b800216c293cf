//! How large a file for dumps should be, and whether its file system has room for it.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::statvfs;

use crate::config::Configuration;
use crate::estimate::{self, EstimateError};
use crate::{Bytes, Progress};

/// Where a file for dumps is made if nobody says where.
pub const DEFAULT_FILE: &str = "/var/lib/holdover/area";
/// The least size that is made: a kernel's own memory grows while it runs.
const LEAST: u64 = 256 << 20;
/// Files have whole mebibytes. Labels, the seal and the log take less than eight.
const STEP: u64 = 1 << 20;
const OVERHEAD: u64 = 8 * STEP;
/// What part of a file system stays free.
const SPARE: u64 = 20;

/// Why there is no room for a file.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum RoomError {
    /// It does not fit.
    #[error(
        "a dump of now takes up to {dump}, and {folder} has {free} free, of which {spare} should stay so; name a larger file system with \
         --file, or a disk that `holdover format` has prepared with --area"
    )]
    Little {
        /// Where the file was to be.
        folder: PathBuf,
        /// What is free.
        free: Bytes,
        /// What should stay free.
        spare: Bytes,
        /// What a dump takes.
        dump: Bytes,
    },
    /// The wanted size does not fit.
    #[error("{folder} has {free} free, which is less than {size}; name a smaller --size, or another --file")]
    Size {
        /// Where the file was to be.
        folder: PathBuf,
        /// What is free.
        free: Bytes,
        /// What was wanted.
        size: Bytes,
    },
    /// The file system does not tell.
    #[error("cannot tell how much room {folder} has")]
    Untold {
        /// Where the file was to be.
        folder: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The size of a dump is unknown.
    #[error(transparent)]
    Estimate(#[from] EstimateError),
}

/// What there is room for, and what a dump takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// A folder of the file system.
    pub folder: PathBuf,
    /// Bytes that are free.
    pub free: u64,
    /// Bytes that the file system has.
    pub all: u64,
    /// Bytes of a dump of now, if its pages compress badly.
    pub dump: u64,
}

impl Room {
    /// Looks at the file system on which a file is to be made.
    pub(super) fn of(file: &Path) -> Result<Self, RoomError> {
        let folder = file.ancestors().skip(1).find(|folder| folder.is_dir()).unwrap_or(Path::new("/"));
        let folder = folder.to_owned();
        let statistics = match statvfs(&folder) {
            Ok(statistics) => statistics,
            Err(error) => return Err(RoomError::Untold { folder, source: error.into() }),
        };
        let bytes = |blocks: u64| blocks.saturating_mul(statistics.f_frsize);
        let (free, all) = (bytes(statistics.f_bavail), bytes(statistics.f_blocks));
        Ok(Self { folder, free, all, dump: 0 })
    }

    /// Estimates a dump, which takes a while. The steps of `progress` are pages.
    pub(super) fn estimate(
        self,
        configuration: &Configuration,
        progress: &dyn Progress,
    ) -> Result<Self, RoomError> {
        let estimate = estimate::estimate(configuration.level, configuration.codec, progress)?;
        Ok(Self { dump: estimate.most, ..self })
    }

    /// The size of the file: the wanted one; or twice what a dump of now takes, for the kernel's memory grows; or as much as it takes, if
    /// there is room for no more.
    pub(super) fn size(&self, wanted: Option<Bytes>) -> Result<Bytes, RoomError> {
        if let Some(size) = wanted {
            let size_error = || RoomError::Size { folder: self.folder.clone(), free: Bytes(self.free), size };
            return (size.0 <= self.free).then_some(size).ok_or_else(size_error);
        }
        let spare = self.all / SPARE;
        let most = self.free.saturating_sub(spare);
        let sizes = [self.dump.saturating_mul(2), self.dump]
            .map(|bytes| bytes.max(LEAST).saturating_add(OVERHEAD).div_ceil(STEP).saturating_mul(STEP));
        let little = || RoomError::Little {
            folder: self.folder.clone(),
            free: Bytes(self.free),
            spare: Bytes(spare),
            dump: Bytes(self.dump),
        };
        sizes.into_iter().find(|size| *size <= most).map(Bytes).ok_or_else(little)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn room(free: u64, dump: u64) -> Room {
        Room { folder: "/var".into(), free: free * MIB, all: 1000 * MIB, dump: dump * MIB }
    }

    fn size(free: u64, dump: u64) -> Option<u64> {
        room(free, dump).size(None).ok().map(|Bytes(size)| size / MIB)
    }

    #[test]
    fn a_file_is_twice_as_large_as_a_dump_of_now_if_there_is_room() {
        assert_eq!(size(1000, 300), Some(608));
        assert_eq!(size(1000, 10), Some(264), "the least");
        assert_eq!(size(657, 300), Some(308), "50 of 1000 stay free");
        assert_eq!(size(357, 300), None);
    }

    #[test]
    fn where_there_is_no_room_it_is_told_how_much_there_is_and_what_to_name() {
        let told = room(300, 300).size(None).unwrap_err().to_string();
        assert!(
            told.starts_with("a dump of now takes up to 300.00 MiB, and /var has 300.00 MiB free"),
            "{told}"
        );
        assert!(told.contains("--file") && told.contains("--area"), "{told}");
        assert!(matches!(room(300, 300).size(Some(Bytes(301 * MIB))), Err(RoomError::Size { .. })));
        assert_eq!(room(300, 300).size(Some(Bytes(300 * MIB))).unwrap(), Bytes(300 * MIB));
    }
}
