//! The alternatives on a unit of AMD's.

use amdvi::command::{COMMAND_BYTES, Command};
use amdvi::control::{BufferBase, Control, DeviceTableBase};
use amdvi::registers::{COMMAND_BUFFER, COMMAND_TAIL, CONTROL, DEVICE_TABLE};
use machine::{ENTRIES, Frames, PAGE_SIZE, Registers};
use model::Machine;

use super::{FRAMES, PATIENCE};

/// What a kernel writes in entries of devices that it does not know: V and TV without rights, so that nothing passes.
const BLOCKED: [u64; 4] = [3, 0, 0, 0];

/// Turns translation off; then starts it with a device table that lets nothing pass, if it is to be reset.
pub(super) fn turn_off(machine: &Machine, resets: bool) {
    let registers = machine.registers(0);
    let old = DeviceTableBase::from_bits(registers.read64(DEVICE_TABLE.offset));
    let control = Control::from_bits(registers.read64(CONTROL.offset));
    set_control(machine, control.with_enabled(false).with_command_buffer(false));
    if resets {
        start_with_nothing(machine, old, control);
    }
}

/// Starts with a table of the same size, and has the unit forget everything.
fn start_with_nothing(machine: &Machine, old: DeviceTableBase, control: Control) {
    let mut frames = machine.frames(FRAMES);
    let pages = (old.table().len() / PAGE_SIZE) as usize;
    let table = if pages == 1 { frames.allocate() } else { frames.allocate_run(pages) };
    let (Some(table), Some(buffer)) = (table, frames.allocate()) else { return };
    for page in 0..pages as u64 {
        let page = table.saturating_add(page * PAGE_SIZE);
        frames.table_mut(page).as_chunks_mut().0.fill(BLOCKED);
        frames.publish(page, 0..ENTRIES);
    }
    frames.table_mut(buffer)[..2].copy_from_slice(&Command::INVALIDATE_IOMMU_ALL.0);
    frames.publish(buffer, 0..ENTRIES);
    let mut registers = machine.registers(0);
    registers.write64(DEVICE_TABLE.offset, old.with_frame(table.pfn().get()).into_bits());
    let base = BufferBase::new().with_length(BufferBase::SHORTEST).with_frame(buffer.pfn().get());
    registers.write64(COMMAND_BUFFER.offset, base.into_bits());
    set_control(machine, control.with_enabled(true).with_command_buffer(true));
    registers.write64(COMMAND_TAIL.offset, COMMAND_BYTES as u64);
    machine.run(PATIENCE);
}

fn set_control(machine: &Machine, control: Control) {
    machine.registers(0).write64(CONTROL.offset, control.into_bits());
    machine.run(PATIENCE);
}
