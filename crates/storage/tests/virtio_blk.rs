//! The virtio disk driver against a device that keeps to the specification, and against some that do not.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests may stop at the first surprise, as tests do"
)]

#[allow(dead_code, reason = "a part of it is for the tests of other drivers")]
mod fake;
mod steps;

use std::time::Duration;

use fake::machine::Shared;
use fake::virtio_blk::{
    self, ACCESS_PLATFORM, BLK_SIZE, FLUSH, FakeAccess, FakeDisk, Fault, Model, PATIENCE, POOL, RO, SIZE_MAX,
    VERSION_1, World,
};
use machine::{BlockDevice, BlockError};
use proptest::prelude::*;
use steps::steps;
use storage::{Addressing, OpenError, Pool, SHORT, StartError, UNASKED};

/// More than anything takes besides waiting for a deadline.
const A_MOMENT: Duration = Duration::from_millis(500);

fn started(model: Model) -> (Shared<World>, FakeDisk) {
    let world = virtio_blk::machine(model);
    let disk = virtio_blk::start(&world, POOL).unwrap();
    (world, disk)
}

fn faulty(fault: Fault) -> (Shared<World>, FakeDisk) {
    started(Model { fault, ..Model::default() })
}

/// The function has one disk; before and after it there is nothing to read.
#[test]
fn the_function_has_one_disk() {
    let (_, mut disk) = started(Model::default());
    disk.read(0, &mut [0; 512]).unwrap();
    assert_eq!(disk.advance(), None);
    assert_eq!(disk.read(0, &mut [0; 512]), Err(BlockError::OutOfBounds));
    assert_eq!(disk.size(), 0);
}

/// The whole life of a disk, as section 3.1.1 of the specification orders it:
///
/// 1. the device gets memory, at addresses of the kind that it wants;
/// 2. reset, which ends what the old kernel had running;
/// 3. ACKNOWLEDGE, DRIVER;
/// 4. features: the low half, then both; FEATURES_OK;
/// 5. a queue of 16 entries, which holds 5 chains of 3;
/// 6. DRIVER_OK;
/// 7. writes, of which up to 5 are in flight; a read that sees them; a flush that makes them durable.
#[test]
fn a_disk_is_brought_up_written_read_and_flushed() {
    let (world, mut disk) = started(Model::default());
    let trace = world.borrow().trace.join("\n");
    assert_eq!(
        trace,
        "attached: Platform\n\
         status = 0x00\n\
         status = 0x01\n\
         status = 0x03\n\
         features = 0x240\n\
         features = 0x300000240\n\
         status = 0x0b\n\
         queue size = 16\n\
         queue enabled\n\
         status = 0x0f"
    );
    assert_eq!((disk.size(), disk.block_size()), (512 * 512, 512));

    let data: Vec<u8> = (0..10 * 4096_u32).map(|at| (at / 7) as u8).collect();
    disk.write(8192, &data).unwrap();
    assert!(world.borrow().done.len() >= 5, "ten pieces do not fit five slots");
    let mut back = vec![0; data.len() + 512];
    disk.read(8192, &mut back).unwrap();
    assert_eq!(back[..data.len()], data);
    assert_eq!(back[data.len()..], [(2 + 10) as u8 * 8; 512], "and what was there before");

    assert_ne!(world.borrow().durable, world.borrow().disk);
    disk.flush().unwrap();
    assert_eq!(world.borrow().durable, world.borrow().disk);
    assert_eq!(world.borrow().disk[8192..8192 + data.len()], data);
    assert_eq!(world.borrow().done.last(), Some(&(4, 0)));
}

#[test]
fn a_write_of_many_pieces_rings_once_for_each_time_around() {
    let (world, mut disk) = started(Model::default());
    disk.write(0, &vec![7; 5 * 4096]).unwrap();
    assert_eq!(world.borrow().notifications, 1);
    disk.flush().unwrap();
    assert_eq!(virtio_blk::sectors_written(&world).len(), 5);
}

#[test]
fn a_device_that_looks_by_itself_is_not_rung_for() {
    let (world, mut disk) = started(Model { looks_by_itself: true, ..Model::default() });
    for at in 0..20 {
        disk.write(at * 4096, &[7; 4096]).unwrap();
        disk.flush().unwrap();
    }
    assert!(world.borrow().notifications <= 2);
}

#[test]
fn only_waiting_for_the_device_counts_as_waiting() {
    let (_, mut disk) = started(Model::default());
    disk.write(0, &[1; 4096]).unwrap();
    assert_eq!(disk.waited(), Duration::ZERO, "a slot was free");
    disk.read(0, &mut [0; 4096]).unwrap();
    assert!(disk.waited() > Duration::ZERO);
}

