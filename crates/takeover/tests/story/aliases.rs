//! Devices behind bridges to conventional buses: their requests carry the bridge's source-id.

use super::*;
use takeover::hazard::{Hazard, HazardPlace};

/// A disk on bus 2, behind a PCI Express to PCI bridge that sends its requests as 02:00.0.
const BEHIND: SourceId = SourceId::at(2, 3, 0);
const BRIDGE: SourceId = SourceId::at(2, 0, 0);

/// The old kernel knew neither: both get the same new domain.
#[test]
fn a_new_domain_is_for_all_source_ids_of_a_device() {
    for kernel in [Kernel::legacy(), Kernel::scalable()] {
        let (mut taken, mut frames) = kernel.die();
        let disk = taken.attach(BEHIND, &[BRIDGE], &mut frames).unwrap();
        let iova = taken
            .map(&disk, own_pages(0x1000), Permission::ReadWrite, &kernel.memory(), &mut frames)
            .unwrap()
            .get();
        assert_eq!(kernel.reach(BEHIND, iova), Some(OWN.start));
        assert_eq!(kernel.reach(BRIDGE, iova), Some(OWN.start));
        assert_eq!(taken.attach(BEHIND, &[BRIDGE], &mut frames).unwrap(), disk);
    }
}

/// The old kernel gave its domain to the bridge alone, whose source-id is the one that counts.
#[test]
fn the_domain_of_the_last_alias_is_inherited() {
    let mut kernel = Kernel::legacy();
    let top = kernel.table();
    kernel.map(top, Level::ONE, 0x1000, 0x5000);
    kernel.legacy_context(BRIDGE, 0, top, 7);
    let (mut taken, mut frames) = kernel.die();
    let disk = taken.attach(BEHIND, &[BRIDGE], &mut frames).unwrap();
    assert_eq!((disk.id, disk.inherited), (7, Inherited::Tables));
    assert_eq!(kernel.reach(BEHIND, 0x1000), Some(0x5000));
}

/// Devices that the old kernel kept apart stay apart: the device's own requests stay in their domain.
#[test]
fn an_alias_in_another_domain_is_left_there_and_told() {
    let mut kernel = Kernel::legacy();
    for (source, memory, id) in [(BEHIND, 0x5000, 7), (BRIDGE, 0x6000, 8)] {
        let top = kernel.table();
        kernel.map(top, Level::ONE, 0x1000, memory);
        kernel.legacy_context(source, 0, top, id);
    }
    let (mut taken, mut frames) = kernel.die();
    let disk = taken.attach(BEHIND, &[BRIDGE], &mut frames).unwrap();
    assert_eq!(disk.id, 8);
    assert_eq!((kernel.reach(BEHIND, 0x1000), kernel.reach(BRIDGE, 0x1000)), (Some(0x5000), Some(0x6000)));
    let hazard = Hazard {
        place: HazardPlace::Device(BEHIND),
        danger: Danger::AliasElsewhere(7),
        outcome: Outcome::Duplicated,
    };
    assert_eq!(taken.report().hazards.listed, [hazard]);
}
