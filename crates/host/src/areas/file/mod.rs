//! A preallocated file as dump area: nobody has to repartition.
//!
//! The capture kernel writes to the file's blocks on the disk and knows nothing of file systems. So the file is written through,
//! mapped, and pinned by a tiny swap space at its head; labels in its extents are read back from the disk itself. What cannot be safe
//! is refused. The file system must be mounted again, or the page cache passed by, before anybody reads the dump through the file:
//! Holdover reads it from the disk.

mod btrfs;
mod direct;
mod map;
mod place;
mod swap;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use area::{Area, FileExtent, FormatError as AreaFormatError, Label, OpenError};
use dumpfile::BlockFile;
use rustix::fs::{FallocateFlags, IFlags, fallocate, ioctl_getflags, ioctl_setflags};
use uuid::Uuid;

pub(crate) use direct::DirectDisk;
use place::FileSystem;
use swap::HEAD;

use super::AreaName;
use super::format::{self, Formatted, IfUsed, now, random_uuid};
use crate::Progress;
use crate::sysfs::SysfsError;

/// Bytes that are written at once.
const PIECE: usize = 1 << 20;
/// `FS_NOCOW_FL`: btrfs writes the file's blocks in place.
const NOCOW: IFlags = IFlags::NOCOW;

/// Why a file cannot be a dump area, or is none any more.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be opened, made or written.
    #[error("cannot use {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the host's file system said.
        source: io::Error,
    },
    /// There is one already.
    #[error("there is {path} already; `--force` replaces it")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The requested size is odd.
    #[error("the size must be a multiple of 1 MiB")]
    Size,
    /// The list of mounts cannot be read.
    #[error("cannot list mounts; is /proc mounted?")]
    NoMounts(#[source] io::Error),
    /// The file system is another.
    #[error("{path} is on {kind}; a dump area can be a file on ext4, xfs or btrfs")]
    FileSystem {
        /// The file.
        path: PathBuf,
        /// The file system's name.
        kind: String,
    },
    /// The file system's disk cannot be found, or cannot be used.
    #[error(transparent)]
    Disk(#[from] SysfsError),
    /// The disk must be written in order.
    #[error("{disk} is a zoned disk, whose blocks cannot be written in place")]
    Zoned {
        /// The kernel's name of the disk.
        disk: String,
    },
    /// The file system does not say where the file is.
    #[error("the file system does not say where the file's blocks are")]
    Map(#[source] io::Error),
    /// A part of the file has no blocks.
    #[error("the file has a hole at byte {at}")]
    Hole {
        /// Where.
        at: u64,
    },
    /// Blocks cannot be written without harm, or would not be found again.
    #[error("blocks of the file at byte {at} are {words}")]
    Unusable {
        /// Where in the file.
        at: u64,
        /// What they are.
        words: &'static str,
    },
    /// There is no program to read btrfs' chunk tree.
    #[error("cannot run btrfs; the package btrfs-progs has it")]
    NoBtrfs(#[source] io::Error),
    /// The program failed, or says something else than expected.
    #[error("btrfs: {said}")]
    Btrfs {
        /// What it said.
        said: String,
    },
    /// btrfs is on several devices.
    #[error("the btrfs file system is on several devices; use one that is on one")]
    SeveralDevices,
    /// btrfs keeps the blocks twice, or in stripes.
    #[error(
        "btrfs keeps the file's blocks more than once or in stripes; use a file system with the data profile `single`"
    )]
    Profile,
    /// btrfs' chunk tree has no such address.
    #[error("btrfs has no chunk for address {logical:#x}")]
    NoChunk {
        /// The address in its address space.
        logical: u64,
    },
    /// There is no program to pin the file.
    #[error("cannot run swapon; the package mount or util-linux has it")]
    NoSwapon(#[source] io::Error),
    /// The file cannot be pinned.
    #[error("{path} cannot be kept in its place: {said}")]
    Pin {
        /// The file.
        path: PathBuf,
        /// What swapon said.
        said: String,
    },
    /// Nothing keeps the file in its place.
    #[error("nothing keeps {path} in its place, as after a boot; load again")]
    Unpinned {
        /// The file.
        path: PathBuf,
    },
    /// The file is not where it was when it was formatted.
    #[error(
        "{path} has moved on its disk since it was formatted; collect its dump, if there is one, and format it again"
    )]
    Moved {
        /// The file.
        path: PathBuf,
    },
    /// The extents cannot be an area.
    #[error("cannot format {path}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: AreaFormatError,
    },
    /// The labels are not on the disk.
    #[error("the labels of {path} cannot be read back from {disk}: {reason}")]
    NotReadBack {
        /// The file.
        path: PathBuf,
        /// The disk.
        disk: PathBuf,
        /// What is wrong.
        reason: OpenError,
    },
    /// The kernel gives no random UUID, or no time.
    #[error("{0}")]
    Label(String),
}

