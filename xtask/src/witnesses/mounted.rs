//! The file system on the dump's disk, after the crash: it is mounted again, the dump is collected from its file, other files are
//! compared, and its own program checks it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::guests::tool::{Collected, Tool};
use crate::machines::scenario::file_system::FileSystem;
use crate::process;

/// A disk image that is mounted; it is no longer when this is dropped.
struct Mounted {
    point: PathBuf,
}

impl Mounted {
    fn new(system: FileSystem, image: &Path, point: PathBuf) -> Result<Self> {
        fs::create_dir_all(&point)?;
        let mut mount = Command::new("mount");
        mount.args(["-t", system.name(), "-o", "loop"]).arg(image).arg(&point);
        process::run(&mut mount).context("cannot mount the dump's disk (that takes root)")?;
        Ok(Self { point })
    }

    /// Unmounts it, so that what was changed is on the image.
    fn unmount(self) -> Result<()> {
        let mut unmount = Command::new("umount");
        process::run(unmount.arg(&self.point))?;
        std::mem::forget(self);
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // The run has failed already.
        let _ = Command::new("umount").arg(&self.point).status();
    }
}

/// Collects the dump from the file on a disk image. Fails if the file system or another file in it is damaged.
pub(crate) fn collect(
    system: FileSystem,
    image: &Path,
    point: PathBuf,
    tool: &Tool,
    dump: &Path,
) -> Result<Collected> {
    examine(system, image, point, |folder| tool.collect(&folder.join("area"), dump))
}

/// Fails if the file system on a disk image or a file in it is damaged.
pub(crate) fn check(system: FileSystem, image: &Path, point: PathBuf) -> Result<()> {
    examine(system, image, point, |_| Ok(()))
}

/// Compares the files of a disk image, works with them mounted, and has the file system's own program check it.
fn examine<T>(
    system: FileSystem,
    image: &Path,
    point: PathBuf,
    work: impl FnOnce(&Path) -> Result<T>,
) -> Result<T> {
    let mounted = Mounted::new(system, image, point)?;
    let mut compare = Command::new("sha256sum");
    compare.args(["--check", "--strict", "sums"]).current_dir(&mounted.point);
    process::stdout(&mut compare).context("another file of the file system has changed")?;
    let result = work(&mounted.point)?;
    mounted.unmount()?;
    let [program, options @ ..] = system.check() else { return Ok(result) };
    let mut check = Command::new(program);
    process::stdout(check.args(options).arg(image)).context("the file system is damaged")?;
    Ok(result)
}
