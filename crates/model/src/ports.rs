//! The machine as the capture kernel sees it: the traits of [`machine`], over one shared [`World`].
//!
//! Each call is a step of the machine's time, so devices do DMA between every two calls.

use crate::memory::MemoryKind;
use crate::trace::Event;
use crate::unit::Width;
use crate::versions::Versions;
use crate::world::World;
use machine::{
    Clock, Contended, ENTRIES, Frames, OldMemory, PAGE_SIZE, PhysicalAddress, Range, Registers, Table,
    Unreadable,
};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// Entries in a line of the processor's cache.
const LINE: usize = 8;

pub(crate) type Shared = Rc<RefCell<World>>;

/// The registers of one unit.
#[derive(Clone, Debug)]
pub struct UnitRegisters {
    pub(crate) world: Shared,
    pub(crate) unit: usize,
}

impl UnitRegisters {
    fn read(&self, offset: usize, width: Width) -> u64 {
        let mut world = self.world.borrow_mut();
        world.step();
        world.units[self.unit].before_access();
        world.units[self.unit].look(offset, width)
    }

    fn write(&mut self, offset: usize, width: Width, value: u64) {
        let mut world = self.world.borrow_mut();
        world.step();
        world.units[self.unit].before_access();
        let (step, register) = (world.steps, world.units[self.unit].name(offset));
        world.trace.add(step, Event::Wrote { register, value });
        if world.units[self.unit].is_deaf_to(offset) {
            return;
        }
        match width {
            Width::Bits32 => world.units[self.unit].write32(offset, value as u32),
            _ if world.units[self.unit].takes_halves(width) => {
                world.units[self.unit].write32(offset, value as u32);
                world.step();
                world.units[self.unit].write32(offset + 4, (value >> 32) as u32);
            }
            Width::Bits64 => world.units[self.unit].write64(offset, value),
        }
    }
}

/// A unit's registers have 32 or 64 bits; narrower accesses are undefined (VT-d, 11.3).
const NARROW: &str = "remapping units have no registers of 8 or 16 bits";

#[expect(clippy::panic, reason = "narrow accesses are a bug of the caller, which the trait lets panic")]
impl Registers for UnitRegisters {
    fn read8(&self, _: usize) -> u8 {
        panic!("{NARROW}")
    }

    fn read16(&self, _: usize) -> u16 {
        panic!("{NARROW}")
    }

    fn read32(&self, offset: usize) -> u32 {
        self.read(offset, Width::Bits32) as u32
    }

    fn read64(&self, offset: usize) -> u64 {
        self.read(offset, Width::Bits64)
    }

    fn write8(&mut self, _: usize, _: u8) {
        panic!("{NARROW}")
    }

    fn write16(&mut self, _: usize, _: u16) {
        panic!("{NARROW}")
    }

    fn write32(&mut self, offset: usize, value: u32) {
        self.write(offset, Width::Bits32, value.into());
    }

    fn write64(&mut self, offset: usize, value: u64) {
        self.write(offset, Width::Bits64, value);
    }
}

/// The old kernel's memory.
#[derive(Clone, Debug)]
pub struct OldRam {
    pub(crate) world: Shared,
}

impl OldMemory for OldRam {
    fn read(&self, address: PhysicalAddress, into: &mut [u8]) -> Result<(), Unreadable> {
        let mut world = self.world.borrow_mut();
        world.step();
        world.before_reading();
        let error = Unreadable { address, len: into.len() as u64 };
        let range = Range::sized(address, error.len).ok_or(error)?;
        let readable = range.is_empty() || world.memory.is(range, MemoryKind::Old);
        if readable { world.memory.read_bytes(range.start, into).ok_or(error) } else { Err(error) }
    }

    fn read_table(&self, address: PhysicalAddress, into: &mut Table) -> Result<(), Unreadable> {
        let mut world = self.world.borrow_mut();
        world.step();
        world.before_reading();
        let error = Unreadable { address, len: PAGE_SIZE };
        let range = Range::sized(address, PAGE_SIZE).ok_or(error)?;
        if !address.is_aligned(PAGE_SIZE) || !world.memory.is(range, MemoryKind::Old) {
            return Err(error);
        }
        *into = world.memory.page(range.start);
        Ok(())
    }
}

