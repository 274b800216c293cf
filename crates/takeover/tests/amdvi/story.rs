//! Stories of single machines: one unit like QEMU's before one function, whose domain maps one page.

use amdvi::control::BufferBase;
use amdvi::registers::{COMMAND_BUFFER, EVENT_LOG};
use machine::{Level, Permission, Range, Registers, SourceId};
use model::amdvi::Scenario;
use model::amdvi::damage::{Damage, Harm, Victim};
use model::amdvi::scenario::{
    Attached, DeviceTlb, Domain, Function, Mapping, OldCommands, OldLog, Others, Process, Stage, UnitScenario,
};
use model::amdvi::walk::Traits;
use model::habits::{Chore, Habit, Habits};
use model::{Answer, Direction, Machine, MemoryKind, Requester};
use takeover::hazard::{Danger, HazardPlace};
use takeover::{Found, Inherited, OldQueue, Outcome};
use verdict::{limits, told};

use crate::common::{PLENTY, STRANGER, Taken, take_over};

/// EFR of QEMU's unit.
pub(crate) const FEATURES: u64 = 0x29D3;
/// The function, its domain-id, and what its domain maps.
pub(crate) const DISK: Requester = Requester { source: 0x10, pasid: None };
pub(crate) const DOMAIN: u16 = 7;
pub(crate) const IOVA: u64 = 0xFFFF_F000;
pub(crate) const PAGE: u64 = 0x12_3000;

pub(crate) fn scenario() -> Scenario {
    let mapping = Mapping {
        iova: IOVA.into(),
        memory: PAGE.into(),
        level: Level::ONE,
        permission: Permission::ReadWrite,
    };
    let prompt =
        Chore::AMDVI.into_iter().fold(Habits::default(), |habits, chore| habits.with(chore, Habit::After(0)));
    let unit = UnitScenario {
        traits: Traits { feature: FEATURES.into(), host_address_bits: 46, ..Traits::default() },
        habits: prompt,
        ..UnitScenario::default()
    };
    Scenario {
        seed: 1,
        memory: vec![
            (Range::from(0..0x100_0000), MemoryKind::Old),
            (Range::from(0x100_0000..0x200_0000), MemoryKind::Capture),
            (Range::from(0xFEB0_0000..0xFEC0_0000), MemoryKind::Mmio),
        ],
        units: vec![unit],
        domains: vec![Domain { id: DOMAIN, mappings: vec![mapping], ..Domain::default() }],
        functions: vec![Function { source: DISK.source, works_at: vec![IOVA.into()], ..Function::default() }],
        ..Scenario::default()
    }
}

/// The same machine with another unit.
pub(crate) fn with(change: impl FnOnce(&mut UnitScenario)) -> Scenario {
    let mut scenario = scenario();
    change(&mut scenario.units[0]);
    scenario
}

/// The same machine with another function.
fn with_function(function: Function) -> Scenario {
    Scenario { functions: vec![Function { source: DISK.source, ..function }], ..scenario() }
}

/// Where a requester's address leads now.
pub(crate) fn reach(machine: &Machine, requester: Requester, iova: u64) -> Option<u64> {
    match machine.answer(0, requester.access(iova, Direction::Write)) {
        Answer::Memory(address) => Some(address.get()),
        _ => None,
    }
}

