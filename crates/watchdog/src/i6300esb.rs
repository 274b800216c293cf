//! The timer of Intel's 6300ESB I/O controller hub, which QEMU has too (6300ESB data sheet, chapter 20).
//!
//! It counts down in two stages, and resets the machine after the second. A write to one of its registers counts only after
//! two others, which unlock it.

use machine::{PhysicalAddress, Range, Registers};
use pci::{Device, Match};

use crate::timer::EXTENDED;

const DRIVEN: Match = Match::Ids { vendor: 0x8086, device: 0x25AB };

// Configuration space.
/// WDT configuration: 16 bits.
const CONFIGURATION: usize = 0x60;
/// WDT lock: 8 bits.
const LOCK: usize = 0x68;
/// [`CONFIGURATION`]: the timer counts microseconds, instead of milliseconds.
const FAST: u16 = 1 << 2;
/// [`LOCK`]: the timer runs.
const ENABLED: u8 = 1 << 1;

// Registers in BAR 0.
const PRELOAD: [usize; 2] = [0x00, 0x04];
const RELOAD: usize = 0x0C;
const SIZE: u64 = 0x10;
/// What unlocks the registers, one after the other.
const KEYS: [u16; 2] = [0x80, 0x86];
/// [`RELOAD`]: the countdown starts over.
const RESTART: u16 = 1 << 8;
/// Bits of a stage's count.
const COUNT: u32 = 0xF_FFFF;

/// A timer that runs.
#[derive(Debug)]
pub(crate) struct I6300esb<R> {
    registers: R,
    is_fast: bool,
}

impl<R: Registers> I6300esb<R> {
    /// Looks whether this function is the timer, and runs.
    pub(crate) fn find(
        device: &Device<impl Registers>,
        map: impl FnOnce(Range<PhysicalAddress>) -> Option<R>,
    ) -> Option<Self> {
        let is_one = DRIVEN.fits(device.identity()) && device.config.read8(LOCK) & ENABLED != 0;
        let bar = is_one.then(|| device.bar(0))??;
        let registers = map(Range::sized(bar, SIZE)?)?;
        Some(Self { registers, is_fast: device.config.read16(CONFIGURATION) & FAST != 0 })
    }

    /// Sets the countdown to [`EXTENDED`], half of it in each stage, unless it is longer; returns the result in milliseconds.
    /// `None` if the timer counts too fast for that. It takes the counts at the next ping.
    pub(crate) fn extend(&mut self) -> Option<u64> {
        let stage = (EXTENDED.as_millis() / 2) as u32 & COUNT;
        if self.is_fast {
            return None;
        }
        Some(PRELOAD.map(|register| self.extend_stage(register, stage)).into_iter().sum())
    }

    fn extend_stage(&mut self, register: usize, wanted: u32) -> u64 {
        let count = wanted.max(self.registers.read32(register) & COUNT);
        self.unlock();
        self.registers.write32(register, count);
        count.into()
    }

    pub(crate) fn ping(&mut self) {
        self.unlock();
        self.registers.write16(RELOAD, RESTART);
    }

    fn unlock(&mut self) {
        for key in KEYS {
            self.registers.write16(RELOAD, key);
        }
    }
}
