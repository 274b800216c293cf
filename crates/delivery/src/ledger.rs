//! Notes how far uploads are, so that what an object store has confirmed is not sent again.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::DeliveryError;

/// The uploads of one folder, in a file.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    /// By target and object.
    objects: BTreeMap<String, BTreeMap<String, Progress>>,
}

/// How far the upload of one object is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Progress {
    /// A multipart upload was begun: its id, the length of its parts, and what the store answered to those that it has.
    Begun { id: String, part_bytes: u64, parts: Vec<String> },
    /// All of it is there, under this ETag.
    Whole { e_tag: Option<String> },
}

impl Ledger {
    /// Reads the ledger; it is empty if there is none that can be read: then everything is sent again.
    pub fn open(path: &Path) -> Self {
        let objects = serde_json::from_slice(&fs::read(path).unwrap_or_default()).unwrap_or_default();
        Self { path: path.to_owned(), objects }
    }

    pub(crate) fn progress(&self, target: &str, object: &str) -> Option<&Progress> {
        self.objects.get(target)?.get(object)
    }

    /// Notes, durably, how far an object is; `None` forgets it.
    pub(crate) fn note(
        &mut self,
        target: &str,
        object: &str,
        progress: Option<Progress>,
    ) -> Result<(), DeliveryError> {
        let objects = self.objects.entry(target.to_owned()).or_default();
        match progress {
            Some(progress) => drop(objects.insert(object.to_owned(), progress)),
            None => drop(objects.remove(object)),
        }
        self.write().map_err(|source| DeliveryError::File { path: self.path.clone(), source })
    }

    fn write(&self) -> io::Result<()> {
        let new = self.path.with_extension("json.new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec(&self.objects)?)?;
        file.sync_all()?;
        fs::rename(new, &self.path)
    }
}
