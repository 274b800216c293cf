//! Reads what the capture kernel must know before it touches hardware: boot parameters, ACPI tables, and which
//! remapping unit translates for which PCI functions.
//!
//! Firmware, the boot loader and the dead kernel wrote this data, so none of it is trusted. The functions here read
//! it through closures and traits, so that tests and the fuzzer can supply any input.

#![cfg_attr(not(test), no_std)]
#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_macros))]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod acpi;
pub mod listing;
pub mod other_memory;
pub mod platform {
    //! The part of the platform that only reads and decides: it has no `unsafe`, and tests can give it any input.

    pub mod boot_params;
    pub mod free_parts;
    pub mod frequency;
    pub mod leftovers;
    pub mod severity;
    pub mod zero_page;
}
pub mod root_pointer;
pub mod units;

/// The example in docs/embedding.md, which is compiled too.
#[cfg(doctest)]
#[doc = include_str!("../../docs/embedding.md")]
struct Embedding;
