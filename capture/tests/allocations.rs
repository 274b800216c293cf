//! Each allocation from the discovery of the machine to the seal fails in turn: the dump may lack something, or there is none, but
//! nothing aborts or panics.
//!
//! The simulated machine runs in a [`Shelter`], in which allocations never fail.

#![expect(clippy::unwrap_used, reason = "helpers of tests may stop at the first surprise, as tests do")]

mod discovery;
mod failing;
#[path = "../../crates/storage/tests/fake/mod.rs"]
#[allow(dead_code, clippy::panic, reason = "a part of what the driver's own tests need")]
mod fake;
mod shelter;

use core::convert::Infallible;

use area::{Area, Completeness, Destination, Label, OpenDump};
use discovery::Found;
use engine::{Begun, Source};
use failing::{Memory, with_memory};
use fake::machine::FakeClock;
use fake::nvme;
use fake::virtio_blk::{self, FakeAccess, Model, PATIENCE, POOL};
use fixtures::info::{UP_TO_6_2, printk_ring};
use fixtures::kernel;
use kdump::Codec;
use machine::{
    BlockDevice, Clock, IoAddress, OldMemory, PAGE_SIZE, Permission, PhysicalAddress, Range, SourceId,
};
use model::MemoryKind;
use record::{
    Architecture, Context, Counts, Domain, Entry, Hazard, HazardPlace, Queue, Record, Register, Text,
    UnitFate, UnitRecord,
};
use shelter::Shelter;
use storage::{Allowance, DeviceAccess};
use takeover::{Limits, Surroundings};
use uuid::Uuid;
use vmcore::{CoreHeader, Kernel, Level, Note, Notes, Ram};

const UUID: Uuid = Uuid::from_u128(0x5eed);
/// Page frames of the dead kernel's memory.
const FRAMES: u64 = 0x8000;
/// More allocations than there are.
const MOST: u64 = 100_000;
/// Contexts of the unit that was taken over, more than a record has room for; units that were not taken over.
const CONTEXTS: u16 = 4000;
const LOST: u16 = 5;
/// The pointer to the ring of messages, and where that is.
const PRB: u64 = 0xffff_ffff_8000_9000;
const RING: u64 = 0x9100;
/// Bytes of the disk.
const DISK: u64 = 7 << 20;

