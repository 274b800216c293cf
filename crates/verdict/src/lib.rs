//! Takeovers of modelled machines, and the invariants of ARCHITECTURE.md that they are judged by.
//!
//! Property tests, the fuzzer and `holdover simulate` all take over machines of the `model` crate and must ask the same of
//! them: the questions are here, each a function that says what is wrong.
//!
//! | module | what is asked |
//! |---|---|
//! | [`continuity`] | every answer is what it was before the panic |
//! | [`isolation`] | no device reaches the capture kernel's memory |
//! | [`bounded`] | time and steps stay within limits, translation stays on |
//! | [`accounted`] | what the report says is so |

#![forbid(unsafe_code)]

pub mod accounted;
mod attempt;
pub mod bounded;
pub mod continuity;
pub mod isolation;

pub use attempt::{DEADLINE, KEPT_FREE, Layout, REGISTERS, Taken, limits, take_over, take_over_through};

use model::walk::Reached;
use model::{Access, Direction, Machine, Violation};

/// What is wrong, in words; nothing if nothing is.
pub type Verdict = Result<(), String>;

/// Whether software did something that the specification forbids.
pub fn misused(machine: &Machine) -> bool {
    machine.violations().iter().any(|violation| matches!(violation, Violation::Misuse(_)))
}

/// The violations as people read them.
pub fn told(machine: &Machine) -> String {
    let lines: Vec<String> = machine.violations().iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// A condition that must hold, or what is wrong.
fn ensure(holds: bool, wrong: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(wrong()) }
}

/// Both ends of a leaf, read and written.
fn ends(leaf: &Reached) -> impl Iterator<Item = Access> + use<> {
    let (requester, ends) = (leaf.requester, [leaf.iova, leaf.iova.saturating_add(leaf.memory.len() - 1)]);
    let both = [Direction::Read, Direction::Write];
    ends.into_iter().flat_map(move |iova| both.map(|direction| requester.access(iova, direction)))
}
