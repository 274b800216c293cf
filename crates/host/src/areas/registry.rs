//! Notes which dump areas are this host's, so that an automatic collect takes from no other's: a disk may be a guest's, with an area that
//! the guest made. Areas on disks are noted by their UUIDs; those in files by their paths too, because nobody searches whole file systems
//! for them.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::FoundArea;
use crate::lock::Lock;
use crate::state;

/// The folder of the notes.
const FOLDER: &str = "var/lib/holdover";
/// The files that were made areas: a path on each line.
const FILES: &str = "files";
/// The areas on disks that were made or loaded here: a UUID on each line.
const AREAS: &str = "areas";

/// The notes of which areas are a host's.
#[derive(Clone, Debug)]
pub(crate) struct Registry {
    folder: PathBuf,
}

impl Registry {
    /// Those of this host.
    pub(crate) fn of_host() -> Self {
        Self::at_root(Path::new("/"))
    }

    /// Those of the system whose root folder this is.
    pub(crate) fn at_root(root: &Path) -> Self {
        Self { folder: root.join(FOLDER) }
    }

    /// The files that were made dump areas, and may be some still.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        self.lines(FILES).into_iter().map(PathBuf::from).collect()
    }

    /// The areas on disks.
    pub(crate) fn areas(&self) -> BTreeSet<Uuid> {
        self.lines(AREAS).iter().filter_map(|line| line.parse().ok()).collect()
    }

    /// Notes that a file is a dump area.
    pub(crate) fn add_file(&self, file: &Path) -> io::Result<()> {
        self.change(FILES, |lines| add(lines, &file.display().to_string()))
    }

    /// Notes that a file is none any more.
    pub(crate) fn remove_file(&self, file: &Path) -> io::Result<()> {
        self.change(FILES, |lines| lines.retain(|line| Path::new(line) != file))
    }

    /// Notes that areas on disks are this host's.
    pub(crate) fn add_areas(&self, areas: &[Uuid]) -> io::Result<()> {
        self.change(AREAS, |lines| areas.iter().for_each(|uuid| add(lines, &uuid.to_string())))
    }

    /// Notes that found areas are this host's, those of them that are on disks.
    pub(crate) fn add_found(&self, found: &[FoundArea]) -> io::Result<()> {
        let on_disks = found.iter().filter(|found| found.file.is_none());
        self.add_areas(&on_disks.map(|found| found.label.uuid).collect::<Vec<_>>())
    }

    /// Notes that an area is none any more.
    pub(crate) fn remove_area(&self, area: Uuid) -> io::Result<()> {
        self.change(AREAS, |lines| lines.retain(|line| line.parse() != Ok(area)))
    }

    fn lines(&self, note: &str) -> Vec<String> {
        let text = fs::read_to_string(self.folder.join(note)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Changes a note, if that makes a difference, and waits for other commands that do so.
    fn change(&self, note: &str, change: impl Fn(&mut Vec<String>)) -> io::Result<()> {
        let changed = || {
            let (mut lines, before) = (self.lines(note), self.lines(note));
            change(&mut lines);
            (lines != before).then_some(lines)
        };
        if changed().is_none() {
            return Ok(());
        }
        fs::create_dir_all(&self.folder)?;
        // The note is replaced, so that another file is locked.
        let _at_work = Lock::wait_for(&self.folder.join(note).with_extension("lock"))?;
        if let Some(lines) = changed() {
            let text: String = lines.into_iter().map(|line| line + "\n").collect();
            // A note that is cut off by a crash would lose the areas that the crash is dumped to.
            state::write(&self.folder.join(note), text.as_bytes())?;
        }
        Ok(())
    }
}

fn add(lines: &mut Vec<String>, line: &str) {
    if !lines.iter().any(|other| other == line) {
        lines.push(line.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_that_run_at_a_time_note_all_their_files_and_areas() {
        let root = tempfile::tempdir().unwrap();
        let registry = Registry::at_root(root.path());
        let file = |number: u128| PathBuf::from(format!("/var/crash/{number}"));
        std::thread::scope(|scope| {
            for number in 0..16 {
                let registry = &registry;
                scope.spawn(move || {
                    registry.add_file(&file(number)).unwrap();
                    registry.add_areas(&[Uuid::from_u128(number)]).unwrap();
                });
            }
        });
        assert_eq!((registry.files().len(), registry.areas().len()), (16, 16));
        registry.remove_file(&file(3)).unwrap();
        registry.remove_area(Uuid::from_u128(3)).unwrap();
        assert_eq!((registry.files().len(), registry.areas().len()), (15, 15));
    }

    /// Else a test, or a user who may not, would change this host for nothing.
    #[test]
    fn what_changes_nothing_writes_nothing() {
        let root = tempfile::tempdir().unwrap();
        let registry = Registry::at_root(root.path());
        registry.remove_area(Uuid::nil()).unwrap();
        registry.add_areas(&[]).unwrap();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }
}
