//! Files that get their final name only when they are complete and durable on the disk.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Why a file was not made. If another file has the name, nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// A file of that name is there.
    #[error("{out} exists; `--force` replaces it")]
    Exists {
        /// The name that is taken.
        out: PathBuf,
    },
    /// It cannot be made, or be made durable.
    #[error("cannot make {path}")]
    Make {
        /// Its name.
        path: PathBuf,
        /// What the host's file system said.
        source: io::Error,
    },
    /// The file is damaged, and cannot be renamed to say so.
    #[error("cannot rename {path}")]
    Rename {
        /// The name that it has.
        path: PathBuf,
        /// What the host's file system said.
        source: io::Error,
    },
}

/// A file on its way: `OUT.unfinished` until [`keep`](Self::keep).
#[derive(Debug)]
pub(crate) struct Unfinished {
    file: File,
    path: PathBuf,
    out: PathBuf,
}

/// What to do if a file has the name that the new one is to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfExists {
    /// Leave it, and make nothing.
    Refuse,
    /// Replace it once the new one is whole.
    Replace,
}

impl IfExists {
    /// Returns an error if the name is taken and must not be replaced.
    pub(crate) fn check(self, out: &Path) -> Result<(), OutputError> {
        if self == Self::Refuse && out.exists() {
            return Err(OutputError::Exists { out: out.to_owned() });
        }
        Ok(())
    }
}

impl Unfinished {
    /// Makes an empty file beside `out`, in place of what an earlier attempt left there.
    pub(crate) fn create(out: &Path, if_exists: IfExists) -> Result<Self, OutputError> {
        if_exists.check(out)?;
        let path = beside(out, "unfinished");
        match make(&path) {
            Ok(file) => Ok(Self { file, path, out: out.to_owned() }),
            Err(source) => Err(OutputError::Make { path, source }),
        }
    }

    /// The file, open for reading and writing.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Its present name.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the file durable, then gives it its name, then makes the name durable.
    pub(crate) fn keep(self) -> Result<(), OutputError> {
        let kept = self.file.sync_all().and_then(|()| self.rename(&self.out));
        kept.map_err(|source| OutputError::Make { path: self.out, source })
    }

    /// Gives the file a name that says that it is damaged, and returns that name.
    pub(crate) fn set_aside(self, ending: &str) -> Result<PathBuf, OutputError> {
        let aside = beside(&self.out, ending);
        match self.rename(&aside) {
            Ok(()) => Ok(aside),
            Err(source) => Err(OutputError::Rename { path: self.path, source }),
        }
    }

    /// Removes it.
    pub(crate) fn discard(self) {
        // Nothing can be done if this fails as well.
        let _ = fs::remove_file(&self.path);
    }

    fn rename(&self, to: &Path) -> io::Result<()> {
        fs::rename(&self.path, to)?;
        let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    }
}

/// The owner's rights and nobody else's: a dump holds all secrets of the machine.
const PRIVATE: u32 = 0o600;

/// A new file, never one that someone else put or linked there.
fn make(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().read(true).write(true).create_new(true).mode(PRIVATE).open(path)
}

/// A name in the same folder.
fn beside(out: &Path, ending: &str) -> PathBuf {
    let mut name = out.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(ending);
    out.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_waits_under_the_unfinished_name_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (out, victim) = (folder.path().join("out"), folder.path().join("victim"));
        fs::write(&victim, "precious").unwrap();
        std::os::unix::fs::symlink(&victim, folder.path().join("out.unfinished")).unwrap();
        let unfinished = Unfinished::create(&out, IfExists::Refuse).unwrap();
        fs::write(unfinished.path(), "dump").unwrap();
        assert!(!out.exists());
        unfinished.keep().unwrap();
        assert_eq!(fs::read(&out).unwrap(), b"dump");
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
        assert!(Unfinished::create(&out, IfExists::Refuse).is_err());
    }
}
