//! Runs the alternatives to a takeover, to show what devices would have met if the capture kernel had not accepted
//! the hardware.

mod amdvi;
mod vtd;

use machine::PhysicalAddress;
use model::{Answer, Architecture, Delivery, Machine, MemoryKind};

use crate::stage::Stage;
use crate::values::{Landing, Policy, PolicyResult, Traffic};

/// Enough steps for a unit to finish a command.
const PATIENCE: u64 = 64;
/// The frames that a reset has for its tables.
const FRAMES: usize = 512;

/// What devices meet within `steps` if translation is turned off, and if tables are reset.
pub(crate) fn rivals(stage: &Stage, steps: u64) -> Vec<PolicyResult> {
    [Policy::Off, Policy::Reset].map(|policy| fare(stage, policy, steps)).into()
}

fn fare(stage: &Stage, policy: Policy, steps: u64) -> PolicyResult {
    let machine = stage.machine();
    machine.watch_deliveries();
    let resets = policy == Policy::Reset;
    match machine.architecture(0) {
        Architecture::Vtd => vtd::turn_off(&machine, resets),
        Architecture::AmdVi => amdvi::turn_off(&machine, resets),
    }
    machine.run(steps.saturating_sub(machine.steps()));
    result(policy, &machine, &machine.deliveries())
}

/// Counts what accesses met.
pub(crate) fn result(policy: Policy, machine: &Machine, deliveries: &[Delivery]) -> PolicyResult {
    let mut result = PolicyResult { policy, traffic: Traffic::default(), landing: Landing::default() };
    for delivery in deliveries {
        let traffic = judge(machine, delivery);
        result.traffic += traffic;
        if let (1, Answer::Memory(address)) = (traffic.astray, delivery.now) {
            *result.landing.place(machine, address) += 1;
        }
    }
    result
}

/// Classifies what one access met.
pub(crate) fn judge(machine: &Machine, delivery: &Delivery) -> Traffic {
    let mut traffic = Traffic::default();
    let counter = match (delivery.before, delivery.now) {
        (_, Answer::Memory(address)) if is(machine, MemoryKind::Capture, address) => &mut traffic.astray,
        (before, now) if before == now => &mut traffic.as_before,
        (Answer::Blocked(_), Answer::Blocked(_)) => &mut traffic.as_before,
        (Answer::Memory(address), Answer::Blocked(_)) if is(machine, MemoryKind::Capture, address) => {
            &mut traffic.fenced
        }
        (_, Answer::Blocked(_)) => &mut traffic.faulted,
        _ => &mut traffic.astray,
    };
    *counter = 1;
    traffic
}

impl Landing {
    fn place(&mut self, machine: &Machine, address: PhysicalAddress) -> &mut u64 {
        if is(machine, MemoryKind::Old, address) {
            &mut self.old_memory
        } else if is(machine, MemoryKind::Capture, address) {
            &mut self.capture_kernel
        } else {
            &mut self.elsewhere
        }
    }
}

fn is(machine: &Machine, kind: MemoryKind, address: PhysicalAddress) -> bool {
    machine.ranges(kind).iter().any(|range| range.contains(address))
}
