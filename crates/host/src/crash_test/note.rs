//! The note of crashes on request, `/var/lib/holdover/test.json`: it outlives the crash.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Test, TestError};

/// Where it is.
const NOTE: &str = "/var/lib/holdover/test.json";

/// What is noted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    /// The last test.
    pub(super) last: Option<Test>,
    /// The last one that was passed.
    pub(super) passed: Option<Test>,
}

impl Note {
    /// Reads it; there may be none.
    pub(super) fn read() -> Result<Self, TestError> {
        Self::read_at(Path::new(NOTE))
    }

    /// Replaces it, durably.
    pub(super) fn write(&self) -> Result<(), TestError> {
        self.write_at(Path::new(NOTE))
    }

    fn read_at(path: &Path) -> Result<Self, TestError> {
        let path = path.to_owned();
        match fs::read(&path) {
            Ok(json) => serde_json::from_slice(&json).map_err(|source| TestError::Damaged { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(TestError::Note { path, source }),
        }
    }

    fn write_at(&self, path: &Path) -> Result<(), TestError> {
        self.replace(path).map_err(|source| TestError::Note { path: path.to_owned(), source })
    }

    /// The kernel dies soon after: what is not on the disk by then is lost.
    fn replace(&self, path: &Path) -> io::Result<()> {
        let folder = path.parent().ok_or(io::ErrorKind::NotFound)?;
        fs::create_dir_all(folder)?;
        let new = path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.sync_all()?;
        fs::rename(new, path)?;
        File::open(folder)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::super::fingerprint::Fingerprint;
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("holdover/test.json");
        assert_eq!(Note::read_at(&path).unwrap(), Note::default());
        let test = Test {
            nonce: Uuid::from_u128(1),
            boot: Uuid::from_u128(2),
            at: 3,
            host: Fingerprint::default(),
            outcome: None,
        };
        let note = Note { last: Some(test), passed: None };
        note.write_at(&path).unwrap();
        assert_eq!(Note::read_at(&path).unwrap(), note);
    }

    #[test]
    fn a_damaged_note_is_told_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.json");
        fs::write(&path, b"\xff{").unwrap();
        assert!(Note::read_at(&path).unwrap_err().to_string().contains("`rm "));
        assert!(matches!(Note::read_at(folder.path()), Err(TestError::Note { .. })));
    }
}
