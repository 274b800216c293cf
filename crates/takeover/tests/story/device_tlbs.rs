//! Devices with a device-TLB.

use super::*;
use takeover::hazard::{Hazard, HazardPlace};

/// A second disk.
const OTHER: SourceId = SourceId::at(0, 3, 0);

fn tlb(source: SourceId) -> DeviceTlb {
    DeviceTlb { source, enabled: true, physical: source, depth: 32, tellings: 1 }
}

/// A kernel whose three devices have ATS enabled; the sound card's context entry does not allow it a device-TLB.
fn kernel() -> Kernel {
    let mut kernel = Kernel::new(TableMode::LEGACY, ExtendedCapability::new().with_dt(true));
    for (source, translation, id) in [(DISK, 1, 7), (OTHER, 1, 8), (SOUND, 0, 9)] {
        let top = kernel.table();
        kernel.map(top, Level::ONE, 0x1000, 0x5000);
        kernel.legacy_context(source, translation, top, id);
    }
    kernel.device_tlbs = vec![tlb(DISK), tlb(OTHER), tlb(SOUND)];
    kernel
}

/// Their TLBs are invalidated after the unit's own caches, and again when a mapping of their domain ends.
#[test]
fn devices_that_keep_translations_are_told_to_forget() {
    let kernel = kernel();
    let (mut taken, mut frames) = kernel.die();
    assert_eq!(kernel.world.told.take(), [(DISK, None), (OTHER, None)]);
    assert_eq!(taken.report().hazards.count(), 0);
    let disk = taken.attach(DISK, &[], &mut frames).unwrap();
    let iova = taken
        .map(&disk, own_pages(0x1000), Permission::ReadWrite, &kernel.memory(), &mut frames)
        .unwrap()
        .get();
    taken.unmap(&disk, Range::from(iova..iova + 0x1000), &mut frames).unwrap();
    assert_eq!(kernel.world.told.take(), [(DISK, None)]);
}

/// A device that does not answer is a hazard of its own. It gets no second invalidation, which would take as long
/// again.
#[test]
fn a_device_that_does_not_answer_stops_nobody() {
    let kernel = kernel();
    kernel.world.silent.set(Some(DISK));
    let (mut taken, mut frames) = kernel.die();
    assert_eq!(kernel.world.told.take(), [(DISK, None), (OTHER, None)]);
    let hazard = Hazard {
        place: HazardPlace::Device(DISK),
        danger: Danger::DeviceTlbSilent,
        outcome: Outcome::KeptInPlace,
    };
    assert_eq!(taken.report().hazards.listed, [hazard]);
    let disk = taken.attach(DISK, &[], &mut frames).unwrap();
    let iova = taken
        .map(&disk, own_pages(0x1000), Permission::ReadWrite, &kernel.memory(), &mut frames)
        .unwrap()
        .get();
    taken.unmap(&disk, Range::from(iova..iova + 0x1000), &mut frames).unwrap();
    assert_eq!(kernel.world.told.take(), []);
}

#[test]
fn a_device_forgets_what_it_keeps_of_each_pasid() {
    let extended = ExtendedCapability::new().with_smts(true).with_ssts(true).with_dt(true);
    let mut kernel = Kernel::new(TableMode::SCALABLE, extended);
    let top = kernel.table();
    let directory = kernel.scalable_context(DISK, 2, top, 1);
    let pasids = kernel.below(directory, 0, 1);
    // PASID 5 has the same tables. DTE is bit 2 of the context entry.
    kernel.set(pasids, 5 * 8, top | 2 << 6 | 1 << 2 | 1);
    kernel.set(pasids, 5 * 8 + 1, 1);
    let contexts = kernel.below(kernel.root(), 0, 1);
    kernel.set(contexts, usize::from(DISK.devfn()) * 4, directory | 2 << 9 | 1 << 2 | 1);
    kernel.device_tlbs = vec![tlb(DISK)];
    let _ = kernel.die();
    assert_eq!(kernel.world.told.take(), [(DISK, None), (DISK, Some(5))]);
}

/// A virtual function is in nobody's list unless somebody looks for it: its vendor reads FFFFh. Its context tells of it.
#[test]
fn sriov_functions_that_nobody_found_are_told_to_forget_too() {
    let mut kernel = kernel();
    kernel.device_tlbs.retain(|known| known.source != DISK);
    let (taken, _) = kernel.die();
    assert_eq!(kernel.world.told.take(), [(OTHER, None), (DISK, None)]);
    let hazard = Hazard {
        place: HazardPlace::Device(DISK),
        danger: Danger::DeviceTlbUnknown,
        outcome: Outcome::Duplicated,
    };
    assert_eq!(taken.report().hazards.listed, [hazard]);
}

/// An invalidation to a device whose ATS is off is answered by nobody (it is no request that the device supports).
#[test]
fn a_device_that_is_known_to_keep_nothing_is_not_asked() {
    let mut kernel = kernel();
    kernel.device_tlbs[0].enabled = false;
    let (taken, _) = kernel.die();
    assert_eq!(kernel.world.told.take(), [(OTHER, None)]);
    assert_eq!(taken.report().hazards.count(), 0);
}

#[test]
fn a_device_that_misses_the_first_telling_is_told_twice() {
    let mut kernel = kernel();
    kernel.device_tlbs[0].tellings = 2;
    let _ = kernel.die();
    assert_eq!(kernel.world.told.take(), [(DISK, None), (DISK, None), (OTHER, None)]);
}
