//! Reads the dead kernel's log out of a dump area, or out of a dump. In an area it is stored before the dump, so it may be there where
//! no dump is.

use std::convert::Infallible;
use std::io::Write;
use std::path::{Path, PathBuf};

use area::{LogError, Seal, SealError};
use dumpfile::{Dump, DumpError};
use vmcore::Kernel;

use crate::areas::{self, AreaError, AreaName, FoundArea};
use crate::collect::{MarkError, mark};
use crate::unfinished::{IfExists, OutputError, Unfinished};

/// The messages of a dead kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLog {
    /// The messages as lines of text; only tabs and characters that can be printed, whatever the area holds.
    pub text: String,
    /// Bytes of older messages for which the area has no room.
    pub left_out: u64,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum DmesgError {
    /// The dump area was not found, or cannot be used.
    #[error(transparent)]
    Area(#[from] AreaError),
    /// Which dump the log belongs to is not known.
    #[error("{device} holds no log")]
    Seal {
        /// The area's device.
        device: PathBuf,
        /// What is wrong.
        source: SealError,
    },
    /// The log is not what was written, or the disk failed.
    #[error("the log on {device} cannot be read")]
    Log {
        /// The area's device.
        device: PathBuf,
        /// What is wrong.
        source: LogError,
    },
    /// The file is no dump, or a damaged one.
    #[error("{path} is neither a dump area nor a dump that can be read; `holdover doctor` lists the areas")]
    Dump {
        /// The file.
        path: PathBuf,
        /// What is wrong with it as a dump.
        source: DumpError,
    },
    /// The dump does not have the log, or not in a form that is known.
    #[error(
        "{path} is a dump in which the log cannot be found; `crash` with the kernel's debug information may show it"
    )]
    NoLogInDump {
        /// The dump.
        path: PathBuf,
        /// What is missing.
        source: vmcore::LogError,
    },
    /// Nothing was dumped, or the kernel that died keeps its messages in a form that is not known.
    #[error("{device} holds no log of a dead kernel")]
    NoLog {
        /// The area's device.
        device: PathBuf,
    },
    /// The file cannot be made or written.
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// A log that was copied into a file.
#[derive(Debug)]
pub struct CollectedLog {
    /// The log.
    pub log: StoredLog,
    /// Whether the area now says that what it holds was collected; `None` if it need not, because there is a dump besides.
    pub mark: Option<Result<(), MarkError>>,
}

/// Reads the log of the last kernel that died, as far as a dump to this area was begun.
pub fn read(area: &AreaName) -> Result<StoredLog, DmesgError> {
    read_in(&areas::find_only(area)?).map(|(log, _)| log)
}

/// Reads the log in a dump, of any form that `holdover makedump` reads.
pub fn read_dump(path: &Path) -> Result<StoredLog, DmesgError> {
    let unreadable = |source| DmesgError::Dump { path: path.to_owned(), source };
    let mut dump = Dump::open(path).map_err(unreadable)?;
    if dump.vmcoreinfo().text().is_empty() {
        dump.find_vmcoreinfo().map_err(unreadable)?;
    }
    let kernel = Kernel::new(dump.vmcoreinfo());
    let log = kernel.log(&dump, || true);
    let log = log.map_err(|source| DmesgError::NoLogInDump { path: path.to_owned(), source })?;
    let mut text = Vec::new();
    let Ok(()) = log.print(|piece| -> Result<(), Infallible> {
        text.extend_from_slice(piece);
        Ok(())
    });
    Ok(StoredLog { text: printable(&text), left_out: 0 })
}

/// Writes a log to a file, which appears under its name only when it is whole.
pub fn write(log: &StoredLog, out: &Path, if_exists: IfExists) -> Result<(), DmesgError> {
    save(log, out, if_exists)
}

/// Copies that log into a file, which appears under its name only when it is whole. If the log is all that the area holds, the area is
/// told that it was collected.
pub fn collect(area: &AreaName, out: &Path, if_exists: IfExists) -> Result<CollectedLog, DmesgError> {
    let found = areas::find_only(area)?;
    let (log, seal) = read_in(&found)?;
    save(&log, out, if_exists)?;
    let mark = seal.filter(|seal| !seal.has_dump()).map(|seal| mark(&found, &seal));
    Ok(CollectedLog { log, mark })
}

/// Reads the log, and the seal of the dump that it belongs to, if that can be read.
pub(crate) fn read_in(found: &FoundArea) -> Result<(StoredLog, Option<Seal>), DmesgError> {
    let mut area = found.open()?;
    let device = || found.device.clone();
    let (log, seal) = match area.read_seal() {
        Ok(seal) => (area.read_log(&seal), Some(seal)),
        // The power may go while the seal is written.
        Err(SealError::Damaged(_)) => (area.read_last_log(), None),
        Err(source) => return Err(DmesgError::Seal { device: device(), source }),
    };
    let log = log.map_err(|source| DmesgError::Log { device: device(), source })?;
    let log = log.ok_or_else(|| DmesgError::NoLog { device: device() })?;
    Ok((StoredLog { text: printable(&log.text), left_out: log.left_out }, seal))
}

fn save(log: &StoredLog, out: &Path, if_exists: IfExists) -> Result<(), DmesgError> {
    let unfinished = Unfinished::create(out, if_exists)?;
    if let Err(source) = unfinished.file().write_all(log.text.as_bytes()) {
        let path = unfinished.path().to_owned();
        unfinished.discard();
        return Err(OutputError::Write { path, source }.into());
    }
    Ok(unfinished.keep()?)
}

/// The text, with `\x1b` in place of bytes that a terminal may take for commands. The capture kernel has done that already;
/// but an area is a disk that anybody may have written to.
fn printable(text: &[u8]) -> String {
    let is_harmless = |byte| matches!(byte, b'\n' | b'\t' | b' '..=b'~');
    let escaped =
        |byte: u8| if is_harmless(byte) { char::from(byte).into() } else { format!("\\x{byte:02x}") };
    text.iter().copied().map(escaped).collect()
}
