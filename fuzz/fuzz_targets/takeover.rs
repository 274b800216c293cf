//! Takeovers of machines whose tables come from the fuzzer: the first bytes select the machine, and every eleven
//! bytes after them replace a word of some table.
//!
//! Whatever the tables say, the takeover ends in time, keeps the capture kernel's memory to itself, writes no old
//! memory, and reports correctly what happened to each part.

#![no_main]

use libfuzzer_sys::fuzz_target;
use model::damage::{Damage, Harm, Table, Victim};
use model::random::Size;
use model::{Machine, Scenario};
use takeover::Failure;
use verdict::{Verdict, accounted, bounded, isolation, limits, misused, told};

/// Most words that are changed.
const WORDS: usize = 64;
const SIZE: Size = Size { units: 1, domains: 3, functions: 4, runs: 3 };

fuzz_target!(|bytes: &[u8]| {
    let Some((&[seed, frames], words)) = bytes.split_first_chunk() else { return };
    let mut scenario = Scenario::random(seed.into(), SIZE);
    scenario.damage = words.as_chunks().0.iter().take(WORDS).map(damage).collect();
    let (machine, budget) = (scenario.machine(), usize::from(frames) * 4);
    if let Err(wrong) = judge(&machine, budget) {
        panic!("{wrong}");
    }
});

/// The word to change, and how: to a given value, or so that it points at another table or at memory at which no table
/// should point.
fn damage([kind, which, word, value @ ..]: &[u8; 11]) -> Damage {
    let table = match kind % 4 {
        0 => Table::Root,
        1 => Table::Context,
        2 => Table::Pasid,
        _ => Table::Paging,
    };
    let value = u64::from_le_bytes(*value);
    let harm = match kind >> 4 & 3 {
        0 => Harm::Overwrite(value),
        1 => Harm::PointAtTable(value as usize),
        2 => Harm::PointAtForbidden(value as usize),
        _ => Harm::Flip(value as u32 % 64),
    };
    let (which, word) = (usize::from(*which), usize::from(*word));
    Damage { victim: Victim::Some { table, which, word }, harm }
}

/// Takes the machine over, and checks the invariants.
fn judge(machine: &Machine, budget: usize) -> Verdict {
    let (mut frames, clock) = (machine.frames(budget), machine.clock());
    let taken = verdict::take_over(machine, 0, &mut frames, &clock, &limits());
    bounded::check(machine, 0, budget)?;
    machine.guard(Vec::new());
    if !machine.old_pages_changed().is_empty() || misused(machine) {
        return Err(format!("old memory or the rules: {}", told(machine)));
    }
    match taken {
        Ok(taken) => {
            isolation::check(machine, 0)?;
            accounted::check(machine, 0, taken.report())
        }
        Err(Failure { .. }) => Ok(()),
    }
}