#[test]
fn writes_to_the_same_block_keep_their_order() {
    for seed in 0..50 {
        let (world, mut disk) = started(Model { seed, ..Model::default() });
        for version in 1..=4 {
            disk.write(0, &[version; 8192]).unwrap();
            disk.write(4096, &[version + 100; 512]).unwrap();
        }
        disk.flush().unwrap();
        assert_eq!(world.borrow().disk[..4096], [4; 4096]);
        assert_eq!(world.borrow().disk[4096..4608], [104; 512]);
    }
}

#[test]
fn without_a_cache_nothing_is_flushed() {
    let (world, mut disk) = started(Model { features: VERSION_1 | ACCESS_PLATFORM, ..Model::default() });
    disk.write(0, &[7; 4096]).unwrap();
    disk.flush().unwrap();
    assert_eq!(world.borrow().done, [(1, 0)]);
}

#[test]
fn a_small_queue_is_enough() {
    for (entries, slots) in [(4, 1), (8, 2), (15, 2), (16, 5), (1024, 5)] {
        let (_, mut disk) = started(Model { queue_size: entries, ..Model::default() });
        assert_eq!(disk.pool().slots, slots, "{entries} entries");
        disk.write(0, &vec![7; 6 * 4096]).unwrap();
        disk.flush().unwrap();
    }
}

#[test]
fn little_memory_is_enough() {
    let world = virtio_blk::machine(Model::default());
    virtio_blk::limit_memory(&world, 2 * 4096 + 2 * 4096);
    assert_eq!(virtio_blk::start(&world, POOL).unwrap().pool(), Pool { slots: 2, ..POOL });
    virtio_blk::limit_memory(&world, 2 * 4096);
    assert_eq!(virtio_blk::start(&world, POOL).err(), Some(StartError::NoMemory));
}

#[test]
fn sectors_are_512_bytes_whatever_the_block_size() {
    let (world, mut disk) = started(Model { blk_size: 4096, sectors: 515, ..Model::default() });
    assert_eq!((disk.size(), disk.block_size()), (512 * 512, 4096), "half a block at the end is left out");
    disk.write(8192, &[7; 4096]).unwrap();
    disk.flush().unwrap();
    assert_eq!(world.borrow().done[0], (1, 16));
    assert_eq!(disk.write(512, &[7; 4096]), Err(BlockError::Misaligned));
}

#[test]
fn segments_are_no_longer_than_the_device_takes() {
    let features = Model::default().features | SIZE_MAX;
    let (world, mut disk) = started(Model { features, size_max: 1600, ..Model::default() });
    disk.write(0, &[7; 4096]).unwrap();
    disk.flush().unwrap();
    assert_eq!(virtio_blk::sectors_written(&world), [0, 3, 6].into());
}

#[test]
fn nothing_is_done_past_the_end() {
    let (world, mut disk) = started(Model::default());
    let end = disk.size();
    for offset in [end - 512, end, u64::MAX - 511] {
        assert_eq!(disk.write(offset, &[0; 1024]), Err(BlockError::OutOfBounds));
        assert_eq!(disk.read(offset, &mut [0; 1024]), Err(BlockError::OutOfBounds));
    }
    assert_eq!(disk.write(0, &[0; 100]), Err(BlockError::Misaligned));
    disk.flush().unwrap();
    assert_eq!(world.borrow().done, [(4, 0)]);
}

#[test]
fn a_disk_that_cannot_be_used_is_refused_for_a_reason() {
    let ok = Model::default();
    let features = ok.features;
    for (model, error) in [
        (Model { features: features | RO, ..ok.clone() }, StartError::ReadOnly),
        (Model { features: features & !VERSION_1, ..ok.clone() }, StartError::Features),
        (Model { fault: Fault::RefusesFeatures, ..ok.clone() }, StartError::Features),
        (Model { fault: Fault::TurnsPhysical, ..ok.clone() }, StartError::Addressing(Addressing::Physical)),
        (Model { blk_size: 520, ..ok.clone() }, StartError::Geometry),
        (Model { blk_size: 8192, ..ok.clone() }, StartError::Geometry),
        (Model { features: features | SIZE_MAX, size_max: 511, ..ok.clone() }, StartError::Geometry),
        (Model { queue_size: 0, ..ok.clone() }, StartError::Queue),
        (Model { queue_size: 2, ..ok.clone() }, StartError::Queue),
        (Model { notify_off: 16, ..ok.clone() }, StartError::Queue),
    ] {
        let world = virtio_blk::machine(model);
        assert_eq!(virtio_blk::start(&world, POOL).err(), Some(error));
        assert_ne!(world.borrow().status & 0x80, 0, "FAILED is set");
        assert_eq!(world.borrow().status & 0x04, 0, "DRIVER_OK is not");
    }
}

