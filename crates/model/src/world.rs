//! The world: everything on a machine, and what happens in one step of its time.

use crate::answer::{Access, Answer, Requester};
use crate::memory::{Memory, MemoryKind};
use crate::parts::Meddling;
use crate::trace::{Event, Trace};
use crate::unit::ModelUnit;
use crate::witness::{Delivery, Engine, Temperature, Violation};
use fastrand::Rng;
use machine::{PhysicalAddress, Range};
use std::time::Duration;

/// How many different violations are kept; even one is too many.
const VIOLATIONS: usize = 100;

/// Whether the capture kernel's memory is off limits to devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Guard {
    /// Before the swap: devices may reach it as the old tables allow.
    Down,
    /// After the swap: only these mappings of our own devices may reach it.
    Up(Vec<Own>),
}

/// Memory of the capture kernel that one of its own devices may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Own {
    /// The requester.
    pub requester: Requester,
    /// The memory.
    pub memory: Range<PhysicalAddress>,
}

/// The whole machine.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) memory: Memory,
    /// Memory as it was when the old kernel died.
    pub(crate) before: Memory,
    pub(crate) units: Vec<ModelUnit>,
    pub(crate) engines: Vec<Engine>,
    pub(crate) guard: Guard,
    pub(crate) meddling: Vec<Meddling>,
    pub(crate) trace: Trace,
    pub(crate) violations: Vec<Violation>,
    /// The accesses that devices made on their own, if a test asked for them.
    pub(crate) deliveries: Option<Vec<Delivery>>,
    pub(crate) rng: Rng,
    pub(crate) steps: u64,
    pub(crate) reads: u64,
    pub(crate) time: Duration,
    /// Stores by units to the capture kernel's memory that its processor has not yet seen.
    pub(crate) unit_stores: Vec<(PhysicalAddress, u64)>,
    /// Whether the capture kernel writes old memory, which a unit uses where it is.
    pub(crate) writes_old: bool,
    swept_at: u64,
}

impl World {
    pub(crate) fn new(memory: Memory, units: Vec<ModelUnit>, rng: Rng) -> Self {
        Self {
            before: memory.clone(),
            memory,
            units,
            engines: Vec::new(),
            guard: Guard::Down,
            meddling: Vec::new(),
            trace: Trace::default(),
            violations: Vec::new(),
            deliveries: None,
            rng,
            steps: 0,
            reads: 0,
            time: Duration::ZERO,
            unit_stores: Vec::new(),
            writes_old: false,
            swept_at: 0,
        }
    }

    /// Takes one step: units continue their commands, devices do DMA, every answer is checked.
    pub(crate) fn step(&mut self) {
        self.steps += 1;
        if self.rng.u8(..) < 8 {
            self.memory.drain();
        }
        let swapped = self.advance_units();
        if swapped || self.is_worth_a_sweep() {
            self.sweep();
        }
        for _ in 0..2 {
            self.let_a_device_work();
        }
        self.pass_on_unit_stores();
    }

    /// Advances every unit; returns whether one took a new root.
    fn advance_units(&mut self) -> bool {
        let mut swapped = false;
        for unit in &mut self.units {
            unit.advance(&mut self.memory);
            for event in unit.take_events() {
                swapped |= matches!(event, Event::RootTaken { .. } | Event::DeviceTableTaken { .. });
                match event {
                    Event::Misused { what } => keep(&mut self.violations, Violation::Misuse(what)),
                    Event::Logged { address }
                        if self.guard != Guard::Down
                            && self.memory.kind(address) == Some(MemoryKind::Old) =>
                    {
                        keep(&mut self.violations, Violation::Logged { address });
                    }
                    _ => (),
                }
                self.trace.add(self.steps, event);
            }
        }
        swapped
    }

