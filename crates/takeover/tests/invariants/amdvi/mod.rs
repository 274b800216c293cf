//! What is AMD-Vi's own: one takeover to be read from top to bottom, units that never answer, registers that are locked or written
//! in halves, and witnesses that find takeovers out that were tampered with.

mod deadlines;
mod hardware;
mod step_by_step;
mod witnesses;
