//! Writes small files that tell a later run of Holdover something: each is there whole, as it was or as it is now, whenever the power
//! goes.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::process;

/// Writes a file in place of the one that was there, which keeps its owner and permissions. Its folder is made if there is none.
pub(crate) fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", process::id()));
    let new = folder.join(name);
    let written = write_new(&new, content, path).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        // The file that was there is as it was.
        let _ = fs::remove_file(&new);
    }
    written.and_then(|()| File::open(folder)?.sync_all())
}

fn write_new(new: &Path, content: &[u8], old: &Path) -> io::Result<()> {
    let mut file = File::create(new)?;
    if let Ok(old) = old.metadata() {
        file.set_permissions(old.permissions())?;
    }
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_keeps_its_permissions() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b.json");
        write(&path, b"one").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(folder.path().join("a")).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_written_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("taken")).unwrap();
        assert!(write(&folder.path().join("taken"), b"x").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
