//! The takeover's record: what the capture kernel found in each remapping unit and what became of it, as values that
//! travel in the dump.
//!
//! The capture kernel fills a [`Record`], prints it, and stores it in the dump's ELF notes as [`NOTE_NAME`] of type
//! [`NOTE_TYPE`]; `holdover inspect` reads it back. It holds only plain numbers and text, so that a reader needs to
//! know nothing of the program that wrote it.
//!
//! [`Record::encode`] limits its size: it leaves out what does not fit, and every [`List`] says how much that is.
//! [`Record::decode`] treats the bytes as hostile.
//!
//! # Example
//!
//! ```
//! use record::{NOTE_NAME, Record, Text};
//!
//! let record = Record { writer: Text::new("example 1.0"), host_address_bits: 46, ..Record::default() };
//! let content = record.clone().encode()?; // the content of an ELF note that is named NOTE_NAME
//! assert_eq!(NOTE_NAME, b"HOLDOVER\0");
//! assert_eq!(Record::decode(&content)?, record);
//! assert!(Record::decode(b"garbage").is_err());
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_macros))]

extern crate alloc;

mod encoding;
mod list;
mod text;
mod words;

use machine::{Requester, SourceId};
use serde::{Deserialize, Serialize};

pub use encoding::{DecodeError, MAX_BYTES, VERSION};
pub use list::List;
pub use machine::OutOfMemory;
pub use text::Text;

/// Name of the note, with its closing zero byte.
pub const NOTE_NAME: &[u8] = b"HOLDOVER\0";
/// Type of the note: "Hold" in ASCII. Readers interpret notes of some small types as processor registers, whatever
/// their name.
pub const NOTE_TYPE: u32 = u32::from_be_bytes(*b"Hold");

/// The record of a whole takeover.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Version of the capture kernel that wrote it.
    pub writer: Text,
    /// Physical address bits of the machine, as the DMAR or IVRS table says; 0 if there was none.
    pub host_address_bits: u32,
    /// The remapping units, in that table's order.
    pub units: List<UnitRecord>,
}

/// A remapping unit: its state when it was found, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitRecord {
    /// Its architecture, which says how to read its registers, entries and faults.
    pub architecture: Architecture,
    /// Physical address of its registers.
    pub base: u64,
    /// PCI segment that it serves.
    pub segment: u16,
    /// Its registers before anything was written to them; empty if they could not be read.
    pub registers: List<Register>,
    /// What became of it.
    pub state: UnitFate,
}

/// The architecture of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Architecture {
    /// Intel VT-d.
    Vtd,
    /// AMD-Vi.
    AmdVi,
}

/// A register and its value when it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Register {
    /// Bytes from the start of the unit's registers.
    pub offset: u16,
    /// Its value.
    pub value: u64,
}

/// What became of a unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UnitFate {
    /// Its translations were carried over into tables of the capture kernel.
    TakenOver(Takeover),
    /// Translation was off: there was nothing to inherit.
    Off,
    /// It was left as it was, or half taken over; the text says why, and which tables are in force.
    Lost(Text),
    /// The firmware lists it, and nothing answers there; the text says what is wrong with its place.
    Absent(Text),
}

/// A unit that was taken over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Takeover {
    /// The register that names the tables, as the old kernel left it: RTADDR of VT-d, the device table base of AMD-Vi.
    pub old_root: u64,
    /// The same register with the capture kernel's tables.
    pub new_root: u64,
    /// The state of the old invalidation queue or command buffer.
    pub queue: Queue,
    /// Faults that were recorded until the takeover was done: low and high word of each record (VT-d 11.4.7) or event
    /// (AMD-Vi 2.5).
    pub faults: List<(u64, u64)>,
    /// Counts of everything, including what the lists leave out.
    pub counts: Counts,
    /// Present entries, which said how requests are translated.
    pub contexts: List<Context>,
    /// Domains.
    pub domains: List<Domain>,
    /// Everything wrong or dangerous.
    pub hazards: List<Hazard>,
}

/// The state of an invalidation queue or a command buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Queue {
    /// It was not on.
    Off,
    /// It had executed all that was in it.
    Drained,
    /// It had stopped, or did not finish in time.
    Stuck {
        /// Its head at the end.
        head: u64,
        /// Its tail at the end.
        tail: u64,
    },
}