/// Bit 12 is `VIRTIO_BLK_F_MQ`, bit 2 `VIRTIO_BLK_F_SEG_MAX`: there are several queues, and requests may have several segments. One
/// queue and one segment are always allowed, so that neither is accepted.
#[test]
fn several_queues_and_segments_are_left_alone() {
    let offered = Model::default().features | 1 << 12 | 1 << 2;
    let (world, mut disk) = started(Model { features: offered, ..Model::default() });
    assert!(world.borrow().trace.contains(&format!("features = {:#x}", Model::default().features)));
    disk.write(0, &vec![7; 10 * 4096]).unwrap();
    disk.flush().unwrap();
    assert!(world.borrow().durable[..40960].iter().all(|byte| *byte == 7));
}

/// A transitional device has another number, and both interfaces.
#[test]
fn a_transitional_device_is_driven_by_its_modern_interface() {
    let world = virtio_blk::machine(Model::default());
    let mut access = FakeAccess::new(&world);
    access.config.put(0x02, &[0x01, 0x10]);
    let mut disk = virtio_blk::open(&mut access, POOL).unwrap();
    disk.write(0, &[7; 512]).unwrap();
    assert_eq!(disk.flush(), Ok(()));
    access.config.put(0x34, &[0]);
    let error = StartError::Missing("common configuration");
    assert_eq!(
        virtio_blk::open(&mut access, POOL).err(),
        Some(OpenError::Start(error)),
        "old interface only"
    );
}

#[test]
fn a_device_that_passes_by_whatever_remaps_is_given_physical_addresses() {
    let (world, _disk) = started(Model { features: VERSION_1, ..Model::default() });
    assert_eq!(world.borrow().trace[0], "attached: Physical");
}

#[test]
fn a_function_without_a_driver_is_left_alone() {
    let world = virtio_blk::machine(Model::default());
    let mut access = FakeAccess::new(&world);
    access.config.put(0x02, &[0x41, 0x10]);
    assert_eq!(virtio_blk::open(&mut access, POOL).err(), Some(OpenError::NoDriver));
    assert!(world.borrow().trace.is_empty());
}

#[test]
fn registers_that_are_nowhere_are_an_error_before_the_device_is_touched() {
    let world = virtio_blk::machine(Model::default());
    let mut access = FakeAccess::new(&world);
    access.config.put(0x54, &[0x00]);
    let error = virtio_blk::open(&mut access, POOL).err().unwrap();
    assert_eq!(error.to_string(), "0x1000 bytes at 0x2000 of BAR 0 could not be mapped");
    assert!(world.borrow().trace.is_empty());
}

#[test]
fn a_disk_too_large_for_an_offset_is_refused() {
    let world = virtio_blk::machine(Model {
        features: VERSION_1 | ACCESS_PLATFORM | BLK_SIZE | FLUSH,
        ..Model::default()
    });
    virtio_blk::claim_sectors(&world, u64::MAX / 512 + 1);
    assert_eq!(virtio_blk::start(&world, POOL).err(), Some(StartError::Geometry));
}

#[test]
fn a_device_that_does_not_get_ready_is_left_when_patience_ends() {
    for fault in [Fault::StuckReset, Fault::NeverSettles] {
        let world = virtio_blk::machine(Model { fault, ..Model::default() });
        assert!(matches!(virtio_blk::start(&world, POOL).err(), Some(StartError::Stuck(_))));
        assert!((PATIENCE..PATIENCE + A_MOMENT).contains(&virtio_blk::elapsed(&world)), "{fault:?}");
    }
}

/// Whoever looks for a disk among many does not lose much on one that is dead.
#[test]
fn a_disk_that_never_completed_anything_is_left_when_patience_ends() {
    let (world, mut disk) = faulty(Fault::DeadAfter(0));
    assert_eq!(disk.read(0, &mut [0; 512]), Err(BlockError::TimedOut));
    assert_eq!(world.borrow().status, 0, "it was reset");
    drop(disk);
    assert!((PATIENCE..PATIENCE + A_MOMENT).contains(&virtio_blk::elapsed(&world)));
}

/// It may be at work on a bad sector.
#[test]
fn a_disk_that_has_completed_something_is_given_more_time() {
    let (world, mut disk) = faulty(Fault::DeadAfter(1));
    assert_eq!(disk.read(0, &mut [0; 512]), Ok(()));
    assert_eq!(disk.read(0, &mut [0; 512]), Err(BlockError::TimedOut));
    assert!(virtio_blk::elapsed(&world) >= Duration::from_secs(30));
}

