//! Takeovers of a small machine, told step by step.
//!
//! The unit here does what it is told at once; late, stuck and forgetful ones are the model's, in `tests/`.

use alloc::rc::Rc;
use alloc::{boxed::Box, collections::BTreeMap, vec, vec::Vec};
use core::cell::{Cell, RefCell};
use core::ops::Range as Indices;
use core::time::Duration;

use machine::{Clock, ENTRIES, Frames, OldMemory, PAGE_SIZE, Range, Registers, Table, Unreadable};
use vtd::capability::{Capability, ExtendedCapability};
use vtd::control::{ContextCommand, IotlbCommand, RootTableAddress, TableMode};
use vtd::paging::Level;
use vtd::paging::Permission;
use vtd::queue::{
    Descriptor, DescriptorType, DeviceTlbInvalidation, PasidDeviceTlbInvalidation, QueueAddress,
};
use vtd::registers::{CAP, CCMD, ECAP, FRCD_SIZE, FSTS, GCMD, GSTS, IQA, IQERCD, IQH, IQT, RTADDR, VER};
use vtd::second_stage::SecondStageEntry;
use vtd::source::SourceId;
use vtd::stage::Stage;

use crate::hazard::Danger;
use crate::swap::OldQueue;
use crate::{DeviceTlb, Limits, Outcome, Surroundings, Takeover, Unit, attach::Inherited};

mod aliases;
mod device_tlbs;
mod hardware;
mod stages;
mod twins;

/// Where the old kernel's tables start, and ours.
const OLD: u64 = 0x100_0000;
const OWN: Range = Range::new(0x1000_0000, 0x1100_0000);
const MEMORY: Range = Range::new(0, 0x8000_0000);
/// Where the unit has its IOTLB registers: a place that only ECAP tells.
const IOTLB: usize = 0x218;
/// Where it has four fault records.
const FAULTS: usize = 0x400;
/// QIE in the global command, QIES in the global status.
const QUEUE_ON: u64 = 1 << 26;

/// All that the ports share.
#[derive(Debug, Default)]
struct World {
    registers: RefCell<BTreeMap<usize, u64>>,
    /// The old kernel's memory: just its tables.
    old: RefCell<BTreeMap<u64, Box<Table>>>,
    /// What waits wrote.
    statuses: RefCell<BTreeMap<u64, u64>>,
    /// What has been invalidated, in order.
    forgotten: RefCell<Vec<DescriptorType>>,
    own: RefCell<BTreeMap<u64, Box<Table>>>,
    time: Cell<u64>,
    /// What was written to registers, by offset, in order.
    writes: RefCell<Vec<(usize, u64)>>,
    /// What devices were told to forget: everything, or all of a PASID.
    told: RefCell<Vec<(SourceId, Option<u32>)>>,
    /// The device that does not answer.
    silent: Cell<Option<SourceId>>,
}

type Shared = Rc<World>;

impl World {
    fn get(&self, offset: usize) -> u64 {
        self.registers.borrow().get(&offset).copied().unwrap_or(0)
    }

    fn set(&self, offset: usize, value: u64) {
        self.registers.borrow_mut().insert(offset, value);
    }