/// The disk of a file that is an area, and where on it the area's first extent is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FilePlace {
    /// The whole disk's device.
    pub(crate) disk: PathBuf,
    /// Byte of the disk.
    pub(crate) offset: u64,
}

/// Makes a file of `bytes` a dump area. The steps of `progress` are bytes.
pub fn format_file(
    path: &Path,
    bytes: u64,
    if_exists: IfUsed,
    progress: &dyn Progress,
) -> Result<Formatted, FileError> {
    if !bytes.is_multiple_of(PIECE as u64) || bytes == 0 {
        return Err(FileError::Size);
    }
    let file = create(path, if_exists)?;
    let formatted = fill(&file, path, bytes, progress).and_then(|()| make_area(&file, path, bytes));
    if formatted.is_err() {
        // Half an area is of no use, and takes room.
        let _ = swap::unpin(path).and_then(|()| remove(path));
    }
    formatted
}

fn open_error(path: &Path) -> impl Fn(io::Error) -> FileError + '_ {
    move |source| FileError::Open { path: path.to_owned(), source }
}

fn remove(path: &Path) -> Result<(), FileError> {
    fs::remove_file(path).map_err(open_error(path))
}

/// Makes an empty file, which btrfs will not move when it is written.
fn create(path: &Path, if_exists: IfUsed) -> Result<File, FileError> {
    if path.exists() {
        if if_exists == IfUsed::Refuse || !path.is_file() {
            return Err(FileError::Exists { path: path.to_owned() });
        }
        swap::unpin(path)?;
        remove(path)?;
    }
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create_new(true).mode(0o600).open(path);
    let file = file.map_err(open_error(path))?;
    // Other file systems refuse the flag, and need none.
    let _ = ioctl_getflags(&file).and_then(|flags| ioctl_setflags(&file, flags | NOCOW));
    if let Err(error) = FileSystem::of(path) {
        remove(path)?;
        return Err(error);
    }
    Ok(file)
}

/// Gives the file its blocks, and writes each of them: a block that was never written reads as zeros, whatever is on the disk.
fn fill(file: &File, path: &Path, bytes: u64, progress: &dyn Progress) -> Result<(), FileError> {
    let open_error = open_error(path);
    fallocate(file, FallocateFlags::empty(), 0, bytes).map_err(|error| open_error(error.into()))?;
    let zeros = vec![0; PIECE];
    progress.begin(bytes);
    for offset in (0..bytes).step_by(PIECE) {
        file.write_all_at(&zeros, offset).map_err(&open_error)?;
        progress.advance_to(offset + PIECE as u64);
    }
    progress.end();
    file.sync_all().map_err(open_error)
}

