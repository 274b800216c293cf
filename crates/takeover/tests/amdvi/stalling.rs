//! Devices with a device-TLB that keep the unit waiting: one of them costs nobody else anything.

use ::amdvi::control::Control;
use ::amdvi::registers::CONTROL;
use machine::{PAGE_SIZE, Permission, Range, Registers, SourceId};
use model::amdvi::Scenario;
use model::amdvi::scenario::{DeviceTlb, Function};
use model::habits::Junk;
use model::{Answer, Direction, Machine, MemoryKind, Own, OwnFrames, Requester};
use takeover::Outcome;
use takeover::hazard::{Danger, HazardPlace};
use verdict::{bounded, limits, told};

use crate::common::{PLENTY, Taken, take_over};
use crate::story::{DISK, IOVA, dangers, scenario};

/// A card before the disk, and one after it.
const FIRST: u16 = 0x08;
const LAST: u16 = 0xF0;

/// The disk between two cards, all of which keep translations; the cards as `manner` says.
fn machine_with(manner: DeviceTlb) -> Scenario {
    let function = |source, device_tlb| Function {
        source,
        works_at: vec![IOVA.into()],
        device_tlb: Some(device_tlb),
        ..Function::default()
    };
    let functions =
        vec![function(FIRST, manner), function(DISK.source, DeviceTlb::Answers), function(LAST, manner)];
    Scenario { functions, ..scenario() }
}

fn silent(source: u16) -> (HazardPlace, Danger, Outcome) {
    (HazardPlace::Device(SourceId(source)), Danger::DeviceTlbSilent, Outcome::KeptInPlace)
}

/// Maps a page for the disk, lets it keep the translation, and unmaps the page; returns what the disk reaches then.
fn use_disk(machine: &Machine, taken: &mut Taken<'_>, frames: &mut OwnFrames) -> Answer {
    let end = machine.ranges(MemoryKind::Capture)[0].end;
    let buffer = Range::new((end.get() - PAGE_SIZE).into(), end);
    machine.guard(vec![Own { requester: DISK, memory: buffer }]);
    let disk = taken.attach(SourceId(DISK.source), &[], frames).unwrap();
    let iova = taken.map(&disk, buffer, Permission::ReadWrite, &machine.old_memory(), frames).unwrap();
    let access = DISK.access(iova, Direction::Write);
    assert_eq!(machine.access(0, access), Answer::Memory(buffer.start));
    taken.unmap(&disk, Range::new(iova, iova.saturating_add(PAGE_SIZE)), frames).unwrap();
    machine.access(0, access)
}

/// Both cards stall the unit. It gives them up before the takeover gives the unit up, and the disk between them works and forgets.
#[test]
fn a_device_that_stalls_the_unit_costs_no_other_device_anything() {
    let scenario = machine_with(DeviceTlb::Stalls);
    let machine = scenario.machine();
    let (mut frames, clock) = (machine.frames(PLENTY), machine.clock());
    let mut taken = take_over(&scenario, &machine, &mut frames, &clock, &limits()).unwrap();
    assert_eq!(dangers(&taken[0]), [silent(FIRST), silent(LAST)]);
    assert!([FIRST, DISK.source, LAST].into_iter().all(|source| machine.was_told(0, source)));
    assert_eq!(bounded::check(&machine, 0, PLENTY), Ok(()));
    let after = use_disk(&machine, &mut taken[0], &mut frames);
    assert!(matches!(after, Answer::Blocked(_)), "{after}");
    assert!(machine.violations().is_empty(), "{}", told(&machine));
}

/// Whatever limit the dead kernel set for devices, or none: ours ends before a wait of ours does.
#[test]
fn the_unit_gives_devices_up_in_time_whatever_the_dead_kernel_wanted() {
    for time_out in 0..8 {
        let mut scenario = machine_with(DeviceTlb::Stalls);
        scenario.units[0].time_out = time_out;
        let machine = scenario.machine();
        let (mut frames, clock) = (machine.frames(PLENTY), machine.clock());
        let mut taken = take_over(&scenario, &machine, &mut frames, &clock, &limits()).unwrap();
        assert_eq!(dangers(&taken[0]), [silent(FIRST), silent(LAST)], "{time_out}");
        let after = use_disk(&machine, &mut taken[0], &mut frames);
        assert!(matches!(after, Answer::Blocked(_)), "{time_out}: {after}");
        let control = Control::from_bits(machine.registers(0).read64(CONTROL.offset));
        assert!((1..=3).contains(&control.invalidation_timeout().0), "{time_out}: {control:?}");
    }
}

/// Forty functions of a dead card: each is asked in passing once the patience is gone, and none keeps the unit longer than that.
#[test]
fn a_card_with_very_many_functions_that_stall_leaves_the_unit_working() {
    let mut scenario = machine_with(DeviceTlb::Answers);
    let dead = |number: u16| Function {
        source: 0x40 + number,
        device_tlb: Some(DeviceTlb::Stalls),
        ..Function::default()
    };
    scenario.functions.extend((0..40).map(dead));
    let machine = scenario.machine();
    let (mut frames, clock) = (machine.frames(PLENTY), machine.clock());
    let mut taken = take_over(&scenario, &machine, &mut frames, &clock, &limits()).unwrap();
    assert_eq!(dangers(&taken[0]), (0..40).map(|number| silent(0x40 + number)).collect::<Vec<_>>());
    assert_eq!(bounded::check(&machine, 0, PLENTY), Ok(()));
    assert!(machine.was_told(0, LAST));
    let after = use_disk(&machine, &mut taken[0], &mut frames);
    assert!(matches!(after, Answer::Blocked(_)), "{after}");
}

/// A unit that takes no limit would wait for ever, and take no command any more: no device is asked there, and each is named.
#[test]
fn where_the_unit_never_gives_up_no_device_is_asked() {
    let mut scenario = machine_with(DeviceTlb::Stalls);
    let control = 0x3_148F & !0xE0;
    let junk = Junk { register: CONTROL.offset, reads: 0..u64::MAX, value: control };
    scenario.units[0].habits = scenario.units[0].habits.clone().with_junk(junk);
    let machine = scenario.machine();
    let (mut frames, clock) = (machine.frames(PLENTY), machine.clock());
    let mut taken = take_over(&scenario, &machine, &mut frames, &clock, &limits()).unwrap();
    assert_eq!(dangers(&taken[0]), [FIRST, DISK.source, LAST].map(silent));
    assert!(![FIRST, DISK.source, LAST].into_iter().any(|source| machine.was_told(0, source)));
    let end = machine.ranges(MemoryKind::Capture)[0].end;
    let buffer = Range::new((end.get() - PAGE_SIZE).into(), end);
    let stranger = Requester { source: 0x30, pasid: None };
    machine.guard(vec![Own { requester: stranger, memory: buffer }]);
    let device = taken[0].attach(SourceId(stranger.source), &[], &mut frames).unwrap();
    taken[0].map(&device, buffer, Permission::ReadWrite, &machine.old_memory(), &mut frames).unwrap();
}
