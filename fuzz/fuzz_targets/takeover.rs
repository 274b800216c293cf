//! Takeovers of machines whose tables come from the fuzzer: the first bytes select the machine, and every eleven
//! bytes after them replace a word of some table.
//!
//! Whatever the tables say, the takeover ends in time, keeps the capture kernel's memory to itself, writes no old
//! memory, and reports correctly what happened to each part.

#![no_main]

use holdover_fuzz::{WORDS, harm, judge};
use libfuzzer_sys::fuzz_target;
use model::Scenario;
use model::damage::{Damage, Table, Victim};
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
        0 => Table::Root,
        1 => Table::Context,
        2 => Table::Pasid,
        _ => Table::Paging,
    };
    let harm = harm(kind >> 4, u64::from_le_bytes(*value));
    let (which, word) = (usize::from(*which), usize::from(*word));
    Damage { victim: Victim::Some { table, which, word }, harm }
}