    /// Takes up what units stored. A unit's store to old memory belongs to the old kernel's queue (or is reported as
    /// a misuse): it is no change by the capture kernel.
    pub(crate) fn pass_on_unit_stores(&mut self) {
        for (address, word) in self.memory.take_unit_stores() {
            match self.memory.kind(address) {
                Some(MemoryKind::Old) => self.before.write(address, word),
                _ => self.unit_stores.push((address, word)),
            }
        }
    }

    /// Whether tables that the capture kernel writes are in force and something was stored since the last sweep.
    fn is_worth_a_sweep(&self) -> bool {
        let own = |unit: &ModelUnit| self.memory.kind(unit.base().address()) == Some(MemoryKind::Capture);
        self.swept_at != self.memory.changes() && (self.writes_old || self.units.iter().any(own))
    }

    /// Compares the cold answers to all accesses of all devices.
    fn sweep(&mut self) {
        self.swept_at = self.memory.changes();
        let engines = std::mem::take(&mut self.engines);
        for engine in &engines {
            for &(access, before) in &engine.accesses {
                self.judge_cold(engine.unit, access, before);
            }
        }
        self.engines = engines;
    }

    /// Makes one access of a random device, answered warm and cold.
    fn let_a_device_work(&mut self) {
        let Some(engine) = self.rng.choice(&self.engines) else { return };
        let Some(&(access, before)) = self.rng.choice(&engine.accesses) else { return };
        let unit = engine.unit;
        let now = self.units[unit].answer(&mut self.memory, access);
        if let Some(deliveries) = &mut self.deliveries {
            deliveries.push(Delivery { step: self.steps, access, before, now });
        }
        // The unit cannot prevent a device from using what it kept although it was told to invalidate it.
        if !self.units[unit].keeps_on(access.source) {
            self.judge(access, Temperature::Warm, before, now);
        }
        self.judge_cold(unit, access, before);
    }

    fn judge_cold(&mut self, unit: usize, access: Access, before: Answer) {
        let now = self.units[unit].cold_answer(&self.memory, access);
        self.judge(access, Temperature::Cold, before, now);
    }

    /// Compares an answer with the one before the panic. An access that reached the capture kernel's memory before
    /// has nothing to continue, and the reason of a fault may change.
    fn judge(&mut self, access: Access, temperature: Temperature, before: Answer, now: Answer) {
        if let Some(address) = self.trespass(access.requester(), now) {
            keep(&mut self.violations, Violation::Isolation { access, temperature, address });
        }
        let same = match (before, now) {
            (Answer::Blocked(_), Answer::Blocked(_)) => true,
            (Answer::Memory(address), _) if self.memory.kind(address) == Some(MemoryKind::Capture) => true,
            (Answer::Blocked(_), Answer::Memory(address)) if self.is_own(access.requester(), address) => true,
            _ => before == now,
        };
        if !same {
            keep(&mut self.violations, Violation::Continuity { access, temperature, before, now });
        }
    }

    /// The address, if an access reached memory of the capture kernel that is not for this device.
    fn trespass(&self, requester: Requester, answer: Answer) -> Option<PhysicalAddress> {
        let Answer::Memory(address) = answer else { return None };
        let guarded = self.guard != Guard::Down && self.memory.kind(address) == Some(MemoryKind::Capture);
        (guarded && !self.is_own(requester, address)).then_some(address)
    }

    pub(crate) fn is_own(&self, requester: Requester, address: PhysicalAddress) -> bool {
        match &self.guard {
            Guard::Down => false,
            Guard::Up(own) => {
                own.iter().any(|own| own.requester == requester && own.memory.contains(address))
            }
        }
    }

    /// Applies due changes to old memory before a read of it.
    pub(crate) fn before_reading(&mut self) {
        self.reads += 1;
        for meddling in &self.meddling {
            if meddling.before_read == self.reads {
                self.memory.write(meddling.address, meddling.value);
                self.before.write(meddling.address, meddling.value);
            }
        }
    }
}

fn keep(violations: &mut Vec<Violation>, violation: Violation) {
    if violations.len() < VIOLATIONS && !violations.contains(&violation) {
        violations.push(violation);
    }
}
