//! The serial console: a 16550 as the dead kernel left it, or set to the rate that the command line gives.
//!
//! Every failure here is silent: a machine that has no such port, or whose port never becomes ready, must still write
//! its dump.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU16, Ordering};
use core::time::Duration;

use handoff::{ConsoleLine, SerialConsole};
use machine::{Clock, wait_until};
use x86_64::instructions::port::Port;

use crate::platform::clock::Tsc;
use crate::platform::shared::Shared;

/// Prints a line `holdover: [seconds] text` on the console.
macro_rules! say {
    ($($argument:tt)*) => { $crate::platform::console::line(format_args!($($argument)*)) };
}
pub(crate) use say;

/// I/O port of the first register; 0 while there is no console.
static PORT: AtomicU16 = AtomicU16::new(0);

/// Shows each line elsewhere too.
static MIRROR: Shared<Show> = Shared::none();

/// Shows a line.
pub(crate) type Show = fn(fmt::Arguments<'_>);

/// Longest wait until one character is sent: a hundred times the time that 9600 baud need.
const CHARACTER_LIMIT: Duration = Duration::from_millis(100);

// 16550 registers, as offsets from the first one, and their bits (NS16550A data sheet, section 8).
const DATA: u16 = 0;
const LINE_CONTROL: u16 = 3;
const LINE_STATUS: u16 = 5;
const TRANSMITTER_EMPTY: u8 = 1 << 5;
const DIVISOR_ACCESS: u8 = 1 << 7;
const EIGHT_BITS_NO_PARITY: u8 = 3;

/// I/O ports of the first registers of `ttyS0` to `ttyS3`, where PCs have them.
const PORTS: [u16; SerialConsole::PORTS as usize] = [0x3F8, 0x2F8, 0x3E8, 0x2E8];

/// Turns the console on.
pub(crate) fn open(serial: SerialConsole) {
    let port = PORTS[usize::from(serial.port())];
    if let Some(baud) = serial.baud() {
        set_rate(port, baud);
    }
    PORT.store(port, Ordering::Relaxed);
}

/// Has each line shown elsewhere too.
pub(crate) fn mirror(show: Show) {
    MIRROR.set(show);
}

/// Prints one line; see [`say!`].
pub(crate) fn line(text: fmt::Arguments) {
    if let Some(show) = MIRROR.with(|show| *show) {
        show(text);
    }
    // Writing to the port cannot fail.
    let _ = writeln!(Output, "{}\r", ConsoleLine { time: Tsc.now(), text });
}

struct Output;

impl Write for Output {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let port = PORT.load(Ordering::Relaxed);
        if port != 0 {
            text.bytes().for_each(|byte| send(port, byte));
        }
        Ok(())
    }
}

/// Sends one byte. If the port is not ready in time, the console is turned off for good.
fn send(port: u16, byte: u8) {
    // A missing port reads as all ones, which looks ready: its output is lost without delay.
    if wait_until(&Tsc, CHARACTER_LIMIT, || input(port + LINE_STATUS) & TRANSMITTER_EMPTY != 0).is_err() {
        PORT.store(0, Ordering::Relaxed);
        return;
    }
    output(port + DATA, byte);
}

fn set_rate(port: u16, baud: u32) {
    let [low, high, ..] = (SerialConsole::FASTEST / baud).to_le_bytes();
    output(port + LINE_CONTROL, DIVISOR_ACCESS | EIGHT_BITS_NO_PARITY);
    output(port, low);
    output(port + 1, high);
    output(port + LINE_CONTROL, EIGHT_BITS_NO_PARITY);
}

fn input(port: u16) -> u8 {
    // SAFETY: reads a register of a serial port, where a read has no effect on memory.
    unsafe { Port::new(port).read() }
}

fn output(port: u16, value: u8) {
    // SAFETY: writes a register of a serial port, which does no DMA.
    unsafe { Port::new(port).write(value) }
}