/// A clock that advances by a millisecond at each reading.
#[derive(Clone, Debug)]
pub struct Ticks {
    pub(crate) world: Shared,
}

impl Clock for Ticks {
    fn now(&self) -> Duration {
        let mut world = self.world.borrow_mut();
        world.step();
        world.time += Duration::from_millis(1);
        world.time
    }
}

/// The capture kernel's frames, with the processor's caches in front of them.
///
/// The processor sees a new frame as zeros, but memory still holds junk. A store reaches memory when it is published,
/// or earlier by chance. Frames come in no particular order.
#[derive(Debug)]
pub struct OwnFrames {
    world: Shared,
    free: Vec<u64>,
    frames: BTreeMap<u64, Frame>,
    /// Old memory that is used where it is.
    reused: Vec<Range<PhysicalAddress>>,
}

/// A frame as the processor sees it, and which of its entries memory may not have yet.
#[derive(Debug)]
struct Frame {
    seen: Versions,
    dirty: Box<[bool; ENTRIES]>,
}

impl OwnFrames {
    /// Makes as many frames as `budget` says, as long as the first three quarters of the capture kernel's memory
    /// suffice.
    pub(crate) fn new(world: Shared, budget: usize) -> Self {
        let mut free: Vec<u64> = {
            let world = world.borrow();
            let frames = |range: Range<PhysicalAddress>| {
                (range.start.get()..range.end.get() - range.len() / 4).step_by(PAGE_SIZE as usize)
            };
            world.memory.ranges(MemoryKind::Capture).flat_map(frames).collect()
        };
        world.borrow_mut().rng.shuffle(&mut free);
        free.truncate(budget);
        Self { world, free, frames: BTreeMap::new(), reused: Vec::new() }
    }

    #[expect(clippy::expect_used, reason = "a frame that was not allocated is a bug of the caller")]
    fn frame(&self, frame: u64) -> &Frame {
        self.frames.get(&frame).expect("a frame that was allocated")
    }

    #[expect(clippy::expect_used, reason = "a frame that was not allocated is a bug of the caller")]
    fn frame_mut(&mut self, frame: u64) -> &mut Frame {
        self.frames.get_mut(&frame).expect("a frame that was allocated")
    }

    /// Takes one step, in which units may store to frames. Unpublished stores of the processor win.
    fn step(&self) {
        let mut world = self.world.borrow_mut();
        world.step();
        for (address, word) in std::mem::take(&mut world.unit_stores) {
            let index = (address.get() % PAGE_SIZE / 8) as usize;
            let frame = self.frames.get(&address.align_down(PAGE_SIZE).get());
            if let Some(frame) = frame.filter(|frame| !frame.dirty[index]) {
                frame.seen.change(index, word);
            }
        }
    }

    /// Takes one step, in which the processor's cache may write back a line on its own: too rarely to make up for a
    /// store that is never published.
    fn step_and_evict(&mut self) {
        self.step();
        if let Some((frame, first)) = self.line_to_evict() {
            self.write_back(frame, first..first + LINE);
        }
    }

    fn line_to_evict(&self) -> Option<(u64, usize)> {
        let rng = &mut self.world.borrow_mut().rng;
        if rng.u8(..) != 0 {
            return None;
        }
        let frame = rng.choice(self.frames.keys().copied())?;
        Some((frame, rng.usize(..ENTRIES / LINE) * LINE))
    }

    fn write_back(&mut self, address: u64, entries: std::ops::Range<usize>) {
        let world = Rc::clone(&self.world);
        let frame = self.frame_mut(address);
        for index in entries {
            if std::mem::take(&mut frame.dirty[index]) {
                let entry = frame.seen.entry(index);
                world.borrow_mut().memory.post((address + index as u64 * 8).into(), entry);
            }
        }
    }