/// Takes the machine over, and tells what was found, and the hazards.
fn told_of(scenario: &Scenario, tell: impl FnOnce(&Machine, &Taken<'_>)) {
    let machine = scenario.machine();
    let (mut frames, clock) = (machine.frames(PLENTY), machine.clock());
    let taken = take_over(scenario, &machine, &mut frames, &clock, &limits()).unwrap();
    machine.run(100);
    assert!(machine.violations().is_empty(), "{}", told(&machine));
    tell(&machine, &taken[0]);
}

pub(crate) fn dangers(taken: &Taken<'_>) -> Vec<(HazardPlace, Danger, Outcome)> {
    let hazards = taken.report().hazards.listed.iter();
    hazards.map(|hazard| (hazard.place, hazard.danger, hazard.outcome)).collect()
}

/// The device table and the page tables are copied, and the disk gets new addresses besides its old ones.
#[test]
fn a_unit_is_taken_over() {
    let scenario = scenario();
    let machine = scenario.machine();
    let (mut frames, clock) = (machine.frames(PLENTY), machine.clock());
    let mut taken = take_over(&scenario, &machine, &mut frames, &clock, &limits()).unwrap();
    let report = taken[0].report();
    assert_ne!(report.root, report.found.root());
    assert_eq!(report.found.queue(), OldQueue::Drained);
    assert_eq!((report.contexts_accepted(), report.leaf_mappings(), report.domains_reserved()), (1, 1, 1));
    // Two frames of the device table, three page tables, and the table that maps nothing.
    assert_eq!(report.tables_duplicated, 6);
    assert_eq!(dangers(&taken[0]), []);

    let disk = taken[0].attach(SourceId(DISK.source), &[], &mut frames).unwrap();
    assert_eq!((disk.id, disk.inherited), (DOMAIN, Inherited::Tables));
    let own = machine.ranges(MemoryKind::Capture)[0];
    let buffer = Range::new((own.end.get() - 0x2000).into(), own.end);
    let old = machine.old_memory();
    let iova = taken[0].map(&disk, buffer, Permission::ReadWrite, &old, &mut frames).unwrap();
    assert_eq!(reach(&machine, DISK, iova.get() + 0x1234), Some(buffer.start.get() + 0x1234));
    assert_eq!(reach(&machine, DISK, IOVA + 0x56), Some(PAGE + 0x56));
    taken[0].unmap(&disk, Range::new(iova, iova.saturating_add(0x2000)), &mut frames).unwrap();
    assert_eq!(reach(&machine, DISK, iova.get()), None);
}

/// A Linux to which the machine is handed over may go on with the buffers that it finds, in the length of its own (Linux 7.2).
#[test]
fn our_buffers_have_as_many_entries_as_linuxs() {
    told_of(&scenario(), |machine, _| {
        let (registers, own) = (machine.registers(0), machine.ranges(MemoryKind::Capture)[0]);
        for register in [COMMAND_BUFFER, EVENT_LOG] {
            let base = BufferBase::from_bits(registers.read64(register.offset));
            assert_eq!(base.entries(), Some(512), "{}", register.name);
            assert!(own.covers(Range::new(base.address(), base.address().saturating_add(512 * 16))));
        }
    });
}

/// V = 0 lets everything through. What of that is our memory must not be reached, by whomever.
#[test]
fn devices_whose_entries_are_not_valid_pass_no_more_to_our_memory() {
    let scenario = with(|unit| unit.others = Others::Untranslated);
    let unlisted = Requester { source: 0x30, pasid: None };
    told_of(&scenario, |machine, taken| {
        let own = machine.ranges(MemoryKind::Capture)[0];
        assert_eq!(reach(machine, unlisted, 0x5678), Some(0x5678));
        assert_eq!(reach(machine, unlisted, own.start.get()), None);
        // Nobody lists it; its domain is there all the same.
        assert_eq!((taken.report().contexts.len(), taken.report().domains.len()), (2, 2));
        assert_eq!(taken.report().contexts[1].source, STRANGER);
        assert_eq!(taken.report().domains[1].outcome, Outcome::Fenced);
    });
}

#[test]
fn what_was_blocked_stays_blocked() {
    for others in [Others::Blocked, Others::Aborted] {
        told_of(&with(|unit| unit.others = others), |machine, taken| {
            let other = Requester { source: 0x30, pasid: None };
            assert_eq!(reach(machine, other, 0x5678), None, "{others:?}");
            assert_eq!(taken.report().domains.len(), 1);
        });
    }
}

#[test]
fn a_device_that_was_blocked_works_for_its_driver() {
    let scenario = with_function(Function { attached: Attached::Aborted, ..Function::default() });
    let machine = scenario.machine();
    let (mut frames, clock) = (machine.frames(PLENTY), machine.clock());
    let mut taken = take_over(&scenario, &machine, &mut frames, &clock, &limits()).unwrap();
    let disk = taken[0].attach(SourceId(DISK.source), &[], &mut frames).unwrap();
    assert_eq!(disk.inherited, Inherited::Nothing);
    let own = machine.ranges(MemoryKind::Capture)[0];
    let buffer = Range::new((own.end.get() - 0x1000).into(), own.end);
    let old = machine.old_memory();
    let iova = taken[0].map(&disk, buffer, Permission::ReadWrite, &old, &mut frames).unwrap();
    assert_eq!(reach(&machine, DISK, iova.get()), Some(buffer.start.get()));
}

/// The root of its tables lies outside memory: they are blocked, and a driver's mappings are all that the device gets.
#[test]
fn a_device_whose_tables_were_lost_works_for_its_driver() {
    let lost = Damage { victim: Victim::Entry { source: DISK.source, word: 0 }, harm: Harm::Flip(40) };
    let scenario = Scenario { damage: vec![lost], ..scenario() };
    let machine = scenario.machine();
    let (mut frames, clock) = (machine.frames(PLENTY), machine.clock());
    let mut taken = take_over(&scenario, &machine, &mut frames, &clock, &limits()).unwrap();
    assert_eq!(reach(&machine, DISK, IOVA), None);
    let disk = taken[0].attach(SourceId(DISK.source), &[], &mut frames).unwrap();
    assert_eq!((disk.id, disk.inherited), (DOMAIN, Inherited::Addresses));
    let own = machine.ranges(MemoryKind::Capture)[0];
    let buffer = Range::new((own.end.get() - 0x1000).into(), own.end);
    let old = machine.old_memory();
    let iova = taken[0].map(&disk, buffer, Permission::ReadWrite, &old, &mut frames).unwrap();
    assert_eq!(reach(&machine, DISK, iova.get()), Some(buffer.start.get()));
}

/// Requests with PASIDs go through guest tables of their own, and those without through host tables that map nothing else.
#[test]
fn processes_keep_their_addresses() {
    let mut scenario = scenario();
    let mapping = scenario.domains[0].mappings[0];
    let guest = Domain {
        id: DOMAIN,
        stage: Stage::Guest,
        top: Level::FOUR,
        mappings: vec![Mapping { iova: 0x5000.into(), ..mapping }],
        ..Domain::default()
    };
    scenario.units[0].traits.feature =
        scenario.units[0].traits.feature.with_gio(true).with_gats(0).with_pasid_max(15);
    scenario.domains =
        vec![guest.clone(), Domain { mappings: vec![Mapping { iova: 0x9000.into(), ..mapping }], ..guest }];
    scenario.functions[0].works_at = vec![0x5000.into()];
    scenario.functions[0].processes = vec![Process { pasid: 9, domain: 1, works_at: vec![0x9000.into()] }];
    told_of(&scenario, |machine, taken| {
        let process = Requester { pasid: Some(9), ..DISK };
        assert_eq!((reach(machine, DISK, 0x5678), reach(machine, DISK, 0x9000)), (Some(PAGE + 0x678), None));
        assert_eq!((reach(machine, process, 0x9000), reach(machine, process, 0x5000)), (Some(PAGE), None));
        assert_eq!(taken.report().contexts_accepted(), 2);
    });
}

#[test]
fn the_old_command_buffer_may_be_busy_stopped_or_off() {
    let found = |commands| {
        let mut queue = None;
        told_of(&with(|unit| unit.commands = commands), |_, taken| {
            queue = Some(taken.report().found.queue());
        });
        queue.unwrap()
    };
    assert_eq!((found(OldCommands::Busy(3)), found(OldCommands::Off)), (OldQueue::Drained, OldQueue::Off));
    assert!(matches!(found(OldCommands::Stopped), OldQueue::Stuck { .. }));
}

#[test]
fn the_first_events_of_a_full_log_are_evidence() {
    told_of(&with(|unit| unit.events = OldLog::Full), |_, taken| {
        let Found::AmdVi(found) = &taken.report().found else { panic!("another architecture") };
        assert!(found.status.event_overflow());
        assert_eq!(found.events.len(), 8);
    });
}

/// Only the log of our own says that a device did not answer.
#[test]
fn a_device_that_does_not_answer_is_named() {
    let scenario = with_function(Function { device_tlb: Some(DeviceTlb::Silent), ..Function::default() });
    told_of(&scenario, |_, taken| {
        let silent = HazardPlace::Device(SourceId(DISK.source));
        assert_eq!(dangers(taken), [(silent, Danger::DeviceTlbSilent, Outcome::KeptInPlace)]);
    });
}
