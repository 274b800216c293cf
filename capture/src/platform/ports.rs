//! The processor's I/O ports, for those who look for devices there.

use machine::Ports;
use x86_64::instructions::port::Port;

/// All of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IoPorts;

/// Reads a port in one access.
macro_rules! read {
    ($name:ident, $type:ty) => {
        fn $name(&mut self, port: u16) -> $type {
            // SAFETY: reads no memory. What the read does to a device is its driver's business.
            unsafe { Port::new(port).read() }
        }
    };
}

/// Writes a port in one access.
macro_rules! write {
    ($name:ident, $type:ty) => {
        fn $name(&mut self, port: u16, value: $type) {
            // SAFETY: the only user is the crate `watchdog`, which refuses the ports of the board's DMA controllers and of
            // PCI's configuration mechanism: nothing that it reaches moves memory.
            unsafe { Port::new(port).write(value) }
        }
    };
}

impl Ports for IoPorts {
    read!(read8, u8);
    read!(read16, u16);
    read!(read32, u32);
    write!(write8, u8);
    write!(write16, u16);
    write!(write32, u32);
}
