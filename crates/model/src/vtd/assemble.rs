//! Builds a machine from a description: an old kernel works on it, and dies.

use crate::machine::Machine;
use crate::memory::Memory;
use crate::vtd::old_kernel::OldKernel;
use crate::vtd::scenario::{Function, Scenario};
use crate::vtd::unit::ModelUnit;
use crate::witness::Engine;
use crate::world::World;
use fastrand::Rng;

impl Scenario {
    /// Builds the machine: writes the tables, brings the units up as the old kernel did, and lets devices fill the
    /// caches.
    ///
    /// # Panics
    ///
    /// If the description cannot be built: mappings that overlap, too little memory for the tables.
    pub fn machine(&self) -> Machine {
        let mut old = OldKernel::new(self);
        old.write_tables();
        old.suffer(&self.damage);
        old.overwrite(&self.words);
        let meddling = old.meddling(&self.stray);
        let mut units: Vec<ModelUnit> = (0..self.units.len()).map(|unit| old.bring_up(unit)).collect();
        for (index, unit) in units.iter_mut().enumerate() {
            warm_up(unit, &mut old.memory, self, index);
        }
        let engines = units.iter().enumerate().map(|(index, unit)| engine(unit, &old.memory, self, index));
        let engines = engines.collect();
        for (unit, description) in units.iter_mut().zip(&self.units) {
            unit.die_with(description.habits.clone());
        }
        let mut world = World::new(old.memory, units, Rng::with_seed(self.seed));
        world.engines = engines;
        world.meddling = meddling.into_iter().chain(self.meddling.iter().copied()).collect();
        Machine::new(world)
    }
}

/// Lets the devices of a unit fill its caches, and cause a fault or two.
fn warm_up(unit: &mut ModelUnit, memory: &mut Memory, scenario: &Scenario, index: usize) {
    for access in scenario.functions_of(index).flat_map(Function::accesses) {
        unit.answer(memory, access);
    }
}

/// The devices of a unit, which continue their work after the panic.
fn engine(unit: &ModelUnit, memory: &Memory, scenario: &Scenario, index: usize) -> Engine {
    let accesses = scenario.functions_of(index).flat_map(Function::accesses);
    Engine {
        unit: index,
        accesses: accesses.map(|access| (access, unit.cold_answer(memory, access))).collect(),
    }
}
