//! **bounded**: every wait has a deadline, every walk has a limit, memory stays within the budget.
//!
//! Memory is bounded by construction: there are only as many frames as the budget says. The model counts time and
//! steps.

use model::{Machine, Violation};

use crate::{DEADLINE, Verdict, ensure, limits, told};

/// Waits of a takeover: drain, queue off, queue on, proof, write buffer, root, contexts, translations, and back again.
const WAITS: u32 = 14;

/// Checks that the takeover of a unit, with at most `budget` frames, stayed within its limits of time and steps, and
/// that translation is on.
pub fn check(machine: &Machine, unit: usize, budget: usize) -> Verdict {
    ensure(machine.time() <= DEADLINE * WAITS, || format!("took {:?}", machine.time()))?;
    ensure(machine.steps() <= step_limit(budget), || format!("took {} steps", machine.steps()))?;
    ensure(machine.status(unit).tes(), || "translation is off".into())?;
    let off = Violation::Misuse("translation was turned off");
    ensure(!machine.violations().contains(&off), || told(machine))
}

/// The most steps of a takeover: a few for each table that is copied, counted or checked, for each of its entries,
/// and for the waits.
fn step_limit(budget: usize) -> u64 {
    let relinking = 4 * 512 * (budget as u64 + 1);
    let counting = 4 * 4 * 512 * (budget as u64 + 1);
    let looking = 2 * 512 * u64::from(limits().looks);
    let contexts = 8 * 65536;
    let waiting = 4 * u64::from(WAITS) * DEADLINE.as_millis() as u64;
    relinking + counting + looking + contexts + waiting
}
