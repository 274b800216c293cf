//! Builds a machine from what an old kernel left: warms its caches, starts its devices, and lets the kernel die.

use crate::answer::Access;
use crate::habits::Habits;
use crate::machine::Machine;
use crate::memory::Memory;
use crate::parts::Meddling;
use crate::unit::ModelUnit;
use crate::witness::Engine;
use crate::world::World;
use fastrand::Rng;

/// What an old kernel left.
pub(crate) struct Left {
    pub(crate) seed: u64,
    pub(crate) memory: Memory,
    pub(crate) units: Vec<LeftUnit>,
    pub(crate) meddling: Vec<Meddling>,
}

/// A unit that an old kernel brought up.
pub(crate) struct LeftUnit {
    pub(crate) unit: ModelUnit,
    /// The accesses that its devices make, before the panic and after.
    pub(crate) accesses: Vec<Access>,
    /// How it behaves from now on.
    pub(crate) habits: Habits,
}

impl Left {
    /// The machine whose kernel has just died. Its devices fill the caches, and cause a fault or two.
    pub(crate) fn machine(self) -> Machine {
        let Self { seed, mut memory, mut units, meddling } = self;
        for LeftUnit { unit, accesses, .. } in &mut units {
            for access in accesses {
                unit.answer(&mut memory, *access);
            }
        }
        let engines = (0..).zip(&units).map(|(index, left)| engine(index, left, &memory)).collect();
        let dead = units.into_iter().map(|LeftUnit { mut unit, habits, .. }| {
            unit.die_with(habits);
            unit
        });
        let mut world = World::new(memory, dead.collect(), Rng::with_seed(seed));
        world.engines = engines;
        world.meddling = meddling;
        Machine::new(world)
    }
}

/// The devices of a unit, which continue their work after the panic.
fn engine(unit: usize, left: &LeftUnit, memory: &Memory) -> Engine {
    let answer = |access: &Access| (*access, left.unit.cold_answer(memory, *access));
    Engine { unit, accesses: left.accesses.iter().map(answer).collect() }
}
