//! The machine of the stories: a unit that executes commands at once, old memory, our frames.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Range as Indices;
use std::rc::Rc;
use std::time::Duration;

use machine::{
    Clock, ENTRIES, Frames, OldMemory, PAGE_SIZE, PhysicalAddress, Range, Registers, SourceId, Table,
    Unreadable,
};
use vtd::control::{ContextCommand, IotlbCommand};
use vtd::queue::{
    Descriptor, DescriptorType, DeviceTlbInvalidation, PasidDeviceTlbInvalidation, QueueAddress,
};
use vtd::registers::{CCMD, FRCD_SIZE, FSTS, GCMD, GSTS, IQA, IQERCD, IQH, IQT};

/// Where the old kernel's tables start, and ours.
pub(crate) const OLD: u64 = 0x100_0000;
pub(crate) const OWN: Range<u64> = Range::new(0x1000_0000, 0x1100_0000);
pub(crate) const MEMORY: Range<u64> = Range::new(0, 0x8000_0000);
/// Converts numbers into physical addresses.
pub(crate) fn physical(addresses: Range<u64>) -> Range<PhysicalAddress> {
    Range::from(addresses.start..addresses.end)
}

/// The first `len` bytes of our memory, which are mapped for a driver.
pub(crate) fn own_pages(len: u64) -> Range<PhysicalAddress> {
    Range::from(OWN.start..OWN.start + len)
}

/// Offset of the unit's IOTLB registers: only ECAP tells it.
pub(crate) const IOTLB: usize = 0x218;
/// Offset of its four fault records.
pub(crate) const FAULTS: usize = 0x400;
/// QIE in the global command, QIES in the global status.
pub(crate) const QUEUE_ON: u64 = 1 << 26;

/// The state that all ports share.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) registers: RefCell<BTreeMap<usize, u64>>,
    /// The old kernel's memory: just its tables.
    pub(crate) old: RefCell<BTreeMap<u64, Box<Table>>>,
    /// The status words that waits wrote.
    pub(crate) statuses: RefCell<BTreeMap<u64, u64>>,
    /// What has been invalidated, in order.
    pub(crate) forgotten: RefCell<Vec<DescriptorType>>,
    pub(crate) own: RefCell<BTreeMap<u64, Box<Table>>>,
    pub(crate) time: Cell<u64>,
    /// What was written to registers, by offset, in order.
    pub(crate) writes: RefCell<Vec<(usize, u64)>>,
    /// Device-TLB invalidations: of everything, or of all of a PASID.
    pub(crate) told: RefCell<Vec<(SourceId, Option<u32>)>>,
    /// The device that does not answer.
    pub(crate) silent: Cell<Option<SourceId>>,
}

pub(crate) type Shared = Rc<World>;

impl World {
    pub(crate) fn get(&self, offset: usize) -> u64 {
        self.registers.borrow().get(&offset).copied().unwrap_or(0)
    }

    pub(crate) fn set(&self, offset: usize, value: u64) {
        self.registers.borrow_mut().insert(offset, value);
    }

    pub(crate) fn write(&self, offset: usize, value: u64) {
        self.writes.borrow_mut().push((offset, value));
        if offset == GCMD.offset {
            self.command(value);
        } else if offset == IQT.offset {
            self.execute(value);
        } else if offset == CCMD.offset {
            let command = ContextCommand::from_bits(value);
            self.set(offset, command.with_invalidate(false).with_done(command.request()).into_bits());
        } else if offset == IOTLB {
            let command = IotlbCommand::from_bits(value);
            self.set(offset, command.with_invalidate(false).with_done(command.request()).into_bits());
        } else if offset == FSTS.offset {
            self.set(offset, self.get(offset) & !value);
            // The error that stopped the queue may have been cleared.
            self.execute(self.get(IQT.offset));
        } else if (FAULTS..FAULTS + 4 * FRCD_SIZE).contains(&offset) {
            // F is the top bit of a record's last word of 32 bits.
            self.set(offset - 4, self.get(offset - 4) & !(value << 32));
        } else {
            self.set(offset, value);
        }
    }

    /// SRTP is answered by RTPS, which has the same bit; a queue that is turned off starts anew.
    pub(crate) fn command(&self, value: u64) {
        self.set(GSTS.offset, value);
        if value & QUEUE_ON == 0 {
            self.set(IQH.offset, 0);
        }
    }

    /// Executes descriptors up to the new tail, as they were published.
    pub(crate) fn execute(&self, tail: u64) {
        self.set(IQT.offset, tail);
        let queue = QueueAddress::from_bits(self.get(IQA.offset));
        let step = queue.descriptor_bytes();
        let own = self.own.borrow();
        if !own.contains_key(&queue.address().get()) && !self.is_stopped() {
            // The old kernel's queue.
            self.set(IQH.offset, tail);
        }
        while self.get(IQH.offset) != tail && self.get(GSTS.offset) & QUEUE_ON != 0 && !self.is_stopped() {
            let head = self.get(IQH.offset);
            let at = (head / 8) as usize;
            let descriptor =
                Descriptor([own[&queue.address().get()][at], own[&queue.address().get()][at + 1], 0, 0]);
            match descriptor.kind() {
                DescriptorType::WAIT => {
                    self.statuses.borrow_mut().insert(descriptor.0[1], descriptor.0[0] >> 32);
                }
                DescriptorType::DEVICE_TLB => {
                    let request = DeviceTlbInvalidation::from_bits(descriptor.0[0]);
                    self.tell(request.source(), None);
                }
                DescriptorType::PASID_DEVICE_TLB => {
                    let request = PasidDeviceTlbInvalidation::from_bits(descriptor.0[0]);
                    self.tell(request.source(), Some(request.pasid()));
                }
                kind => self.forgotten.borrow_mut().push(kind),
            }
            self.set(IQH.offset, (head + step) % PAGE_SIZE);
        }
    }

