//! Deliberate mistakes at the moment when a unit's root table is replaced, and a unit that lets one wait.

use core::time::Duration;

use amdvi::control::{BufferBase, Control};
use amdvi::registers::{COMMAND_BUFFER, COMMAND_HEAD, COMMAND_TAIL, CONTROL, DEVICE_TABLE};
use machine::{PhysicalAddress, Range, Registers, rest, wait_until};
use vtd::control::{GlobalCommand, GlobalStatus};
use vtd::registers::{GCMD, GSTS, RTADDR};

use super::tables::Root;
use super::{BLOCK_ENTRY, CLEAR_TE, OPEN_OWN, SKIP_INVALIDATION, SKIP_TABLE, SLOW_UNIT, chosen, tables};
use crate::platform::clock::Tsc;
use crate::platform::mmio::Mmio;
use crate::platform::paging::{AddressSpace, MapError};
use crate::watchdogs::WaitClock;

/// How long a slow unit lets one wait: longer than the bench's watchdogs, and less than the dead card of a server.
const SLOW: Duration = Duration::from_secs(20);

/// A unit's registers. At the moment when the root table or the device table is swapped, this wrapper clears a leaf table, maps our
/// own memory for a device, blocks one, turns translation off, or waits; afterwards it keeps the unit from forgetting the old tables.
#[derive(Debug)]
pub(crate) struct UnitRegisters {
    registers: Mmio,
    /// Whether it is a unit of AMD's with a device table of ours.
    has_our_device_table: bool,
}

impl UnitRegisters {
    /// Maps the registers.
    pub(crate) fn map(space: &mut AddressSpace, range: Range<PhysicalAddress>) -> Result<Self, MapError> {
        Ok(Self { registers: Mmio::map(space, range)?, has_our_device_table: false })
    }

    fn before_swap(&mut self, root: Root) {
        if chosen(SKIP_TABLE) {
            tables::empty_a_leaf_table(root);
        }
        if chosen(OPEN_OWN) {
            tables::lead_into_own_memory(root);
        }
        if chosen(BLOCK_ENTRY) {
            tables::block_an_entry(root);
        }
        if chosen(CLEAR_TE) {
            self.turn_translation_off_and_on(root);
        }
        if chosen(SLOW_UNIT) {
            rest(&WaitClock, SLOW);
        }
    }

    fn turn_translation_off_and_on(&mut self, root: Root) {
        if let Root::AmdVi(_) = root {
            let control = Control::from_bits(self.registers.read64(CONTROL.offset));
            for on in [false, true] {
                self.registers.write64(CONTROL.offset, control.with_enabled(on).into_bits());
            }
            return;
        }
        let keep = self.status().keep();
        for on in [false, true] {
            self.registers.write32(GCMD.offset, keep.with_te(on).into_bits());
            let _ = wait_until(&Tsc, Duration::from_secs(1), || self.status().tes() == on);
        }
    }

    /// Makes a wait that stores nothing of each new command but waits.
    fn forget_commands(&self, tail: u64) {
        let buffer = BufferBase::from_bits(self.registers.read64(COMMAND_BUFFER.offset));
        let head = self.registers.read64(COMMAND_HEAD.offset);
        tables::forget_commands(buffer, head, tail);
    }

    fn status(&self) -> GlobalStatus {
        GlobalStatus::from_bits(self.registers.read32(GSTS.offset))
    }
}

impl Registers for UnitRegisters {
    fn read8(&self, offset: usize) -> u8 {
        self.registers.read8(offset)
    }
    fn read16(&self, offset: usize) -> u16 {
        self.registers.read16(offset)
    }
    fn read32(&self, offset: usize) -> u32 {
        self.registers.read32(offset)
    }
    fn read64(&self, offset: usize) -> u64 {
        self.registers.read64(offset)
    }
    fn write8(&mut self, offset: usize, value: u8) {
        self.registers.write8(offset, value);
    }
    fn write16(&mut self, offset: usize, value: u16) {
        self.registers.write16(offset, value);
    }
    fn write32(&mut self, offset: usize, value: u32) {
        if offset == GCMD.offset && GlobalCommand::from_bits(value).srtp() {
            self.before_swap(Root::Vtd(self.registers.read64(RTADDR.offset)));
        }
        self.registers.write32(offset, value);
    }
    fn write64(&mut self, offset: usize, value: u64) {
        // Of VT-d's registers, the one there is never written.
        if offset == DEVICE_TABLE.offset {
            self.before_swap(Root::AmdVi(value));
            self.has_our_device_table = true;
        }
        if chosen(SKIP_INVALIDATION) && self.has_our_device_table && offset == COMMAND_TAIL.offset {
            self.forget_commands(value);
        }
        self.registers.write64(offset, value);
    }
}
