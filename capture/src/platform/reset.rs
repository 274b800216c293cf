//! Restarts the machine: tries every available way, each with a deadline.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use machine::wait_until;
use x86_64::instructions::{port::Port, tables};
use x86_64::structures::DescriptorTablePointer;

use crate::platform::clock::Tsc;

/// Time to wait for the effect of each way to reset.
const EFFECT: Duration = Duration::from_millis(100);

/// ACPI's reset register, when it is in I/O space: the port in bits 8 and up, the value in bits 0 to 7; 0 for none.
static ACPI_RESET: AtomicU64 = AtomicU64::new(0);

/// Remembers ACPI's reset register (FADT fields RESET_REG and RESET_VALUE, ACPI 6.5 section 4.8.3.6).
pub(crate) fn use_acpi(port: u16, value: u8) {
    ACPI_RESET.store(u64::from(port) << 8 | u64::from(value), Ordering::Relaxed);
}

/// Restarts the machine.
pub(crate) fn now() -> ! {
    by_acpi();
    by_chipset();
    by_keyboard_controller();
    by_triple_fault()
}

fn by_acpi() {
    let [value, low, high, ..] = ACPI_RESET.load(Ordering::Relaxed).to_le_bytes();
    let port = u16::from_le_bytes([low, high]);
    if port != 0 {
        write(port, value);
        give_time();
    }
}

/// The reset control register CF9h of Intel's chipsets: a full reset is requested, then triggered.
fn by_chipset() {
    write(0xCF9, 0x02);
    write(0xCF9, 0x06);
    give_time();
}

/// The keyboard controller's command FEh, once its input buffer is empty.
fn by_keyboard_controller() {
    // The command is sent even if the buffer never empties.
    let _ = wait_until(&Tsc, EFFECT, || read(0x64) & 0x02 == 0);
    write(0x64, 0xFE);
    give_time();
}

/// An exception without a table of handlers shuts the processor down, upon which the chipset resets.
fn by_triple_fault() -> ! {
    let nothing = DescriptorTablePointer { limit: 0, base: x86_64::VirtAddr::zero() };
    loop {
        // SAFETY: there is nothing left that an exception could break: raising one is the purpose.
        unsafe {
            tables::lidt(&nothing);
            core::arch::asm!("ud2");
        }
    }
}

fn give_time() {
    let _ = wait_until(&Tsc, EFFECT, || false);
}

fn read(port: u16) -> u8 {
    // SAFETY: the keyboard controller's status; reading it has no effect on memory.
    unsafe { Port::new(port).read() }
}

fn write(port: u16, value: u8) {
    // SAFETY: resets the machine, or does nothing that matters to a machine about to be reset.
    unsafe { Port::new(port).write(value) }
}
