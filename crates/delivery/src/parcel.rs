//! What is delivered.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::DeliveryError;

/// A folder with files.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// Where it is.
    pub folder: PathBuf,
    /// The name that it has at its target: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// The names of the files, in the order in which they are sent. The last one tells that all are there.
    pub files: Vec<String>,
}

impl Parcel {
    pub(crate) fn open(&self, file: &str) -> Result<(File, u64), DeliveryError> {
        let path = self.folder.join(file);
        let opened = File::open(&path).and_then(|file| Ok((file.metadata()?.len(), file)));
        let (length, file) = opened.map_err(|source| DeliveryError::File { path, source })?;
        Ok((file, length))
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        Path::new(&self.folder).join(file)
    }
}
