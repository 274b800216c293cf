//! Takeovers of machines with AMD's IOMMU, whose tables come from the fuzzer: the target `takeover` for the other architecture.

#![no_main]

use holdover_fuzz::{WORDS, harm, judge};
use libfuzzer_sys::fuzz_target;
use model::amdvi::Scenario;
use model::amdvi::damage::{Damage, Table, Victim};
use model::random::Size;

const SIZE: Size = Size { units: 1, domains: 3, functions: 4, runs: 3 };

fuzz_target!(|bytes: &[u8]| {
    let Some((&[seed, frames], words)) = bytes.split_first_chunk() else { return };
    let mut scenario = Scenario::random(seed.into(), SIZE);
    scenario.damage = words.as_chunks().0.iter().take(WORDS).map(damage).collect();
    if let Err(wrong) = judge(&scenario.machine(), usize::from(frames) * 4) {
        panic!("{wrong}");
    }
});

/// The word to change, and how.
fn damage([kind, which, word, value @ ..]: &[u8; 11]) -> Damage {
    let table = match kind % 4 {
        0 => Table::Device,
        1 => Table::Cr3,
        2 => Table::Interrupt,
        _ => Table::Paging,
    };
    let harm = harm(kind >> 4, u64::from_le_bytes(*value));
    let (which, word) = (usize::from(*which), usize::from(*word));
    Damage { victim: Victim::Some { table, which, word }, harm }
}
