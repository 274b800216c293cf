//! Reads the record and the memory from a dump.

use std::path::{Path, PathBuf};

use record::{DecodeError, Record};

use super::{InspectError, RecordError};

/// An open dump with a record.
pub(super) struct RecordedDump {
    /// Its file.
    pub(super) path: PathBuf,
    /// Release of the kernel that died.
    pub(super) release: String,
    /// Whether it was finished.
    pub(super) is_complete: bool,
    /// What the capture kernel found and did.
    pub(super) record: Record,
    /// The dead kernel's memory, as far as it was dumped.
    pub(super) memory: dumpfile::Dump,
}

impl RecordedDump {
    /// Opens a dump and reads the record in it.
    pub(super) fn open(path: &Path) -> Result<Self, InspectError> {
        let file = dumpfile::Dump::open(path)
            .map_err(|source| InspectError::Read { dump: path.to_owned(), source })?;
        Self::read(path, file).map_err(|source| InspectError::NoRecord { dump: path.to_owned(), source })
    }

    /// Reads the record in an open dump, which is that file.
    pub(super) fn read(path: &Path, file: dumpfile::Dump) -> Result<Self, RecordError> {
        let record = find_record(file.notes().bytes())?.ok_or(RecordError::Missing)?;
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
pub(crate) fn find_record(notes: &[u8]) -> Result<Option<Record>, DecodeError> {
    let mut notes = vmcore::notes_in(notes);
    let note = notes.find(|note| note.name == record::NOTE_NAME && note.kind == record::NOTE_TYPE);
    note.map(|note| Record::decode(note.content)).transpose()
}