    /// Whether IQE or ITE is set.
    pub(crate) fn is_stopped(&self) -> bool {
        self.get(FSTS.offset) & 0x50 != 0
    }

    /// Sends a device-TLB invalidation; if the device does not answer, sets ITE and names the device (IQERCD, bits
    /// 47:32).
    pub(crate) fn tell(&self, source: SourceId, pasid: Option<u32>) {
        self.told.borrow_mut().push((source, pasid));
        if self.silent.get() == Some(source) {
            self.set(FSTS.offset, 0x40);
            self.set(IQERCD.offset, u64::from(source.0) << 32);
        }
    }
}

#[derive(Debug)]
pub(crate) struct Port(pub(crate) Shared);

impl Registers for Port {
    fn read8(&self, _: usize) -> u8 {
        unreachable!("units have no such registers")
    }
    fn read16(&self, _: usize) -> u16 {
        unreachable!("units have no such registers")
    }
    fn read32(&self, offset: usize) -> u32 {
        self.0.get(offset) as u32
    }
    fn read64(&self, offset: usize) -> u64 {
        self.0.get(offset)
    }
    fn write8(&mut self, _: usize, _: u8) {
        unreachable!("units have no such registers")
    }
    fn write16(&mut self, _: usize, _: u16) {
        unreachable!("units have no such registers")
    }
    fn write32(&mut self, offset: usize, value: u32) {
        self.0.write(offset, value.into());
    }
    fn write64(&mut self, offset: usize, value: u64) {
        self.0.write(offset, value);
    }
}

impl Clock for World {
    fn now(&self) -> Duration {
        self.time.set(self.time.get() + 1);
        Duration::from_millis(self.time.get())
    }
}

pub(crate) struct OldRam(pub(crate) Shared);

impl OldMemory for OldRam {
    fn read(&self, address: PhysicalAddress, into: &mut [u8]) -> Result<(), Unreadable> {
        let mut table = [0; ENTRIES];
        self.read_table(address.align_down(PAGE_SIZE), &mut table)?;
        let bytes = table.map(u64::to_le_bytes);
        let start = (address.get() % PAGE_SIZE) as usize;
        into.copy_from_slice(&bytes.as_flattened()[start..start + into.len()]);
        Ok(())
    }

    fn read_table(&self, address: PhysicalAddress, into: &mut Table) -> Result<(), Unreadable> {
        let error = Unreadable { address, len: PAGE_SIZE };
        *into = **self.0.old.borrow().get(&address.get()).ok_or(error)?;
        Ok(())
    }
}

/// Frames of our own; the unit sees only what was published.
pub(crate) struct Pool {
    pub(crate) world: Shared,
    pub(crate) tables: BTreeMap<u64, Box<Table>>,
}

impl Frames for Pool {
    fn allocate(&mut self) -> Option<PhysicalAddress> {
        let mut frames = (OWN.start..OWN.end).step_by(PAGE_SIZE as usize);
        let frame = frames.find(|frame| !self.tables.contains_key(frame))?;
        self.tables.insert(frame, Box::new([0; ENTRIES]));
        Some(frame.into())
    }
    fn allocate_run(&mut self, count: usize) -> Option<PhysicalAddress> {
        let starts = (OWN.start..OWN.end - count as u64 * PAGE_SIZE).step_by(PAGE_SIZE as usize);
        let run = |start: u64| (0..count as u64).map(move |page| start + page * PAGE_SIZE);
        let start =
            starts.into_iter().find(|start| run(*start).all(|frame| !self.tables.contains_key(&frame)))?;
        run(start).for_each(|frame| drop(self.tables.insert(frame, Box::new([0; ENTRIES]))));
        Some(start.into())
    }
    fn release(&mut self, frame: PhysicalAddress) {
        self.tables.remove(&frame.get());
    }
    fn available(&self) -> usize {
        (OWN.len() / PAGE_SIZE) as usize - self.tables.len()
    }
    fn table(&self, frame: PhysicalAddress) -> &Table {
        &self.tables[&frame.get()]
    }
    fn table_mut(&mut self, frame: PhysicalAddress) -> &mut Table {
        self.tables.get_mut(&frame.get()).unwrap()
    }
    fn load(&self, frame: PhysicalAddress, index: usize) -> u64 {
        let status = self.world.statuses.borrow().get(&(frame.get() + index as u64 * 8)).copied();
        status.unwrap_or(self.tables[&frame.get()][index])
    }
    fn store(&mut self, frame: PhysicalAddress, index: usize, entry: u64) {
        self.table_mut(frame)[index] = entry;
    }
    fn publish(&mut self, frame: PhysicalAddress, entries: Indices<usize>) {
        let mut own = self.world.own.borrow_mut();
        let published = own.entry(frame.get()).or_insert_with(|| Box::new([!0; ENTRIES]));
        published[entries.clone()].copy_from_slice(&self.tables[&frame.get()][entries]);
    }
}