/// Until it is known to be the right one: the memory of those that were tried is not given back.
#[test]
fn a_disk_takes_little_memory_at_first() {
    let world = virtio_blk::machine(Model::default());
    let (queue, requests, slot) = (4096, 4096, 4096);
    virtio_blk::limit_memory(&world, queue + requests + slot);
    let mut disk = virtio_blk::start_lean(&world, POOL).unwrap();
    assert_eq!(disk.pool().slots, 1);
    disk.write(0, &[7; 4 * 4096]).unwrap();
    disk.read(4096, &mut [0; 4096]).unwrap();
}

#[test]
fn a_disk_that_is_dropped_is_stopped_before_its_memory_goes() {
    let (world, mut disk) = started(Model::default());
    disk.write(0, &[7; 512]).unwrap();
    drop(disk);
    assert_eq!(world.borrow().status, 0);
}

#[test]
fn a_dead_queue_ends_every_call_and_the_device_is_reset() {
    let (world, mut disk) = faulty(Fault::DeadAfter(3));
    assert_eq!(disk.write(0, &vec![7; 16 * 4096]), Err(BlockError::TimedOut));
    assert_eq!(world.borrow().status, 0);
    assert_eq!(disk.write(0, &[7; 512]), Err(BlockError::TimedOut));
    assert_eq!(disk.read(0, &mut [0; 512]), Err(BlockError::TimedOut));
    assert_eq!(disk.flush(), Err(BlockError::TimedOut));
}

#[test]
fn the_error_of_a_queued_write_surfaces_once_at_the_latest_with_the_flush() {
    let (world, mut disk) = faulty(Fault::BadSector(9, 1));
    disk.write(0, &[7; 4 * 4096]).unwrap();
    assert_eq!(disk.flush(), Err(BlockError::Device(1)));
    assert_eq!(disk.flush(), Ok(()));
    assert_eq!(world.borrow().disk[..4096], [7; 4096], "the other writes were done");
    assert_eq!(disk.read(4096, &mut [0; 4096]), Err(BlockError::Device(1)));
}

#[test]
fn a_junk_used_ring_is_an_error_of_the_device() {
    let junk = |fault, pieces: usize| {
        let (world, mut disk) = faulty(fault);
        let first = disk.write(0, &vec![7; pieces * 4096]).and_then(|()| disk.flush());
        assert_eq!(disk.flush(), first, "{fault:?}: it stays an error");
        assert_eq!(world.borrow().status, 0, "{fault:?}: the device is reset");
        first
    };
    let unasked = Err(BlockError::Device(UNASKED));
    for id in [1, 2, 3, 15, 16, 0xffff, 0x1_0000, u32::MAX] {
        assert_eq!(junk(Fault::JunkId(id), 1), unasked, "id {id}");
    }
    assert_eq!(junk(Fault::JunkId(0), 5), unasked);
    assert_eq!(junk(Fault::JunkLen(2), 1), unasked);
    assert_eq!(junk(Fault::JunkLen(u32::MAX), 1), unasked);
    assert_eq!(junk(Fault::Repeats, 5), unasked);
    assert_eq!(junk(Fault::IndexJump(1000), 5), unasked);
}

#[test]
fn a_read_that_was_answered_with_less_is_an_error() {
    let (_, mut disk) = faulty(Fault::JunkLen(512));
    assert_eq!(disk.read(0, &mut [0; 1024]), Err(BlockError::Device(SHORT)));
    assert_eq!(disk.read(0, &mut [0; 512]), Ok(()), "a device may leave the status out of the count");
}

proptest! {
    #[test]
    fn a_disk_holds_what_was_written_last(
        steps in steps(1..60, 30),
        entries in 4_u16..64,
        seed in any::<u64>(),
    ) {
        let (world, mut disk) = started(Model { queue_size: entries, seed, ..Model::default() });
        let expected = world.borrow().disk.clone();
        steps::check(&mut disk, steps, expected, || world.borrow().durable.clone())?;
    }

    #[test]
    fn no_answer_of_a_device_breaks_the_driver(
        fault in prop_oneof![
            any::<u32>().prop_map(Fault::JunkId),
            (0_u32..20).prop_map(Fault::JunkId),
            any::<u32>().prop_map(Fault::JunkLen),
            (0_u32..5000).prop_map(Fault::JunkLen),
            any::<u16>().prop_map(Fault::IndexJump),
            (0_usize..10).prop_map(Fault::DeadAfter),
            (0_u64..64, any::<u8>()).prop_map(|(sector, status)| Fault::BadSector(sector, status)),
        ],
        steps in steps(1..20, 30),
        seed in any::<u64>(),
    ) {
        let (_, mut disk) = started(Model { fault, seed, ..Model::default() });
        steps::take(&mut disk, steps);
    }
}
