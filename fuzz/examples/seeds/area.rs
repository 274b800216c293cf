//! Areas as formatted and as a dump leaves them: first the fields of each label, seal and log, then the dump.

use crate::Seed;
use area::{Area, BLOCK, Completeness, DUMP_OFFSET, LOG_OFFSET, Label, SEAL_OFFSET};
use fixtures::Disk;
use machine::BlockDevice;
use uuid::Uuid;

/// Bytes of the disk: that of the fuzz target.
const SIZE: u64 = DUMP_OFFSET + 16 * BLOCK;

pub(crate) fn seeds() -> Vec<Seed> {
    vec![("empty", area(0)), ("one_block", area(1)), ("three_blocks", area(3))]
}

/// An area with a dump of so many blocks.
fn area(blocks: u64) -> Vec<u8> {
    let mut disk = Disk(vec![0; SIZE as usize]);
    let label = Label { uuid: Uuid::from_u128(7), length: SIZE, created: 1_700_000_000 };
    let area = Area::format(&mut disk, 0, label).expect("the disk is large enough");
    if blocks > 0 {
        let mut dump = area.begin().expect("no disk error");
        dump.log(0).store().expect("no disk error");
        for index in (0..blocks).rev() {
            dump.write(index * BLOCK, &[index as u8 + 1; BLOCK as usize]).expect("no disk error");
        }
        dump.seal(Completeness::Complete, blocks * BLOCK - 9).expect("no disk error");
    }
    let fields = |offset: u64, len| &disk.0[offset as usize + 16..][..len];
    let dump = &disk.0[DUMP_OFFSET as usize..][..(blocks * BLOCK) as usize];
    [fields(0, 40), fields(SEAL_OFFSET, 480), fields(LOG_OFFSET, 56), dump].concat()
}
