//! A machine for benchmarks: the old kernel's tables in plain memory, and a unit that executes commands at once.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use machine::{
    Clock, CopyError, ENTRIES, Frames, OldMemory, PAGE_SIZE, PhysicalAddress, Range, Registers, Table,
    Unreadable,
};
use takeover::{Limits, Report, Surroundings, Unit};
use vtd::capability::{Capability, ExtendedCapability};
use vtd::control::{ContextCommand, IotlbCommand};
use vtd::registers::{CAP, CCMD, ECAP, GCMD, GSTS, RTADDR, VER};

/// Where the old kernel's tables start.
pub(crate) const OLD: u64 = 0x1_0000_0000;
/// The capture kernel's memory: aligned as reservations are, with room for all tables that are copied.
pub(crate) const OWN: Range<u64> = Range::new(0x1000_0000, 0x1800_0000);
/// Where the unit has its IOTLB registers.
const IOTLB: usize = 0x108;
/// What lets a device read and write.
pub(crate) const ALLOWED: u64 = 3;

/// A table at the start of a page, as real ones are: that decides how fast a processor copies it.
#[derive(Clone)]
#[repr(align(4096))]
pub(crate) struct Page(pub(crate) Table);

/// A dead kernel's tables, one after another; the first is the root table.
pub(crate) struct Tables(pub(crate) Vec<Page>);

impl OldMemory for Tables {
    fn read(&self, address: PhysicalAddress, into: &mut [u8]) -> Result<(), Unreadable> {
        Err(Unreadable { address, len: into.len() as u64 })
    }

    fn read_table(&self, address: PhysicalAddress, into: &mut Table) -> Result<(), Unreadable> {
        let index = address.get().wrapping_sub(OLD) / PAGE_SIZE;
        let table = self.0.get(index as usize).ok_or(Unreadable { address, len: PAGE_SIZE })?;
        into.copy_from_slice(&table.0);
        Ok(())
    }
}

/// Legacy tables in which one device's domain maps `leaves` pages of 4 KiB side by side to pages all over memory.
pub(crate) fn tables(leaves: usize) -> Tables {
    let leaf_tables = leaves.div_ceil(ENTRIES);
    let middle = leaf_tables.div_ceil(ENTRIES);
    assert!(middle <= ENTRIES, "three levels map no more");
    let (contexts, top, first_middle, first_leaf) = (1, 2, 3, 3 + middle);
    let mut tables = vec![Page([0; ENTRIES]); first_leaf + leaf_tables];
    let entry = |index: usize| OLD + index as u64 * PAGE_SIZE;
    tables[0].0[0] = entry(contexts) | 1;
    // Device 2 of bus 0, domain 7, three levels.
    tables[contexts].0[0x20..0x22].copy_from_slice(&[entry(top) | 1, 7 << 8 | 1]);
    for (index, slot) in tables[top].0[..middle].iter_mut().enumerate() {
        *slot = entry(first_middle + index) | ALLOWED;
    }
    for index in 0..leaf_tables {
        tables[first_middle + index / ENTRIES].0[index % ENTRIES] = entry(first_leaf + index) | ALLOWED;
    }
    for leaf in 0..leaves {
        tables[first_leaf + leaf / ENTRIES].0[leaf % ENTRIES] = scattered(leaf as u64) | ALLOWED;
    }
    Tables(tables)
}

/// Some page above the capture kernel's memory and below 2^38.
pub(crate) fn scattered(leaf: u64) -> u64 {
    OWN.end + leaf.wrapping_mul(0x9E37_79B9_7F4A_7C15) % (1 << 25) * PAGE_SIZE
}

/// Frames in plain memory, used again for each takeover.
pub(crate) struct Pool {
    frames: Vec<Page>,
    used: usize,
    released: Vec<PhysicalAddress>,
}

impl Pool {
    pub(crate) fn new(count: usize) -> Self {
        // Not zero, so that the system has given the memory when it is measured.
        Self { frames: vec![Page([1; ENTRIES]); count], used: 0, released: Vec::with_capacity(count) }
    }

    /// All frames as they lie in memory.
    pub(crate) fn raw(&mut self) -> &mut [Page] {
        &mut self.frames
    }

    fn take(&mut self) -> Option<PhysicalAddress> {
        self.released.pop().or_else(|| {
            let frame = OWN.start + self.used as u64 * PAGE_SIZE;
            self.used += 1;
            (self.used <= self.frames.len()).then_some(frame.into())
        })
    }