/// Why there is no dump.
#[derive(Debug, thiserror::Error)]
enum NoDump {
    #[error(transparent)]
    Header(#[from] vmcore::HeaderError),
    #[error(transparent)]
    Acpi(#[from] capture::acpi::AcpiError),
    #[error(transparent)]
    Dmar(#[from] vtd::dmar::DmarError),
    #[error(transparent)]
    Unit(#[from] takeover::UnitError),
    #[error(transparent)]
    TakeOver(#[from] takeover::Failure),
    #[error(transparent)]
    Attach(#[from] takeover::AttachError),
    #[error(transparent)]
    Map(#[from] takeover::MapError),
    #[error("the function has no disk")]
    NoDisk,
    #[error(transparent)]
    Disk(#[from] storage::OpenError<core::convert::Infallible>),
    #[error(transparent)]
    Area(#[from] area::OpenError),
    #[error(transparent)]
    Device(#[from] machine::BlockError),
    #[error(transparent)]
    OutOfMemory(#[from] machine::OutOfMemory),
}

/// Takes over the unit of a made-up machine, and gives a disk memory there.
fn take_over(machine: &model::Machine) -> Result<IoAddress, NoDump> {
    let (memory, own, clock, old, frames, registers) = failing::sheltered(|| {
        let own = machine.ranges(MemoryKind::Capture);
        let memory = [machine.ranges(MemoryKind::Old), own.clone()].concat();
        (memory, own, machine.clock(), machine.old_memory(), machine.frames(500), machine.registers(0))
    });
    let (clock, old, mut frames) = (Shelter(clock), Shelter(old), Shelter(frames));
    let surroundings = Surroundings::new(machine.traits(0).host_address_bits, &memory, &own);
    let unit = takeover::Unit::vtd(Shelter(registers), 4096, &clock)?;
    let taken = takeover::take_over(unit, &old, &mut frames, &surroundings, &Limits::default());
    let mut taken = taken.map_err(|refusal| refusal.failure)?;
    let disk = taken.attach(SourceId::at(0, 2, 0), &[], &mut frames)?;
    let end = own[0].end.get();
    let buffer = Range::<PhysicalAddress>::from(end - 0x4000..end);
    Ok(taken.map(&disk, buffer, Permission::ReadWrite, &old, &mut frames)?)
}

/// Brings a disk up, and dumps to the area on it.
fn dump<A: DeviceAccess<Refusal = Infallible>>(
    mut access: A,
    clock: impl Clock,
    dead: &fixtures::Memory,
    codec: Codec,
    level: Level,
) -> Result<Completeness, NoDump> {
    let allowance = Allowance { pool: POOL, patience: PATIENCE };
    let mut disk = storage::open(&mut access, clock, allowance)?;
    let (_, usable) = disk.advance().ok_or(NoDump::NoDisk)?;
    usable.map_err(storage::OpenError::Start)?;
    disk.fill_pool(&mut access);
    let destination = Destination::Area(Area::open(disk, 0, UUID)?);

    let mut notes = Notes::read(dead, &CoreHeader::default())?;
    let info = failing::sheltered(|| kernel::vmcoreinfo(UP_TO_6_2) + &printk_ring(PRB, 88));
    notes.push(&Note { name: b"VMCOREINFO\0", kind: 0, content: info.as_bytes() })?;
    let kernel = Kernel::new(notes.vmcoreinfo());
    let ram = Ram::from_ranges([Range::from(0..FRAMES * PAGE_SIZE)].into_iter())?;
    let source = Source { memory: dead, kernel: &kernel, notes: &notes, ram: &ram, level };
    let mut dump = destination.begin()?;
    store_log(&mut dump, &kernel, dead)?;
    let ended = source.begin(&mut dump, codec).map(|Begun { mut pages, .. }| {
        let written = engine::in_telling_order(&mut pages, &source, |pages, wanted, _| {
            while pages.write_next(&mut *wanted, |pfn, page| dead.read_page(pfn, page))?.is_some() {}
            Ok(())
        });
        if written.is_ok() { pages.finish() } else { pages.abandon() }
    });
    let whole = ended.as_ref().is_ok_and(|ended| ended.error.is_none());
    let bytes = ended.map_or(0, |ended| ended.statistics.file_bytes);
    let completeness = if whole { Completeness::Complete } else { Completeness::Partial };
    dump.seal(completeness, bytes)?;
    Ok(completeness)
}

/// Stores the dead kernel's log, if there is memory to find it.
fn store_log(
    dump: &mut OpenDump<impl BlockDevice>,
    kernel: &Kernel,
    dead: &fixtures::Memory,
) -> Result<(), NoDump> {
    let Ok(log) = kernel.log(dead, || true) else { return Ok(()) };
    assert_eq!(log.len(), "[    0.000000] dying\n".len() as u64);
    let mut writer = dump.log(log.len());
    log.print(|text| writer.write(text))?;
    writer.store()?;
    Ok(())
}

/// A dead kernel with one message in its log.
fn dead_kernel() -> fixtures::Memory {
    const DIRECT: u64 = 0xffff_8880_0000_0000;
    const FINALIZED: u64 = 2 << 62;
    let mut memory = kernel::machine(1);
    memory.write_u64(PRB & 0xffff, DIRECT | RING);
    // A ring of one descriptor, number 5, and one of texts of 4096 bytes.
    let texts = [12, DIRECT | 0x1_2000];
    let ring = [0, DIRECT | 0x1_0000, DIRECT | 0x1_1000, 5, 5].into_iter().chain(texts);
    (RING..).step_by(8).zip(ring).for_each(|(at, word)| memory.write_u64(at, word));
    [FINALIZED | 5, 0, 16]
        .into_iter()
        .zip((0x1_0000..).step_by(8))
        .for_each(|(word, at)| memory.write_u64(at, word));
    memory.write_u64(0x1_1000 + 16, 5);
    memory.write_u64(0x1_2000, 5);
    memory.write(0x1_2008, b"dying");
    memory
}

/// Makes the record of a takeover that has more contexts than it has room for, and puts it among the notes. Returns its bytes.
fn record() -> Result<Vec<u8>, NoDump> {
    let registers = (0..8).map(|index| Register { offset: index * 8, value: 0 }).collect();
    let taken = UnitRecord {
        architecture: Architecture::Vtd,
        base: 0xFED9_0000,
        segment: 0,
        registers,
        state: UnitFate::TakenOver(taken_over()),
    };
    let lost = |index| UnitRecord {
        architecture: Architecture::Vtd,
        base: 0xFEDA_0000,
        segment: index,
        registers: record::List::default(),
        state: UnitFate::Lost(Text::new(format_args!("unit {index} does not answer"))),
    };
    let units = [taken].into_iter().chain((0..LOST).map(lost)).collect();
    let content = Record { writer: Text::new("1.2.3"), host_address_bits: 39, units }.encode()?;
    failing::sheltered(|| assert!(Record::decode(&content).is_ok(), "whatever it lacks, it can be read"));
    let mut notes = Notes::default();
    notes.push(&Note { name: record::NOTE_NAME, kind: record::NOTE_TYPE, content: &content })?;
    Ok(content)
}

fn taken_over() -> record::Takeover {
    let outcome = record::Outcome::Duplicated;
    let context = |source| Context {
        source,
        pasid: Some(1),
        entry: Entry::Pasid([u64::MAX; 8]),
        domain: Some(2),
        outcome,
    };
    let domain = |id| Domain { id, address_bits: 48, tables: 3, leaves: 4, fenced: 5, outcome };
    let hazard =
        |bus| Hazard { place: HazardPlace::Bus(bus), what: Text::new("reserved bits are set"), outcome };
    record::Takeover {
        old_root: 0x1000,
        new_root: 0x2000,
        queue: Queue::Drained,
        faults: [(1, 2)].into_iter().collect(),
        counts: Counts::default(),
        contexts: (0..CONTEXTS).map(context).collect(),
        domains: (0..10).map(domain).collect(),
        hazards: (0..10).map(hazard).collect(),
    }
}

/// Whether bytes are the record of [`record()`] with nothing forgotten.
fn is_whole_record(bytes: &[u8]) -> bool {
    let read = Record::decode(bytes).unwrap();
    let UnitFate::TakenOver(taken) = &read.units.listed[0].state else { return false };
    let counts = [read.units.count(), taken.contexts.count(), taken.hazards.count()];
    counts == [1 + u64::from(LOST), u64::from(CONTEXTS), 10]
}

/// Runs `story` once for each of its allocations, which fails: alone, or with all that follow. Returns how many there are.
fn fail_each<T>(mut story: impl FnMut() -> Result<T, NoDump>, is_whole: impl Fn(&T) -> bool) -> u64 {
    [Memory::LacksOne, Memory::Ends].map(|memory| fail_each_so(memory, &mut story, &is_whole))[0]
}

fn fail_each_so<T>(
    memory: Memory,
    story: &mut impl FnMut() -> Result<T, NoDump>,
    is_whole: impl Fn(&T) -> bool,
) -> u64 {
    let fails_at = |nth: &u64| match with_memory(memory, *nth, story) {
        (Ok(_), true) => true,
        (Err(error), true) => {
            let why = error.to_string();
            // A list of addresses that cannot grow has none to give.
            let lacks = ["memory", "no I/O addresses are free"].iter().any(|lack| why.contains(lack));
            assert!(lacks, "allocation {nth}: {why}");
            true
        }
        (ended, false) => {
            assert!(is_whole(&ended.unwrap()), "with all its memory it is whole");
            false
        }
    };
    (0..MOST).take_while(fails_at).count() as u64
}

#[test]
fn no_allocation_before_the_takeover_aborts() {
    let machine = discovery::Machine::new();
    let count = fail_each(|| discovery::discover(&machine), |found| *found == Found::everything());
    assert!((15..MOST).contains(&count), "{count} allocations only: were they counted?");
}

#[test]
fn no_allocation_of_the_takeovers_record_aborts() {
    let count = fail_each(record, |content| is_whole_record(content));
    assert!((20..MOST).contains(&count), "{count} allocations only: were they counted?");
}

#[test]
fn no_allocation_of_a_takeover_aborts() {
    let size = model::random::Size { units: 1, domains: 3, functions: 5, runs: 5 };
    let scenario = model::Scenario::random(1, size);
    let count = fail_each(
        || {
            let machine = failing::sheltered(|| scenario.machine());
            take_over(&machine)
        },
        |_| true,
    );
    assert!((20..MOST).contains(&count), "{count} allocations only: were they counted?");
}

#[test]
fn no_allocation_from_the_disk_to_the_seal_aborts() {
    let dead = dead_kernel();
    let mut disk = fixtures::Disk(vec![0; DISK as usize]);
    Area::format(&mut disk, 0, Label { uuid: UUID, length: DISK, created: 0 }).unwrap();
    for codec in Codec::EVERYWHERE {
        let story = || {
            let (access, clock) = failing::sheltered(|| {
                let world = virtio_blk::machine(Model { sectors: DISK / 512, ..Model::default() });
                world.borrow_mut().disk.clone_from(&disk.0);
                world.borrow_mut().durable.clone_from(&disk.0);
                (Shelter(FakeAccess::new(&world)), Shelter(FakeClock(world)))
            });
            dump(access, clock, &dead, *codec, Level::ALL)
        };
        let count = fail_each(story, |completeness| *completeness == Completeness::Complete);
        assert!((10..MOST).contains(&count), "{count} allocations only: were they counted?");
    }
}

#[test]
fn no_allocation_for_an_nvme_disk_aborts() {
    let dead = dead_kernel();
    let mut disk = fixtures::Disk(vec![0; DISK as usize]);
    Area::format(&mut disk, 0, Label { uuid: UUID, length: DISK, created: 0 }).unwrap();
    let namespace = nvme::model::Namespace { blocks: DISK / 512, ..nvme::model::Namespace::default() };
    let model = nvme::model::Model { namespaces: [(1, namespace)].into(), ..nvme::model::Model::default() };
    let story = || {
        let (access, clock) = failing::sheltered(|| {
            let world = nvme::machine(model.clone());
            world.borrow_mut().contents.get_mut(&1).unwrap().disk.clone_from(&disk.0);
            (Shelter(nvme::registers::FakeAccess::new(&world)), Shelter(FakeClock(world)))
        });
        // A level of which not all pages are sure to fit: there are more passes.
        dump(access, clock, &dead, Codec::None, Level::new(0).unwrap())
    };
    let count = fail_each(story, |completeness| *completeness == Completeness::Complete);
    assert!((10..MOST).contains(&count), "{count} allocations only: were they counted?");
}

/// Otherwise the stories above would store none.
#[test]
fn the_dead_kernel_has_a_log() {
    let info = kernel::vmcoreinfo(UP_TO_6_2) + &printk_ring(PRB, 88);
    let mut notes = Notes::default();
    notes.push(&Note { name: b"VMCOREINFO\0", kind: 0, content: info.as_bytes() }).unwrap();
    let (dead, kernel) = (dead_kernel(), Kernel::new(notes.vmcoreinfo()));
    assert_eq!(kernel.log(&dead, || true).unwrap().len(), "[    0.000000] dying\n".len() as u64);
}
