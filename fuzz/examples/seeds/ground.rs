//! Files as formatted, in one extent and in three: the fields of the area's label and of the first extent's, then the list.

use crate::Seed;
use area::{Area, BLOCK, FileExtent, Label};
use fixtures::Disk;
use uuid::Uuid;

/// Where the area begins in its file: as in the fuzz target.
const HEAD: u64 = 64 << 10;

pub(crate) fn seeds() -> Vec<Seed> {
    let three = [(6 << 20, 5 << 20), (1 << 20, 2 << 20), (5 << 20, BLOCK)];
    vec![("one", file(&[(1 << 20, 6 << 20)])), ("three", file(&three))]
}

/// A file with extents at these places of its disk.
fn file(places: &[(u64, u64)]) -> Vec<u8> {
    let mut next = HEAD;
    let extent = |&(disk, length): &(u64, u64)| {
        next += length;
        FileExtent { file: next - length, disk, length }
    };
    let extents: Vec<_> = places.iter().map(extent).collect();
    let mut file = Disk(vec![0; next as usize]);
    let label = Label { uuid: Uuid::from_u128(7), length: 0, created: 1_700_000_000 };
    Area::format_file(&mut file, &extents, 16 << 20, label).expect("the file is large enough");
    let fields = |offset: u64, len| &file.0[offset as usize + 16..][..len];
    let list = &file.0[(HEAD + BLOCK) as usize + 40..][..places.len() * 16];
    [fields(HEAD + 2 * BLOCK, 40), fields(HEAD, 56), list].concat()
}
