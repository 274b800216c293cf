//! The files of one run: those that a person may want to read afterwards, and those that are too large to keep.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::fs::statvfs;
use tempfile::TempDir;

use crate::paths;

/// What a run needs of memory-backed files: RAM, its snapshot, an ELF core of it, the initial RAM file system.
const SCRATCH_BYTES: u64 = 4 << 30;

/// What two runs at a time write at most into the folders that are kept. QEMU stops a guest whose disk it cannot write, and the run would
/// wait for it in vain.
const KEPT_BYTES: u64 = 2 << 30;

/// What a run keeps although nobody has a question about it: console and findings.
const SMALL_BYTES: u64 = 1 << 20;

/// When a picture of the display is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// While the dump is written.
    During,
    /// When Holdover is about to reset the machine.
    End,
}

/// Where the files of one run are.
pub(crate) struct Files {
    kept: PathBuf,
    /// Deleted with this value. Its path is short: a socket's must be below 108 bytes.
    scratch: TempDir,
}

impl Files {
    /// A fresh set of files for the run `name`; what an earlier run of this name left is removed.
    pub(crate) fn new(name: &str) -> Result<Self> {
        let kept = kept(name);
        if kept.exists() {
            fs::remove_dir_all(&kept).with_context(|| format!("cannot remove {}", kept.display()))?;
        }
        let kept = paths::made(kept)?;
        ensure_room(&kept)?;
        let scratch = tempfile::Builder::new().prefix("holdover-").tempdir_in(scratch_place())?;
        Ok(Self { kept, scratch })
    }

    /// The folder that is kept.
    pub(crate) fn kept(&self) -> &Path {
        &self.kept
    }
    /// The serial console's text.
    pub(crate) fn console(&self) -> PathBuf {
        self.kept.join("console")
    }
    /// QEMU's trace.
    pub(crate) fn trace(&self) -> PathBuf {
        self.kept.join("trace")
    }
    /// What QEMU itself had to say.
    pub(crate) fn complaints(&self) -> PathBuf {
        self.kept.join("qemu-stderr")
    }
    /// The disk that takes the dump.
    pub(crate) fn disk(&self) -> PathBuf {
        self.kept.join("disk")
    }
    /// A disk that refuses some writes, if the machine has one.
    pub(crate) fn failing_disk(&self) -> PathBuf {
        self.kept.join("failing-disk")
    }
    /// Which writes it refuses.
    pub(crate) fn failures(&self) -> PathBuf {
        self.scratch("failures")
    }
    /// The dump, once it was collected from the disk.
    pub(crate) fn dump(&self) -> PathBuf {
        self.kept.join("dump")
    }

    /// QEMU's record of the requests to the dump's disk.
    pub(crate) fn disk_requests(&self) -> PathBuf {
        self.scratch("disk-requests")
    }

    /// A picture of the display, taken at this moment.
    pub(crate) fn picture(&self, moment: Moment) -> PathBuf {
        self.kept.join(match moment {
            Moment::During => "during.ppm",
            Moment::End => "end.ppm",
        })
    }

    /// What the witnesses found.
    pub(crate) fn findings(&self) -> PathBuf {
        self.kept.join("findings.json")
    }

    /// Remembers what is on the dump's disk.
    pub(crate) fn remember_disk(&self) -> Result<()> {
        fs::copy(self.disk(), self.disk_before()).context("cannot copy the dump's disk")?;
        Ok(())
    }

    /// Whether the dump's disk still is as it was remembered.
    pub(crate) fn disk_is_untouched(&self) -> Result<bool> {
        Ok(fs::read(self.disk())? == fs::read(self.disk_before())?)
    }

    /// Leaves of the dump's disk, as it is and as it was, what is from byte `start` on: the area. Fails if what is in front of it changed.
    pub(crate) fn cut_out(&self, start: u64) -> Result<()> {
        if start == 0 {
            return Ok(());
        }
        let [mut after, mut before] = [self.disk(), self.disk_before()].map(fs::read);
        let heads = [&mut after, &mut before].map(|disk| match disk {
            Ok(disk) => Some(disk.drain(..start as usize).collect::<Vec<u8>>()),
            Err(_) => None,
        });
        ensure!(heads[0] == heads[1], "something was written in front of the area");
        fs::write(self.disk(), after?)?;
        Ok(fs::write(self.disk_before(), before?)?)
    }

    /// The dump's disk as it was remembered.
    pub(crate) fn disk_before(&self) -> PathBuf {
        self.scratch("disk-before")
    }

    /// The guest's RAM, shared with QEMU.
    pub(crate) fn ram(&self) -> PathBuf {
        self.scratch("ram")
    }
    /// A copy of it from the instant at which Holdover started.
    pub(crate) fn snapshot(&self) -> PathBuf {
        self.scratch("snapshot")
    }
    /// The throttled disk; nobody looks at what is on it.
    pub(crate) fn slow_disk(&self) -> PathBuf {
        self.scratch("slow-disk")
    }
    /// The guest's first user space.
    pub(crate) fn initramfs(&self) -> PathBuf {
        self.scratch("initramfs")
    }
    /// A table that QEMU adds to the firmware's.
    pub(crate) fn acpi_table(&self) -> PathBuf {
        self.scratch("acpi-table")
    }
    /// Any other file that is not kept.
    pub(crate) fn scratch(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }
}

/// Memory if there is enough, so that a run does not wait for a disk to take what nobody will read back.
fn scratch_place() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if available(memory).is_some_and(|bytes| bytes > SCRATCH_BYTES) {
        return memory.to_owned();
    }
    std::env::temp_dir()
}

/// Removes what is large of what the run `name` kept, if there was such a run: disks, dumps, traces.
pub(crate) fn remove_large(name: &str) -> Result<()> {
    let kept = kept(name);
    if kept.exists() { remove_large_in(&kept) } else { Ok(()) }
}

fn remove_large_in(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else if entry.metadata()?.len() > SMALL_BYTES {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// The folder that the run `name` keeps.
fn kept(name: &str) -> PathBuf {
    paths::bench().join("runs").join(name)
}

fn ensure_room(place: &Path) -> Result<()> {
    let bytes = available(place).with_context(|| format!("cannot ask {} for its room", place.display()))?;
    let mib = |bytes| bytes >> 20;
    ensure!(
        bytes >= KEPT_BYTES,
        "{} has room for {} MiB, and a run needs {} MiB; free some",
        place.display(),
        mib(bytes),
        mib(KEPT_BYTES)
    );
    Ok(())
}

/// Bytes that this process may still write there.
fn available(place: &Path) -> Option<u64> {
    let file_system = statvfs(place).ok()?;
    file_system.f_bavail.checked_mul(file_system.f_frsize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_run_that_passed_the_text_stays() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        fs::write(file("console"), "panic").unwrap();
        fs::write(file("disk"), vec![0; SMALL_BYTES as usize + 1]).unwrap();
        fs::create_dir(file("fetched")).unwrap();
        fs::write(file("fetched").join("vmcore"), "").unwrap();
        remove_large_in(folder.path()).unwrap();
        let left: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["console"]);
    }

    /// Its guest would stop at a write, and the run would wait until its deadline.
    #[test]
    fn a_run_without_room_is_refused() {
        assert!(
            ensure_room(Path::new("/proc")).is_err_and(|error| error.to_string().contains("room for 0 MiB"))
        );
    }
}
