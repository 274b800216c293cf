//! AMD-Vi, AMD's IOMMU architecture: layouts of registers, device table, host tables, commands, events and the ACPI IVRS table.
//!
//! Nothing here reads a register, follows a pointer or decides anything: every type is a lossless view of bits that
//! hardware or firmware defines, and accepts all bit patterns. The `takeover` crate decides what a pattern means for
//! a takeover.
//!
//! Section numbers are those of AMD's *I/O Virtualization Technology (IOMMU) Specification*, publication 48882; registers are
//! named by the offsets that the specification gives them. Codes that hardware or memory supplies are
//! newtypes with named constants, never enums: the next revision may define another value, and a dead kernel's memory may
//! hold any.
//!
//! Guest tables, known as version 2, have the format of the processor (2.2.6), which is that of VT-d's first stage: the crate
//! `paging` has all formats side by side.
//!
//! ```
//! use amdvi::device_table::DeviceTableEntry;
//! use machine::Level;
//!
//! // An entry of a device table as it lies in memory: domain 2, translated by three levels of host tables.
//! let entry = DeviceTableEntry::from_words([0x6000_0000_018F_F603, 2, 0, 0]);
//! assert!(entry.host.valid() && entry.host.translation_valid());
//! assert_eq!(entry.host.mode().top(), Some(Level::THREE));
//! assert_eq!((entry.table(), entry.guest.domain()), (0x018F_F000.into(), 2));
//! ```
//!
//! | module | what it lays out | section |
//! |---|---|---|
//! | [`registers`] | offset and access kind of each register | 3.4 |
//! | [`feature`] | what a unit can do: EFR, EFR2 | 3.4 |
//! | [`control`] | base addresses, control, status, exclusion range | 3.4 |
//! | [`device_table`] | device table entries, CR3 tables of guests | 2.2.2, 2.2.6 |
//! | [`host_table`] | entries of host tables (version 1) | 2.2.3 |
//! | [`command`] | commands | 2.4 |
//! | [`event`] | events | 2.5 |
//! | [`ivrs`] | the ACPI table that lists the units | 5.2 |

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_macros))]

use machine::{IoAddress, Range};

/// The addresses that HyperTransport uses for itself: interrupts, I/O ports, configuration space, messages. Requests to them are not
/// translated and reach no memory (2.1.2), unless [`ht_range_ignore`](feature::ExtendedFeature2::ht_range_ignore) says otherwise.
pub const HYPERTRANSPORT: Range<IoAddress> =
    Range::new(IoAddress::new(0xFD_0000_0000), IoAddress::new(0x100_0000_0000));

pub mod command;
pub mod control;
pub mod device_table;
pub mod event;
pub mod feature;
pub mod host_table;
pub mod ivrs;
pub mod registers;

/// The example in README.md, which is compiled too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
