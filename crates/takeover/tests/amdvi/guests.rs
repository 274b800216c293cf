//! Guest tables that the unit takes no notice of, and CR3 tables that guests do not own.

use ::amdvi::device_table::DeviceTableEntry;
use machine::{Frames, Level, PAGE_SIZE, Permission, Range, SourceId};
use model::amdvi::Scenario;
use model::amdvi::damage::{Damage, Harm, Victim};
use model::amdvi::scenario::{
    Attached, Cr3Addresses, DeviceTlb, Domain, GuestTables, Mapping, Process, Stage,
};
use model::{Answer, Direction, Machine, MemoryKind, Own, OwnFrames, Requester};
use takeover::hazard::{Danger, HazardPlace};
use takeover::{Inherited, Outcome};
use verdict::{isolation, limits, told};

use crate::common::{PLENTY, take_over};
use crate::story::{DISK, DOMAIN, IOVA, PAGE, dangers, reach, scenario};

/// A page of the guest, at an address that its host maps.
const GUESTS: u64 = 0x5000;

/// The disk belongs to a guest: `stage` says whether its guest tables are nested in the host's, which is the second domain.
fn of_guest(stage: Stage) -> Scenario {
    let mut scenario = scenario();
    let mapping = scenario.domains[0].mappings[0];
    let host = Domain { top: Level::FOUR, ..scenario.domains[0].clone() };
    let memory = if stage == Stage::Guest { PAGE } else { IOVA };
    let mappings = vec![Mapping { iova: GUESTS.into(), memory: memory.into(), ..mapping }];
    let guest = Domain { stage, top: Level::FOUR, mappings, ..host.clone() };
    let feature = &mut scenario.units[0].traits.feature;
    *feature = feature.with_gio(true).with_gats(0).with_pasid_max(15);
    scenario.domains = vec![guest, host];
    scenario.functions[0].works_at = vec![GUESTS.into()];
    scenario
}

/// The same on a unit whose guest translation is off (GTEn): it takes no notice of the guest tables.
fn ignored(stage: Stage) -> Scenario {
    let mut scenario = of_guest(stage);
    scenario.units[0].guest_tables = GuestTables::Ignored;
    scenario.functions[0].works_at = vec![IOVA.into(), 0x6000.into()];
    scenario
}

fn own(machine: &Machine) -> u64 {
    machine.ranges(MemoryKind::Capture)[0].start.get()
}

/// Mode 0: all that the device asks for passed untranslated, and reached our memory.
#[test]
fn a_device_whose_guest_tables_are_ignored_passed_and_does_not_reach_our_memory() {
    let scenario = ignored(Stage::Guest);
    let machine = scenario.machine();
    assert_eq!(reach(&machine, DISK, own(&machine)), Some(own(&machine)));
    let (mut frames, clock) = (machine.frames(PLENTY), machine.clock());
    let mut taken = take_over(&scenario, &machine, &mut frames, &clock, &limits()).unwrap();
    machine.run(200);
    assert_eq!((reach(&machine, DISK, 0x6000), reach(&machine, DISK, own(&machine))), (Some(0x6000), None));
    isolation::check(&machine, 0).unwrap();
    assert_eq!(taken[0].report().contexts[0].outcome, Outcome::Fenced);
    let end = machine.ranges(MemoryKind::Capture)[0].end;
    let buffer = Range::new((end.get() - PAGE_SIZE).into(), end);
    machine.guard(vec![Own { requester: DISK, memory: buffer }]);
    let disk = taken[0].attach(SourceId(DISK.source), &[], &mut frames).unwrap();
    assert_eq!(disk.inherited, Inherited::Tables);
    let iova =
        taken[0].map(&disk, buffer, Permission::ReadWrite, &machine.old_memory(), &mut frames).unwrap();
    assert_eq!(reach(&machine, DISK, iova.get()), Some(buffer.start.get()));
    assert_eq!(machine.violations(), [], "{}", told(&machine));
}

/// Host tables: they alone translate, so the domain is as any other.
#[test]
fn a_device_whose_nested_tables_are_ignored_keeps_its_hosts() {
    let scenario = ignored(Stage::Nested(1));
    let machine = scenario.machine();
    let (mut frames, clock) = (machine.frames(PLENTY), machine.clock());
    let mut taken = take_over(&scenario, &machine, &mut frames, &clock, &limits()).unwrap();
    machine.run(200);
    assert_eq!(reach(&machine, DISK, IOVA + 0x12), Some(PAGE + 0x12));
    assert_eq!((dangers(&taken[0]), taken[0].report().contexts[0].outcome), (vec![], Outcome::Duplicated));
    let disk = taken[0].attach(SourceId(DISK.source), &[], &mut frames).unwrap();
    assert_eq!((disk.id, disk.inherited), (DOMAIN, Inherited::Tables));
    assert_eq!(machine.violations(), [], "{}", told(&machine));
}

