//! Reads tables of the firmware's from files.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use amdvi::ivrs::IvrsError;
use vtd::dmar::DmarError;

/// No table is longer, in bytes.
const LONGEST: u64 = 1 << 20;

/// Why a table was not decoded.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum FirmwareTableError {
    /// Its file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the host said.
        source: io::Error,
    },
    /// It is no DMAR table.
    #[error("{path} cannot be decoded")]
    Dmar {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: DmarError,
    },
    /// It is no IVRS table.
    #[error("{path} cannot be decoded")]
    Ivrs {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: IvrsError,
    },
}

/// The bytes of the table in a file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, FirmwareTableError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LONGEST).read_to_end(&mut bytes));
    read.map_err(|source| FirmwareTableError::Read { path: path.to_owned(), source })?;
    Ok(bytes)
}

/// What is wrong with a table as a whole: its header says `length`, there are `bytes`, and its header has `shortest`.
pub(super) fn damage(length: u32, bytes: usize, shortest: usize, is_sound: bool) -> Option<String> {
    let length = length as usize;
    if length > bytes {
        Some(format!("the table is cut short: its header says {length} bytes, and there are {bytes}"))
    } else if length < shortest {
        Some(format!("the table's length is impossible: its header says {length} bytes"))
    } else {
        (!is_sound).then(|| "the checksum is wrong".to_owned())
    }
}

/// A text of firmware's; only bytes that are no text are escaped, because ACPI's paths begin with a backslash.
pub(super) fn printable(name: &[u8]) -> String {
    let byte = |&byte: &u8| match byte {
        b' '..=b'~' => char::from(byte).to_string(),
        other => other.escape_ascii().to_string(),
    };
    name.iter().map(byte).collect()
}

/// Bytes in hexadecimal.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(" ")
}
