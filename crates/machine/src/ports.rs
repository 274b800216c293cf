//! I/O ports.

/// The processor's I/O ports, an address space of their own beside memory.
///
/// A port that nothing answers at reads as all ones. Whoever implements this does as it is told: which ports may be
/// written is for the caller to know.
pub trait Ports {
    /// Reads 8 bits.
    fn read8(&mut self, port: u16) -> u8;
    /// Reads 16 bits.
    fn read16(&mut self, port: u16) -> u16;
    /// Reads 32 bits.
    fn read32(&mut self, port: u16) -> u32;
    /// Writes 8 bits.
    fn write8(&mut self, port: u16, value: u8);
    /// Writes 16 bits.
    fn write16(&mut self, port: u16, value: u16);
    /// Writes 32 bits.
    fn write32(&mut self, port: u16, value: u32);
}