/// Its device-TLB keeps what the guest had mapped at an address, and the driver gets that address in a new domain.
#[test]
fn a_device_of_a_guest_keeps_nothing_of_the_guests_when_a_driver_gets_it() {
    let mut scenario = of_guest(Stage::Nested(1));
    scenario.functions[0].device_tlb = Some(DeviceTlb::Answers);
    let machine = scenario.machine();
    let (mut frames, clock) = (machine.frames(PLENTY), machine.clock());
    let mut taken = take_over(&scenario, &machine, &mut frames, &clock, &limits()).unwrap();
    machine.run(200);
    let warm = || machine.access(0, DISK.access(GUESTS, Direction::Write));
    assert_eq!(warm(), Answer::Memory(PAGE.into()));
    let end = machine.ranges(MemoryKind::Capture)[0].end;
    let buffer = Range::new((end.get() - PAGE_SIZE).into(), end);
    let disk = taken[0].attach(SourceId(DISK.source), &[], &mut frames).unwrap();
    let old = machine.old_memory();
    let mut map = || taken[0].map(&disk, buffer, Permission::ReadWrite, &old, &mut frames).unwrap().get();
    while map() < GUESTS {}
    assert_eq!(warm(), Answer::Memory(buffer.start));
}

/// A nested guest, whose CR3 table the host made: its address is physical (GCR3TRPMode is clear).
fn with_cr3_of_host(change: impl FnOnce(&mut Scenario)) -> Scenario {
    let mut scenario = of_guest(Stage::Nested(1));
    scenario.units[0].cr3_addresses = Cr3Addresses::Physical;
    scenario.functions[0].processes = vec![Process { pasid: 9, domain: 0, works_at: vec![GUESTS.into()] }];
    change(&mut scenario);
    scenario
}

/// The disk's entry in the device table that is in force.
fn entry(machine: &Machine, frames: &OwnFrames) -> DeviceTableEntry {
    let word = usize::from(DISK.source) * 4;
    DeviceTableEntry::from_words(core::array::from_fn(|offset| frames.load(machine.root(0), word + offset)))
}

/// The unit reads such a table past its host tables, so it does not stay in memory that devices may write to.
#[test]
fn a_cr3_table_that_the_host_made_is_copied_though_guests_tables_stay() {
    let scenario = with_cr3_of_host(|_| {});
    let machine = scenario.machine();
    let (mut frames, clock) = (machine.frames(PLENTY), machine.clock());
    let taken = take_over(&scenario, &machine, &mut frames, &clock, &limits()).unwrap();
    machine.run(200);
    let own = machine.ranges(MemoryKind::Capture)[0];
    let cr3 = entry(&machine, &frames).cr3_table();
    assert!(own.contains(cr3), "{cr3:#x}");
    let process = Requester { pasid: Some(9), ..DISK };
    for requester in [DISK, process] {
        assert_eq!(reach(&machine, requester, GUESTS + 0x12), Some(PAGE + 0x12));
    }
    let guest = (HazardPlace::Device(SourceId(DISK.source)), Danger::GuestTables, Outcome::KeptInPlace);
    assert_eq!(dangers(&taken[0]), [guest]);
    assert_eq!(machine.violations(), [], "{}", told(&machine));
}

/// Its address is no memory's: requests with PASIDs faulted, and those without did where guest tables translated them too.
#[test]
fn a_cr3_table_that_is_nowhere_costs_no_more_than_it_did() {
    let lost = Damage { victim: Victim::Entry { source: DISK.source, word: 1 }, harm: Harm::Flip(63) };
    for without_pasid in [true, false] {
        let scenario = with_cr3_of_host(|scenario| {
            scenario.damage.push(lost);
            if !without_pasid {
                scenario.functions[0].attached = Attached::To(1);
                scenario.functions[0].works_at = vec![IOVA.into()];
            }
        });
        let machine = scenario.machine();
        let (mut frames, clock) = (machine.frames(PLENTY), machine.clock());
        let taken = take_over(&scenario, &machine, &mut frames, &clock, &limits()).unwrap();
        machine.run(200);
        let place = HazardPlace::Device(SourceId(DISK.source));
        let said = dangers(&taken[0]);
        let is_said = said.iter().any(|(at, danger, outcome)| {
            (*at, *outcome) == (place, Outcome::Blocked) && matches!(danger, Danger::TableUnreadable(_))
        });
        assert!(is_said, "{said:?}");
        let page = (!without_pasid).then_some(PAGE);
        assert_eq!(reach(&machine, DISK, IOVA), page);
        assert!(!entry(&machine, &frames).host.guest_valid());
        assert_eq!(machine.violations(), [], "{}", told(&machine));
    }
}
