//! Devices that share a domain, one of which is given to a driver.

use super::*;
use takeover::attach::Attachment;
use takeover::failure::AttachError;

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
    taken.map(device, own_pages(0x1000), Permission::ReadWrite, &kernel.memory(), frames).unwrap().get()
}

/// The device keeps all translations, under another id; the other device does not reach what is mapped for it. That
/// one is then alone in its domain, and keeps even its id.
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

/// The path of a mapping has three tables. The twin has the uppermost from the start and takes one frame; the mapping
/// takes two, and each of the two domains takes its own. The map that replaces pass-through is for other units too, so
/// there the second domain takes an upper table of its own as well. A later change in one domain does not affect the
/// other.
#[test]
fn domains_share_their_tables_until_one_of_them_is_given_a_mapping() {
    for (kernel, of_both) in kernels().into_iter().zip([5, 5, 6]) {
        let (mut taken, mut frames) = kernel.die();
        let taken_by = |frames: &Pool, before: usize| before - frames.available();
        let before = frames.available();
        let disk = taken.attach(DISK, &[], &mut frames).unwrap();
        assert_eq!(taken_by(&frames, before), 1);
        let on_disk = map(&kernel, &mut taken, &disk, &mut frames);
        assert_eq!(taken_by(&frames, before), 3);
        let sound = taken.attach(SOUND, &[], &mut frames).unwrap();
        let on_sound = map(&kernel, &mut taken, &sound, &mut frames);
        assert_eq!(taken_by(&frames, before), of_both);

        assert_eq!(on_disk, on_sound, "they do not know of each other");
        let page = Range::from(on_disk..on_disk + PAGE_SIZE);
        taken.unmap(&disk, page, &mut frames).unwrap();
        assert_eq!((kernel.reach(DISK, on_disk), kernel.reach(SOUND, on_disk)), (None, Some(OWN.start)));
        taken.unmap(&sound, page, &mut frames).unwrap();
        assert_eq!(kernel.reach(SOUND, on_disk), None);
        assert_eq!((kernel.reach(DISK, 0x1000), kernel.reach(SOUND, 0x1000)), (Some(0x1000), Some(0x1000)));
    }
}

/// If there is no frame for a twin, the device is not attached: others must not reach what is mapped for it.
#[test]
fn without_a_frame_for_a_twin_the_device_is_not_attached() {
    let [kernel, ..] = kernels();
    let (mut taken, mut frames) = kernel.die();
    while frames.allocate().is_some() {}
    assert_eq!(taken.attach(DISK, &[], &mut frames), Err(AttachError::OutOfFrames));
    assert_eq!((kernel.reach(DISK, 0x1000), kernel.reach(SOUND, 0x1000)), (Some(0x1000), Some(0x1000)));
}

/// A unit with 16 domain-ids, all named by contexts. The ids of refused contexts are free once the unit's caches hold
/// nothing under them.
#[test]
fn a_twin_gets_the_id_of_a_context_that_was_refused_when_there_is_no_other() {
    const RESERVED_TYPE: u64 = 3;
    let crowded = |kind: u64| {
        let [mut kernel, ..] = kernels();
        kernel.has(|capability| capability.with_nd(0));
        for id in (1..16).filter(|id| *id != 7) {
            let top = kernel.table();
            kernel.legacy_context(SourceId::at(3, id as u8, 0), kind, top, id);
        }
        kernel
    };
    let kernel = crowded(RESERVED_TYPE);
    let (mut taken, mut frames) = kernel.die();
    let disk = taken.attach(DISK, &[], &mut frames).unwrap();
    assert_eq!((disk.id, disk.inherited), (1, Inherited::Tables));
    let iova = map(&kernel, &mut taken, &disk, &mut frames);
    assert_eq!((kernel.reach(DISK, iova), kernel.reach(SOUND, iova)), (Some(OWN.start), None));

    let kernel = crowded(0);
    let (mut taken, mut frames) = kernel.die();
    assert_eq!(taken.attach(DISK, &[], &mut frames), Err(AttachError::NoDomainId));
}

/// Two disks behind one bridge, whose source-id is all that the unit sees of them: the second joins the first one's
/// domain, or the first would no longer reach what is mapped for it.
#[test]
fn devices_with_an_alias_in_common_share_the_domain_that_either_was_given() {
    const BRIDGE: SourceId = SourceId::at(0, 30, 0);
    const OTHER: SourceId = SourceId::at(1, 1, 0);
    let [mut kernel, ..] = kernels();
    let top = kernel.table();
    kernel.legacy_context(BRIDGE, 0, top, 3);
    let (mut taken, mut frames) = kernel.die();
    let first = taken.attach(SourceId::at(1, 0, 0), &[BRIDGE], &mut frames).unwrap();
    let of_first = map(&kernel, &mut taken, &first, &mut frames);
    let second = taken.attach(OTHER, &[BRIDGE], &mut frames).unwrap();
    let of_second = map(&kernel, &mut taken, &second, &mut frames);
    assert_eq!(second.id, first.id);
    assert_ne!(of_first, of_second);
    assert!([of_first, of_second].iter().all(|iova| kernel.reach(BRIDGE, *iova) == Some(OWN.start)));
}