    /// Makes a frame, which is no longer free, a zeroed table.
    fn hand_out(&mut self, frame: u64) {
        self.step_and_evict();
        self.spoil(frame);
        let dirty = Box::new([true; ENTRIES]);
        self.frames.insert(frame, Frame { seen: Versions::zeroed(), dirty });
        let mut world = self.world.borrow_mut();
        let step = world.steps;
        world.trace.add(step, Event::Allocated { frame: frame.into() });
    }

    /// Fills a frame's memory with junk.
    fn spoil(&self, frame: u64) {
        let World { memory, rng, .. } = &mut *self.world.borrow_mut();
        memory.write_page(frame.into(), |_| rng.u64(..));
    }
}

impl Frames for OwnFrames {
    fn allocate(&mut self) -> Option<PhysicalAddress> {
        let frame = self.free.pop()?;
        self.hand_out(frame);
        Some(frame.into())
    }

    fn allocate_run(&mut self, count: usize) -> Option<PhysicalAddress> {
        self.allocate_run_below(count, PhysicalAddress::new(u64::MAX))
    }

    fn allocate_run_below(&mut self, count: usize, limit: PhysicalAddress) -> Option<PhysicalAddress> {
        let mut free = self.free.clone();
        free.retain(|frame| *frame < limit.get());
        free.sort_unstable();
        let len = count as u64 * PAGE_SIZE;
        let run = free.windows(count).find(|run| run[count - 1] - run[0] + PAGE_SIZE == len)?;
        self.free.retain(|frame| !run.contains(frame));
        for frame in run {
            self.hand_out(*frame);
        }
        Some(run[0].into())
    }

    fn release(&mut self, frame: PhysicalAddress) {
        self.step_and_evict();
        assert!(self.frames.remove(&frame.get()).is_some(), "a frame was released that was not allocated");
        self.spoil(frame.get());
        self.free.push(frame.get());
        let mut world = self.world.borrow_mut();
        let step = world.steps;
        world.trace.add(step, Event::Released { frame });
    }

    fn available(&self) -> usize {
        self.free.len()
    }

    fn table(&self, frame: PhysicalAddress) -> &Table {
        self.step();
        self.frame(frame.get()).seen.latest()
    }

    fn table_mut(&mut self, frame: PhysicalAddress) -> &mut Table {
        self.step_and_evict();
        let frame = self.frame_mut(frame.get());
        frame.dirty.fill(true);
        frame.seen.latest_mut()
    }

    fn load(&self, frame: PhysicalAddress, index: usize) -> u64 {
        self.step();
        let address = frame.saturating_add(index as u64 * 8);
        if self.reused.iter().any(|memory| memory.contains(address)) {
            return self.world.borrow().memory.read(address).unwrap_or(u64::MAX);
        }
        self.frame(frame.get()).seen.entry(index)
    }

    fn store(&mut self, frame: PhysicalAddress, index: usize, entry: u64) {
        self.step_and_evict();
        let frame = self.frame_mut(frame.get());
        frame.seen.latest_mut()[index] = entry;
        frame.dirty[index] = true;
    }

    fn reuse(&mut self, _: &impl OldMemory, memory: Range<PhysicalAddress>) -> Result<(), Unreadable> {
        self.step();
        if !self.world.borrow().memory.is(memory, MemoryKind::Old) {
            return Err(Unreadable { address: memory.start, len: memory.len() });
        }
        self.reused.push(memory);
        Ok(())
    }

    /// Units snoop: a store to memory that is used where it is needs no publication.
    fn store_pair(&mut self, address: PhysicalAddress, words: [u64; 2]) -> Result<(), Contended> {
        self.step_and_evict();
        let pair = Range::new(address, address.saturating_add(16));
        assert!(address.is_aligned(16), "a pair is an aligned access of 128 bits");
        assert!(
            self.reused.iter().any(|memory| memory.covers(pair)),
            "old memory was written at {address:#x}"
        );
        let mut world = self.world.borrow_mut();
        world.writes_old = true;
        for (at, word) in [address, address.saturating_add(8)].into_iter().zip(words) {
            world.memory.write(at, word);
        }
        Ok(())
    }

    fn publish(&mut self, frame: PhysicalAddress, entries: std::ops::Range<usize>) {
        self.step_and_evict();
        self.write_back(frame.get(), entries);
    }
}
