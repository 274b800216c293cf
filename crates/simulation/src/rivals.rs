//! Runs the alternatives to a takeover, to show what devices would have met if the capture kernel had not accepted
//! the hardware.

use machine::{ENTRIES, Frames, PhysicalAddress, Registers};
use model::{Answer, Delivery, Machine, MemoryKind};
use vtd::control::{ContextCommand, GlobalStatus, Granularity, IotlbCommand, RootTableAddress, TableMode};
use vtd::registers::{CCMD, GCMD, GSTS, IOTLB_FROM_IRO, RTADDR};

use crate::stage::Stage;
use crate::values::{Landing, Policy, PolicyResult, Traffic};

/// Enough steps for a unit to finish a command.
const PATIENCE: u64 = 64;

/// What devices meet within `steps` if translation is turned off, and if tables are reset.
pub(crate) fn rivals(stage: &Stage, steps: u64) -> Vec<PolicyResult> {
    [Policy::Off, Policy::Reset].map(|policy| fare(stage, policy, steps)).into()
}

fn fare(stage: &Stage, policy: Policy, steps: u64) -> PolicyResult {
    let machine = stage.scenario.machine();
    machine.watch_deliveries();
    turn_off(&machine);
    if policy == Policy::Reset {
        start_with_nothing(&machine, stage);
    }
    machine.run(steps.saturating_sub(machine.steps()));
    result(policy, &machine, &machine.deliveries())
}

fn command(
    machine: &Machine,
    change: impl FnOnce(vtd::control::GlobalCommand) -> vtd::control::GlobalCommand,
) {
    let mut registers = machine.registers(0);
    let keep = GlobalStatus::from_bits(registers.read32(GSTS.offset)).keep();
    registers.write32(GCMD.offset, change(keep).into_bits());
    machine.run(PATIENCE);
}

fn turn_off(machine: &Machine) {
    command(machine, |command| command.with_te(false));
    command(machine, |command| command.with_qie(false));
}

/// Starts with a root table without entries, empty caches, and translation on.
fn start_with_nothing(machine: &Machine, stage: &Stage) {
    let mut frames = machine.frames(stage.budget.max(1));
    let Some(root) = frames.allocate() else { return };
    frames.publish(root, 0..ENTRIES);
    machine.run(PATIENCE);
    let mut registers = machine.registers(0);
    let root = RootTableAddress::new().with_frame(root.pfn().get()).with_mode(TableMode::LEGACY);
    registers.write64(RTADDR.offset, root.into_bits());
    command(machine, |command| command.with_srtp(true));
    let contexts = ContextCommand::new().with_invalidate(true).with_request(Granularity::GLOBAL);
    registers.write64(CCMD.offset, contexts.into_bits());
    machine.run(PATIENCE);
    let translations = IotlbCommand::new().with_invalidate(true).with_request(Granularity::GLOBAL);
    let iotlb = machine.traits(0).extended.iotlb_offset() + IOTLB_FROM_IRO;
    registers.write64(iotlb, translations.into_bits());
    machine.run(PATIENCE);
    command(machine, |command| command.with_te(true));
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
