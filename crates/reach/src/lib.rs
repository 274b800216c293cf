//! Which memory devices can reach: reads a remapping unit's tables as they lie in memory and lists everything in them.
//!
//! Two questions are answered, of any memory that can be read (a crash dump, a file, a model):
//!
//! 1. [`Tables::each_requester`]: which devices and PASIDs do root, context and PASID tables speak for, and by which
//!    [`Route`] are their requests translated?
//! 2. [`Tables::each_piece`]: which I/O addresses does a route lead where, with which rights?
//!
//! Nothing is decided or changed: this is for people who want to see. What cannot be read is told as
//! [`Obstacle::Unreadable`] and never guessed. The tables are taken as hostile: a walk goes no deeper than the levels of the
//! architecture, and looks at no more tables than a [`Budget`] has.
//!
//! What is listed is what entries allow. Hardware that has to note in an entry that it was used, and cannot, blocks the request
//! all the same (3.10): that is not told, so that nothing is left out that a device may have reached.
//!
//! Section numbers are those of the VT-d specification, revision 4.1.
//!
//! # Example
//!
//! ```
//! use machine::OldMemory;
//! use reach::{Budget, Spent, Tables, Unit};
//!
//! /// Prints which devices a unit's tables speak for, and which I/O addresses lead them where.
//! fn print(memory: &impl OldMemory, unit: Unit) -> Result<(), Spent> {
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

mod binding;
mod budget;
mod obstacle;
mod pasids;
mod piece;
mod requesters;
mod route;
mod stage;
mod subject;

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

/// What decides how a unit's tables are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnitSetup {
    /// RTADDR.
    pub root: RootTableAddress,
    /// CAP.
    pub capability: Capability,
    /// ECAP.
    pub extended: ExtendedCapability,
    /// Physical address bits of the machine.
    pub host_address_bits: u32,
}

/// The tables of a unit, in some memory.
#[derive(Debug)]
pub struct Tables<'m, M> {
    memory: &'m M,
    unit: UnitSetup,
}

impl<'m, M: OldMemory> Tables<'m, M> {
    /// The tables of `unit` in `memory`.
    pub fn new(memory: &'m M, unit: UnitSetup) -> Self {
        Self { memory, unit }
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
