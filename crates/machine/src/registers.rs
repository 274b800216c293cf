//! Memory-mapped registers.

/// One block of memory-mapped registers: a remapping unit, a device's BAR, a function's configuration space.
///
/// Offsets are in bytes from the start of the block and naturally aligned. They come from constants of the
/// specification or were checked against the block's size beforehand: an implementation may panic on others.
pub trait Registers {
    /// Reads an 8-bit register.
    fn read8(&self, offset: usize) -> u8;
    /// Reads a 16-bit register.
    fn read16(&self, offset: usize) -> u16;
    /// Reads a 32-bit register.
    fn read32(&self, offset: usize) -> u32;
    /// Reads a 64-bit register.
    fn read64(&self, offset: usize) -> u64;
    /// Writes an 8-bit register.
    fn write8(&mut self, offset: usize, value: u8);
    /// Writes a 16-bit register.
    fn write16(&mut self, offset: usize, value: u16);
    /// Writes a 32-bit register.
    fn write32(&mut self, offset: usize, value: u32);
    /// Writes a 64-bit register.
    fn write64(&mut self, offset: usize, value: u64);
}