/// Counts of one unit, or of all units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Contexts that were carried over.
    pub contexts_accepted: u64,
    /// Tables of all kinds that were copied: root, context and page tables.
    pub tables_duplicated: u64,
    /// Leaf entries that map something.
    pub leaf_mappings: u64,
    /// Domains whose ids and I/O addresses are reserved.
    pub domains_reserved: u64,
    /// Hazards; neighbouring ones count as one.
    pub hazards: u64,
}

/// What became of a context, a domain or a part of one, from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Outcome {
    /// The copy translates exactly as the original did.
    Duplicated,
    /// The same translations, in larger pages.
    Folded,
    /// The same translations, in the old kernel's checked tables.
    KeptInPlace,
    /// The same translations, without those that reached the capture kernel's memory and without malformed ones.
    Fenced,
    /// Nothing is translated.
    Blocked,
}

/// An entry, which said how a device's requests are translated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// Source-id of the device.
    pub source: u16,
    /// PASID of the requests; `None` for those that carry none.
    pub pasid: Option<u32>,
    /// The entry as it was found.
    pub entry: Entry,
    /// Domain-id now; `None` if it was not carried over.
    pub domain: Option<u16>,
    /// What became of it.
    pub outcome: Outcome,
}

/// The words of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// A context entry of legacy mode (VT-d 9.3).
    Context([u64; 2]),
    /// A PASID table entry of scalable mode (VT-d 9.6).
    Pasid([u64; 8]),
    /// A device table entry (AMD-Vi 2.2.2.1).
    Device([u64; 4]),
    /// An entry of a CR3 table (AMD-Vi 2.2.6.3), after the device table entry that names the table.
    Guest([u64; 5]),
}

/// A domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Domain {
    /// Domain-id, as it is now.
    pub id: u16,
    /// Bits of an address that its tables translate; 0 if that is not known.
    pub address_bits: u32,
    /// Page tables that were copied.
    pub tables: u64,
    /// Leaf entries in them that map something.
    pub leaves: u64,
    /// Leaf entries that were cut out.
    pub fenced: u64,
    /// What became of it.
    pub outcome: Outcome,
}

/// Something wrong or dangerous, and what the takeover did about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hazard {
    /// Where.
    pub place: HazardPlace,
    /// What, in words.
    pub what: Text,
    /// What was done.
    pub outcome: Outcome,
}

/// Where a hazard was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HazardPlace {
    /// The context table of a bus.
    Bus(u8),
    /// A device's entry: its source-id.
    Device(u16),
    /// I/O addresses of a domain.
    Domain {
        /// Domain-id, as it is now.
        id: u16,
        /// First I/O address.
        start: u64,
        /// The first I/O address after it.
        end: u64,
    },
    /// The unit itself.
    Unit,
}

impl Record {
    /// The counts of all units that were taken over.
    pub fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        for unit in &self.units.listed {
            if let UnitFate::TakenOver(takeover) = &unit.state {
                sum.add(&takeover.counts);
            }
        }
        sum
    }
}

impl Counts {
    fn add(&mut self, other: &Self) {
        let Self { contexts_accepted, tables_duplicated, leaf_mappings, domains_reserved, hazards } = other;
        let add = |sum: &mut u64, count: &u64| *sum = sum.saturating_add(*count);
        add(&mut self.contexts_accepted, contexts_accepted);
        add(&mut self.tables_duplicated, tables_duplicated);
        add(&mut self.leaf_mappings, leaf_mappings);
        add(&mut self.domains_reserved, domains_reserved);
        add(&mut self.hazards, hazards);
    }
}

impl Outcome {
    /// All, from good to bad.
    pub const ALL: [Self; 5] =
        [Self::Duplicated, Self::Folded, Self::KeptInPlace, Self::Fenced, Self::Blocked];
}

impl UnitRecord {
    /// The value of the register at this offset, if it was read.
    pub fn register(&self, offset: usize) -> Option<u64> {
        let found = self.registers.listed.iter().find(|found| usize::from(found.offset) == offset);
        found.map(|found| found.value)
    }
}

impl Context {
    /// The device and PASID whose requests this entry translates.
    pub fn requester(&self) -> Requester {
        Requester { source: SourceId(self.source), pasid: self.pasid }
    }
}

/// The example in README.md, which is compiled too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
