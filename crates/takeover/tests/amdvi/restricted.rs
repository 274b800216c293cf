//! Devices that the old kernel let only read, or only write, and that drivers get.

use machine::{Level, PAGE_SIZE, Permission, Range, SourceId};
use model::amdvi::Scenario;
use model::amdvi::damage::{Damage, Harm, Victim};
use model::amdvi::scenario::{Attached, Domain, Function, Mapping, Stage};
use model::{Answer, Direction, Machine, MemoryKind, Own, OwnFrames, Requester, Rights};
use takeover::{AttachError, Inherited};
use verdict::{isolation, limits, told};

use crate::common::{PLENTY, Taken, take_over};
use crate::in_place::{halved, locked};
use crate::story::{DISK, DOMAIN, IOVA, PAGE, scenario};

/// A second device like the disk.
const OTHER: Requester = Requester { source: 0x18, pasid: None };
const READS: Rights = Rights { read: true, write: false };
const WRITES: Rights = Rights { read: false, write: true };

/// IR and IW in the first word of an entry.
fn without(source: u16, rights: Rights) -> Damage {
    let bit = if rights.read { 62 } else { 61 };
    Damage { victim: Victim::Entry { source, word: 0 }, harm: Harm::Flip(bit) }
}

/// Two devices in one domain, which their entries let do no more than this.
fn restricted(mut scenario: Scenario, rights: [Rights; 2]) -> Scenario {
    scenario.functions.push(Function { source: OTHER.source, ..scenario.functions[0].clone() });
    let of_both = [DISK.source, OTHER.source].into_iter().zip(rights);
    scenario.damage = of_both
        .filter(|(_, rights)| *rights != Rights::ALL)
        .map(|(it, rights)| without(it, rights))
        .collect();
    scenario
}

/// What a requester may do at an address, and where that leads.
fn answers(machine: &Machine, requester: Requester, iova: u64) -> [Option<u64>; 2] {
    [Direction::Read, Direction::Write].map(|direction| {
        let access = requester.access(iova, direction);
        let (cold, warm) = (machine.answer(0, access), machine.access(0, access));
        assert_eq!(matches!(cold, Answer::Memory(_)), matches!(warm, Answer::Memory(_)), "{cold} {warm}");
        if let Answer::Memory(address) = cold { Some(address.get()) } else { None }
    })
}

fn if_allowed(rights: Rights, address: u64) -> [Option<u64>; 2] {
    [rights.read.then_some(address), rights.write.then_some(address)]
}

/// Attaches the disk, maps a page for it, and checks that it may do all with that, and nothing new with anything else.
fn use_disk(machine: &Machine, taken: &mut Taken<'_>, frames: &mut OwnFrames) -> u64 {
    let end = machine.ranges(MemoryKind::Capture)[0].end;
    let buffer = Range::new((end.get() - PAGE_SIZE).into(), end);
    machine.guard(vec![Own { requester: DISK, memory: buffer }]);
    let disk = taken.attach(SourceId(DISK.source), &[], frames).unwrap();
    assert_eq!(disk.inherited, Inherited::Tables);
    let iova = taken.map(&disk, buffer, Permission::ReadWrite, &machine.old_memory(), frames).unwrap();
    assert_eq!(answers(machine, DISK, iova.get()), if_allowed(Rights::ALL, buffer.start.get()));
    assert_eq!(answers(machine, OTHER, iova.get()), [None; 2]);
    machine.run(200);
    assert_eq!(machine.violations(), [], "{}", told(machine));
    isolation::check(machine, 0).unwrap();
    taken.unmap(&disk, Range::new(iova, iova.saturating_add(PAGE_SIZE)), frames).unwrap();
    assert_eq!(answers(machine, DISK, iova.get()), [None; 2]);
    iova.get()
}

/// What the device's entry did not allow, the root table of its own domain does not allow now; the driver's page is elsewhere.
#[test]
fn a_device_that_may_only_read_or_only_write_works_for_its_driver_and_gets_no_more_of_the_old_kernels() {
    for rights in [READS, WRITES] {
        let scenario = restricted(scenario(), [rights, rights]);
        let machine = scenario.machine();
        let (mut frames, clock) = (machine.frames(PLENTY), machine.clock());
        let mut taken = take_over(&scenario, &machine, &mut frames, &clock, &limits()).unwrap();
        use_disk(&machine, &mut taken[0], &mut frames);
        for requester in [DISK, OTHER] {
            assert_eq!(answers(&machine, requester, IOVA), if_allowed(rights, PAGE), "{requester:?}");
        }
    }
}

