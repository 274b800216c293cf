//! Memory that the processor and a device share.

use crate::IoAddress;

/// Allocates memory that a driver shares with its device.
///
/// The driver knows nothing of remapping: the memory tells it the address at which the device finds it.
pub trait Dma {
    /// The memory handed out.
    type Memory: DmaMemory;

    /// Allocates at least `len` zeroed bytes, page-aligned and contiguous as the device sees them; `None` if there are none.
    fn allocate(&mut self, len: usize) -> Option<Self::Memory>;
}

/// A block of memory that one device may read and write at any time.
///
/// Accesses of up to eight aligned bytes are single and in program order with [`fence`](Self::fence). Offsets outside
/// the block are a driver's bug and may panic; nothing that a device wrote may be used as an offset unchecked.
pub trait DmaMemory {
    /// Address of the first byte in the device's requests: its physical address, if no unit translates for the device.
    fn device_address(&self) -> IoAddress;
    /// Size in bytes.
    fn size(&self) -> usize;
    /// Copies the present content into `into`.
    fn read(&self, offset: usize, into: &mut [u8]);
    /// Copies `from` into the memory.
    fn write(&mut self, offset: usize, from: &[u8]);
    /// Reads a little-endian 16-bit value in one access.
    fn read_u16(&self, offset: usize) -> u16;
    /// Reads a little-endian 32-bit value in one access.
    fn read_u32(&self, offset: usize) -> u32;
    /// Writes a little-endian 16-bit value in one access.
    fn write_u16(&mut self, offset: usize, value: u16);
    /// Writes a little-endian 32-bit value in one access.
    fn write_u32(&mut self, offset: usize, value: u32);
    /// Orders all accesses before it against all after it, as the device sees them.
    fn fence(&self);
}
