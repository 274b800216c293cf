//! What a device keeps itself for a guest's processes.

use machine::{Level, SourceId};
use model::amdvi::scenario::{Attached, Cr3Addresses, DeviceTlb, Domain, Mapping, Process, Stage};
use model::{Answer, Direction, MemoryKind, Requester};
use takeover::Outcome;
use takeover::hazard::{Danger, HazardPlace};
use verdict::limits;

use crate::common::{PLENTY, take_over};
use crate::story::{DISK, IOVA, dangers, scenario};

/// An address of the guest's.
const GUESTS: u64 = 0x5000;

/// Nobody but the guest knows their PASIDs, so the device cannot be told to drop that: the report says so.
#[test]
fn what_a_device_keeps_for_a_guests_processes_is_told_of() {
    for cr3_addresses in [Cr3Addresses::Guests, Cr3Addresses::Physical] {
        let mut scenario = scenario();
        let own = scenario.machine().ranges(MemoryKind::Capture)[0].start;
        let mapping = scenario.domains[0].mappings[0];
        let host = Domain {
            top: Level::FOUR,
            mappings: vec![mapping, Mapping { iova: 0x7000.into(), memory: own, ..mapping }],
            ..scenario.domains[0].clone()
        };
        let mappings = vec![Mapping { iova: GUESTS.into(), memory: 0x7000.into(), ..mapping }];
        let guest = Domain { stage: Stage::Nested(1), top: Level::FOUR, mappings, ..host.clone() };
        let feature = &mut scenario.units[0].traits.feature;
        *feature = feature.with_gio(true).with_gats(0).with_pasid_max(15);
        scenario.units[0].cr3_addresses = cr3_addresses;
        scenario.domains = vec![guest, host];
        let disk = &mut scenario.functions[0];
        (disk.attached, disk.id, disk.works_at) = (Attached::To(1), Some(77), vec![IOVA.into()]);
        disk.processes = vec![Process { pasid: 5, domain: 0, works_at: vec![GUESTS.into()] }];
        disk.device_tlb = Some(DeviceTlb::Answers);
        let machine = scenario.machine();
        let access = Requester { pasid: Some(5), ..DISK }.access(GUESTS, Direction::Write);
        assert_eq!(machine.access(0, access), Answer::Memory(own));
        let (mut frames, clock) = (machine.frames(PLENTY), machine.clock());
        let taken = take_over(&scenario, &machine, &mut frames, &clock, &limits()).unwrap();
        assert_eq!(machine.access(0, access), Answer::Memory(own), "it was told, and nothing need be said");
        assert!(matches!(machine.answer(0, access), Answer::Blocked(_)), "the tables let it reach that");
        let place = HazardPlace::Device(SourceId(DISK.source));
        let kept = (place, Danger::DeviceTlbOfGuest, Outcome::KeptInPlace);
        assert!(dangers(&taken[0]).contains(&kept), "{:?}", dangers(&taken[0]));
    }
}
