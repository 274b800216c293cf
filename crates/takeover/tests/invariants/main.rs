//! The invariants of a takeover on any machine: one file for each invariant of ARCHITECTURE.md.
//!
//! | file | what it checks |
//! |---|---|
//! | `continuity`, `isolation`, `disjointness`, `old_memory_is_read_only`, `bounded`, `accounted` | the invariant of that name, on random machines |
//! | `others` | devices and processors that disturb the unit while it is taken over |
//! | `sriov` | device-TLBs of functions that nobody knows of, and of very many |
//! | `twins` | isolation among devices that shared a domain, each given to a driver |
//! | `deadlines` | registers that never answer, one by one |
//! | `refused` | what a takeover gives back that fails |
//! | `scarce` | all of them, with few frames and large pages over the capture kernel's memory |
//! | `vast` | bounded memory: machines whose tables do not fit |
//! | `witnesses` | that each of these tests can fail: it detects takeovers that were tampered with |
//! | `step_by_step` | one takeover, to be read from top to bottom |
//! | `amdvi` | the last three for AMD-Vi, and what only its units do: registers that are locked or written in halves |

mod accounted;
mod amdvi;
mod bounded;
mod common;
mod continuity;
mod deadlines;
mod disjointness;
mod isolation;
mod old_memory_is_read_only;
mod others;
mod refused;
mod scarce;
mod sriov;
mod step_by_step;
mod twins;
mod vast;
mod witnesses;
