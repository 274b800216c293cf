//! The record and the memory in a dump.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use record::Record;

/// An open dump.
pub struct Dump {
    /// Its file.
    pub path: PathBuf,
    /// Release of the kernel that died.
    pub release: String,
    /// Whether it was finished.
    pub is_complete: bool,
    /// What the capture kernel found and did.
    pub record: Record,
    /// The dead kernel's memory, as far as it was dumped.
    pub memory: dumpfile::Dump,
}

impl Dump {
    /// Opens a dump and reads the record in it.
    pub fn open(path: &Path) -> Result<Self> {
        let file = dumpfile::Dump::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::read(path, file).with_context(|| format!("cannot inspect {}", path.display()))
    }

    fn read(path: &Path, file: dumpfile::Dump) -> Result<Self> {
        let Some(record) = find_record(file.notes().bytes())? else {
            bail!(
                "no record of a takeover is in it; only dumps that Holdover's capture kernel wrote have one"
            );
        };
        Ok(Self {
            path: path.to_owned(),
            release: file.release().escape_debug().to_string(),
            is_complete: file.is_complete(),
            record,
            memory: file,
        })
    }
}

/// Finds the record among a dump's notes.
pub fn find_record(notes: &[u8]) -> Result<Option<Record>, record::DecodeError> {
    let mut notes = vmcore::notes_in(notes);
    let note = notes.find(|note| note.name == record::NOTE_NAME && note.kind == record::NOTE_TYPE);
    note.map(|note| Record::decode(note.content)).transpose()
}
