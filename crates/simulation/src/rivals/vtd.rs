//! The alternatives on a unit of VT-d.

use machine::{ENTRIES, Frames, Registers};
use model::Machine;
use vtd::control::{
    ContextCommand, GlobalCommand, GlobalStatus, Granularity, IotlbCommand, RootTableAddress, TableMode,
};
use vtd::registers::{CCMD, GCMD, GSTS, IOTLB_FROM_IRO, RTADDR};

use super::{FRAMES, PATIENCE};

fn command(machine: &Machine, change: impl FnOnce(GlobalCommand) -> GlobalCommand) {
    let mut registers = machine.registers(0);
    let keep = GlobalStatus::from_bits(registers.read32(GSTS.offset)).keep();
    registers.write32(GCMD.offset, change(keep).into_bits());
    machine.run(PATIENCE);
}

/// Turns translation off; then starts it with empty tables, if it is to be reset.
pub(super) fn turn_off(machine: &Machine, resets: bool) {
    command(machine, |command| command.with_te(false));
    command(machine, |command| command.with_qie(false));
    if resets {
        start_with_nothing(machine);
    }
}

/// Starts with a root table without entries, empty caches, and translation on.
fn start_with_nothing(machine: &Machine) {
    let mut frames = machine.frames(FRAMES);
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
