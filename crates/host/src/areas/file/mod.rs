//! A preallocated file as dump area: nobody has to repartition.
//!
//! The capture kernel writes to the file's blocks on the disk and knows nothing of file systems. So the file is written through,
//! mapped, and pinned by a tiny swap space at its head; labels in its extents are read back from the disk itself. What cannot be safe
//! is refused. The file system must be mounted again, or the page cache passed by, before anybody reads the dump through the file:
//! Holdover reads it from the disk.

mod btrfs;
mod direct;
mod error;
mod map;
mod place;
mod swap;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use area::{Area, FileExtent, FirstExtent, Label, OpenError};
use dumpfile::BlockFile;
use machine::BlockError;
use rustix::fs::{FallocateFlags, IFlags, fallocate, ioctl_getflags, ioctl_setflags};
use uuid::Uuid;

pub(crate) use direct::DirectDisk;
pub use error::FileError;
use place::FileSystem;
pub(crate) use swap::HEAD;

use super::AreaName;
use super::format::{self, Formatted, IfUsed, now, random_uuid};
use crate::Progress;

/// Bytes that are written at once.
const PIECE: usize = 1 << 20;
/// `FS_NOCOW_FL`: btrfs writes the file's blocks in place.
const NOCOW: IFlags = IFlags::NOCOW;

/// The disk of a file that is an area, and where on it the area's first extent was when the area was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FilePlace {
    /// The whole disk's device; the file itself if its disk cannot be found.
    pub(crate) disk: PathBuf,
    /// Byte of the disk, or of the file.
    pub(crate) offset: u64,
    /// Whether the file is still there, all of it. If not, the disk has others' blocks there.
    pub(crate) is_there: bool,
}

/// Makes a file of `bytes` a dump area. The steps of `progress` are bytes.
pub(crate) fn format(
    path: &Path,
    bytes: u64,
    if_exists: IfUsed,
    progress: &dyn Progress,
) -> Result<Formatted, FileError> {
    if path.to_str().is_none_or(|name| name.chars().any(char::is_control)) {
        return Err(FileError::Name { path: path.to_owned() });
    }
    if !bytes.is_multiple_of(PIECE as u64) || bytes == 0 {
        return Err(FileError::Size);
    }
    let file = create(path, if_exists)?;
    let formatted = fill(&file, path, bytes, progress).and_then(|()| make_area(&file, path, bytes));
    if formatted.is_err() {
        // Half an area is of no use, and takes room.
        let _ = remove(path);
    }
    formatted
}

fn open_error(path: &Path) -> impl Fn(io::Error) -> FileError + '_ {
    move |source| FileError::Open { path: path.to_owned(), source }
}

/// Removes a file. If it is an area, what makes it one is erased first: the capture kernel knows the file's blocks by it, whosever they
/// are by then.
pub(crate) fn remove(path: &Path) -> Result<(), FileError> {
    let path = &path.canonicalize().map_err(open_error(path))?;
    swap::unpin(path)?;
    erase(path)?;
    fs::remove_file(path).map_err(open_error(path))
}

fn erase(path: &Path) -> Result<(), FileError> {
    if first_extent(path)?.is_none() {
        return Ok(());
    }
    let mut file = DirectDisk::open_to_write(path).map_err(open_error(path))?;
    match area::erase_file(&mut file, HEAD) {
        Err(OpenError::Device(source)) => Err(FileError::Erase { path: path.to_owned(), source }),
        // The first label is gone, and without it nobody finds the others.
        Ok(()) | Err(_) => Ok(()),
    }
}

/// What a file says of itself that is an area; `None` if it says nothing.
pub(crate) fn first_extent(path: &Path) -> Result<Option<FirstExtent>, FileError> {
    if !path.is_file() {
        return Ok(None);
    }
    let mut file = match DirectDisk::open(path) {
        Ok(file) => file,
        // The file system has no direct access, so that the file can be no area.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Ok(None),
        Err(error) => return Err(open_error(path)(error)),
    };
    match FirstExtent::read(&mut file, HEAD) {
        Err(source @ (BlockError::Device(_) | BlockError::TimedOut)) => {
            Err(FileError::Read { path: path.to_owned(), source })
        }
        found => Ok(found.ok().flatten()),
    }
}