/// Writes the labels into the file, pins it, and reads the labels back from its disk.
fn make_area(file: &File, path: &Path, bytes: u64) -> Result<Formatted, FileError> {
    let told = |error: super::FormatError| FileError::Label(error.to_string());
    let label = Label { uuid: random_uuid().map_err(told)?, length: bytes, created: now().map_err(told)? };
    file.write_all_at(&swap::header(label.uuid), 0).map_err(open_error(path))?;
    file.sync_all().map_err(open_error(path))?;
    let system = FileSystem::of(path)?;
    let extents = map::map(file, HEAD, bytes, &system)?;
    let disk = DirectDisk::open(&system.disk).map_err(open_error(&system.disk))?;
    let through = BlockFile::open_exclusive(path).map_err(open_error(path))?;
    let formatted = Area::format_file(through, &extents, machine::BlockDevice::size(&disk), label);
    let area = formatted.map_err(|source| FileError::Format { path: path.to_owned(), source })?;
    let (bytes, capacity) = (area.label().length, area.label().capacity());
    drop(area);
    let first = extents.first().map_or(0, |extent| extent.disk);
    check_on_disk(path, &FilePlace { disk: system.disk.clone(), offset: first }, label.uuid)?;
    swap::pin(path)?;
    let (uuid, device) = (label.uuid, path.canonicalize().map_err(open_error(path))?);
    let name = AreaName::Device(device.clone());
    Ok(Formatted { uuid, name, device, bytes, capacity, objection: format::objection(&system.disk) })
}

/// Reads the labels of an area from the disk, and compares the list of its extents with where the file is now.
fn check_on_disk(path: &Path, place: &FilePlace, uuid: Uuid) -> Result<(), FileError> {
    let disk = DirectDisk::open(&place.disk).map_err(open_error(&place.disk))?;
    let area = Area::open(disk, place.offset, uuid);
    let not_read_back =
        |reason| FileError::NotReadBack { path: path.to_owned(), disk: place.disk.clone(), reason };
    let listed: Vec<_> = area.map_err(not_read_back)?.extents().collect();
    let file = File::open(path).map_err(open_error(path))?;
    let bytes = file.metadata().map_err(open_error(path))?.len();
    let mapped = map::map(&file, HEAD, bytes, &FileSystem::of(path)?)?;
    let mapped: Vec<_> = mapped.iter().map(|&FileExtent { disk, length, .. }| (disk, length)).collect();
    if mapped != listed {
        return Err(FileError::Moved { path: path.to_owned() });
    }
    Ok(())
}

/// Pins a file that is an area, and checks that it is where it was: nothing moves it from then on.
pub(crate) fn pin(path: &Path, uuid: Uuid) -> Result<(), FileError> {
    let Some(place) = place_of(path)? else { return Ok(()) };
    check_on_disk(path, &place, uuid)?;
    swap::pin(path)?;
    check_on_disk(path, &place, uuid)
}

/// Works while a file that is an area is pinned and was found where it was: what is written to its blocks harms nobody else.
pub(crate) fn while_pinned<T>(path: &Path, uuid: Uuid, work: impl FnOnce() -> T) -> Result<T, FileError> {
    let was_pinned = swap::is_pinned(path);
    let done = pin(path, uuid).map(|()| work());
    if !was_pinned {
        swap::unpin(path)?;
    }
    done
}

/// Checks that a file that is an area is where it was, and pinned.
pub(crate) fn check(path: &Path, place: &FilePlace, uuid: Uuid) -> Result<(), FileError> {
    check_on_disk(path, place, uuid)?;
    if !swap::is_pinned(path) {
        return Err(FileError::Unpinned { path: path.to_owned() });
    }
    Ok(())
}

/// Where the area is that a file says it is; `None` if it says nothing. Whether it is there the labels on the disk tell.
pub(crate) fn place_of(path: &Path) -> Result<Option<FilePlace>, FileError> {
    if !path.is_file() {
        return Ok(None);
    }
    let Ok(mut file) = DirectDisk::open(path) else { return Ok(None) };
    let Some(offset) = area::place_of_first_extent(&mut file, HEAD) else { return Ok(None) };
    Ok(Some(FilePlace { disk: FileSystem::of(path)?.disk, offset }))
}
