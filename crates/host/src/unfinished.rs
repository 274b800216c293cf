//! Files that get their final name only when they are complete and durable on the disk.

use std::ffi::OsStr;
use std::fs::{self, File, FileType, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::lock::{is_same, try_lock};

/// Most bytes of a name in a folder (`NAME_MAX`).
const LONGEST_NAME: usize = 255;
/// Its owner may read and write it, and nobody else: a dump has what the kernel knows of everybody.
const OWNER_ONLY: u32 = 0o600;

/// Why a file was not made. If another file has the name, nothing was written.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum OutputError {
    /// A file of that name is there.
    #[error("{out} exists; `--force` replaces it")]
    Exists {
        /// The name that is taken.
        out: PathBuf,
    },
    /// What has the name is no regular file. Nobody wants it replaced by one.
    #[error("{out} is {what}, and not replaced: name a file")]
    NotAFile {
        /// The name that is taken.
        out: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// It ends like a folder's.
    #[error("{out} is no name of a file; name one in that folder: `ls {out}` shows what is there")]
    NoName {
        /// The name that was given.
        out: PathBuf,
    },
    /// Many programs write to standard output if told so. A dump is written in any order.
    #[error("a dump cannot be written to standard output; `./-` names a file")]
    StandardOutput,
    /// Another run has begun that file, and is at work.
    #[error(
        "another run is writing {path}; wait for it (`fuser -v {path}` shows who it is), or name another file"
    )]
    Busy {
        /// The file that it is writing.
        path: PathBuf,
    },
    /// It cannot be made, or be made durable.
    #[error("cannot make {path}")]
    Make {
        /// Its name.
        path: PathBuf,
        /// What the host's file system said.
        source: io::Error,
    },
    /// It cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The name under which it was begun.
        path: PathBuf,
        /// What failed.
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
///
/// It is locked, so that another run does not take it for one that was left behind.
#[derive(Debug)]
pub(crate) struct Unfinished {
    file: File,
    path: PathBuf,
    out: PathBuf,
    if_exists: IfExists,
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
    /// Returns an error if the name cannot be given to a file: it is no file's, or is taken and must not be replaced.
    pub(crate) fn check(self, out: &Path) -> Result<(), OutputError> {
        if out.as_os_str() == "-" {
            return Err(OutputError::StandardOutput);
        }
        let found = match out.symlink_metadata() {
            Ok(found) => found.file_type(),
            Err(error) if error.kind() == ErrorKind::NotFound => return check_name(out),
            Err(source) => return Err(OutputError::Make { path: out.to_owned(), source }),
        };
        match not_a_file(found) {
            Some(what) => Err(OutputError::NotAFile { out: out.to_owned(), what }),
            None if self == Self::Refuse => Err(OutputError::Exists { out: out.to_owned() }),
            None => Ok(()),
        }
    }
}

/// Returns an error for a name that nobody has and no file can get.
fn check_name(out: &Path) -> Result<(), OutputError> {
    let named = out.file_name().is_some_and(|name| out.as_os_str().as_bytes().ends_with(name.as_bytes()));
    if named { Ok(()) } else { Err(OutputError::NoName { out: out.to_owned() }) }
}

/// What something is that is no regular file.
fn not_a_file(found: FileType) -> Option<&'static str> {
    match found {
        _ if found.is_file() => None,
        _ if found.is_symlink() => Some("a link"),
        _ if found.is_dir() => Some("a folder"),
        _ => Some("a device or a pipe"),
    }
}

impl Unfinished {
    /// Makes an empty file beside `out`, in place of what an earlier attempt left there.
    pub(crate) fn create(out: &Path, if_exists: IfExists) -> Result<Self, OutputError> {
        if_exists.check(out)?;
        let path = beside(out, "unfinished");
        match make(&path) {
            Ok(Some(file)) => Ok(Self { file, path, out: out.to_owned(), if_exists }),
            Ok(None) => Err(OutputError::Busy { path }),
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
    ///
    /// What has got the name in the meantime stays, unless it is to be replaced.
    pub(crate) fn keep(self) -> Result<(), OutputError> {
        self.if_exists.check(&self.out)?;
        let kept = self.file.sync_all().and_then(|()| self.rename(&self.out, self.if_exists));
        kept.map_err(|source| OutputError::Make { path: self.out, source })
    }

    /// Gives the file a name that says that it is damaged, and returns that name.
    pub(crate) fn set_aside(self, ending: &str) -> Result<PathBuf, OutputError> {
        let aside = beside(&self.out, ending);
        match self.rename(&aside, IfExists::Replace) {
            Ok(()) => Ok(aside),
            Err(source) => Err(OutputError::Rename { path: self.path, source }),
        }
    }

    /// Removes it.
    pub(crate) fn discard(self) {
        // Nothing can be done if this fails as well.
        let _ = fs::remove_file(&self.path);
    }

    fn rename(&self, to: &Path, if_exists: IfExists) -> io::Result<()> {
        match if_exists {
            IfExists::Refuse => rename_to_new(&self.path, to)?,
            IfExists::Replace => fs::rename(&self.path, to)?,
        }
        let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    }
}

/// Renames a file to a name that nobody has.
fn rename_to_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Not all file systems know this.
        Err(Errno::INVAL | Errno::NOSYS) => fs::rename(from, to),
        renamed => Ok(renamed?),
    }
}

/// A new file that this process has locked, never one that someone else put or linked there; `None` if another process is
/// writing one of this name.
fn make(path: &Path) -> io::Result<Option<File>> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(OWNER_ONLY);
    let file = match options.open(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            if !remove_abandoned(path)? {
                return Ok(None);
            }
            options.open(path)?
        }
        opened => opened?,
    };
    // Between these steps, another process may have taken the file for one that was left behind.
    let own = try_lock(&file) && path.symlink_metadata().is_ok_and(|found| is_same(&file, &found));
    Ok(own.then_some(file))
}

/// Removes what an earlier run left behind; returns whether it did, which it does not while that run goes on.
fn remove_abandoned(path: &Path) -> io::Result<bool> {
    if path.symlink_metadata()?.is_file() {
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        if !try_lock(&file) {
            return Ok(false);
        }
    }
    fs::remove_file(path)?;
    Ok(true)
}

/// A name in the same folder: that of `out` with an ending, and shortened if it must be.
fn beside(out: &Path, ending: &str) -> PathBuf {
    let name = out.file_name().unwrap_or_default().as_bytes();
    let kept = name.len().min(LONGEST_NAME - 1 - ending.len());
    let mut name = OsStr::from_bytes(&name[..kept]).to_owned();
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
