//! Proves that each check can fail: it detects a takeover that was tampered with.
//!
//! The ports between takeover and machine do one thing wrong.

use crate::common::{PLENTY, take_over};
use machine::{Contended, Frames, Level, OldMemory, PhysicalAddress, Registers, Table, Unreadable};
use model::habits::{Chore, Habit, Habits};
use model::random::Size;
use model::scenario::{DeviceTlb, OldQueue};
use model::{Access, Answer, Machine, MemoryKind, OldRam, OwnFrames, Scenario, UnitRegisters};
use std::cell::Cell;
use std::ops::Range;
use takeover::Limits;
use verdict::{DEADLINE, bounded, continuity, isolation, limits, misused, take_over_through};
use vtd::control::TableMode;

const GCMD: usize = 0x18;
/// Offset of the IOTLB registers on random machines.
const IOTLB: usize = 0xF8;
const SRTP: u64 = 1 << 30;

/// Machines whose devices do DMA that is translated.
fn machines() -> impl Iterator<Item = Scenario> {
    let made_up =
        (0..30).map(|seed| Scenario::random(seed, Size { units: 1, domains: 4, functions: 6, runs: 5 }));
    let reaches = |(access, answer): &(Access, Answer)| matches!(answer, Answer::Memory(address) if address.get() != access.iova.get());
    made_up.filter(move |scenario| scenario.machine().accesses().iter().any(reaches))
}

/// Registers whose writes go through `tamper`, which returns the writes to make instead, in order.
pub(crate) struct TamperedRegisters<F> {
    pub(crate) inner: UnitRegisters,
    pub(crate) tamper: F,
}

impl<F: FnMut(usize, u64) -> Vec<u64>> Registers for TamperedRegisters<F> {
    fn read8(&self, offset: usize) -> u8 {
        self.inner.read8(offset)
    }

    fn read16(&self, offset: usize) -> u16 {
        self.inner.read16(offset)
    }

    fn read32(&self, offset: usize) -> u32 {
        self.inner.read32(offset)
    }

    fn read64(&self, offset: usize) -> u64 {
        self.inner.read64(offset)
    }

    fn write8(&mut self, offset: usize, value: u8) {
        self.inner.write8(offset, value);
    }

    fn write16(&mut self, offset: usize, value: u16) {
        self.inner.write16(offset, value);
    }

    fn write32(&mut self, offset: usize, value: u32) {
        for value in (self.tamper)(offset, value.into()) {
            self.inner.write32(offset, value as u32);
        }
    }

    fn write64(&mut self, offset: usize, value: u64) {
        for value in (self.tamper)(offset, value) {
            self.inner.write64(offset, value);
        }
    }
}

/// Frames whose stores and publications go through `tamper`.
pub(crate) struct TamperedFrames<T> {
    pub(crate) inner: OwnFrames,
    pub(crate) tamper: T,
}

/// What is done to frames.
pub(crate) trait Tamper {
    fn store(&mut self, _index: usize, entry: u64) -> u64 {
        entry
    }

    fn publishes(&mut self, _entries: &Range<usize>) -> bool {
        true
    }

    fn stores_pairs(&mut self) -> bool {
        true
    }
}

impl<T: Tamper> Frames for TamperedFrames<T> {
    fn allocate(&mut self) -> Option<PhysicalAddress> {
        self.inner.allocate()
    }

    fn allocate_run(&mut self, count: usize) -> Option<PhysicalAddress> {
        self.inner.allocate_run(count)
    }

    fn allocate_run_below(&mut self, count: usize, limit: PhysicalAddress) -> Option<PhysicalAddress> {
        self.inner.allocate_run_below(count, limit)
    }

    fn release(&mut self, frame: PhysicalAddress) {
        self.inner.release(frame);
    }

    fn available(&self) -> usize {
        self.inner.available()
    }

    fn table(&self, frame: PhysicalAddress) -> &Table {
        self.inner.table(frame)
    }

    fn table_mut(&mut self, frame: PhysicalAddress) -> &mut Table {
        self.inner.table_mut(frame)
    }

    fn load(&self, frame: PhysicalAddress, index: usize) -> u64 {
        self.inner.load(frame, index)
    }

    fn store(&mut self, frame: PhysicalAddress, index: usize, entry: u64) {
        let entry = self.tamper.store(index, entry);
        self.inner.store(frame, index, entry);
    }

    fn reuse(
        &mut self,
        old: &impl OldMemory,
        memory: machine::Range<PhysicalAddress>,
    ) -> Result<(), Unreadable> {
        self.inner.reuse(old, memory)
    }