/// Makes an empty file, which btrfs will not move when it is written.
fn create(path: &Path, if_exists: IfUsed) -> Result<File, FileError> {
    if path.exists() {
        if if_exists == IfUsed::Refuse || !path.is_file() {
            return Err(FileError::Exists { path: path.to_owned() });
        }
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
    check_journal(file, path)?;
    let extents = map::map(file, HEAD, bytes, &system)?;
    let disk = DirectDisk::open(&system.disk).map_err(open_error(&system.disk))?;
    let through = BlockFile::open_exclusive(path).map_err(open_error(path))?;
    let formatted = Area::format_file(through, &extents, machine::BlockDevice::size(&disk), label);
    let area = formatted.map_err(|source| FileError::Format { path: path.to_owned(), source })?;
    let (bytes, capacity) = (area.label().length, area.label().capacity());
    drop(area);
    let first = extents.first().map_or(0, |extent| extent.disk);
    check_on_disk(path, &FilePlace { disk: system.disk.clone(), offset: first, is_there: true }, label.uuid)?;
    swap::pin(path)?;
    let (uuid, device) = (label.uuid, path.canonicalize().map_err(open_error(path))?);
    let name = AreaName::Device(device.clone());
    Ok(Formatted { uuid, name, device, bytes, capacity, objection: format::objection(&system.disk) })
}

/// Refuses a file whose content ext4 writes through its journal (`FS_JOURNAL_DATA_FL`). Others have no such flag.
fn check_journal(file: &File, path: &Path) -> Result<(), FileError> {
    match ioctl_getflags(file) {
        Ok(flags) if flags.contains(IFlags::JOURNALING) => {
            Err(FileError::Journaled { path: path.to_owned() })
        }
        _ => Ok(()),
    }
}

/// Reads the labels of an area from the disk, and compares the list of its extents with where the file is now.
pub(crate) fn check_on_disk(path: &Path, place: &FilePlace, uuid: Uuid) -> Result<(), FileError> {
    let disk = DirectDisk::open(&place.disk).map_err(open_error(&place.disk))?;
    let area = Area::open(disk, place.offset, uuid);
    let not_read_back =
        |reason| FileError::NotReadBack { path: path.to_owned(), disk: place.disk.clone(), reason };
    let listed: Vec<_> = area.map_err(not_read_back)?.extents().collect();
    let file = File::open(path).map_err(open_error(path))?;
    check_journal(&file, path)?;
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

/// Whether Linux keeps a file in its place.
pub(crate) fn is_pinned(path: &Path) -> bool {
    swap::is_pinned(path)
}

/// Takes the pin off a file, so that it can be written, moved, or its file system unmounted.
pub(crate) fn unpin(path: &Path) -> Result<(), FileError> {
    swap::unpin(path)
}

/// Takes the pin off a file that has lost its label, if the pin is Holdover's: another's swap space is left alone.
pub(crate) fn release(path: &Path) -> Result<(), FileError> {
    if swap::has_header(path) { swap::unpin(path) } else { Ok(()) }
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

/// Works while a file is not pinned, so that it can be written. If a loaded capture kernel knows its blocks, it must not move afterwards.
pub(crate) fn while_unpinned<T>(path: &Path, work: impl FnOnce() -> T) -> Result<T, FileError> {
    let was_pinned = swap::is_pinned(path);
    swap::unpin(path)?;
    let done = work();
    if was_pinned {
        swap::pin(path)?;
    }
    Ok(done)
}

/// Where the area is that a file says it is; `None` if it says nothing.
pub(crate) fn place_of(path: &Path) -> Result<Option<FilePlace>, FileError> {
    let Some(FirstExtent { uuid, disk: offset }) = first_extent(path)? else { return Ok(None) };
    let mut place = FilePlace { disk: FileSystem::of(path)?.disk, offset, is_there: true };
    let checked = check_on_disk(path, &place, uuid);
    place.is_there = !matches!(checked, Err(FileError::Moved { .. } | FileError::NotReadBack { .. }));
    Ok(Some(place))
}
