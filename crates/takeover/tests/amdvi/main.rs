//! Takeovers of modelled AMD-Vi machines: the invariants of ARCHITECTURE.md as properties, and stories of single machines.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests stop at the first surprise")]

mod common;
mod contended;
mod guests;
mod in_place;
mod in_use;
mod pasids;
mod properties;
mod restricted;
mod scarce;
mod stalling;
mod story;
