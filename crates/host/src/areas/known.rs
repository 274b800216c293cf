//! Notes which files of this host are dump areas, so that they can be found by UUID, after a crash too: nobody searches whole file
//! systems for them.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// Where the note is: a path on each line.
const NOTE: &str = "/var/lib/holdover/files";

/// The files that were made dump areas, and may be some still.
pub(super) fn files() -> Vec<PathBuf> {
    let note = fs::read_to_string(NOTE).unwrap_or_default();
    note.lines().map(PathBuf::from).collect()
}

/// Notes that a file is a dump area.
pub(super) fn add(file: &Path) -> io::Result<()> {
    let others = files().into_iter().filter(|other| other != file);
    write(others.chain([file.to_owned()]))
}

/// Notes that a file is none any more.
pub(super) fn remove(file: &Path) -> io::Result<()> {
    write(files().into_iter().filter(|other| other != file))
}

fn write(files: impl Iterator<Item = PathBuf>) -> io::Result<()> {
    let lines: Vec<_> = files.map(|file| format!("{}\n", file.display())).collect();
    let note = Path::new(NOTE);
    note.parent().map_or(Ok(()), fs::create_dir_all)?;
    // A note that is cut off by a crash would lose the files that the crash is dumped to.
    let new = note.with_extension("new");
    fs::write(&new, lines.concat())?;
    fs::File::open(&new)?.sync_all()?;
    fs::rename(new, note)
}
