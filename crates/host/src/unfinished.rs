//! A file that gets its name only when it is whole and safe.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// A file on its way: `OUT.unfinished` until [`keep`](Self::keep).
#[derive(Debug)]
pub struct Unfinished {
    file: File,
    path: PathBuf,
    out: PathBuf,
}

/// What to do if there is a file of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfExists {
    Refuse,
    Replace,
}

impl From<bool> for IfExists {
    /// By the switch `--force`.
    fn from(force: bool) -> Self {
        if force { Self::Replace } else { Self::Refuse }
    }
}

impl IfExists {
    /// Refuses a name that is taken, if that is to be.
    pub fn check(self, out: &Path) -> Result<()> {
        if self == Self::Refuse && out.exists() {
            bail!("{} exists; `--force` replaces it", out.display());
        }
        Ok(())
    }
}

impl Unfinished {
    /// Makes an empty file beside `out`, in place of what an earlier attempt left there.
    pub fn create(out: &Path, if_exists: IfExists) -> Result<Self> {
        if_exists.check(out)?;
        let path = beside(out, "unfinished");
        let file = make(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { file, path, out: out.to_owned() })
    }

    /// The file, open for reading and writing.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Its present name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the file durable, then gives it its name, then makes the name durable.
    pub fn keep(self) -> Result<()> {
        let kept = self.file.sync_all().and_then(|()| self.rename(&self.out));
        kept.with_context(|| format!("cannot make {}", self.out.display()))
    }

    /// Gives it a name that says it is no good, and tells that name.
    pub fn set_aside(self, ending: &str) -> Result<PathBuf> {
        let aside = beside(&self.out, ending);
        self.rename(&aside).with_context(|| format!("cannot rename {}", self.path.display()))?;
        Ok(aside)
    }

    /// Removes it.
    pub fn discard(self) {
        // Nothing can be done if this fails as well.
        let _ = fs::remove_file(&self.path);
    }

    fn rename(&self, to: &Path) -> io::Result<()> {
        fs::rename(&self.path, to)?;
        let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    }
}

/// A new file, never one that someone else put or linked there.
fn make(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().read(true).write(true).create_new(true).open(path)
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
