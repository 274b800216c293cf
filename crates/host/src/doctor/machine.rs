//! The machine that is looked at, as its file systems show it: a test has one in a folder.

use std::fs;
use std::path::{Path, PathBuf};

/// A machine whose file systems are mounted below a folder.
pub(super) struct Machine {
    root: PathBuf,
}

impl Machine {
    /// The machine that this program runs on.
    pub(super) fn running() -> Self {
        Self::below(Path::new("/"))
    }

    /// The machine below a folder.
    pub(super) fn below(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Where a file of it is: `proc/cmdline`.
    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.root.join(file)
    }

    /// A file's text without space around it; empty if there is no such file.
    pub(super) fn read(&self, file: &str) -> String {
        text(&self.path(file))
    }

    /// The paths in a folder, sorted; none if there is no such folder.
    pub(super) fn entries(&self, folder: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path(folder)).into_iter().flatten().flatten();
        let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        paths
    }
}

/// A file's text without space around it; empty if it cannot be read.
pub(super) fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// The last part of a path.
pub(super) fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
pub(super) mod tests {
    use tempfile::TempDir;

    use super::*;

    /// Makes a machine of these files; the folder goes with the first value.
    pub(in crate::doctor) fn machine(files: &[(&str, &[u8])]) -> (TempDir, Machine) {
        let root = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let machine = Machine::below(root.path());
        (root, machine)
    }
}
