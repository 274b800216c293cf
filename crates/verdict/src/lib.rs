//! Takes over modelled machines, and judges the takeovers by the invariants of ARCHITECTURE.md.
//!
//! Property tests, the fuzzer and `holdover simulate` all take over machines of the `model` crate and must judge them
//! alike. So the checks are here: each is a function that returns what is wrong.
//!
//! | module | what it checks |
//! |---|---|
//! | [`continuity`] | every answer is the same as before the panic |
//! | [`isolation`] | no device reaches the capture kernel's memory |
//! | [`bounded`] | time and steps stay within limits, and translation stays on |
//! | [`accounted`] | the report is true |

#![forbid(unsafe_code)]

pub mod accounted;
mod attempt;
pub mod bounded;
pub mod continuity;
pub mod isolation;

pub use attempt::{
    DEADLINE, KEPT_FREE, Layout, REGISTERS, Taken, limits, take_over, take_over_knowing, take_over_through,
    unit,
};

use model::walk::Reached;
use model::{Access, Direction, Machine, Violation};

/// `Ok` if all is well; otherwise a text that says what is wrong.
pub type Verdict = Result<(), String>;

/// Whether software did something that the specification forbids.
pub fn misused(machine: &Machine) -> bool {
    machine.violations().iter().any(|violation| matches!(violation, Violation::Misuse(_)))
}

/// Formats the violations for people.
pub fn told(machine: &Machine) -> String {
    let lines: Vec<String> = machine.violations().iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// Returns `wrong` as an error unless the condition holds.
fn ensure(holds: bool, wrong: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(wrong()) }
}

/// Both ends of a leaf, for reads and writes.
fn ends(leaf: &Reached) -> impl Iterator<Item = Access> + use<> {
    let (requester, ends) = (leaf.requester, [leaf.iova, leaf.iova.saturating_add(leaf.memory.len() - 1)]);
    let both = [Direction::Read, Direction::Write];
    ends.into_iter().flat_map(move |iova| both.map(|direction| requester.access(iova, direction)))
}
