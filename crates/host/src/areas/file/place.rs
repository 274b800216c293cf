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
        let Some(mount) = mount_of(&mounts, &path) else {
            return Err(FileError::FileSystem { path, kind: "a file system that is not listed".into() });
        };
        let (source, kind) = (mount.device(), &mount.kind);
        if !["ext4", "xfs", "btrfs"].contains(&kind.as_str()) {
            return Err(FileError::FileSystem { path, kind: kind.clone() });
        }
        if kind == "ext4" && (mount.journals_data() || journals_data(&options_of_ext4(&source))) {
            return Err(FileError::Journaled { path });
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

/// The options of a mounted ext4, among them those that its superblock makes the default (`tune2fs -o`), which are in no list of mounts.
fn options_of_ext4(device: &Path) -> String {
    let name = device.canonicalize().ok().and_then(|device| device.file_name().map(ToOwned::to_owned));
    let options = name.map(|name| Path::new("/proc/fs/ext4").join(name).join("options"));
    options.and_then(|options| fs::read_to_string(options).ok()).unwrap_or_default()
}

/// Whether options of ext4 say that the content of files goes through its journal.
fn journals_data(options: &str) -> bool {
    options.split([',', '\n']).any(|option| option == "data=journal")
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
    /// Number of the device, as major:minor; of btrfs none that leads to a device.
    number: String,
    point: PathBuf,
    kind: String,
    source: PathBuf,
    /// Options of the file system.
    options: String,
}

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let (number, point) = (before.split(' ').nth(2)?.to_owned(), before.split(' ').nth(4)?);
        let mut after = after.split(' ');
        let (kind, source) = (after.next()?.to_owned(), unescaped(after.next()?).into());
        let options = after.next().unwrap_or_default().to_owned();
        Some(Self { number, point: unescaped(point).into(), kind, source, options })
    }

    fn journals_data(&self) -> bool {
        journals_data(&self.options)
    }

    /// The device. A kernel that mounted it without an initial RAM disk calls it `/dev/root`, which does not exist.
    fn device(&self) -> PathBuf {
        let entry = Path::new("/sys/dev/block").join(&self.number).canonicalize();
        let name = entry.ok().and_then(|entry| entry.file_name().map(|name| Path::new("/dev").join(name)));
        match name {
            Some(name) if !self.source.exists() => name,
            _ => self.source.clone(),
        }
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

    #[test]
    fn data_that_goes_through_the_journal_is_noticed() {
        let options = |options: &str| {
            let line = format!("22 1 8:2 / / rw,relatime - ext4 /dev/root {options}");
            Mount::parse(&line).unwrap().journals_data()
        };
        assert!(options("rw,data=journal") && options("ro,errors=remount-ro,data=journal,stripe=4"));
        assert!(!options("rw") && !options("rw,data=ordered,journal_checksum"));
        assert!(journals_data("rw\ndelalloc\ndata=journal\n"), "as in /proc/fs/ext4/sda2/options");
    }

    #[test]
    fn a_device_that_is_called_root_is_found_by_its_number() {
        let Some(disk) = fs::read_dir("/sys/class/block").unwrap().flatten().next() else { return };
        let number = fs::read_to_string(disk.path().join("dev")).unwrap();
        let line = format!("22 1 {} / / rw - ext4 /dev/no-such-root rw", number.trim());
        assert_eq!(Mount::parse(&line).unwrap().device(), Path::new("/dev").join(disk.file_name()));
    }
}
