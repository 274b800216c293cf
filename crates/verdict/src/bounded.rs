//! **bounded**: every wait has a deadline, every walk has a limit, memory stays within the budget.
//!
//! Memory is bounded by construction: there are only as many frames as the budget says. The model counts time and
//! steps.

use std::time::Duration;

use model::{Machine, Violation};

use crate::{DEADLINE, Verdict, ensure, limits, told};

/// Waits of a takeover: drain, queue off, queue on, proof, write buffer, root, contexts, translations, and back again.
const WAITS: u32 = 14;

/// What one more device-TLB costs that does not answer when no patience is left: two tenths of a second, and some looks
/// at the clock.
const SILENT: Duration = Duration::from_millis(250);

/// The most device-TLBs of a unit that are waited for when no patience is left: the first on each of 256 buses, and a hundred
/// siblings.
const SILENT_AT_MOST: u32 = 256 + 100;

/// What a device table entry of AMD-Vi costs: each is invalidated by a command of its own, twice, by a hundred at once.
const ENTRY: Duration = Duration::from_micros(1200);

/// Checks that the takeover of a unit, with at most `budget` frames, stayed within its limits of time and steps, and
/// that translation is on.
pub fn check(machine: &Machine, unit: usize, budget: usize) -> Verdict {
    within(machine, unit, budget, machine.device_tlbs(unit).len() as u32)
}

/// The same for a unit with damaged tables. A context table that damage puts on many buses allows device-TLBs of functions that are
/// not there, and these never answer.
pub fn check_damaged(machine: &Machine, unit: usize, budget: usize) -> Verdict {
    within(machine, unit, budget, SILENT_AT_MOST)
}

fn within(machine: &Machine, unit: usize, budget: usize, devices: u32) -> Verdict {
    // Time goes on while other units are taken over.
    let entries = (0..machine.units()).map(|unit| machine.device_entries(unit)).sum::<usize>();
    let longest = DEADLINE * WAITS + limits().patience.devices + SILENT * devices + ENTRY * entries as u32;
    ensure(machine.time() <= longest, || format!("took {:?}", machine.time()))?;
    ensure(machine.steps() <= step_limit(budget, longest) + 16 * entries as u64, || {
        format!("took {} steps", machine.steps())
    })?;
    ensure(machine.translates(unit), || "translation is off".into())?;
    let off = Violation::Misuse("translation was turned off");
    ensure(!machine.violations().contains(&off), || told(machine))
}

/// The most steps of a takeover: a few for each table that is copied, counted or checked, for each of its entries,
/// and for the waits.
fn step_limit(budget: usize, longest: Duration) -> u64 {
    let relinking = 4 * 512 * (budget as u64 + 1);
    let counting = 4 * 4 * 512 * (budget as u64 + 1);
    let looking = 2 * 512 * u64::from(limits().looks);
    let contexts = 8 * 65536;
    let waiting = 4 * longest.as_millis() as u64;
    relinking + counting + looking + contexts + waiting
}
