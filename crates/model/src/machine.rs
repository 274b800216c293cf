//! A machine whose kernel has just died.

use crate::answer::{Access, Answer, Requester};
use crate::memory::MemoryKind;
use crate::ports::{OldRam, OwnFrames, Shared, Ticks, UnitRegisters};
use crate::reached::Reached;
use crate::tables::{Base, Tables};
use crate::trace::Trace;
use crate::unit::ModelUnit;
use crate::vtd::unit::VtdUnit;
use crate::vtd::walk::Traits;
use crate::witness::{Delivery, Violation};
use crate::world::{Guard, Own, World};
use machine::{PhysicalAddress, Range};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use vtd::control::GlobalStatus;

/// A machine whose kernel has just died: memory, remapping units with translation on, devices that continue their
/// work.
///
/// The capture kernel may use only the ports; everything else here is for the tests that watch it.
#[derive(Debug)]
pub struct Machine {
    world: Shared,
    /// The tables in force when the kernel died.
    bases: Vec<Base>,
}

/// An architecture of remapping units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// Intel's.
    Vtd,
    /// AMD's.
    AmdVi,
}

/// The ports that the capture kernel uses.
impl Machine {
    /// The registers of a unit.
    pub fn registers(&self, unit: usize) -> UnitRegisters {
        UnitRegisters { world: Rc::clone(&self.world), unit }
    }

    /// The dead kernel's memory.
    pub fn old_memory(&self) -> OldRam {
        OldRam { world: Rc::clone(&self.world) }
    }

    /// At most `budget` frames of the capture kernel's memory, whose last quarter stays free for other uses. Call it
    /// once.
    pub fn frames(&self, budget: usize) -> OwnFrames {
        OwnFrames::new(Rc::clone(&self.world), budget)
    }

    /// A clock.
    pub fn clock(&self) -> Ticks {
        Ticks { world: Rc::clone(&self.world) }
    }
}

/// What a test can ask of the machine.
impl Machine {
    /// The ranges of memory of one kind.
    pub fn ranges(&self, kind: MemoryKind) -> Vec<Range<PhysicalAddress>> {
        self.world.borrow().memory.ranges(kind).collect()
    }

    /// How many units there are.
    pub fn units(&self) -> usize {
        self.world.borrow().units.len()
    }

    /// The architecture of a unit.
    pub fn architecture(&self, unit: usize) -> Architecture {
        match &self.world.borrow().units[unit] {
            ModelUnit::Vtd(_) => Architecture::Vtd,
            ModelUnit::AmdVi(_) => Architecture::AmdVi,
        }
    }

    /// The functions behind a unit of AMD-Vi; none behind one of VT-d, where entries alone say which there are.
    pub fn devices(&self, unit: usize) -> Vec<u16> {
        match &self.world.borrow().units[unit] {
            ModelUnit::Vtd(_) => Vec::new(),
            ModelUnit::AmdVi(unit) => unit.devices().collect(),
        }
    }

    /// Addresses that pass a unit untranslated, whatever its tables say, for some devices or for all: the exclusion range of AMD-Vi.
    pub fn exclusion(&self, unit: usize) -> Range<PhysicalAddress> {
        match &self.world.borrow().units[unit] {
            ModelUnit::Vtd(_) => Range::default(),
            ModelUnit::AmdVi(unit) => unit.bases().exclusion,
        }
    }

    /// How many entries the device table of a unit of AMD-Vi has, in all segments; none on VT-d.
    pub fn device_entries(&self, unit: usize) -> usize {
        match &self.world.borrow().units[unit] {
            ModelUnit::Vtd(_) => 0,
            ModelUnit::AmdVi(unit) => unit.bases().entries(),
        }
    }

    /// The memory of the device table, the command buffer and the event log of a unit of AMD-Vi, which a takeover may have to go on using;
    /// none on VT-d.
    pub fn reusable(&self, unit: usize) -> Vec<Range<PhysicalAddress>> {
        match &self.world.borrow().units[unit] {
            ModelUnit::Vtd(_) => Vec::new(),
            ModelUnit::AmdVi(unit) => unit.reusable(),
        }
    }

    /// Physical address bits of the machine.
    pub fn host_address_bits(&self, unit: usize) -> u32 {
        self.world.borrow().units[unit].host_address_bits()
    }

    /// The capabilities of a unit of VT-d.
    ///
    /// # Panics
    ///
    /// If it is one of AMD-Vi.
    pub fn traits(&self, unit: usize) -> Traits {
        self.vtd(unit, |unit| *unit.traits())
    }

    #[expect(clippy::panic, reason = "a test knows its machine's architecture")]
    fn vtd<T>(&self, unit: usize, ask: impl FnOnce(&VtdUnit) -> T) -> T {
        match &self.world.borrow().units[unit] {
            ModelUnit::Vtd(unit) => ask(unit),
            ModelUnit::AmdVi(_) => panic!("a unit of AMD-Vi"),
        }
    }

    /// The functions behind a unit that have a device-TLB.
    pub fn device_tlbs(&self, unit: usize) -> Vec<u16> {
        self.world.borrow().units[unit].device_tlbs()
    }

    /// Whether such a function was told to invalidate what it keeps.
    pub fn was_told(&self, unit: usize, source: u16) -> bool {
        self.world.borrow().units[unit].was_told(source)
    }

    /// Whether such a function keeps translations that it was never told to invalidate, and may use them.
    pub fn keeps_untold(&self, unit: usize, source: u16) -> bool {
        let world = self.world.borrow();
        world.units[unit].keeps_untold(&world.memory, source)
    }

    /// Whether such a function was told to invalidate its device-TLB, and may have kept translations all the same.
    pub fn keeps_on(&self, unit: usize, source: u16) -> bool {
        self.world.borrow().units[unit].keeps_on(source)
    }

