//! What the capture kernel has instead of an operating system: one processor architecture's ways to run at all.
//!
//! Everything that knows x86-64 is here, and nearly all `unsafe`. The story in `main.rs` sees memory, a clock, registers,
//! a console and a reset, and no instruction.
//!
//! | modules | what they are for |
//! |---|---|
//! | `boot_params` | what the boot loader hands over |
//! | `entry`, `runtime` | from the boot loader's jump to the story, and what Rust needs without an operating system |
//! | `paging`, `memory`, `copy` | own page tables, whose memory is whose, and reads of the dead kernel's that may fault |
//! | `heap`, `frames` | memory for the story, and page frames for the remapping units' tables |
//! | `mmio` | registers of devices |
//! | `exceptions` | what happens when the processor stumbles |
//! | `clock`, `console`, `reset` | time, a serial port, and the end |

pub(crate) mod clock;
pub(crate) mod console;
pub(crate) mod copy;
pub(crate) mod entry;
pub(crate) mod exceptions;
pub(crate) mod frames;
pub(crate) mod heap;
pub(crate) mod memory;
pub(crate) mod mmio;
pub(crate) mod paging;
pub(crate) mod reset;
#[cfg(freestanding)]
mod runtime;

pub(crate) use capture::platform::boot_params;
