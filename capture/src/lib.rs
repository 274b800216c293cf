//! What the capture kernel is told before it touches anything: boot parameters, ACPI's tables, and which
//! remapping unit translates for which PCI functions.
//!
//! All of it was written by others, the dead kernel among them, and is read through closures and traits: it can be given
//! anything in a test, and to a fuzzer.

#![cfg_attr(not(test), no_std)]
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "tests have memory"))]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod acpi;
pub mod platform {
    //! What of the platform is read and not driven: it has no `unsafe`, and can be given anything in a test.

    pub mod boot_params;
}
pub mod units;
