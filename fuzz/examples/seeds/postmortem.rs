//! Seeds of the fuzz target `postmortem`: each kind of kernel whole, and one whose list of modules is a loop.

use fixtures::legible::IMAGE;

use crate::Seed;

pub(crate) fn seeds() -> Vec<Seed> {
    let link = IMAGE + 0x8_0008;
    let mut word = 0x8_0008u32.to_le_bytes().to_vec();
    word.push(7);
    word.extend(link.to_le_bytes());
    vec![
        ("below-base", vec![0]),
        ("above-base", vec![1]),
        ("from-place", vec![2]),
        ("modules-in-a-loop", [vec![0], word].concat()),
    ]
}
