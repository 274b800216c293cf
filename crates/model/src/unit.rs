//! A remapping unit of either architecture.

use crate::amdvi::unit::AmdViUnit;
use crate::answer::{Access, Answer};
use crate::habits::Habits;
use crate::memory::Memory;
use crate::tables::{Base, Tables};
use crate::trace::Event;
use crate::vtd::unit::VtdUnit;

/// A remapping unit.
#[derive(Debug)]
pub(crate) enum ModelUnit {
    Vtd(VtdUnit),
    AmdVi(AmdViUnit),
}

/// How wide an access to a register is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    Bits32,
    Bits64,
}

/// Asks the unit of whichever architecture.
macro_rules! ask {
    ($unit:expr, $it:ident => $question:expr) => {
        match $unit {
            ModelUnit::Vtd($it) => $question,
            ModelUnit::AmdVi($it) => $question,
        }
    };
}

impl ModelUnit {
    /// Where the tables in force are.
    pub(crate) fn base(&self) -> Base {
        match self {
            Self::Vtd(unit) => Base::Vtd(unit.root()),
            Self::AmdVi(unit) => Base::AmdVi(unit.bases()),
        }
    }

    /// A view of the tables in force.
    pub(crate) fn tables<'a>(&'a self, memory: &'a Memory) -> Tables<'a> {
        self.tables_at(self.base(), memory)
    }

    /// A view of tables elsewhere.
    ///
    /// # Panics
    ///
    /// If they are tables of the other architecture.
    #[expect(clippy::panic, reason = "a unit's tables are of its architecture")]
    pub(crate) fn tables_at<'a>(&'a self, base: Base, memory: &'a Memory) -> Tables<'a> {
        match (self, base) {
            (Self::Vtd(unit), Base::Vtd(root)) => Tables::Vtd(unit.walker_at(root, memory)),
            (Self::AmdVi(unit), Base::AmdVi(bases)) => Tables::AmdVi(unit.walker_at(bases, memory)),
            _ => panic!("tables of another architecture"),
        }
    }

    pub(crate) fn host_address_bits(&self) -> u32 {
        match self {
            Self::Vtd(unit) => unit.traits().host_address_bits,
            Self::AmdVi(unit) => unit.traits().host_address_bits,
        }
    }

    /// Whether translation is on.
    pub(crate) fn translates(&self) -> bool {
        ask!(self, unit => unit.translates())
    }

    /// What happened since the last call.
    pub(crate) fn take_events(&mut self) -> Vec<Event> {
        ask!(self, unit => unit.take_events())
    }

    /// Marks the old kernel as dead: from now on the unit has these habits, and its commands are checked.
    pub(crate) fn die_with(&mut self, habits: Habits) {
        ask!(self, unit => unit.die_with(habits));
    }

    /// Lets one step's time pass.
    pub(crate) fn advance(&mut self, memory: &mut Memory) {
        ask!(self, unit => unit.advance(memory));
    }

    /// Lets others write registers just before an access of the capture kernel.
    pub(crate) fn before_access(&mut self) {
        ask!(self, unit => unit.before_access());
    }

    /// Reads a register as the capture kernel sees it, which may be junk.
    pub(crate) fn look(&mut self, offset: usize, width: Width) -> u64 {
        ask!(self, unit => unit.look(offset, width))
    }

    /// Whether the unit loses the capture kernel's writes to a register.
    pub(crate) fn is_deaf_to(&self, offset: usize) -> bool {
        ask!(self, unit => unit.is_deaf_to(offset))
    }

    /// Whether the unit takes a write of this width in two halves, between which time passes.
    pub(crate) fn takes_halves(&self, width: Width) -> bool {
        match self {
            Self::Vtd(_) => false,
            Self::AmdVi(unit) => width == Width::Bits64 && unit.takes_halves(),
        }
    }

    /// Writes 32 bits.
    pub(crate) fn write32(&mut self, offset: usize, value: u32) {
        ask!(self, unit => unit.write32(offset, value));
    }

    /// Writes 64 bits at once.
    pub(crate) fn write64(&mut self, offset: usize, value: u64) {
        ask!(self, unit => unit.write64(offset, value));
    }

    /// The specification's name of the register at `offset`.
    pub(crate) fn name(&self, offset: usize) -> &'static str {
        match self {
            Self::Vtd(_) => crate::vtd::unit::name(offset),
            Self::AmdVi(_) => crate::amdvi::unit::name(offset),
        }
    }

    /// The answer of a unit without caches.
    pub(crate) fn cold_answer(&self, memory: &Memory, access: Access) -> Answer {
        ask!(self, unit => unit.cold_answer(memory, access))
    }

    /// The answer of a unit with its caches. The unit caches what it looks up, sets accessed and dirty bits in the
    /// tables, and records faults.
    pub(crate) fn answer(&mut self, memory: &mut Memory, access: Access) -> Answer {
        ask!(self, unit => unit.answer(memory, access))
    }

    /// The devices that have a device-TLB.
    pub(crate) fn device_tlbs(&self) -> Vec<u16> {
        ask!(self, unit => unit.device_tlbs().collect())
    }

    /// Whether a device was told to invalidate its translations.
    pub(crate) fn was_told(&self, source: u16) -> bool {
        ask!(self, unit => unit.was_told(source))
    }

    /// Whether a device keeps translations that it was never told to invalidate, and the tables in force let it use them.
    pub(crate) fn keeps_untold(&self, memory: &Memory, source: u16) -> bool {
        ask!(self, unit => unit.keeps_untold(memory, source))
    }

    /// Whether a device was told to invalidate its translations, and may have kept them all the same.
    pub(crate) fn keeps_on(&self, source: u16) -> bool {
        ask!(self, unit => unit.keeps_on(source))
    }
}
