//! Each allocation from the takeover to the seal fails in turn: the dump may lack something, or there is none, but nothing aborts
//! or panics.
//!
//! The simulated machine runs in a [`Shelter`], in which allocations never fail.

#![expect(clippy::unwrap_used, reason = "helpers of tests may stop at the first surprise, as tests do")]
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "what stands for the machine has memory"
)]

mod failing;
#[path = "../../crates/storage/tests/fake/mod.rs"]
#[allow(dead_code, clippy::panic, reason = "a part of what the driver's own tests need")]
mod fake;
mod shelter;

use area::{Area, Completeness, Destination, Label};
use engine::{Begun, Source};
use failing::{Memory, with_memory};
use fake::FakeAccess;
use fixtures::info::UP_TO_6_2;
use fixtures::kernel;
use kdump::Codec;
use machine::{IoAddress, OldMemory, PAGE_SIZE, PhysicalAddress, Range};
use model::MemoryKind;
use shelter::Shelter;
use storage::Allowance;
use takeover::{Limits, Surroundings};
use uuid::Uuid;
use vmcore::{CoreHeader, Kernel, Level, Note, Notes, Ram};
use vtd::paging::Permission;
use vtd::source::SourceId;

const UUID: Uuid = Uuid::from_u128(0x5eed);
/// Page frames of the dead kernel's memory.
const FRAMES: u64 = 0x8000;
/// More allocations than there are.
const MOST: u64 = 100_000;
/// Bytes of the disk.
const DISK: u64 = 4 << 20;

/// Why there is no dump.
#[derive(Debug, thiserror::Error)]
enum NoDump {
    #[error(transparent)]
    Unit(#[from] takeover::UnitError),
    #[error(transparent)]
    TakeOver(#[from] takeover::Failure),
    #[error(transparent)]
    Attach(#[from] takeover::AttachError),
    #[error(transparent)]
    Map(#[from] takeover::MapError),
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
    let surroundings = Surroundings {
        host_address_bits: machine.traits(0).host_address_bits,
        memory: &memory,
        own: &own,
        kept_free: &[],
        device_tlbs: &[],
    };
    let unit = takeover::Unit::new(Shelter(registers), 4096, &clock)?;
    let taken = takeover::take_over(unit, &old, &mut frames, &surroundings, &Limits::default());
    let mut taken = taken.map_err(|refusal| refusal.failure)?;
    let disk = taken.attach(SourceId::at(0, 2, 0), &[], &mut frames)?;
    let end = own[0].end.get();
    let buffer = Range::<PhysicalAddress>::from(end - 0x4000..end);
    Ok(taken.map(&disk, buffer, Permission::ReadWrite, &old, &mut frames)?)
}

/// Brings a disk up, and dumps to the area on it.
fn dump(world: &fake::Shared, dead: &fixtures::Memory, codec: Codec) -> Result<Completeness, NoDump> {
    let mut access = Shelter(failing::sheltered(|| FakeAccess::new(world)));
    let clock = Shelter(fake::FakeClock(world.clone()));
    let allowance = Allowance { pool: fake::POOL, patience: fake::PATIENCE };
    let mut disk = storage::open(&mut access, clock, allowance)?;
    disk.fill_pool(&mut access);
    let destination = Destination::Area(Area::open(disk, 0, UUID)?);

    let mut notes = Notes::read(dead, &CoreHeader::default())?;
    let info = failing::sheltered(|| kernel::vmcoreinfo(UP_TO_6_2));
    notes.push(&Note { name: b"VMCOREINFO\0", kind: 0, content: info.as_bytes() })?;
    let kernel = Kernel::new(notes.vmcoreinfo());
    let ram = Ram::from_ranges([Range::from(0..FRAMES * PAGE_SIZE)].into_iter())?;
    let source = Source { memory: dead, kernel: &kernel, notes: &notes, ram: &ram, level: Level::ALL };
    let mut dump = destination.begin()?;
    let ended = source.begin(&mut dump, codec).map(|Begun { mut pages, .. }| {
        let written = engine::in_passes(&mut pages, source.vital(), |pages, wanted| {
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
    let dead = kernel::machine(1);
    let mut disk = fixtures::Disk(vec![0; DISK as usize]);
    Area::format(&mut disk, 0, Label { uuid: UUID, length: DISK, created: 0 }).unwrap();
    for codec in Codec::EVERYWHERE {
        let story = || {
            let world = failing::sheltered(|| {
                let world = fake::machine(fake::Model { sectors: DISK / 512, ..fake::Model::default() });
                world.borrow_mut().disk.clone_from(&disk.0);
                world.borrow_mut().durable.clone_from(&disk.0);
                world
            });
            dump(&world, &dead, *codec)
        };
        let count = fail_each(story, |completeness| *completeness == Completeness::Complete);
        assert!((10..MOST).contains(&count), "{count} allocations only: were they counted?");
    }
}
