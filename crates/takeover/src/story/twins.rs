//! Devices that share a domain, of which one is given to a driver.

use super::*;
use crate::attach::Attachment;

/// A disk and a sound card in one domain.
fn kernels() -> [Kernel; 3] {
    let mut legacy = Kernel::legacy();
    let mut scalable = Kernel::scalable();
    let mut passing = Kernel::legacy();
    let (top, other) = (legacy.table(), scalable.table());
    legacy.map(top, Level::ONE, 0x1000, 0x1000);
    scalable.map(other, Level::ONE, 0x1000, 0x1000);
    for source in [DISK, SOUND] {
        legacy.legacy_context(source, 0, top, 7);
        scalable.scalable_context(source, 2, other, 7);
        passing.legacy_context(source, 2, 0, 7);
    }
    [legacy, scalable, passing]
}

fn map(
    kernel: &Kernel,
    taken: &mut Takeover<'_, Port, World>,
    device: &Attachment,
    frames: &mut Pool,
) -> u64 {
    taken.map(device, OWN.start, 0x1000, Permission::ReadWrite, &kernel.memory(), frames).unwrap()
}

/// It keeps all translations, under another id; what is mapped for it, the other does not reach. The other, which is
/// then alone in its domain, keeps even its id.
#[test]
fn what_is_mapped_for_one_device_is_not_reached_by_another_of_its_domain() {
    for kernel in kernels() {
        let (mut taken, mut frames) = kernel.die();
        let disk = taken.attach(DISK, &[], &mut frames).unwrap();
        assert_eq!((disk.id, disk.inherited), (1, Inherited::Tables));
        let iova = map(&kernel, &mut taken, &disk, &mut frames);
        assert_eq!(kernel.reach(DISK, iova), Some(OWN.start));
        assert_eq!(kernel.reach(SOUND, iova), None);
        assert_eq!((kernel.reach(DISK, 0x1000), kernel.reach(SOUND, 0x1000)), (Some(0x1000), Some(0x1000)));
        assert_eq!(taken.attach(DISK, &[], &mut frames).unwrap(), disk);

        let sound = taken.attach(SOUND, &[], &mut frames).unwrap();
        assert_eq!((sound.id, sound.inherited), (7, Inherited::Tables));
        let iova = map(&kernel, &mut taken, &sound, &mut frames);
        assert_eq!(kernel.reach(SOUND, iova), Some(OWN.start));
    }
}

/// The unit may have cached that the device is in the shared domain.
#[test]
fn the_unit_forgets_where_a_device_was_when_it_gets_a_domain_of_its_own() {
    let [kernel, ..] = kernels();
    let (mut taken, mut frames) = kernel.die();
    kernel.world.forgotten.take();
    taken.attach(DISK, &[], &mut frames).unwrap();
    assert_eq!(kernel.world.forgotten.take(), [DescriptorType::CONTEXT_CACHE, DescriptorType::IOTLB]);
}

/// There is a dump even so; that others reach what the disk reaches is told.
#[test]
fn without_frames_for_a_twin_the_domain_stays_shared() {
    let [kernel, ..] = kernels();
    let (mut taken, mut frames) = kernel.die();
    let before = frames.available();
    while frames.available() > 2 {
        frames.allocate();
    }
    let disk = taken.attach(DISK, &[], &mut frames).unwrap();
    assert_eq!(disk.id, 7);
    assert_eq!(frames.available(), 2, "of {before}: what was begun is given back");
    assert_eq!(taken.report().hazards.listed.last().unwrap().danger, Danger::DomainShared(7));
}
