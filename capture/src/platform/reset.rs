//! Restarts the machine: tries every available way, each with a deadline.

use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use core::time::Duration;

use capture::acpi::{RegisterPlace, ResetRegister};
use machine::{PhysicalAddress, Range, rest, wait_until};
use pci::Function;
use x86_64::instructions::{port::Port, tables};
use x86_64::structures::DescriptorTablePointer;

use crate::platform::clock::Tsc;
use crate::platform::config::ConfigPorts;
use crate::platform::paging::{Access, AddressSpace, MapError};

/// Time to wait for the effect of each way to reset.
const EFFECT: Duration = Duration::from_millis(100);

/// ACPI's reset register: [`SPACE`] says what [`ADDRESS`] is.
static SPACE: AtomicU8 = AtomicU8::new(NOWHERE);
static ADDRESS: AtomicU64 = AtomicU64::new(0);
/// The value that resets.
static VALUE: AtomicU8 = AtomicU8::new(0);

const NOWHERE: u8 = 0;
/// The address is a port.
const PORT: u8 = 1;
/// The address is physical, and mapped as registers.
const MEMORY: u8 = 2;
/// The address is that of a register of a function of bus 0: device and function above its eight lowest bits.
const CONFIGURATION: u8 = 3;

/// Remembers ACPI's reset register (FADT fields RESET_REG and RESET_VALUE, ACPI 6.5 section 4.8.3.6). A register in memory
/// is mapped, so it cannot be where RAM is.
pub(crate) fn use_acpi(space: &mut AddressSpace, ResetRegister { place, value }: ResetRegister) {
    let (kind, address) = match place {
        RegisterPlace::Port(port) => (PORT, port.into()),
        RegisterPlace::Memory(address) if map(space, address.into()).is_ok() => (MEMORY, address),
        RegisterPlace::Memory(_) => return,
        RegisterPlace::Configuration { device, function, offset } => {
            (CONFIGURATION, u64::from(device) << 11 | u64::from(function) << 8 | u64::from(offset))
        }
    };
    ADDRESS.store(address, Ordering::Relaxed);
    VALUE.store(value, Ordering::Relaxed);
    SPACE.store(kind, Ordering::Relaxed);
}

fn map(space: &mut AddressSpace, address: PhysicalAddress) -> Result<(), MapError> {
    space.map(Range::new(address, address.saturating_add(1)), Access::Device)
}

/// Restarts the machine.
pub(crate) fn now() -> ! {
    by_acpi();
    by_chipset();
    by_keyboard_controller();
    by_triple_fault()
}

fn by_acpi() {
    let (address, value) = (ADDRESS.load(Ordering::Relaxed), VALUE.load(Ordering::Relaxed));
    match SPACE.load(Ordering::Relaxed) {
        PORT => write(address as u16, value),
        // SAFETY: the address is mapped for good, as registers, and no memory is there.
        MEMORY => unsafe { (address as *mut u8).write_volatile(value) },
        CONFIGURATION => write_configuration(address, value),
        _ => return,
    }
    give_time();
}

fn write_configuration(address: u64, value: u8) {
    let [offset, devfn, ..] = address.to_le_bytes();
    let function = Function { segment: 0, bus: 0, devfn };
    if let Some(ports) = ConfigPorts::of(function) {
        ports.write(offset.into(), value);
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
    rest(&Tsc, EFFECT);
}

fn read(port: u16) -> u8 {
    // SAFETY: the keyboard controller's status; reading it has no effect on memory.
    unsafe { Port::new(port).read() }
}

fn write(port: u16, value: u8) {
    // SAFETY: resets the machine, or does nothing that matters to a machine about to be reset.
    unsafe { Port::new(port).write(value) }
}
