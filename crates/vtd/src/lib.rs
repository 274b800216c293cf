//! Intel VT-d architecture: layouts of registers, tables, descriptors and the ACPI DMAR table.
//!
//! Nothing here reads a register, follows a pointer or decides anything: every type is a lossless view of bits that
//! hardware or firmware defines, and accepts all bit patterns. The `takeover` crate decides what a pattern means for
//! a takeover.
//!
//! Section numbers are those of Intel's *Virtualization Technology for Directed I/O, Architecture Specification*,
//! revision 4.1. Codes that hardware or memory supplies are newtypes with named constants, never enums: the next
//! revision may define another value, and a dead kernel's memory may hold any.
//!
//! ```
//! use vtd::context::{ContextEntry, TranslationType};
//!
//! // A context entry of legacy mode as it lies in memory: domain 7, translated by three levels of tables.
//! let entry = ContextEntry::from_words(0x1234_5001, 0x0701);
//! assert!(entry.low.present());
//! assert_eq!(entry.low.translation(), TranslationType::TRANSLATED);
//! assert_eq!((entry.table(), entry.high.domain()), (0x1234_5000.into(), 7));
//! assert_eq!(entry.high.width().bits(), Some(39));
//! // On a machine of 39 physical address bits, hardware takes no offence at it.
//! assert_eq!(entry.reserved_bits(39), (0, 0));
//! ```
//!
//! | module | what it lays out | section |
//! |---|---|---|
//! | [`registers`] | offset, width and access kind of each register | 11.4 |
//! | [`capability`] | what a unit can do: VER, CAP, ECAP | 11.4.1–11.4.3 |
//! | [`control`] | GCMD and GSTS, RTADDR, register-based invalidation, PMEN, IRTA | 11.4.4–11.4.8 |
//! | [`fault`] | FSTS, FECTL, fault records and reasons | 7, 11.4.7 |
//! | [`queue`] | the invalidation queue and its descriptors | 6.5.2, 11.4.9 |
//! | [`root`] | root entries, legacy and scalable | 9.1, 9.2 |
//! | [`context`] | context entries, legacy and scalable | 9.3, 9.4 |
//! | [`pasid`] | PASID directory and table entries | 9.5, 9.6 |
//! | [`paging`] | widths of page tables | 3.6, 3.7 |
//! | [`first_stage`] | first-stage paging entries | 9.7 |
//! | [`second_stage`] | second-stage paging entries | 9.8 |
//! | [`dmar`] | the ACPI table that lists the units | 8 |

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_macros))]

pub mod capability;
pub mod context;
pub mod control;
pub mod dmar;
pub mod fault;
pub mod first_stage;
pub mod paging;
pub mod pasid;
pub mod queue;
pub mod registers;
pub mod root;
pub mod second_stage;

/// Bits of an entry's address field, `[63:12]`, that a machine of `haw` physical address bits must leave zero.
///
/// The host address width is in the DMAR table (8.1). Widths below 12 reserve everything, widths above 63 nothing.
pub const fn address_reserved(haw: u32) -> u64 {
    match haw {
        0..=12 => !0xFFF,
        13..=63 => u64::MAX << haw,
        _ => 0,
    }
}

/// The example in README.md, which is compiled too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_host_address_width_gives_a_mask() {
        assert_eq!(address_reserved(39), 0xFFFF_FF80_0000_0000);
        assert_eq!(address_reserved(0), 0xFFFF_FFFF_FFFF_F000);
        assert_eq!(address_reserved(64), 0);
        assert_eq!(address_reserved(u32::MAX), 0);
    }
}
