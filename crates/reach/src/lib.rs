//! Lists which memory devices can reach: reads a remapping unit's tables in memory and reports everything in them.
//!
//! It answers two questions about any memory that can be read (a crash dump, a file, a model):
//!
//! 1. [`Tables::each_requester`]: for which devices and PASIDs do the unit's tables have entries (VT-d's root, context and
//!    PASID tables, AMD-Vi's device table and guests' CR3 tables), and which [`Route`] translates their requests?
//! 2. [`Tables::each_piece`]: where does a route lead which I/O addresses, and with which rights?
//!
//! This crate decides and changes nothing: it is for people who want to see. It reports memory that cannot be read as
//! [`Obstacle::Unreadable`] and never guesses. It treats the tables as hostile: a walk goes no deeper than the levels
//! of the architecture, and reads no more tables than a [`Budget`] allows.
//!
//! It lists what the entries allow. When hardware has to set an accessed or dirty bit and cannot, it blocks the
//! request all the same (VT-d 3.10). The list ignores that, so that it leaves out nothing that a device may have reached.
//!
//! What both architectures have in common has VT-d's names here: the *first stage* is AMD-Vi's guest tables, the *second
//! stage* its host tables. Section numbers are those of the VT-d specification, revision 4.1, in [`vtd`](crate::vtd), and of
//! AMD's, publication 48882, in `amdvi`.
//!
//! # Example
//!
//! ```
//! use machine::OldMemory;
//! use reach::{Budget, Spent, Tables, UnitSetup};
//!
//! /// Prints the devices that a unit's tables have entries for, and where their I/O addresses lead.
//! fn print(memory: &impl OldMemory, unit: UnitSetup) -> Result<(), Spent> {
//!     let tables = Tables::new(memory, unit);
//!     let (mut budget, mut routes) = (Budget::new(1 << 16), Vec::new());
//!     tables.each_requester(&mut budget, &mut |place, binding| {
//!         println!("{place:?}: {binding:?}");
//!         routes.extend(binding.ok().map(|binding| binding.route));
//!     })?;
//!     for route in routes {
//!         tables.each_piece(route, &mut budget, &mut |piece| println!("{piece:?}"))?;
//!     }
//!     Ok(())
//! }
//! ```

#![no_std]
#![forbid(unsafe_code)]

mod amdvi;
mod binding;
mod budget;
mod obstacle;
mod piece;
mod route;
mod stage;
mod subject;
mod vtd;

use machine::{ENTRIES, INTERRUPT_WINDOW, IoAddress, OldMemory, PhysicalAddress, Range, Table};
use paging::{Architecture, Format};

pub use crate::amdvi::AmdViRegisters;
pub use crate::vtd::VtdRegisters;
pub use binding::Binding;
pub use budget::{Budget, Spent};
pub use obstacle::Obstacle;
pub use piece::{Piece, Rights, Target};
pub use route::{FirstStage, Privilege, Route, Stages};
pub use stage::Root;
pub use subject::Subject;

use subject::Visit;

/// The registers and the machine property that decide how a unit's tables are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnitSetup {
    /// The unit's registers.
    pub registers: UnitRegisters,
    /// Physical address bits of the machine.
    pub host_address_bits: u32,
}

/// The registers that decide how a unit's tables are read, by architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitRegisters {
    /// Intel VT-d.
    Vtd(VtdRegisters),
    /// AMD-Vi.
    AmdVi(AmdViRegisters),
}

impl UnitRegisters {
    /// The architecture, as far as page tables differ by it.
    fn architecture(&self) -> Architecture {
        match self {
            Self::Vtd(registers) => Architecture::Vtd(registers.capability),
            Self::AmdVi(_) => Architecture::AmdVi { address_bits: u64::BITS },
        }
    }

    /// Addresses that no table translates, and that reach no memory: interrupts (VT-d 3.14, AMD-Vi 2.1.3), and what
    /// HyperTransport uses for itself.
    fn set_apart(&self) -> &'static [Range<IoAddress>] {
        match self {
            Self::AmdVi(registers) if !registers.features_2.ht_range_ignore() => {
                &[INTERRUPT_WINDOW, ::amdvi::HYPERTRANSPORT]
            }
            Self::Vtd(_) | Self::AmdVi(_) => &[INTERRUPT_WINDOW],
        }
    }

    /// What passes untranslated for the requesters for which a [`Route`] says so: AMD-Vi's exclusion range (3.4.6).
    fn exclusion(&self) -> Range<PhysicalAddress> {
        match self {
            Self::Vtd(_) => Range::default(),
            Self::AmdVi(registers) => registers.exclusion(),
        }
    }

    /// The formats of the first and of the second stage.
    fn formats(&self) -> (Format, Format) {
        match self {
            Self::Vtd(_) => (Format::FirstStage, Format::SecondStage),
            Self::AmdVi(_) => (Format::AmdV2, Format::AmdV1),
        }
    }
}

/// The tables of a unit, in some memory.
#[derive(Debug)]
pub struct Tables<'m, M> {
    memory: &'m M,
    unit: UnitSetup,
}

impl<'m, M: OldMemory> Tables<'m, M> {
    /// Makes a view of `unit`'s tables in `memory`.
    pub fn new(memory: &'m M, unit: UnitSetup) -> Self {
        Self { memory, unit }
    }

    /// Reports every requester that has an entry, by source-id and PASID, and every place where entries cannot be read or make
    /// requests fault. Left out are requesters that nothing passes for: their entries are absent, or say so.
    ///
    /// AMD-Vi lets a device pass untranslated whose entry is not valid: all these devices are reported, in ranges.
    pub fn each_requester(&self, budget: &mut Budget, visit: &mut Visit<'_>) -> Result<(), Spent> {
        match self.unit.registers {
            UnitRegisters::Vtd(registers) => {
                vtd::Unit { tables: self, registers }.each_requester(budget, visit)
            }
            UnitRegisters::AmdVi(registers) => {
                amdvi::Unit { tables: self, registers }.each_requester(budget, visit)
            }
        }
    }

    /// Copies a table.
    fn table(&self, address: PhysicalAddress) -> Result<Table, Obstacle> {
        let mut table = [0; ENTRIES];
        match self.memory.read_table(address, &mut table) {
            Ok(()) => Ok(table),
            Err(_) => Err(Obstacle::Unreadable(address)),
        }
    }
}

/// The example in README.md, which is compiled too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
