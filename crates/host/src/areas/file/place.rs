//! The file system that a file is on, and its place on a whole disk.

use std::fs;
use std::path::{Path, PathBuf};

use area::FileExtent;

use super::FileError;
use super::btrfs::Chunks;
use crate::sysfs;

/// A mounted file system, and its disk.
#[derive(Debug)]
pub(super) struct FileSystem {
    /// The whole disk's device.
    pub(super) disk: PathBuf,
    /// Byte of the disk at which the file system begins.
    offset: u64,
    /// What its addresses mean.
    addresses: Addresses,
}

/// What the addresses of a file system mean that it gives for extents.
#[derive(Debug)]
enum Addresses {
    /// Bytes of its device.
    OfDevice,
    /// Bytes of a space that chunks of its device are mapped to.
    OfChunks(Chunks),
}

impl FileSystem {
    /// Finds the file system of an existing file.
    pub(super) fn of(path: &Path) -> Result<Self, FileError> {
        let path = path.canonicalize().map_err(|source| FileError::Open { path: path.to_owned(), source })?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(FileError::NoMounts)?;
        let Some(Mount { kind, source, .. }) = mount_of(&mounts, &path) else {
            return Err(FileError::FileSystem { path, kind: "a file system that is not listed".into() });
        };
        if !["ext4", "xfs", "btrfs"].contains(&kind.as_str()) {
            return Err(FileError::FileSystem { path, kind });
        }
        let location = sysfs::locate(&source)?;
        let disk = Path::new("/dev").join(&location.disk);
        check_zones(&location.disk)?;
        let addresses = match kind.as_str() {
            "btrfs" => Addresses::OfChunks(Chunks::read(&source)?),
            _ => Addresses::OfDevice,
        };
        Ok(Self { disk, offset: location.offset, addresses })
    }

    /// Where an extent that the file system gives is on the whole disk.
    pub(super) fn on_disk(&self, extent: FileExtent) -> Result<Vec<FileExtent>, FileError> {
        let mut pieces = match &self.addresses {
            Addresses::OfDevice => vec![extent],
            Addresses::OfChunks(chunks) => chunks.on_device(extent)?,
        };
        for piece in &mut pieces {
            piece.disk += self.offset;
        }
        Ok(pieces)
    }
}

/// Refuses a disk whose blocks cannot be written in any order.
fn check_zones(disk: &str) -> Result<(), FileError> {
    let zoned = fs::read_to_string(format!("/sys/block/{disk}/queue/zoned")).unwrap_or_default();
    match zoned.trim() {
        "" | "none" => Ok(()),
        _ => Err(FileError::Zoned { disk: disk.to_owned() }),
    }
}

/// A line of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    point: PathBuf,
    kind: String,
    source: PathBuf,
}

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let point = before.split(' ').nth(4)?;
        let mut after = after.split(' ');
        let kind = after.next()?.to_owned();
        Some(Self { point: unescaped(point).into(), kind, source: unescaped(after.next()?).into() })
    }
}

/// The mount that a path without links leads through last.
fn mount_of(mounts: &str, path: &Path) -> Option<Mount> {
    let above = mounts.lines().filter_map(Mount::parse).filter(|mount| path.starts_with(&mount.point));
    // Of several mounts at one point the last one is seen.
    above.max_by_key(|mount| mount.point.components().count())
}

/// Replaces the octal codes of blanks and backslashes.
fn unescaped(text: &str) -> String {
    let codes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    codes.iter().fold(text.to_owned(), |text, (code, character)| text.replace(code, character))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw
40 22 8:3 / /var rw - xfs /dev/sda3 rw
41 40 0:40 /sub /var/crash\\040dumps rw shared:4 master:2 - btrfs /dev/sdb rw,subvol=/sub
42 40 8:5 / /var/crash\\040dumps rw - ext4 /dev/sdc1 rw
";

    #[test]
    fn the_mount_of_a_path_is_the_longest_and_the_last() {
        let source = |path: &str| mount_of(MOUNTS, Path::new(path)).unwrap().source;
        assert_eq!(source("/root/file"), Path::new("/dev/sda2"));
        assert_eq!(source("/variant/file"), Path::new("/dev/sda2"));
        assert_eq!(source("/var/file"), Path::new("/dev/sda3"));
        assert_eq!(source("/var/crash dumps/file"), Path::new("/dev/sdc1"));
        assert_eq!(mount_of("", Path::new("/file")), None);
    }
}