    fn index(frame: PhysicalAddress) -> usize {
        ((frame.get() - OWN.start) / PAGE_SIZE) as usize
    }
}

impl Frames for Pool {
    fn allocate(&mut self) -> Option<PhysicalAddress> {
        let frame = self.take()?;
        self.table_mut(frame).fill(0);
        Some(frame)
    }

    fn allocate_copy(
        &mut self,
        old: &impl OldMemory,
        address: PhysicalAddress,
    ) -> Result<PhysicalAddress, CopyError> {
        let frame = self.take().ok_or(CopyError::OutOfFrames)?;
        old.read_table(address, self.table_mut(frame)).map(|()| frame).map_err(CopyError::from)
    }

    /// Scalable mode's large directories want runs; there are none here.
    fn allocate_run(&mut self, _: usize) -> Option<PhysicalAddress> {
        None
    }

    fn release(&mut self, frame: PhysicalAddress) {
        self.released.push(frame);
    }

    fn available(&self) -> usize {
        self.frames.len() - self.used.min(self.frames.len()) + self.released.len()
    }

    fn table(&self, frame: PhysicalAddress) -> &Table {
        &self.frames[Self::index(frame)].0
    }

    fn table_mut(&mut self, frame: PhysicalAddress) -> &mut Table {
        &mut self.frames[Self::index(frame)].0
    }

    fn store(&mut self, frame: PhysicalAddress, index: usize, entry: u64) {
        self.table_mut(frame)[index] = entry;
    }

    // What this costs is the machine's business: it flushes caches.
    fn publish(&mut self, _: PhysicalAddress, _: std::ops::Range<usize>) {}
}

/// A unit without a queue that has finished each command by the next read.
struct Obedient(RefCell<BTreeMap<usize, u64>>);

impl Obedient {
    fn new() -> Self {
        let capability = Capability::new().with_nd(6).with_sagaw(0b0110).with_mgaw(47).with_sslps(0b11);
        let extended = ExtendedCapability::new().with_iro((IOTLB / 16) as u16).with_pt(true);
        let registers = [
            (VER.offset, 0x10),
            (CAP.offset, capability.into_bits()),
            (ECAP.offset, extended.into_bits()),
            // TE, RTPS.
            (GSTS.offset, 0xC000_0000),
            (RTADDR.offset, OLD),
        ];
        Self(RefCell::new(registers.into()))
    }

    fn write(&self, offset: usize, value: u64) {
        let (place, value) = if offset == GCMD.offset {
            (GSTS.offset, value)
        } else if offset == CCMD.offset {
            let command = ContextCommand::from_bits(value);
            (offset, command.with_invalidate(false).with_done(command.request()).into_bits())
        } else if offset == IOTLB {
            let command = IotlbCommand::from_bits(value);
            (offset, command.with_invalidate(false).with_done(command.request()).into_bits())
        } else {
            (offset, value)
        };
        self.0.borrow_mut().insert(place, value);
    }
}

impl Registers for Obedient {
    fn read8(&self, _: usize) -> u8 {
        unreachable!("units have no such registers")
    }
    fn read16(&self, _: usize) -> u16 {
        unreachable!("units have no such registers")
    }
    fn read32(&self, offset: usize) -> u32 {
        self.read64(offset) as u32
    }
    fn read64(&self, offset: usize) -> u64 {
        self.0.borrow().get(&offset).copied().unwrap_or(0)
    }
    fn write8(&mut self, _: usize, _: u8) {
        unreachable!("units have no such registers")
    }
    fn write16(&mut self, _: usize, _: u16) {
        unreachable!("units have no such registers")
    }
    fn write32(&mut self, offset: usize, value: u32) {
        self.write(offset, value.into());
    }
    fn write64(&mut self, offset: usize, value: u64) {
        self.write(offset, value);
    }
}

/// The processor's clock.
struct Watch(Instant);

impl Clock for Watch {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Takes over a unit that uses these tables, with all of the pool's frames unused.
pub(crate) fn take_over(old: &impl OldMemory, pool: &mut Pool) -> Report {
    pool.used = 0;
    pool.released.clear();
    let clock = Watch(Instant::now());
    let limits = Limits::default();
    let unit = Unit::vtd(Obedient::new(), 0x1000, &clock).expect("a unit");
    let (memory, own) = ([Range::from(0..1 << 41)], [Range::from(OWN.start..OWN.end)]);
    let surroundings = Surroundings::new(46, &memory, &own);
    let taken = takeover::take_over(unit, old, pool, &surroundings, &limits).expect("a takeover");
    taken.report().clone()
}
