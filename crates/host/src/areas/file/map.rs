//! Where the blocks of a file are on its disk, and whether they stay there.

use std::fs::File;
use std::io;

use area::FileExtent;
use fiemap::{Fiemap, FiemapExtent, FiemapExtentFlags as Flags, FiemapFlags};

use super::FileError;
use super::place::FileSystem;

/// What an extent may be called; whatever else it is called, its blocks are not the file's alone, or not where Linux says.
const HARMLESS: Flags = Flags::LAST.union(Flags::MERGED);

/// What Linux calls an extent that cannot be used, in words. The more telling ones come first, because they are set together.
const OBJECTIONS: &[(Flags, &str)] = &[
    (Flags::DATA_INLINE, "kept among the file system's own data (inline): the file is too small"),
    (Flags::DATA_TAIL, "packed with those of other files"),
    (Flags::SHARED, "shared with a copy or a snapshot"),
    (Flags::DATA_ENCRYPTED, "encrypted by the file system"),
    (Flags::ENCODED, "compressed or encoded"),
    (Flags::UNWRITTEN, "allocated and never written: they would read as zeros"),
    (Flags::DELALLOC, "not on the disk yet"),
    (Flags::NOT_ALIGNED, "not aligned"),
    (Flags::UNKNOWN, "at a place that Linux does not know"),
];

/// Maps bytes `start..end` of a file to its whole disk, in as few extents as possible.
pub(super) fn map(
    file: &File,
    start: u64,
    end: u64,
    system: &FileSystem,
) -> Result<Vec<FileExtent>, FileError> {
    let mapped: io::Result<Vec<_>> = Fiemap::with_flags(file, FiemapFlags::SYNC).collect();
    let mapped = mapped.map_err(FileError::Map)?;
    let mut extents: Vec<FileExtent> = Vec::new();
    let mut next = start;
    for extent in mapped.iter().filter(|extent| extent.fe_logical + extent.fe_length > start) {
        if extent.fe_logical >= end {
            break;
        }
        check(extent)?;
        if extent.fe_logical > next {
            return Err(FileError::Hole { at: next });
        }
        let cut = FileExtent {
            file: next,
            disk: extent.fe_physical + (next - extent.fe_logical),
            length: end.min(extent.fe_logical + extent.fe_length) - next,
        };
        next += cut.length;
        for extent in system.on_disk(cut)? {
            add(&mut extents, extent);
        }
    }
    if next < end {
        return Err(FileError::Hole { at: next });
    }
    Ok(extents)
}

fn check(extent: &FiemapExtent) -> Result<(), FileError> {
    // Flags without a name here are refused too.
    let unusable = extent.fe_flags.bits() & !HARMLESS.bits();
    if unusable == 0 {
        return Ok(());
    }
    let found = OBJECTIONS.iter().find(|(flag, _)| extent.fe_flags.contains(*flag));
    let words = found.map_or("of a kind that is not known", |(_, words)| words);
    Err(FileError::Unusable { at: extent.fe_logical, words })
}

/// Adds an extent, as a part of the last one if it follows that on the disk too.
fn add(extents: &mut Vec<FileExtent>, extent: FileExtent) {
    match extents.last_mut() {
        Some(last) if last.disk + last.length == extent.disk => last.length += extent.length,
        _ => extents.push(extent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_that_follow_each_other_on_the_disk_are_one() {
        let extent = |file, disk, length| FileExtent { file, disk, length };
        let mut extents = Vec::new();
        for (file, disk) in [(0, 100), (10, 110), (20, 200)] {
            add(&mut extents, extent(file, disk, 10));
        }
        assert_eq!(extents, [extent(0, 100, 20), extent(20, 200, 10)]);
    }
}
