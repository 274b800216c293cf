//! Lists which memory devices can reach: reads a remapping unit's tables in memory and reports everything in them.
//!
//! It answers two questions about any memory that can be read (a crash dump, a file, a model):
//!
//! 1. [`Tables::each_requester`]: for which devices and PASIDs do root, context and PASID tables of VT-d's have entries, or the
//!    device table of AMD-Vi's, and which [`Route`] translates their requests?
//! 2. [`Tables::each_piece`]: where does a route lead which I/O addresses, and with which rights?
//!
//! This crate decides and changes nothing: it is for people who want to see. It reports memory that cannot be read as
//! [`Obstacle::Unreadable`] and never guesses. It treats the tables as hostile: a walk goes no deeper than the levels
//! of the architecture, and reads no more tables than a [`Budget`] allows.
//!
//! It lists what the entries allow. When hardware has to set an accessed or dirty bit and cannot, it blocks the
//! request all the same (3.10). The list ignores that, so that it leaves out nothing that a device may have reached.
//!
//! Section numbers are those of the VT-d specification, revision 4.1, and where AMD-Vi is named, of AMD's I/O virtualization technology
//! specification, revision 3.08.
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
mod pasids;
mod piece;
mod requesters;
mod route;
mod stage;
mod subject;

use ::amdvi::control::DeviceTableBase;
use machine::{ENTRIES, OldMemory, PhysicalAddress, Table};
use vtd::capability::{Capability, ExtendedCapability};
use vtd::control::RootTableAddress;

pub use binding::Binding;
pub use budget::{Budget, Spent};
pub use obstacle::Obstacle;
pub use piece::{Piece, Rights, Target};
pub use route::{FirstStage, Privilege, Route};
pub use stage::Root;
pub use subject::Subject;

/// The registers and the machine property that decide how a unit's tables are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitSetup {
    /// A unit of Intel's.
    Vtd(VtdSetup),
    /// A unit of AMD's.
    AmdVi(AmdViSetup),
}

/// What decides how the tables of a unit of Intel's are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VtdSetup {
    /// RTADDR.
    pub root: RootTableAddress,
    /// CAP.
    pub capability: Capability,
    /// ECAP.
    pub extended: ExtendedCapability,
    /// Physical address bits of the machine.
    pub host_address_bits: u32,
}

/// What decides how the tables of a unit of AMD's are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AmdViSetup {
    /// The bases of the device table's segments, which the highest bits of a source-id select.
    pub device_table: [DeviceTableBase; 8],
    /// How many of them there are: 1, 2, 4 or 8.
    pub segments: usize,
    /// Physical address bits of the machine.
    pub host_address_bits: u32,
}

impl From<VtdSetup> for UnitSetup {
    fn from(unit: VtdSetup) -> Self {
        Self::Vtd(unit)
    }
}

impl From<AmdViSetup> for UnitSetup {
    fn from(unit: AmdViSetup) -> Self {
        Self::AmdVi(unit)
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
    pub fn new(memory: &'m M, unit: impl Into<UnitSetup>) -> Self {
        Self { memory, unit: unit.into() }
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
