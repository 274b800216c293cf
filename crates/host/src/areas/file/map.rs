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

/// An extent as Linux lists it (`struct fiemap_extent`).
#[derive(Clone, Copy, Debug)]
struct Listed {
    logical: u64,
    physical: u64,
    length: u64,
    flags: Flags,
}

impl From<FiemapExtent> for Listed {
    fn from(extent: FiemapExtent) -> Self {
        Self {
            logical: extent.fe_logical,
            physical: extent.fe_physical,
            length: extent.fe_length,
            flags: extent.fe_flags,
        }
    }
}

/// Maps bytes `start..end` of a file to its whole disk, in as few extents as possible.
pub(super) fn map(
    file: &File,
    start: u64,
    end: u64,
    system: &FileSystem,
) -> Result<Vec<FileExtent>, FileError> {
    let listed: io::Result<Vec<_>> = Fiemap::with_flags(file, FiemapFlags::SYNC).collect();
    let listed: Vec<_> = listed.map_err(FileError::Map)?.into_iter().map(Listed::from).collect();
    let mut extents = Vec::new();
    for extent in cut(&listed, start, end)? {
        for piece in system.on_disk(extent)? {
            add(&mut extents, piece);
        }
    }
    Ok(extents)
}

/// The parts of extents that are bytes `start..end` of the file, if they have no gap and can all be used.
fn cut(listed: &[Listed], start: u64, end: u64) -> Result<Vec<FileExtent>, FileError> {
    let (mut extents, mut next) = (Vec::new(), start);
    let inside = |extent: &&Listed| extent.logical < end && extent.logical + extent.length > start;
    for extent in listed.iter().filter(inside) {
        check(extent)?;
        if extent.logical > next {
            return Err(FileError::Hole { at: next });
        }
        let length = end.min(extent.logical + extent.length) - next;
        extents.push(FileExtent { file: next, disk: extent.physical + (next - extent.logical), length });
        next += length;
    }
    if next < end {
        return Err(FileError::Hole { at: next });
    }
    Ok(extents)
}

fn check(extent: &Listed) -> Result<(), FileError> {
    // Flags without a name here are refused too.
    let unusable = extent.flags.bits() & !HARMLESS.bits();
    if unusable == 0 {
        return Ok(());
    }
    let found = OBJECTIONS.iter().find(|(flag, _)| extent.flags.contains(*flag));
    let words = found.map_or("of a kind that is not known", |(_, words)| words);
    Err(FileError::Unusable { at: extent.logical, words })
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

    fn listed(logical: u64, physical: u64, length: u64) -> Listed {
        Listed { logical, physical, length, flags: Flags::empty() }
    }

    #[test]
    fn the_requested_part_is_cut_out_of_the_extents() {
        let list = [listed(0, 1000, 100), listed(100, 5000, 50), listed(150, 900, 50), listed(200, 1, 9)];
        let expected = [(64, 1064, 36), (100, 5000, 50), (150, 900, 30)];
        let expected = expected.map(|(file, disk, length)| FileExtent { file, disk, length });
        assert_eq!(cut(&list, 64, 180).unwrap(), expected);
    }

    #[test]
    fn a_hole_is_refused_wherever_it_is() {
        let hole = |list: &[Listed]| match cut(list, 64, 200) {
            Err(FileError::Hole { at }) => at,
            other => panic!("{other:?}"),
        };
        assert_eq!(hole(&[]), 64);
        assert_eq!(hole(&[listed(70, 1000, 130)]), 64);
        assert_eq!(hole(&[listed(0, 1000, 100), listed(110, 5000, 90)]), 100);
        assert_eq!(hole(&[listed(0, 1000, 199)]), 199);
    }

    /// Each by itself, as well as bits that have no name.
    #[test]
    fn extents_that_are_not_the_files_alone_or_not_written_are_refused() {
        let with = |flags| cut(&[Listed { flags, ..listed(0, 4096, 4096) }], 0, 4096);
        assert!(with(Flags::LAST | Flags::MERGED).is_ok());
        let unnamed = Flags::from_bits_retain(1 << 20);
        for flags in OBJECTIONS.iter().map(|(flag, _)| *flag).chain([unnamed]) {
            assert!(matches!(with(flags | Flags::LAST), Err(FileError::Unusable { .. })), "{flags:?}");
        }
        let Err(FileError::Unusable { words, .. }) = with(Flags::DATA_INLINE | Flags::NOT_ALIGNED) else {
            panic!()
        };
        assert!(words.contains("inline"), "{words}");
    }

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
