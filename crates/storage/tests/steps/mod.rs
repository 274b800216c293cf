//! Steps that tests take with a disk of blocks of 512 bytes, whatever its driver.

use std::ops::Range;

use machine::{BlockDevice, BlockError};
use proptest::prelude::*;

/// One call of a disk.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Write { block: usize, blocks: usize, fill: u8 },
    Read { block: usize, blocks: usize },
    Flush,
}

/// So many steps, each of fewer than `most` blocks that begin among the first 64.
pub(crate) fn steps(number: Range<usize>, most: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0_usize..64, 0..most, any::<u8>())
            .prop_map(|(block, blocks, fill)| Step::Write { block, blocks, fill }),
        2 => (0_usize..64, 0..most).prop_map(|(block, blocks)| Step::Read { block, blocks }),
        1 => Just(Step::Flush),
    ];
    prop::collection::vec(step, number)
}

/// Takes steps that may fail.
pub(crate) fn take(disk: &mut impl BlockDevice, steps: Vec<Step>) {
    for step in steps {
        let _: Result<(), BlockError> = match step {
            Step::Write { block, blocks, fill } => disk.write(block as u64 * 512, &vec![fill; blocks * 512]),
            Step::Read { block, blocks } => disk.read(block as u64 * 512, &mut vec![0; blocks * 512]),
            Step::Flush => disk.flush(),
        };
    }
}

/// Takes steps that must not fail, with a disk whose content is `expected`. Each read sees what was written last, and after each
/// flush that is what the device tells to be `durable`.
pub(crate) fn check(
    disk: &mut impl BlockDevice,
    steps: Vec<Step>,
    mut expected: Vec<u8>,
    durable: impl Fn() -> Vec<u8>,
) -> Result<(), TestCaseError> {
    for step in steps {
        match step {
            Step::Write { block, blocks, fill } => {
                let data: Vec<u8> = (0..blocks * 512).map(|at| fill.wrapping_add((at / 512) as u8)).collect();
                disk.write(block as u64 * 512, &data).unwrap();
                expected[block * 512..][..data.len()].copy_from_slice(&data);
            }
            Step::Read { block, blocks } => {
                let mut data = vec![0; blocks * 512];
                disk.read(block as u64 * 512, &mut data).unwrap();
                prop_assert_eq!(&data, &expected[block * 512..][..blocks * 512]);
            }
            Step::Flush => {
                disk.flush().unwrap();
                prop_assert_eq!(&durable(), &expected);
            }
        }
    }
    Ok(())
}