    /// The status of a unit of VT-d.
    ///
    /// # Panics
    ///
    /// If it is one of AMD-Vi.
    pub fn status(&self, unit: usize) -> GlobalStatus {
        self.vtd(unit, |unit| GlobalStatus::from_bits(unit.read32(vtd::registers::GSTS.offset)))
    }

    /// Whether a unit's translation is on.
    pub fn translates(&self, unit: usize) -> bool {
        self.world.borrow().units[unit].translates()
    }

    /// The root table or device table that a unit uses now.
    pub fn root(&self, unit: usize) -> PhysicalAddress {
        self.world.borrow().units[unit].base().address()
    }

    /// The accesses that devices make, with the answers they got before the panic.
    pub fn accesses(&self) -> Vec<(Access, Answer)> {
        self.world.borrow().engines.iter().flat_map(|engine| engine.accesses.iter().copied()).collect()
    }

    /// The answer of the tables in force now.
    pub fn answer(&self, unit: usize, access: Access) -> Answer {
        let world = self.world.borrow();
        world.units[unit].cold_answer(&world.memory, access)
    }

    /// The answer of the tables when the kernel died.
    pub fn answer_before(&self, unit: usize, access: Access) -> Answer {
        self.before(unit, |tables| tables.answer(access))
    }

    /// The requesters that had a well-formed entry when the kernel died.
    pub fn requesters_before(&self, unit: usize) -> Vec<Requester> {
        self.before(unit, |tables| tables.requesters())
    }

    /// The requesters that used the same domain and tables as this one when the kernel died, itself first.
    pub fn sharing_before(&self, unit: usize, requester: Requester) -> Vec<Requester> {
        let others = self.before(unit, |tables| {
            let mine = tables.identity(requester);
            let same =
                |other: &Requester| *other != requester && mine.is_some() && tables.identity(*other) == mine;
            tables.requesters().into_iter().filter(same).collect::<Vec<_>>()
        });
        std::iter::once(requester).chain(others).collect()
    }

    /// What this requester could reach when the kernel died.
    pub fn reached_before(&self, unit: usize, requester: Requester) -> Vec<Reached> {
        self.before(unit, |tables| tables.reach(requester))
    }

    /// Everything that any device can reach now.
    pub fn reached(&self, unit: usize) -> Vec<Reached> {
        let world = self.world.borrow();
        world.units[unit].tables(&world.memory).reach_of_all(|_| true)
    }

    /// What devices can reach now of the capture kernel's memory, except for what [belongs to them](Self::guard).
    pub fn trespasses(&self, unit: usize) -> Vec<Reached> {
        let world = self.world.borrow();
        let capture: Vec<Range<PhysicalAddress>> = world.memory.ranges(MemoryKind::Capture).collect();
        let theirs = |reached: &Reached| world.is_own(reached.requester, reached.memory.start);
        let trespasses = |reached: &Reached| {
            capture.iter().any(|range| range.overlaps(reached.memory)) && !theirs(reached)
        };
        world.units[unit].tables(&world.memory).reach_of_all(trespasses)
    }

    /// The pages of old memory that have changed, except for changes that devices and units may make.
    pub fn old_pages_changed(&self) -> Vec<PhysicalAddress> {
        let mut world = self.world.borrow_mut();
        world.pass_on_unit_stores();
        world.memory.old_pages_changed(&world.before)
    }

    /// What went wrong so far.
    pub fn violations(&self) -> Vec<Violation> {
        self.world.borrow().violations.clone()
    }

    /// What happened so far.
    pub fn trace(&self) -> Trace {
        self.world.borrow().trace.clone()
    }

    /// The accesses that devices made on their own since [`watch_deliveries`](Self::watch_deliveries) was called.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.world.borrow().deliveries.clone().unwrap_or_default()
    }

    /// How many steps the machine has taken.
    pub fn steps(&self) -> u64 {
        self.world.borrow().steps
    }

    /// How much time has passed.
    pub fn time(&self) -> Duration {
        self.world.borrow().time
    }
}

/// What a test can do to the machine.
impl Machine {
    pub(crate) fn new(mut world: World) -> Self {
        let bases = world.units.iter().map(ModelUnit::base).collect();
        world.before = world.memory.clone();
        Self { world: Rc::new(RefCell::new(world)), bases }
    }

    /// Asks the tables as they were when the kernel died.
    fn before<T>(&self, unit: usize, ask: impl FnOnce(Tables) -> T) -> T {
        let world = self.world.borrow();
        ask(world.units[unit].tables_at(self.bases[unit], &world.before))
    }

    /// From now on, treats every access to the capture kernel's memory as a violation, except for those in `own`.
    pub fn guard(&self, own: Vec<Own>) {
        self.world.borrow_mut().guard = Guard::Up(own);
    }

    /// From now on, records the accesses that devices make on their own, two entries per step.
    pub fn watch_deliveries(&self) {
        self.world.borrow_mut().deliveries.get_or_insert_default();
    }

    /// Stops a device, as the reset by a driver does: it ends all work of before.
    pub fn silence(&self, source: u16) {
        let mut world = self.world.borrow_mut();
        world
            .engines
            .iter_mut()
            .for_each(|engine| engine.accesses.retain(|(access, _)| access.source != source));
    }

    /// Lets a device make an access now; returns the warm answer.
    pub fn access(&self, unit: usize, access: Access) -> Answer {
        let mut world = self.world.borrow_mut();
        let World { units, memory, .. } = &mut *world;
        units[unit].answer(memory, access)
    }

    /// Lets time pass.
    pub fn run(&self, steps: u64) {
        for _ in 0..steps {
            self.world.borrow_mut().step();
        }
    }
}
