//! Takeovers of machines whose tables come from the fuzzer: the first bytes select the machine, and every eleven
//! bytes after them replace a word of some table.
//!
//! Whatever the tables say, the takeover ends in time, keeps the capture kernel's memory to itself, writes no old
//! memory, and reports correctly what happened to each part.

#![no_main]

use holdover_fuzz::{Asked, Change, judge};
use libfuzzer_sys::fuzz_target;
use model::Scenario;
use model::damage::{Damage, Table, Victim};
use model::random::Size;

const SIZE: Size = Size { units: 1, domains: 3, functions: 4, runs: 3 };

/// The kinds of tables in which words change.
const TABLES: [Table; 4] = [Table::Root, Table::Context, Table::Pasid, Table::Paging];

fuzz_target!(|bytes: &[u8]| {
    let Some(asked) = Asked::read(bytes) else { return };
    let mut scenario = Scenario::random(asked.seed, SIZE);
    scenario.damage = asked.changes().map(damage).collect();
    if let Err(wrong) = judge(&scenario.machine(), asked.budget) {
        panic!("{wrong}");
    }
});

fn damage(Change { kind, which, word, harm }: Change) -> Damage {
    Damage { victim: Victim::Some { table: TABLES[kind], which, word }, harm }
}
