//! What the capture kernel has instead of an operating system. All code that depends on the processor architecture is
//! here.
//!
//! This folder has everything that knows x86-64, and nearly all `unsafe` code. `main.rs` uses memory, a clock,
//! registers, a console and a reset from here, and contains no processor instruction.
//!
//! | modules | what they are for |
//! |---|---|
//! | `boot_params` | what the boot loader hands over |
//! | `entry`, `runtime` | the code from the boot loader's jump to `main.rs`, and what Rust needs without an operating system |
//! | `paging`, `memory`, `free_parts`, `copy` | this kernel's page tables, which memory belongs to whom, and guarded reads of the dead kernel's memory |
//! | `heap`, `frames` | the heap, and page frames for the remapping units' tables |
//! | `mmio`, `ports`, `config` | registers of devices, in memory and in I/O space, and configuration space of PCI functions |
//! | `framebuffer` | the pixels of a display |
//! | `hypervisor` | whether there is one |
//! | `shared` | a value that all of this kernel shares |
//! | `exceptions`, `machine_check`, `severity` | handlers of processor exceptions |
//! | `processor`, `leftovers`, `msr` | what the dead kernel left on in the processor |
//! | `room`, `zero_page`, `linux` | the memory for a fallback kernel, what it is told, and the jump into it |
//! | `clock`, `frequency`, `console`, `reset` | time, a serial port, and the restart of the machine |

pub(crate) mod clock;
pub(crate) mod config;
pub(crate) mod console;
pub(crate) mod copy;
pub(crate) mod entry;
pub(crate) mod exceptions;
pub(crate) mod framebuffer;
pub(crate) mod frames;
pub(crate) mod heap;
pub(crate) mod hypervisor;
pub(crate) mod linux;
pub(crate) mod machine_check;
pub(crate) mod memory;
pub(crate) mod mmio;
pub(crate) mod msr;
pub(crate) mod paging;
pub(crate) mod ports;
pub(crate) mod processor;
pub(crate) mod reset;
pub(crate) mod room;
#[cfg(freestanding)]
mod runtime;
pub(crate) mod shared;
pub(crate) mod write_protection;

pub(crate) use capture::platform::{boot_params, free_parts, zero_page};