/// Each has rights of its own to the same tables: the one that is attached gets a twin.
#[test]
fn another_device_of_the_domain_keeps_its_rights() {
    for rights in [[READS, Rights::ALL], [WRITES, READS], [Rights::ALL, READS]] {
        let scenario = restricted(scenario(), rights);
        let machine = scenario.machine();
        let (mut frames, clock) = (machine.frames(PLENTY), machine.clock());
        let mut taken = take_over(&scenario, &machine, &mut frames, &clock, &limits()).unwrap();
        use_disk(&machine, &mut taken[0], &mut frames);
        assert_eq!(answers(&machine, DISK, IOVA), if_allowed(rights[0], PAGE));
        assert_eq!(answers(&machine, OTHER, IOVA), if_allowed(rights[1], PAGE));
    }
}

/// The map that replaces pass-through is restricted as well, and so is a table of the dead kernel's that stays in force.
#[test]
fn pass_through_with_half_of_the_rights_stays_that() {
    for mut scenario in [scenario(), locked(), halved()] {
        let function = |source| Function {
            source,
            attached: Attached::PassThrough(3, READS),
            works_at: vec![0x5000.into()],
            ..Function::default()
        };
        scenario.functions = vec![function(DISK.source), function(OTHER.source)];
        let machine = scenario.machine();
        let (mut frames, clock) = (machine.frames(PLENTY), machine.clock());
        let mut taken = take_over(&scenario, &machine, &mut frames, &clock, &limits()).unwrap();
        let end = machine.ranges(MemoryKind::Capture)[0].end;
        let buffer = Range::new((end.get() - PAGE_SIZE).into(), end);
        machine.guard(vec![Own { requester: DISK, memory: buffer }]);
        let disk = taken[0].attach(SourceId(DISK.source), &[], &mut frames).unwrap();
        let iova =
            taken[0].map(&disk, buffer, Permission::ReadWrite, &machine.old_memory(), &mut frames).unwrap();
        assert_eq!(answers(&machine, DISK, iova.get()), if_allowed(Rights::ALL, buffer.start.get()));
        assert_eq!(answers(&machine, OTHER, iova.get()), [None; 2]);
        for requester in [DISK, OTHER] {
            assert_eq!(answers(&machine, requester, 0x5000), [Some(0x5000), None]);
        }
        isolation::check(&machine, 0).unwrap();
    }
}

/// An alias with other rights, and tables that say nothing of reading, take no restriction: such devices no driver gets.
#[test]
fn a_restriction_that_tables_cannot_say_is_not_lifted() {
    let scenario = restricted(scenario(), [READS, WRITES]);
    let machine = scenario.machine();
    let (mut frames, clock) = (machine.frames(PLENTY), machine.clock());
    let mut taken = take_over(&scenario, &machine, &mut frames, &clock, &limits()).unwrap();
    let (disk, alias) = (SourceId(DISK.source), SourceId(OTHER.source));
    assert_eq!(taken[0].attach(disk, &[alias], &mut frames), Err(AttachError::Restricted(disk)));
    assert_eq!(answers(&machine, DISK, IOVA), if_allowed(READS, PAGE));

    let mut scenario = restricted(crate::story::scenario(), [READS, Rights::ALL]);
    let mapping = Mapping { iova: 0x5000.into(), ..scenario.domains[0].mappings[0] };
    scenario.domains = vec![Domain {
        id: DOMAIN,
        stage: Stage::Guest,
        top: Level::FOUR,
        mappings: vec![mapping],
        ..Domain::default()
    }];
    let feature = &mut scenario.units[0].traits.feature;
    *feature = feature.with_gio(true).with_gats(0).with_pasid_max(15);
    let machine = scenario.machine();
    let (mut frames, clock) = (machine.frames(PLENTY), machine.clock());
    let mut taken = take_over(&scenario, &machine, &mut frames, &clock, &limits()).unwrap();
    assert_eq!(taken[0].attach(disk, &[], &mut frames), Err(AttachError::Restricted(disk)));
}
