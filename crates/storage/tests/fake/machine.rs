//! The machine around a fake device: the memory that it shares with its driver, and the time.
//!
//! The device and the driver each have their own view of shared memory, as on a machine without coherence or order: bulk
//! copies of one side reach the other only at the driver's fence, while single words arrive at once. A missing fence or a
//! wrong address therefore makes a test fail. Device addresses have nothing to do with where the memory is, as behind an
//! IOMMU, and memory that the driver gave back is no memory any more.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use machine::{Clock, DmaMemory, IoAddress};

/// A device in its machine.
pub(crate) trait Device {
    /// The machine.
    fn machine(&mut self) -> &mut Machine;

    /// Does a piece of work. The device gets to work whenever the driver reads the clock.
    fn work(&mut self);

    /// Notices that the driver has stored a single word in shared memory.
    fn stored(&mut self) {}
}

/// A device that its driver and a test look at in turn.
pub(crate) type Shared<D> = Rc<RefCell<D>>;

/// Shared memory, and the time.
pub(crate) struct Machine {
    regions: Vec<Region>,
    /// The device address of the first memory that is taken.
    pub(crate) base: u64,
    /// Bytes that are left for DMA.
    pub(crate) memory_left: usize,
    /// Time since the start.
    pub(crate) now: Duration,
    /// How much time passes from one look at the clock to the next.
    pub(crate) tick: Duration,
}

impl Default for Machine {
    fn default() -> Self {
        let (now, tick) = (Duration::ZERO, Duration::from_millis(10));
        Self { regions: Vec::new(), base: 0x12_7000_0000, memory_left: 8 << 20, now, tick }
    }
}

/// What a device picks at random; the same seed gives the same picks.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % limit
    }
}

struct Region {
    base: u64,
    driver: Vec<u8>,
    device: Vec<u8>,
    stores: Vec<(usize, Vec<u8>)>,
    loads: Vec<(usize, Vec<u8>)>,
}

impl Machine {
    fn region(&mut self, address: u64, len: usize) -> (&mut Region, usize) {
        let inside = |region: &Region| {
            region.base <= address && address + len as u64 <= region.base + region.device.len() as u64
        };
        let region = self.regions.iter_mut().find(|region| inside(region));
        let region = region.unwrap_or_else(|| panic!("DMA fault: {len} bytes at {address:#x}"));
        let offset = (address - region.base) as usize;
        (region, offset)
    }

    /// Reads as the device.
    pub(crate) fn device_read(&mut self, address: u64, len: usize) -> Vec<u8> {
        let (region, offset) = self.region(address, len);
        region.device[offset..offset + len].to_vec()
    }

    /// Reads a little-endian word as the device.
    pub(crate) fn device_read_u16(&mut self, address: u64) -> u16 {
        u16::from_le_bytes(self.device_read(address, 2).try_into().unwrap())
    }

    /// Writes as the device what the driver sees after its next fence.
    pub(crate) fn device_write(&mut self, address: u64, bytes: &[u8]) {
        let (region, offset) = self.region(address, bytes.len());
        region.device[offset..offset + bytes.len()].copy_from_slice(bytes);
        region.loads.push((offset, bytes.to_vec()));
    }

    /// Writes as the device what the driver sees at once.
    pub(crate) fn device_write_now(&mut self, address: u64, bytes: &[u8]) {
        let (region, offset) = self.region(address, bytes.len());
        region.device[offset..offset + bytes.len()].copy_from_slice(bytes);
        region.driver[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    fn fence(&mut self) {
        for region in &mut self.regions {
            for (at, bytes) in region.stores.drain(..) {
                region.device[at..at + bytes.len()].copy_from_slice(&bytes);
            }
            for (at, bytes) in region.loads.drain(..) {
                region.driver[at..at + bytes.len()].copy_from_slice(&bytes);
            }
        }
    }

    /// Takes memory for a driver; gives the number of its region.
    fn allocate(&mut self, len: usize) -> Option<usize> {
        let len = len.next_multiple_of(4096);
        self.memory_left = self.memory_left.checked_sub(len)?;
        let region = self.regions.len();
        let base = self.base + ((region as u64) << 24);
        let (driver, device) = (vec![0; len], vec![0; len]);
        self.regions.push(Region { base, driver, device, stores: Vec::new(), loads: Vec::new() });
        Some(region)
    }
}

/// The driver's view of a stretch of shared memory.
pub(crate) struct Memory<D: Device> {
    world: Shared<D>,
    region: usize,
}

impl<D: Device> Memory<D> {
    /// Takes memory that the device can reach.
    pub(crate) fn allocate(world: &Shared<D>, len: usize) -> Option<Self> {
        let region = world.borrow_mut().machine().allocate(len)?;
        Some(Self { world: world.clone(), region })
    }

    fn with_region<T>(&self, f: impl FnOnce(&mut Region) -> T) -> T {
        f(&mut self.world.borrow_mut().machine().regions[self.region])
    }

    /// Stores what the device sees at once.
    fn store(&self, offset: usize, bytes: &[u8]) {
        self.with_region(|region| {
            region.driver[offset..offset + bytes.len()].copy_from_slice(bytes);
            region.device[offset..offset + bytes.len()].copy_from_slice(bytes);
        });
        self.world.borrow_mut().stored();
    }
}

/// The device does not reach the memory any more. A request that is still under way there is a DMA fault.
impl<D: Device> Drop for Memory<D> {
    fn drop(&mut self) {
        // A test that has failed may hold the device.
        if let Ok(mut world) = self.world.try_borrow_mut() {
            world.machine().regions[self.region].device = Vec::new();
        }
    }
}

impl<D: Device> DmaMemory for Memory<D> {
    fn device_address(&self) -> IoAddress {
        self.with_region(|region| region.base.into())
    }

    fn size(&self) -> usize {
        self.with_region(|region| region.driver.len())
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        self.with_region(|region| into.copy_from_slice(&region.driver[offset..offset + into.len()]));
    }

    fn write(&mut self, offset: usize, from: &[u8]) {
        self.with_region(|region| {
            region.driver[offset..offset + from.len()].copy_from_slice(from);
            region.stores.push((offset, from.to_vec()));
        });
    }

    fn read_u16(&self, offset: usize) -> u16 {
        let mut bytes = [0; 2];
        self.read(offset, &mut bytes);
        u16::from_le_bytes(bytes)
    }

    fn read_u32(&self, offset: usize) -> u32 {
        let mut bytes = [0; 4];
        self.read(offset, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn write_u16(&mut self, offset: usize, value: u16) {
        self.store(offset, &value.to_le_bytes());
    }

    fn write_u32(&mut self, offset: usize, value: u32) {
        self.store(offset, &value.to_le_bytes());
    }

    fn fence(&self) {
        self.world.borrow_mut().machine().fence();
    }
}

/// A clock that advances by the machine's tick whenever it is read, while the device works.
pub(crate) struct FakeClock<D: Device>(pub(crate) Shared<D>);

impl<D: Device> Clock for FakeClock<D> {
    fn now(&self) -> Duration {
        let mut world = self.0.borrow_mut();
        world.work();
        let machine = world.machine();
        machine.now += machine.tick;
        machine.now
    }
}
