//! Locks that keep two commands from the same work. A file system that knows no locks keeps nobody out.

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Keeps other commands from a file or folder, until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Lock {
    /// Locks what has that name. Fails with [`ErrorKind::WouldBlock`] if another has it, and with [`ErrorKind::NotFound`] if it was
    /// removed before the lock was there.
    pub(crate) fn take(path: &Path) -> io::Result<Self> {
        Self::of(File::open(path)?, path)
    }

    fn of(opened: File, path: &Path) -> io::Result<Self> {
        if !try_lock(&opened) {
            return Err(ErrorKind::WouldBlock.into());
        }
        let lock = Self(opened);
        if is_same(&lock.0, &path.metadata()?) { Ok(lock) } else { Err(ErrorKind::NotFound.into()) }
    }

    /// Makes a file of that name if there is none, and waits until nobody else has its lock. The file stays: it must not be removed.
    pub(crate) fn wait_for(path: &Path) -> io::Result<Self> {
        let file = File::create(path)?;
        match flock(&file, FlockOperation::LockExclusive) {
            Err(Errno::INTR) => Err(ErrorKind::Interrupted.into()),
            _ => Ok(Self(file)),
        }
    }
}

impl Drop for Lock {
    /// Closing the file would not do while a program that is being started still has it too.
    fn drop(&mut self) {
        // Then it ends with the program.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

/// Locks a file as long as it is open; returns whether no other has locked it.
pub(crate) fn try_lock(file: &File) -> bool {
    flock(file, FlockOperation::NonBlockingLockExclusive) != Err(Errno::WOULDBLOCK)
}

/// Whether a file that is open is the one that was found.
pub(crate) fn is_same(file: &File, found: &Metadata) -> bool {
    file.metadata().is_ok_and(|file| (file.dev(), file.ino()) == (found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_lock_is_one_commands_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let first = Lock::take(folder.path()).unwrap();
        assert_eq!(Lock::take(folder.path()).unwrap_err().kind(), ErrorKind::WouldBlock);
        drop(first);
        Lock::take(folder.path()).unwrap();
    }

    /// Who opens a folder while another removes it gets the lock when the other is done.
    #[test]
    fn what_was_removed_or_replaced_meanwhile_cannot_be_locked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("crash");
        fs::create_dir(&path).unwrap();
        let opened = || File::open(&path).unwrap();
        let (removed, replaced) = (opened(), opened());
        fs::rename(&path, folder.path().join("crash.unfinished")).unwrap();
        assert_eq!(Lock::of(removed, &path).unwrap_err().kind(), ErrorKind::NotFound);
        fs::create_dir(&path).unwrap();
        assert_eq!(Lock::of(replaced, &path).unwrap_err().kind(), ErrorKind::NotFound);
        Lock::take(&path).unwrap();
    }
}
