//! Deliberate mistakes at the moment when a unit's root table is replaced, and a unit that lets one wait.

use core::time::Duration;

use machine::{PhysicalAddress, Range, Registers, rest, wait_until};
use vtd::control::{GlobalCommand, GlobalStatus};
use vtd::registers::{GCMD, GSTS, RTADDR};

use super::{CLEAR_TE, OPEN_OWN, SKIP_TABLE, SLOW_UNIT, chosen, tables};
use crate::platform::clock::Tsc;
use crate::platform::mmio::Mmio;
use crate::platform::paging::{AddressSpace, MapError};
use crate::watchdogs::WaitClock;

/// How long a slow unit lets one wait: longer than the bench's watchdogs, and less than the dead card of a server.
const SLOW: Duration = Duration::from_secs(20);

/// A unit's registers. At the moment when the root table is swapped, this wrapper clears a leaf table, maps our own memory
/// for a device, turns translation off, or waits.
#[derive(Debug)]
pub(crate) struct UnitRegisters(Mmio);

impl UnitRegisters {
    /// Maps the registers.
    pub(crate) fn map(space: &mut AddressSpace, range: Range<PhysicalAddress>) -> Result<Self, MapError> {
        Mmio::map(space, range).map(Self)
    }

    fn before_swap(&mut self) {
        if chosen(SKIP_TABLE) {
            tables::empty_a_leaf_table(self.0.read64(RTADDR.offset));
        }
        if chosen(OPEN_OWN) {
            tables::lead_into_own_memory(self.0.read64(RTADDR.offset));
        }
        if chosen(CLEAR_TE) {
            self.turn_translation_off_and_on();
        }
        if chosen(SLOW_UNIT) {
            rest(&WaitClock, SLOW);
        }
    }

    fn turn_translation_off_and_on(&mut self) {
        let keep = self.status().keep();
        for on in [false, true] {
            self.0.write32(GCMD.offset, keep.with_te(on).into_bits());
            let _ = wait_until(&Tsc, Duration::from_secs(1), || self.status().tes() == on);
        }
    }

    fn status(&self) -> GlobalStatus {
        GlobalStatus::from_bits(self.0.read32(GSTS.offset))
    }
}

impl Registers for UnitRegisters {
    fn read8(&self, offset: usize) -> u8 {
        self.0.read8(offset)
    }
    fn read16(&self, offset: usize) -> u16 {
        self.0.read16(offset)
    }
    fn read32(&self, offset: usize) -> u32 {
        self.0.read32(offset)
    }
    fn read64(&self, offset: usize) -> u64 {
        self.0.read64(offset)
    }
    fn write8(&mut self, offset: usize, value: u8) {
        self.0.write8(offset, value);
    }
    fn write16(&mut self, offset: usize, value: u16) {
        self.0.write16(offset, value);
    }
    fn write32(&mut self, offset: usize, value: u32) {
        if offset == GCMD.offset && GlobalCommand::from_bits(value).srtp() {
            self.before_swap();
        }
        self.0.write32(offset, value);
    }
    fn write64(&mut self, offset: usize, value: u64) {
        self.0.write64(offset, value);
    }
}
