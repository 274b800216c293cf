//! Takes machines over, and judges what came of it.

use model::Machine;
use model::damage::Harm;
use takeover::Failure;
use verdict::{Verdict, accounted, bounded, isolation, limits, misused, told};

/// Most words of tables that are changed.
pub const WORDS: usize = 64;

/// How a word changes: to a given value, in a bit, or so that it points at another table or at memory at which no table should
/// point.
pub fn harm(kind: u8, value: u64) -> Harm {
    match kind & 3 {
        0 => Harm::Overwrite(value),
        1 => Harm::PointAtTable(value as usize),
        2 => Harm::PointAtForbidden(value as usize),
        _ => Harm::Flip(value as u32 % 64),
    }
}

/// Takes a machine with damaged tables over, and checks the invariants that hold whatever tables say.
pub fn judge(machine: &Machine, budget: usize) -> Verdict {
    let (mut frames, clock) = (machine.frames(budget), machine.clock());
    let taken = verdict::take_over(machine, 0, &mut frames, &clock, &limits());
    bounded::check_damaged(machine, 0, budget)?;
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
