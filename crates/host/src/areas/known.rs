//! Notes which files of this host are dump areas, so that they can be found by UUID, after a crash too: nobody searches whole file
//! systems for them.

use std::path::{Path, PathBuf};
use std::{fs, io};

use rustix::fs::{FlockOperation, flock};

/// Where the note is: a path on each line.
pub(super) const NOTE: &str = "/var/lib/holdover/files";

/// The files that were made dump areas, and may be some still.
pub(super) fn files() -> Vec<PathBuf> {
    read(Path::new(NOTE))
}

/// Notes that a file is a dump area.
pub(super) fn add(file: &Path) -> io::Result<()> {
    change(Path::new(NOTE), |files| files.push(file.to_owned()), file)
}

/// Notes that a file is none any more.
pub(super) fn remove(file: &Path) -> io::Result<()> {
    change(Path::new(NOTE), |_| {}, file)
}

fn read(note: &Path) -> Vec<PathBuf> {
    fs::read_to_string(note).unwrap_or_default().lines().map(PathBuf::from).collect()
}

/// Takes a file out of the note, and changes the rest; waits for other commands that do so.
fn change(note: &Path, change: impl FnOnce(&mut Vec<PathBuf>), file: &Path) -> io::Result<()> {
    note.parent().map_or(Ok(()), fs::create_dir_all)?;
    // The note is replaced, so that another file is locked. It is free again once it is closed.
    let lock = fs::File::create(note.with_extension("lock"))?;
    flock(&lock, FlockOperation::LockExclusive)?;
    let mut files = read(note);
    files.retain(|other| other != file);
    change(&mut files);
    write(note, &files)?;
    drop(lock);
    Ok(())
}

fn write(note: &Path, files: &[PathBuf]) -> io::Result<()> {
    let lines: Vec<_> = files.iter().map(|file| format!("{}\n", file.display())).collect();
    // A note that is cut off by a crash would lose the files that the crash is dumped to.
    let new = note.with_extension("new");
    fs::write(&new, lines.concat())?;
    fs::File::open(&new)?.sync_all()?;
    fs::rename(new, note)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_that_run_at_a_time_note_all_their_files() {
        let folder = tempfile::tempdir().unwrap();
        let note = folder.path().join("state/files");
        std::thread::scope(|scope| {
            for number in 0..16 {
                let note = &note;
                scope.spawn(move || {
                    let file = PathBuf::from(format!("/var/crash/{number}"));
                    change(note, |files| files.push(file.clone()), &file).unwrap();
                });
            }
        });
        assert_eq!(read(&note).len(), 16);
    }
}
