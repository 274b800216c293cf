//! The formats of the tables that translate devices' addresses, side by side: one view for code that treats them alike.
//!
//! Whoever walks tables asks one question: *what is the next step below this entry?* [`Rules::step`] answers it, for one unit
//! on one machine: nothing, a table of some level, a page of some size, or a fault because the entry is malformed.
//! [`PageEntry::step`] answers it for entries that are known to be well-formed.
//!
//! The [`Format`]s are a closed list. All have 512 entries a table and the address in the same place. They differ in this:
//!
//! | | first stage | second stage | AMD-Vi, version 1 | AMD-Vi, version 2 |
//! |---|---|---|---|---|
//! | specified | VT-d 9.7 | VT-d 9.8 | AMD-Vi 2.2.3 | AMD-Vi 2.2.6 |
//! | present | bit 0 | reads or writes are allowed | bit 0 | bit 0 |
//! | next table | one level below | one level below | any level below | one level below |
//! | pages | 4 KiB, 2 MiB, 1 GiB | 4 KiB, 2 MiB, 1 GiB | any power of two | 4 KiB, 2 MiB, 1 GiB |
//! | levels | 4, 5 | 3 to 5 | 1 to 6 | 4, 5 |
//! | rights | user, write | read, write | read, write | user, write |
//!
//! The layouts of the entries are in `vtd` and `amdvi`.
//!
//! ```
//! use machine::Level;
//! use paging::{Format, Page, Step};
//!
//! // Four entries that are alike map a page of 16 KiB: AMD-Vi's size is in the address.
//! let entry = Format::AmdV1.entry(0x6000_0000_0001_1E01);
//! let Step::Page(page) = entry.step(Level::ONE) else { panic!("no page") };
//! assert_eq!(page.memory(), machine::Range::from(0x1_0000..0x1_4000));
//! assert_eq!(page.part(Level::ONE, 6), machine::Range::from(0x1_2000..0x1_3000));
//! ```

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_macros))]

mod entry;
mod format;
mod rules;
mod step;

pub use entry::PageEntry;
pub use format::Format;
pub use rules::{Architecture, Rules};
pub use step::{Page, Step};

/// The example in README.md, which is compiled too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