    fn store_pair(&mut self, address: PhysicalAddress, words: [u64; 2]) -> Result<(), Contended> {
        if self.tamper.stores_pairs() { self.inner.store_pair(address, words) } else { Ok(()) }
    }

    fn publish(&mut self, frame: PhysicalAddress, entries: Range<usize>) {
        if self.tamper.publishes(&entries) {
            self.inner.publish(frame, entries);
        }
    }
}

/// Old memory in which one read of a table finds it empty.
pub(crate) struct ForgetfulMemory {
    pub(crate) inner: OldRam,
    pub(crate) reads_left: Cell<u32>,
}

impl OldMemory for ForgetfulMemory {
    fn read(&self, address: PhysicalAddress, into: &mut [u8]) -> Result<(), Unreadable> {
        self.inner.read(address, into)
    }

    fn read_table(&self, address: PhysicalAddress, into: &mut Table) -> Result<(), Unreadable> {
        self.inner.read_table(address, into)?;
        if self.reads_left.replace(self.reads_left.get().wrapping_sub(1)) == 0 {
            into.fill(0);
        }
        Ok(())
    }
}

#[test]
fn an_untampered_takeover_is_clean() {
    for scenario in machines() {
        let machine = scenario.machine();
        assert!(take_over(&machine, &mut machine.frames(PLENTY), &machine.clock(), &limits()).is_ok());
        machine.run(50);
        assert_eq!(machine.violations(), []);
    }
}

/// Takes the machine over by registers whose writes go through `tamper`; says whether that succeeded.
pub(crate) fn take_over_with_writes(machine: &Machine, tamper: impl FnMut(usize, u64) -> Vec<u64>) -> bool {
    let registers = TamperedRegisters { inner: machine.registers(0), tamper };
    let (old, mut frames, clock) = (machine.old_memory(), machine.frames(PLENTY), machine.clock());
    take_over_through((machine, 0), registers, &old, &mut frames, &clock, &limits()).is_ok()
}

/// Takes the machine over with frames that are tampered with; returns whether that succeeded.
pub(crate) fn take_over_with_frames(machine: &Machine, tamper: impl Tamper) -> bool {
    let mut frames = TamperedFrames { inner: machine.frames(PLENTY), tamper };
    let (registers, old, clock) = (machine.registers(0), machine.old_memory(), machine.clock());
    take_over_through((machine, 0), registers, &old, &mut frames, &clock, &limits()).is_ok()
}

#[test]
fn clearing_translation_enable_for_a_moment_is_found_out() {
    for scenario in machines() {
        let machine = scenario.machine();
        let tamper =
            |offset, value| if offset == GCMD { vec![value & !(1 << 31), value] } else { vec![value] };
        take_over_with_writes(&machine, tamper);
        assert!(misused(&machine));
    }
}

#[test]
fn clearing_translation_enable_instead_of_setting_the_root_pointer_breaks_continuity() {
    for scenario in machines() {
        let machine = scenario.machine();
        let tamper = |offset, value| {
            let instead = offset == GCMD && value & SRTP != 0;
            vec![if instead { value & !(1 << 31 | SRTP) } else { value }]
        };
        take_over_with_writes(&machine, tamper);
        machine.run(50);
        assert!(continuity::is_broken(&machine));
    }
}

#[test]
fn tables_that_were_not_published_break_continuity() {
    struct NothingIsPublished;
    impl Tamper for NothingIsPublished {
        fn publishes(&mut self, _: &Range<usize>) -> bool {
            false
        }
    }
    let found_out = machines_without_queue().filter(|scenario| {
        let machine = scenario.machine();
        take_over_with_frames(&machine, NothingIsPublished);
        machine.run(50);
        continuity::is_broken(&machine)
    });
    // Unpublished stores can still reach memory by chance, on a small machine perhaps all of them.
    assert!(found_out.count() * 10 >= machines_without_queue().count() * 9);
}

/// Machines of legacy mode, without queued invalidation: a takeover uses the registers.
fn machines_without_queue() -> impl Iterator<Item = Scenario> {
    machines().filter(|scenario| scenario.units[0].mode == TableMode::LEGACY).map(|mut scenario| {
        scenario.units[0].traits.extended.set_qi(false);
        scenario.units[0].queue = OldQueue::Off;
        scenario
    })
}

