//! Builds a machine from a description: an old kernel works on it, and dies.

use super::old_kernel::OldKernel;
use super::scenario::{Function, Scenario};
use crate::assemble::{Left, LeftUnit};
use crate::machine::Machine;
use crate::unit::ModelUnit;

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
        old.memory.overwrite_old(&self.words);
        let stray = old.meddling(&self.stray);
        let units = (0..self.units.len()).map(|unit| LeftUnit {
            unit: ModelUnit::AmdVi(old.bring_up(unit)),
            accesses: self.functions_of(unit).flat_map(Function::accesses).collect(),
            habits: self.units[unit].habits.clone(),
        });
        let units = units.collect();
        let meddling = stray.into_iter().chain(self.meddling.iter().copied()).collect();
        Left { seed: self.seed, memory: old.memory, units, meddling }.machine()
    }
}
