//! ACPI's table WDAT, and hardware that answers as it likes, a management controller among it: no port of the board's own is
//! touched, and no wait is without an end.
//!
//! The first two bytes are the table's length; behind the table are the answers, in turn, and then ports at which nothing is.

#![no_main]

use std::cell::Cell;
use std::time::Duration;

use fixtures::ConfigSpace;
use libfuzzer_sys::fuzz_target;
use machine::{Clock, Ports};
use watchdog::{KcsPlace, Watchdogs};

/// What hardware answers.
struct Answers<'a>(&'a [u8]);

impl Answers<'_> {
    fn next<const N: usize>(&mut self, port: u16) -> [u8; N] {
        check(port, N);
        let Some((answer, rest)) = self.0.split_first_chunk() else { return [0xFF; N] };
        self.0 = rest;
        *answer
    }
}

/// The board's own devices are below 100h, and PCI's configuration mechanism has a register that resets the machine.
fn check(port: u16, bytes: usize) {
    let ports = usize::from(port)..usize::from(port) + bytes;
    assert!(ports.start >= 0x100 && ports.end <= 0x1_0000 && (ports.end <= 0xCF8 || ports.start >= 0xD00));
}

impl Ports for Answers<'_> {
    fn read8(&mut self, port: u16) -> u8 {
        u8::from_le_bytes(self.next(port))
    }
    fn read16(&mut self, port: u16) -> u16 {
        u16::from_le_bytes(self.next(port))
    }
    fn read32(&mut self, port: u16) -> u32 {
        u32::from_le_bytes(self.next(port))
    }
    fn write8(&mut self, port: u16, _value: u8) {
        check(port, 1);
    }
    fn write16(&mut self, port: u16, _value: u16) {
        check(port, 2);
    }
    fn write32(&mut self, port: u16, _value: u32) {
        check(port, 4);
    }
}

/// A clock that each look moves on by 20 ms.
struct Looks(Cell<u64>);

impl Clock for Looks {
    fn now(&self) -> Duration {
        self.0.set(self.0.get() + 20);
        Duration::from_millis(self.0.get())
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((length, rest)) = bytes.split_first_chunk() else { return };
    let (table, answers) = rest.split_at(rest.len().min(u16::from_le_bytes(*length).into()));
    let mut watchdogs = Watchdogs::new(Answers(answers), Looks(Cell::new(0)));
    let map = |range: machine::Range<_>| {
        assert!(range.len() <= 4);
        Some(ConfigSpace::new(&[(0, table)]))
    };
    watchdogs.look_at_wdat(table, true, map);
    if let Some(place) = KcsPlace::parse("0xca2") {
        watchdogs.look_at_bmc(place);
    }
    for _ in 0..200 {
        watchdogs.progress();
        watchdogs.waiting();
    }
    let _ = watchdogs.lost().count();
    // The first ones, and one a second of each.
    assert!(watchdogs.pings() <= 2 + 2 * 20);
});