    fn write(&self, offset: usize, value: u64) {
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
            // What stopped the queue may be gone.
            self.execute(self.get(IQT.offset));
        } else if (FAULTS..FAULTS + 4 * FRCD_SIZE).contains(&offset) {
            // F is the top bit of a record's last word of 32 bits.
            self.set(offset - 4, self.get(offset - 4) & !(value << 32));
        } else {
            self.set(offset, value);
        }
    }

    /// SRTP is answered by RTPS, which has the same bit; a queue that is turned off starts anew.
    fn command(&self, value: u64) {
        self.set(GSTS.offset, value);
        if value & QUEUE_ON == 0 {
            self.set(IQH.offset, 0);
        }
    }

    /// Executes descriptors up to the new tail, as they were published.
    fn execute(&self, tail: u64) {
        self.set(IQT.offset, tail);
        let queue = QueueAddress::from_bits(self.get(IQA.offset));
        let step = queue.descriptor_bytes();
        let own = self.own.borrow();
        if !own.contains_key(&queue.address()) && !self.is_stopped() {
            // The old kernel's queue.
            self.set(IQH.offset, tail);
        }
        while self.get(IQH.offset) != tail && self.get(GSTS.offset) & QUEUE_ON != 0 && !self.is_stopped() {
            let head = self.get(IQH.offset);
            let at = (head / 8) as usize;
            let descriptor = Descriptor([own[&queue.address()][at], own[&queue.address()][at + 1], 0, 0]);
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

    /// IQE or ITE is set.
    fn is_stopped(&self) -> bool {
        self.get(FSTS.offset) & 0x50 != 0
    }

    /// Tells a device to forget; if it does not answer, ITE is set and the device named (IQERCD, bits 47:32).
    fn tell(&self, source: SourceId, pasid: Option<u32>) {
        self.told.borrow_mut().push((source, pasid));
        if self.silent.get() == Some(source) {
            self.set(FSTS.offset, 0x40);
            self.set(IQERCD.offset, u64::from(source.0) << 32);
        }
    }
}

#[derive(Debug)]
struct Port(Shared);

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

struct OldRam(Shared);

impl OldMemory for OldRam {
    fn read(&self, _: u64, _: &mut [u8]) -> Result<(), Unreadable> {
        unreachable!("tables are read whole")
    }

    fn read_table(&self, address: u64, into: &mut Table) -> Result<(), Unreadable> {
        let error = Unreadable { address, len: PAGE_SIZE };
        *into = **self.0.old.borrow().get(&address).ok_or(error)?;
        Ok(())
    }
}

/// Own frames; the unit sees what was published.
struct Pool {
    world: Shared,
    tables: BTreeMap<u64, Box<Table>>,
}

impl Frames for Pool {
    fn allocate(&mut self) -> Option<u64> {
        let mut frames = (OWN.start..OWN.end).step_by(PAGE_SIZE as usize);
        let frame = frames.find(|frame| !self.tables.contains_key(frame))?;
        self.tables.insert(frame, Box::new([0; ENTRIES]));
        Some(frame)
    }
    fn allocate_run(&mut self, count: usize) -> Option<u64> {
        let starts = (OWN.start..OWN.end - count as u64 * PAGE_SIZE).step_by(PAGE_SIZE as usize);
        let run = |start: u64| (0..count as u64).map(move |page| start + page * PAGE_SIZE);
        let start =
            starts.into_iter().find(|start| run(*start).all(|frame| !self.tables.contains_key(&frame)))?;
        run(start).for_each(|frame| drop(self.tables.insert(frame, Box::new([0; ENTRIES]))));
        Some(start)
    }
    fn release(&mut self, frame: u64) {
        self.tables.remove(&frame);
    }
    fn available(&self) -> usize {
        (OWN.len() / PAGE_SIZE) as usize - self.tables.len()
    }
    fn table(&self, frame: u64) -> &Table {
        &self.tables[&frame]
    }
    fn table_mut(&mut self, frame: u64) -> &mut Table {
        self.tables.get_mut(&frame).unwrap()
    }
    fn load(&self, frame: u64, index: usize) -> u64 {
        let status = self.world.statuses.borrow().get(&(frame + index as u64 * 8)).copied();
        status.unwrap_or(self.tables[&frame][index])
    }
    fn store(&mut self, frame: u64, index: usize, entry: u64) {
        self.table_mut(frame)[index] = entry;
    }
    fn publish(&mut self, frame: u64, entries: Indices<usize>) {
        let mut own = self.world.own.borrow_mut();
        let published = own.entry(frame).or_insert_with(|| Box::new([!0; ENTRIES]));
        published[entries.clone()].copy_from_slice(&self.tables[&frame][entries]);
    }
}

/// The old kernel at work: writes tables into its memory.
struct Kernel {
    world: Shared,
    next: u64,
    device_tlbs: Vec<DeviceTlb>,
}

impl Kernel {
    fn new(mode: TableMode, extended: ExtendedCapability) -> Self {
        let world = Shared::default();
        let capability = Capability::new().with_nd(6).with_sagaw(0b0010).with_mgaw(38).with_sslps(0b11);
        let capability = capability.with_fro((FAULTS / 16) as u16).with_nfr(3);
        world.set(VER.offset, 0x10);
        world.set(CAP.offset, capability.into_bits());
        world.set(ECAP.offset, extended.with_iro(0x21).with_qi(true).with_pt(true).into_bits());
        // TE, RTPS, QIE, IRE, IRTPS: what Linux leaves.
        world.set(GSTS.offset, 0xC700_0000);
        let mut kernel = Self { world, next: OLD, device_tlbs: Vec::new() };
        let root = kernel.table();
        let rtaddr = RootTableAddress::new().with_mode(mode).with_frame(root >> 12);
        kernel.world.set(RTADDR.offset, rtaddr.into_bits());
        kernel
    }

    fn legacy() -> Self {
        Self::new(TableMode::LEGACY, ExtendedCapability::new())
    }

    fn scalable() -> Self {
        Self::new(TableMode::SCALABLE, ExtendedCapability::new().with_smts(true).with_ssts(true))
    }

    fn root(&self) -> u64 {
        RootTableAddress::from_bits(self.world.get(RTADDR.offset)).address()
    }

    fn table(&mut self) -> u64 {
        let table = self.next;
        self.next += PAGE_SIZE;
        self.world.old.borrow_mut().insert(table, Box::new([0; ENTRIES]));
        table
    }

    fn set(&mut self, table: u64, word: usize, value: u64) {
        self.world.old.borrow_mut().get_mut(&table).unwrap()[word] = value;
    }

    /// The table that an entry points to, made if there is none.
    fn below(&mut self, table: u64, word: usize, flags: u64) -> u64 {
        let entry = self.world.old.borrow()[&table][word];
        if entry != 0 {
            return entry & !0xFFF;
        }
        let below = self.table();
        self.set(table, word, below | flags);
        below
    }

    /// Maps one page or large page in second-stage tables of three levels.
    fn map(&mut self, top: u64, level: Level, iova: u64, memory: u64) {
        let leaf = SecondStageEntry::leaf(level, memory, Permission::ReadWrite).0;
        self.map_through(&[Level::THREE, Level::TWO], 3, top, (level, iova), leaf);
    }

    /// Sets the entry for an address at a level, in tables of these levels and below, whose entries have these flags.
    fn map_through(&mut self, uppers: &[Level], flags: u64, top: u64, place: (Level, u64), leaf: u64) {
        let (mut table, (level, iova)) = (top, place);
        for above in uppers.iter().filter(|above| **above > level) {
            table = self.below(table, above.index(iova), flags);
        }
        self.set(table, level.index(iova), leaf);
    }

    fn legacy_context(&mut self, source: SourceId, translation: u64, top: u64, domain: u16) {
        let contexts = self.below(self.root(), usize::from(source.bus()) * 2, 1);
        self.set(contexts, usize::from(source.devfn()) * 2, top | translation << 2 | 1);
        self.set(contexts, usize::from(source.devfn()) * 2 + 1, u64::from(domain) << 8 | 1);
    }

    /// A context entry whose PASID 0 is of this type (PGTT); returns its directory.
    fn scalable_context(&mut self, source: SourceId, kind: u64, top: u64, domain: u16) -> u64 {
        let half = usize::from(source.devfn() >> 7);
        let contexts = self.below(self.root(), usize::from(source.bus()) * 2 + half, 1);
        let (directory, _second_page) = (self.table(), self.table());
        self.set(contexts, usize::from(source.devfn() & 0x7F) * 4, directory | 2 << 9 | 1);
        let pasids = self.below(directory, 0, 1);
        self.set(pasids, 0, top | kind << 6 | 1 << 2 | 1);
        self.set(pasids, 1, domain.into());
        directory
    }

    /// What is left of it.
    fn memory(&self) -> OldRam {
        OldRam(self.world.clone())
    }

    /// Dies, and is taken over with all the frames one could want.
    fn die(&self) -> (Takeover<'_, Port, World>, Pool) {
        self.die_with((OWN.len() / PAGE_SIZE) as usize - 64)
    }

    /// Dies, and is taken over with just so many frames for tables.
    fn die_with(&self, budget: usize) -> (Takeover<'_, Port, World>, Pool) {
        let mut frames = Pool { world: self.world.clone(), tables: BTreeMap::new() };
        let unit =
            Unit::new(Port(self.world.clone()), 0x1000, &*self.world, Duration::from_millis(9)).unwrap();
        let (memory, own) = ([MEMORY], [OWN]);
        let surroundings = Surroundings {
            host_address_bits: 39,
            memory: &memory,
            own: &own,
            kept_free: &[],
            device_tlbs: &self.device_tlbs,
        };
        let old = OldRam(self.world.clone());
        let limits = Limits { spare_frames: frames.available() - budget, ..Limits::default() };
        let taken = crate::take_over(unit, &old, &mut frames, &surroundings, &limits).unwrap();
        (taken, frames)
    }

    /// Where the unit now takes a device's address: through what was published, and old tables only where they are
    /// marked.
    fn reach(&self, source: SourceId, iova: u64) -> Option<u64> {
        let root = RootTableAddress::from_bits(self.world.get(RTADDR.offset));
        let (own, old, mut kept) = (self.world.own.borrow(), self.world.old.borrow(), false);
        let follow = |entry: u64| own.get(&(entry & 0x000F_FFFF_FFFF_F000)).filter(|_| entry & 3 != 0);
        let (mut table, stage, top) = if root.mode() == TableMode::LEGACY {
            let contexts = follow(own[&root.address()][usize::from(source.bus()) * 2])?;
            (follow(contexts[usize::from(source.devfn()) * 2])?, Stage::Second, Level::THREE)
        } else {
            let half = usize::from(source.devfn() >> 7);
            let contexts = follow(own[&root.address()][usize::from(source.bus()) * 2 + half])?;
            let directory = follow(contexts[usize::from(source.devfn() & 0x7F) * 4])?;
            let pasid = follow(directory[0])?;
            match pasid[0] >> 6 & 7 {
                1 => {
                    (own.get(&(pasid[2] & !0xFFF))?, Stage::First, Level::new((pasid[2] >> 2 & 3) as u8 + 4)?)
                }
                _ => (follow(pasid[0])?, Stage::Second, Level::new((pasid[0] >> 2 & 7) as u8 + 2)?),
            }
        };
        for level in (1..=top.number()).rev().filter_map(Level::new) {
            let entry = stage.entry(table[level.index(iova)]);
            if entry.is_leaf(level) || !entry.present() {
                return entry.present().then_some(entry.page(level) | iova & (level.span() - 1));
            }
            kept |= entry.is_marked();
            let kept_table = old.get(&entry.table()).filter(|_| kept);
            table = follow(entry.bits).or(kept_table)?;
        }
        None
    }
}

const DISK: SourceId = SourceId::at(0, 2, 0);
/// A device of the upper half of its bus, which in scalable mode has a context table of its own.
const SOUND: SourceId = SourceId::at(0, 31, 3);

/// Context entry and page tables are copied, the queue is drained and replaced, the root pointer is swapped, all
/// caches are emptied in order, and the disk gets addresses besides its old ones.
#[test]
fn a_legacy_unit_is_taken_over() {
    let mut kernel = Kernel::legacy();
    let top = kernel.table();
    kernel.map(top, Level::ONE, 0xFFFF_F000, 0x1234_5000);
    kernel.legacy_context(DISK, 0, top, 7);
    let old_root = kernel.root();

    let (mut taken, mut frames) = kernel.die();
    let report = taken.report();
    assert_ne!(kernel.root(), old_root);
    assert_eq!(report.found.queue, OldQueue::Drained);
    assert_eq!((report.contexts_accepted(), report.leaf_mappings(), report.domains_reserved()), (1, 1, 1));
    assert_eq!(report.tables_duplicated, 5);
    assert!(report.hazards.listed.is_empty());
    assert_eq!(kernel.reach(DISK, 0xFFFF_F123), Some(0x1234_5123));
    assert_eq!(*kernel.world.forgotten.borrow(), [DescriptorType::CONTEXT_CACHE, DescriptorType::IOTLB]);
    assert_eq!(kernel.world.get(GSTS.offset) & 0x8700_0000, 0x8700_0000 & !0x100_0000);

    let disk = taken.attach(DISK, &[], &mut frames).unwrap();
    assert_eq!((disk.id, disk.inherited), (7, Inherited::Tables));
    let iova =
        taken.map(&disk, OWN.start, 0x3000, Permission::ReadWrite, &kernel.memory(), &mut frames).unwrap();
    assert_eq!(kernel.reach(DISK, iova + 0x2000), Some(OWN.start + 0x2000));
    assert_eq!(kernel.reach(DISK, 0xFFFF_F123), Some(0x1234_5123));
    taken.unmap(&disk, Range::new(iova, iova + 0x3000), &mut frames).unwrap();
    assert_eq!(kernel.reach(DISK, iova), None);
}

/// In legacy mode the upper half of a root entry must be zero (9.1): hardware blocked such a bus, and so does the copy, but
/// a driver's device on it works.
#[test]
fn a_bus_whose_root_entry_has_a_reserved_half_stays_blocked_until_a_driver_attaches() {
    let mut kernel = Kernel::legacy();
    let top = kernel.table();
    kernel.map(top, Level::ONE, 0x1000, 0x1234_5000);
    kernel.legacy_context(DISK, 0, top, 7);
    let (root, upper_half) = (kernel.root(), usize::from(DISK.bus()) * 2 + 1);
    kernel.set(root, upper_half, 1);

    let (mut taken, mut frames) = kernel.die();
    assert_eq!(taken.report().contexts_accepted(), 0);
    let hazards: Vec<_> = taken.report().hazards.listed.iter().map(|hazard| hazard.danger).collect();
    assert_eq!(hazards, [Danger::ReservedBits]);
    assert_eq!(kernel.reach(DISK, 0x1000), None);

    let disk = taken.attach(DISK, &[], &mut frames).unwrap();
    let iova =
        taken.map(&disk, OWN.start, 0x1000, Permission::ReadWrite, &kernel.memory(), &mut frames).unwrap();
    assert_eq!(kernel.reach(DISK, iova), Some(OWN.start));
    let new_root = RootTableAddress::from_bits(kernel.world.get(RTADDR.offset)).address();
    assert_eq!(kernel.world.own.borrow()[&new_root][upper_half], 0);
}

/// Both halves of a bus, the PASID directory and table, wide descriptors, and the PASID cache between the other two.
#[test]
fn a_scalable_unit_is_taken_over() {
    let mut kernel = Kernel::scalable();
    for (source, domain, memory) in [(DISK, 1, 0x5000), (SOUND, 2, 0x6000)] {
        let top = kernel.table();
        kernel.map(top, Level::ONE, 0x7FFF_F000, memory);
        kernel.scalable_context(source, 2, top, domain);
    }
    let (mut taken, mut frames) = kernel.die();
    assert_eq!(kernel.reach(DISK, 0x7FFF_F001), Some(0x5001));
    assert_eq!(kernel.reach(SOUND, 0x7FFF_F001), Some(0x6001));
    assert_eq!(RootTableAddress::from_bits(kernel.world.get(RTADDR.offset)).mode(), TableMode::SCALABLE);
    assert!(QueueAddress::from_bits(kernel.world.get(IQA.offset)).wide());
    let order = [DescriptorType::CONTEXT_CACHE, DescriptorType::PASID_CACHE, DescriptorType::IOTLB];
    assert_eq!(*kernel.world.forgotten.borrow(), order);

    let sound = taken.attach(SOUND, &[], &mut frames).unwrap();
    let iova =
        taken.map(&sound, OWN.start, 0x1000, Permission::ReadWrite, &kernel.memory(), &mut frames).unwrap();
    assert_eq!(kernel.reach(SOUND, iova), Some(OWN.start));
    assert_eq!(kernel.reach(DISK, iova), None);
}

/// A device that the old kernel did not know gets tables all the way down, in either mode.
#[test]
fn a_stranger_gets_a_domain_of_its_own() {
    for kernel in [Kernel::legacy(), Kernel::scalable()] {
        let (mut taken, mut frames) = kernel.die();
        let stranger = taken.attach(SOUND, &[], &mut frames).unwrap();
        assert_eq!(stranger.inherited, Inherited::Nothing);
        let iova = taken
            .map(&stranger, OWN.start, 0x1000, Permission::ReadWrite, &kernel.memory(), &mut frames)
            .unwrap();
        assert_eq!(kernel.reach(SOUND, iova), Some(OWN.start));
        assert_eq!(taken.attach(SOUND, &[], &mut frames).unwrap(), stranger);
    }
}

/// In pass-through a device reaches all memory but ours, and the driver's addresses are beyond memory.
#[test]
fn pass_through_becomes_a_map_without_our_memory() {
    let mut legacy = Kernel::legacy();
    legacy.legacy_context(DISK, 2, 0, 1);
    let mut scalable = Kernel::scalable();
    scalable.scalable_context(DISK, 4, 0, 1);
    for kernel in [legacy, scalable] {
        let (mut taken, mut frames) = kernel.die();
        for address in [0, OWN.start - 1, OWN.end, MEMORY.end - 1] {
            assert_eq!(kernel.reach(DISK, address), Some(address));
        }
        assert_eq!(kernel.reach(DISK, OWN.start), None);
        assert_eq!(kernel.reach(DISK, OWN.end - 1), None);
        assert_eq!(taken.report().domains[0].outcome, Outcome::Fenced);
        let disk = taken.attach(DISK, &[], &mut frames).unwrap();
        let iova = taken
            .map(&disk, OWN.start, 0x1000, Permission::ReadWrite, &kernel.memory(), &mut frames)
            .unwrap();
        assert!(iova >= MEMORY.end);
        assert_eq!(kernel.reach(DISK, iova), Some(OWN.start));
    }
}

/// Of a large page only what is ours is cut out.
#[test]
fn a_large_page_around_our_memory_is_split() {
    let mut kernel = Kernel::legacy();
    let top = kernel.table();
    kernel.map(top, Level::THREE, 0x4000_0000, 0);
    kernel.legacy_context(DISK, 0, top, 3);
    let (taken, _) = kernel.die();
    for offset in [0, OWN.start - 1, OWN.end, 0x3FFF_FFFF] {
        assert_eq!(kernel.reach(DISK, 0x4000_0000 + offset), Some(offset));
    }
    assert_eq!(kernel.reach(DISK, 0x4000_0000 + OWN.start), None);
    assert_eq!(kernel.reach(DISK, 0x4000_0000 + OWN.end - 1), None);
    let hazards = &taken.report().hazards.listed;
    assert_eq!(hazards.len(), 1, "{hazards:?}");
    assert_eq!(
        (hazards[0].danger, hazards[0].outcome),
        (Danger::ReachesOwnMemory(OWN.start), Outcome::Fenced)
    );
}

/// Two domains, a small one and one of three tables of level 1: neighbouring pages, scattered pages, and one page
/// of ours.
fn kernel_with_a_large_domain() -> Kernel {
    let mut kernel = Kernel::legacy();
    let small = kernel.table();
    kernel.map(small, Level::ONE, 0x1000, 0x9000);
    kernel.legacy_context(SOUND, 0, small, 1);
    let large = kernel.table();
    for page in 0..512 {
        kernel.map(large, Level::ONE, 0x20_0000 + page * PAGE_SIZE, 0x3000_0000 + page * PAGE_SIZE);
        kernel.map(large, Level::ONE, 0x40_0000 + page * PAGE_SIZE, 0x4000_0000 + page * 2 * PAGE_SIZE);
    }
    kernel.map(large, Level::ONE, 0x60_0000, OWN.start);
    kernel.map(large, Level::ONE, 0x60_1000, 0x7000);
    kernel.legacy_context(DISK, 0, large, 2);
    kernel
}

/// Eight frames: a root and a context table, three tables of the small domain, three for the large one, which has
/// five. Its tables of level 1 are folded or kept in place; only the one in which something must be cut out is
/// copied. New mappings stay clear of what was kept.
#[test]
fn a_domain_that_does_not_fit_is_folded_and_kept_in_place() {
    let kernel = kernel_with_a_large_domain();
    let (mut taken, mut frames) = kernel.die_with(8);
    let domains = &taken.report().domains;
    assert_eq!((domains[0].outcome, domains[0].tables), (Outcome::Fenced, 3));
    assert_eq!((domains[1].outcome, domains[1].tables), (Outcome::Duplicated, 3));
    assert_eq!(kernel.reach(SOUND, 0x1000), Some(0x9000));
    assert_eq!(kernel.reach(DISK, 0x20_5123), Some(0x3000_5123));
    assert_eq!(kernel.reach(DISK, 0x40_5123), Some(0x4000_A123));
    assert_eq!(kernel.reach(DISK, 0x60_1000), Some(0x7000));
    assert_eq!(kernel.reach(DISK, 0x60_0000), None);
    let outcomes: Vec<Outcome> = taken.report().hazards.listed.iter().map(|hazard| hazard.outcome).collect();
    assert_eq!(outcomes, [Outcome::Folded, Outcome::KeptInPlace, Outcome::Fenced]);

    let disk = taken.attach(DISK, &[], &mut frames).unwrap();
    let iova =
        taken.map(&disk, OWN.start, 0x1000, Permission::ReadWrite, &kernel.memory(), &mut frames).unwrap();
    assert!(!Range::new(0x20_0000, 0x60_2000).contains(iova));
    assert_eq!(kernel.reach(DISK, iova), Some(OWN.start));
}

/// With seven frames a part is blocked, with five the domain is: but the disk can be attached, and gets addresses
/// that its old domain did not map.
#[test]
fn what_cannot_be_kept_is_blocked_and_said_so() {
    let kernel = kernel_with_a_large_domain();
    let (taken, _) = kernel.die_with(7);
    assert_eq!(taken.report().domains[0].outcome, Outcome::Blocked);
    assert_eq!(kernel.reach(DISK, 0x20_5123), Some(0x3000_5123));
    assert_eq!(kernel.reach(DISK, 0x60_1000), None);

    let kernel = kernel_with_a_large_domain();
    let (mut taken, mut frames) = kernel.die_with(5);
    assert_eq!(taken.report().contexts_accepted(), 1);
    assert_eq!(kernel.reach(DISK, 0x20_5123), None);
    let disk = taken.attach(DISK, &[], &mut frames).unwrap();
    assert_eq!((disk.id, disk.inherited), (2, Inherited::Addresses));
    let iova =
        taken.map(&disk, OWN.start, 0x1000, Permission::ReadWrite, &kernel.memory(), &mut frames).unwrap();
    assert!(!Range::new(0x20_0000, 0x80_0000).contains(iova));
}

/// Caches tell domains apart by id only, so the second domain with an id gets another.
#[test]
fn two_domains_with_one_id_are_told_apart() {
    let mut kernel = Kernel::legacy();
    for (source, memory) in [(DISK, 0x5000), (SOUND, 0x6000)] {
        let top = kernel.table();
        kernel.map(top, Level::ONE, 0x1000, memory);
        kernel.legacy_context(source, 0, top, 9);
    }
    let (taken, _) = kernel.die();
    assert_eq!((kernel.reach(DISK, 0x1000), kernel.reach(SOUND, 0x1000)), (Some(0x5000), Some(0x6000)));
    let ids: Vec<u16> = taken.report().domains.iter().map(|domain| domain.id).collect();
    assert_eq!(ids, vec![9, 1]);
    assert_eq!(taken.report().hazards.listed[0].danger, Danger::DomainIdShared(9));
}