/// Of the first tables that are read, there is one that devices need: the first read of it only counts.
#[test]
fn a_table_that_was_not_copied_breaks_continuity() {
    let is_found_out = |scenario: &Scenario, read: u32| {
        let machine = scenario.machine();
        let old = ForgetfulMemory { inner: machine.old_memory(), reads_left: Cell::new(read) };
        let (mut frames, clock) = (machine.frames(PLENTY), machine.clock());
        let _ = take_over_through((&machine, 0), machine.registers(0), &old, &mut frames, &clock, &limits());
        machine.run(50);
        continuity::is_broken(&machine)
    };
    assert!(machines().all(|scenario| (0..10).any(|read| is_found_out(&scenario, read))));
}

/// Leaves into the capture kernel are fenced, but the wrong domain is invalidated: the IOTLB still holds them.
#[test]
fn translations_that_were_not_forgotten_break_isolation() {
    let found_out = machines_without_queue().map(trespassing).filter(|scenario| {
        let machine = scenario.machine();
        let wrong_domain = |offset, value| {
            vec![if offset == IOTLB { value & !(0b11 << 60) | 0b10 << 60 | 0xFFFF << 32 } else { value }]
        };
        let taken = take_over_with_writes(&machine, wrong_domain);
        machine.guard(Vec::new());
        machine.run(100);
        taken && isolation::is_broken(&machine)
    });
    assert!(found_out.count() > 5);
}

/// The same machine with all small pages mapped to the capture kernel's memory, and no help from the unit at the swap.
fn trespassing(mut scenario: Scenario) -> Scenario {
    let capture = scenario.memory.iter().find(|(_, kind)| *kind == MemoryKind::Capture);
    let own = capture.map(|(range, _)| range.start).unwrap_or_default();
    let mappings = scenario.domains.iter_mut().flat_map(|domain| &mut domain.mappings);
    mappings.filter(|mapping| mapping.level == Level::ONE).for_each(|mapping| mapping.memory = own);
    scenario.units[0].traits.capability.set_esrtps(false);
    scenario
}

/// Leaves into the capture kernel are fenced, but device-TLBs are never invalidated: descriptors for them (type 3)
/// become descriptors for interrupt entries (type 4).
#[test]
fn a_device_that_is_not_told_to_forget_breaks_isolation() {
    struct DevicesAreNotTold;
    impl Tamper for DevicesAreNotTold {
        fn store(&mut self, _: usize, entry: u64) -> u64 {
            if entry & 0xE0F == 3 { 4 } else { entry }
        }
    }
    let keeping = |mut scenario: Scenario| {
        scenario.units[0].traits.extended.set_dt(true);
        scenario.functions.iter_mut().for_each(|function| function.device_tlb = Some(DeviceTlb::Answers));
        scenario
    };
    let with_queue = machines().filter(|scenario| scenario.units[0].traits.extended.qi());
    let found_out = with_queue.map(trespassing).map(keeping).filter(|scenario| {
        let machine = scenario.machine();
        let taken = take_over_with_frames(&machine, DevicesAreNotTold);
        machine.guard(Vec::new());
        machine.run(200);
        taken && isolation::is_broken(&machine)
    });
    assert!(found_out.count() > 3);
}

/// A takeover that waits twenty times as long as it may.
#[test]
fn waiting_too_long_is_found_out() {
    let patient = Limits { deadline: DEADLINE * 20, ..limits() };
    let stuck = Habits::default().with(Chore::TakeRoot, Habit::Never);
    for mut scenario in machines().take(4) {
        scenario.units[0].habits.clone_from(&stuck);
        let machine = scenario.machine();
        let _ = take_over(&machine, &mut machine.frames(PLENTY), &machine.clock(), &patient);
        assert!(bounded::check(&machine, 0, PLENTY).is_err());
    }
}

/// The status of a wait goes where the second word of its descriptor says: into old memory here.
#[test]
fn a_unit_that_is_told_to_write_to_old_memory_is_found_out() {
    struct WaitsReportToOldMemory {
        last_was_a_wait: bool,
    }
    impl Tamper for WaitsReportToOldMemory {
        fn store(&mut self, _: usize, entry: u64) -> u64 {
            let instead = if self.last_was_a_wait { 0x5000 } else { entry };
            self.last_was_a_wait = !self.last_was_a_wait && entry & 0xF == 5;
            instead
        }
    }
    for scenario in machines().filter(|scenario| scenario.units[0].traits.extended.qi()) {
        let machine = scenario.machine();
        let tamper = WaitsReportToOldMemory { last_was_a_wait: false };
        take_over_with_frames(&machine, tamper);
        assert!(misused(&machine));
    }
}
