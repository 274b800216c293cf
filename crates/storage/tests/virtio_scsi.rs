//! The driver of virtio SCSI hosts against a host that keeps to the specification, and against some that do not.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests may stop at the first surprise, as tests do"
)]

#[allow(dead_code, reason = "a part of it is for the tests of other drivers")]
mod fake;

use std::time::Duration;

use fake::machine::Shared;
use fake::scsi::{DISK, Host, Looked, Refusal, Unit, look};
use fake::virtio_blk::{self, ACCESS_PLATFORM, FakeDisk, Fault, Model, PATIENCE, VERSION_1, World};
use machine::{BlockDevice, BlockError};
use proptest::prelude::*;
use storage::{Place, StartError, UNASKED};

const A_MOMENT: Duration = Duration::from_millis(500);
/// A reset that nobody has been told of yet.
const ATTENTION: Refusal = (0, 2, 6, 0x2900);
/// The unit is busy.
const BUSY: Refusal = (0, 8, 0, 0);

fn model(host: Host) -> Model {
    let features = VERSION_1 | ACCESS_PLATFORM;
    Model { features, host: Some(host), ..Model::default() }
}

/// Starts a host, and looks at what it has up to the first disk that can be used.
fn looked(model: Model) -> (Shared<World>, FakeDisk, Vec<Looked>) {
    let world = virtio_blk::machine(model);
    let mut disk = virtio_blk::start_host(&world).unwrap();
    let found = look(|| disk.advance());
    if found.last().is_some_and(|(_, usable)| usable.is_ok()) {
        virtio_blk::fill_pool(&world, &mut disk);
    }
    (world, disk, found)
}

fn started(model: Model) -> (Shared<World>, FakeDisk) {
    let (world, disk, found) = looked(model);
    assert_eq!(found.last(), Some(&(DISK, Ok(()))));
    (world, disk)
}

/// The whole life of a disk: the queue for requests is set up; of each target the units are asked for, of each unit what it is, of a
/// disk how large it is and whether it can be written. Then writes, a read and a flush.
#[test]
fn a_disk_is_found_written_read_and_flushed() {
    let (world, mut disk, found) = looked(model(Host::default()));
    let optical = StartError::NoDisk("an optical drive");
    assert_eq!(found, [(Place::LogicalUnit { target: 3, lun: 0 }, Err(optical)), (DISK, Ok(()))]);
    assert_eq!(
        world.borrow().trace.join("\n"),
        "attached: Platform\n\
         status = 0x00\n\
         status = 0x01\n\
         status = 0x03\n\
         features = 0x0\n\
         features = 0x300000000\n\
         status = 0x0b\n\
         queue size = 16\n\
         queue enabled\n\
         status = 0x0f"
    );
    let asked: Vec<_> = world.borrow().done.iter().map(|(code, _)| *code).collect();
    assert_eq!(asked, [0xa0, 0x12, 0xa0, 0x12, 0x00, 0x9e, 0x1a]);
    assert_eq!((disk.size(), disk.block_size()), (512 * 512, 512));

    let data: Vec<u8> = (0..10 * 4096_u32).map(|at| (at / 7) as u8).collect();
    disk.write(8192, &data).unwrap();
    let mut back = vec![0; data.len()];
    disk.read(8192, &mut back).unwrap();
    assert_eq!(back, data);
    assert_ne!(world.borrow().durable, world.borrow().disk);
    disk.flush().unwrap();
    assert_eq!(world.borrow().durable, world.borrow().disk);
    assert_eq!(disk.advance(), None);
    drop(disk);
    assert_eq!(world.borrow().status, 0, "it was reset");
}

#[test]
fn what_cannot_be_used_is_named() {
    let units = vec![(0, 0, Unit::ReadOnlyDisk), (0, 1, Unit::Absent), (0, 2, Unit::Optical)];
    let (_, _, found) = looked(model(Host { units, ..Host::default() }));
    let at = |lun| Place::LogicalUnit { target: 0, lun };
    let optical = StartError::NoDisk("an optical drive");
    assert_eq!(found, [(at(0), Err(StartError::ReadOnly)), (at(2), Err(optical))]);
    let (_, _, found) = looked(model(Host { block_size: 520, ..Host::default() }));
    assert_eq!(found.last(), Some(&(DISK, Err(StartError::Geometry))));
}

#[test]
fn blocks_may_have_4096_bytes_and_commands_are_no_longer_than_the_device_takes() {
    let (world, mut disk) = started(model(Host { block_size: 4096, max_sectors: 8, ..Host::default() }));
    disk.write(8192, &[7; 8192]).unwrap();
    disk.flush().unwrap();
    let mut written: Vec<_> = world.borrow().done.iter().copied().filter(|(code, _)| *code == 0x2a).collect();
    written.sort_unstable();
    assert_eq!(written, [(0x2a, 2), (0x2a, 3)]);
    assert_eq!(world.borrow().durable[8192..16384], [7; 8192]);
    assert_eq!(disk.write(512, &[7; 4096]), Err(BlockError::Misaligned));
}

/// Every unit has something to tell after a reset, to whoever asks first.
#[test]
fn what_passes_is_tried_again() {
    let no_reason = (0, 2, 0, 0);
    let refusals = vec![ATTENTION, BUSY, no_reason, ATTENTION, BUSY];
    let (world, mut disk) = started(model(Host { refusals, ..Host::default() }));
    for refusal in [ATTENTION, BUSY] {
        virtio_blk::refuse(&world, refusal, 3);
        disk.write(0, &[7; 4096]).unwrap();
        assert_eq!(disk.flush(), Ok(()));
        assert_eq!(world.borrow().durable[..4096], [7; 4096]);
    }
}

/// A unit that does not answer costs itself, and the others are looked at all the same.
#[test]
fn a_silent_unit_leaves_the_others_to_be_used() {
    let at = |target, lun| Place::LogicalUnit { target, lun };
    let silent = |found: &Looked| matches!(found.1, Err(StartError::Stuck(_)));
    let units =
        vec![(0, 0, Unit::Silent), (1, 0, Unit::Optical), (1, 1, Unit::Silent), (5, 0x102, Unit::Disk)];
    let (_, mut disk, found) = looked(model(Host { units, ..Host::default() }));
    let places: Vec<_> = found.iter().map(|(place, _)| *place).collect();
    assert_eq!(places, [at(0, 0), at(1, 0), at(1, 1), DISK]);
    assert!(silent(&found[0]) && silent(&found[2]), "{found:?}");
    disk.write(0, &[7; 4096]).unwrap();
    assert_eq!(disk.flush(), Ok(()));
}

/// So does a disk that stops in the middle.
#[test]
fn a_disk_that_stops_answering_leaves_the_next_one_to_be_used() {
    let units = vec![(0, 0, Unit::Unreadable), (5, 0x102, Unit::Disk)];
    let world = virtio_blk::machine(model(Host { units, ..Host::default() }));
    let mut disk = virtio_blk::start_host(&world).unwrap();
    assert_eq!(disk.advance(), Some((Place::LogicalUnit { target: 0, lun: 0 }, Ok(()))));
    assert_eq!(disk.read(0, &mut [0; 512]), Err(BlockError::TimedOut));
    assert_eq!(disk.advance(), Some((DISK, Ok(()))));
    disk.write(0, &[7; 512]).unwrap();
    assert_eq!(disk.flush(), Ok(()));
    assert_eq!(disk.advance(), None);
}

/// A disk that was without power, or was reset, has lost what was in its cache: the flush that should have saved it fails.
#[test]
fn a_reset_after_writes_fails_the_flush() {
    for additional in [0x2900, 0x2901, 0x2904] {
        let (world, mut disk) = started(model(Host::default()));
        disk.write(0, &[7; 512]).unwrap();
        disk.read(0, &mut [0; 512]).unwrap();
        virtio_blk::refuse(&world, (0, 2, 6, additional), 1);
        assert_eq!(
            disk.flush(),
            Err(BlockError::Device(0x06_0000 | u32::from(additional))),
            "{additional:x}"
        );
        disk.write(0, &[7; 512]).unwrap();
        assert_eq!(disk.flush(), Ok(()), "it was told");
    }
}

/// What says nothing of the cache, or comes before any write, is no reason to fail.
#[test]
fn other_attentions_do_not_fail_the_flush() {
    for (additional, writes_first) in [(0x2900, false), (0x2907, true), (0x2a06, true), (0x3f0e, true)] {
        let (world, mut disk) = started(model(Host::default()));
        if writes_first {
            disk.write(0, &[7; 512]).unwrap();
            disk.read(0, &mut [0; 512]).unwrap();
        }
        virtio_blk::refuse(&world, (0, 2, 6, additional), 1);
        assert_eq!(disk.flush(), Ok(()), "{additional:x}");
    }
}

/// A deferred error is of a write that was acknowledged; the command that it came with was not done.
#[test]
fn a_deferred_error_fails_the_flush_and_its_command_is_done_again() {
    for sense_format in [0x71, 0x73] {
        let (world, mut disk) = started(model(Host { sense_format, ..Host::default() }));
        disk.write(0, &[7; 512]).unwrap();
        disk.read(0, &mut [0; 512]).unwrap();
        virtio_blk::refuse(&world, (0, 2, 3, 0x0c00), 1);
        assert_eq!(disk.read(512, &mut [0; 512]), Ok(()), "done again");
        assert_eq!(disk.flush(), Err(BlockError::Device(0x03_0c00)));
        assert_eq!(disk.flush(), Ok(()));
    }
}

#[test]
fn a_recovered_error_is_no_error() {
    for sense_format in [0x70, 0x72] {
        let host = Host { sense_format, refused_code: Some((0x35, (0, 2, 1, 0x1800))), ..Host::default() };
        let (_, mut disk) = started(model(host));
        disk.write(0, &[7; 512]).unwrap();
        assert_eq!(disk.flush(), Ok(()));
    }
}

/// Paths to the disk may change hands for many seconds (04/0A), and a disk may spin up (04/01).
#[test]
fn a_path_in_transition_and_a_disk_that_becomes_ready_are_waited_for() {
    for additional in [0x040a, 0x0401] {
        let (world, mut disk) = started(model(Host::default()));
        virtio_blk::refuse(&world, (0, 2, 2, additional), 100);
        assert_eq!(disk.write(0, &[7; 512]).and_then(|()| disk.flush()), Ok(()), "{additional:x}");
    }
}

#[test]
fn a_disk_that_was_stopped_is_started() {
    let (world, mut disk) = started(model(Host { is_stopped: true, ..Host::default() }));
    disk.write(0, &[7; 512]).unwrap();
    disk.flush().unwrap();
    assert!(world.borrow().done.iter().any(|(code, _)| *code == 0x1b));
    let refuses = Some((0x1b, (0, 2, 5, 0x2000)));
    let (_, _, found) = looked(model(Host { is_stopped: true, refused_code: refuses, ..Host::default() }));
    let stopped = StartError::Unidentified(BlockError::Device(0x0002_0402));
    assert_eq!(found.last(), Some(&(DISK, Err(stopped))), "it does not know how to start");
}

#[test]
fn what_does_not_pass_is_an_error_or_ends_with_patience() {
    let (world, mut disk) = started(model(Host::default()));
    virtio_blk::refuse(&world, ATTENTION, 100);
    assert_eq!(disk.write(0, &[7; 512]).and_then(|()| disk.flush()), Err(BlockError::Device(0x06_2900)));

    let (world, mut disk) = started(model(Host::default()));
    virtio_blk::refuse(&world, BUSY, 100_000);
    assert_eq!(disk.write(0, &[7; 512]).and_then(|()| disk.flush()), Err(BlockError::TimedOut));
}

/// Write protection that no mode told of, a medium error: the sense data is the code.
#[test]
fn an_error_is_told_and_the_disk_goes_on() {
    let (world, mut disk) = started(model(Host::default()));
    virtio_blk::refuse(&world, (0, 2, 7, 0x2700), 1);
    assert_eq!(disk.write(0, &[7; 512]).and_then(|()| disk.flush()), Err(BlockError::WriteProtected));
    virtio_blk::refuse(&world, (0, 2, 3, 0x0c02), 1);
    assert_eq!(disk.write(0, &[7; 512]).and_then(|()| disk.flush()), Err(BlockError::Device(0x03_0c02)));
    disk.write(0, &[8; 512]).unwrap();
    assert_eq!(disk.flush(), Ok(()));
    virtio_blk::refuse(&world, (9, 0, 0, 0), 1);
    assert_eq!(disk.read(0, &mut [0; 512]), Err(BlockError::Device(0x0100_0900)));
}

#[test]
fn a_disk_without_a_cache_need_not_know_the_command_for_it() {
    let refused_code = Some((0x35, (0, 2, 5, 0x2000)));
    let (_, mut disk) = started(model(Host { refused_code, ..Host::default() }));
    disk.write(0, &[7; 512]).unwrap();
    assert_eq!(disk.flush(), Ok(()));
}

/// One that says that it has a cache must empty it.
#[test]
fn a_disk_with_a_cache_must_know_the_command_for_it() {
    let refused_code = Some((0x35, (0, 2, 5, 0x2000)));
    let pages = vec![8, 18, 4, 0];
    let (_, mut disk) = started(model(Host { refused_code, pages, ..Host::default() }));
    disk.write(0, &[7; 512]).unwrap();
    assert_eq!(disk.flush(), Err(BlockError::Device(0x05_2000)));
}

#[test]
fn a_reset_takes_nothing_from_a_disk_without_a_cache() {
    let (world, mut disk) = started(model(Host { pages: vec![8, 18, 0, 0], ..Host::default() }));
    disk.write(0, &[7; 512]).unwrap();
    disk.read(0, &mut [0; 512]).unwrap();
    virtio_blk::refuse(&world, ATTENTION, 1);
    assert_eq!(disk.flush(), Ok(()));
}

/// Disks of old know the short commands only.
#[test]
fn a_disk_that_knows_only_short_commands_is_measured_by_them() {
    let refused_code = Some((0x9e, (0, 2, 5, 0x2000)));
    let (_, mut disk) = started(model(Host { refused_code, ..Host::default() }));
    assert_eq!((disk.size(), disk.block_size()), (512 * 512, 512));
    disk.write(0, &[7; 512]).unwrap();
    assert_eq!(disk.flush(), Ok(()));
}

/// Status 0x18, RESERVATION CONFLICT.
#[test]
fn a_disk_that_is_reserved_for_another_host_is_refused_in_words() {
    let reserved = (0, 0x18, 0, 0);
    for code in [0x1a, 0x9e] {
        let (_, _, found) = looked(model(Host { refused_code: Some((code, reserved)), ..Host::default() }));
        assert_eq!(found.last(), Some(&(DISK, Err(StartError::Reserved))), "{code:x}");
    }
    let (_, mut disk) = started(model(Host { refused_code: Some((0x2a, reserved)), ..Host::default() }));
    assert_eq!(disk.write(0, &[7; 512]).and_then(|()| disk.flush()), Err(BlockError::Reserved));
}

/// A target that has no list of its units has one unit. A disk need not have modes.
#[test]
fn questions_that_nobody_answers_are_no_obstacle() {
    let units = vec![(5, 0, Unit::Disk)];
    for code in [0xa0, 0x1a] {
        let refused_code = Some((code, (0, 2, 5, 0x2000)));
        let (_, _, found) = looked(model(Host { units: units.clone(), refused_code, ..Host::default() }));
        assert_eq!(found, [(Place::LogicalUnit { target: 5, lun: 0 }, Ok(()))]);
    }
}

#[test]
fn a_host_that_cannot_be_used_is_refused_for_a_reason() {
    let refused = |model| virtio_blk::start_host(&virtio_blk::machine(model)).err();
    let ok = || model(Host::default());
    assert_eq!(refused(model(Host { sense_size: 32, ..Host::default() })), Some(StartError::Features));
    assert_eq!(refused(Model { features: ACCESS_PLATFORM, ..ok() }), Some(StartError::Features));
    assert_eq!(refused(Model { queue_size: 2, ..ok() }), Some(StartError::Queue));
    assert!(matches!(refused(Model { fault: Fault::StuckReset, ..ok() }), Some(StartError::Stuck(_))));
}

#[test]
fn a_host_that_does_not_answer_is_left_when_patience_ends() {
    let (world, _, found) = looked(Model { fault: Fault::DeadAfter(0), ..model(Host::default()) });
    let nothing = Place::LogicalUnit { target: 0, lun: 0 };
    assert!(matches!(found[0], (place, Err(StartError::Stuck(_))) if place == nothing), "{found:?}");
    assert!((4 * PATIENCE..4 * PATIENCE + A_MOMENT).contains(&virtio_blk::elapsed(&world)), "four units");
    assert_eq!(world.borrow().status, 0, "it was reset");

    let (_, mut disk) = started(Model { fault: Fault::DeadAfter(8), ..model(Host::default()) });
    assert_eq!(disk.write(0, &vec![7; 16 * 4096]), Err(BlockError::TimedOut));
    assert!(disk.advance().is_none_or(|(_, usable)| usable.is_err()), "none of its disks answers any more");
}

#[test]
fn a_junk_used_ring_is_an_error_of_the_device() {
    for fault in [Fault::JunkId(1), Fault::JunkId(0xffff), Fault::JunkLen(u32::MAX), Fault::Repeats] {
        let (_, _, found) = looked(Model { fault, ..model(Host::default()) });
        let error = StartError::Unidentified(BlockError::Device(UNASKED));
        assert_eq!(found.last().unwrap().1, Err(error), "{fault:?}");
    }
}

proptest! {
    #[test]
    fn no_answer_of_a_host_breaks_the_driver(
        fault in prop_oneof![
            Just(Fault::None),
            (0_u32..20).prop_map(Fault::JunkId),
            (0_u32..5000).prop_map(Fault::JunkLen),
            any::<u16>().prop_map(Fault::IndexJump),
            (0_usize..20).prop_map(Fault::DeadAfter),
        ],
        refusals in prop::collection::vec((0_u8..10, prop_oneof![Just(0_u8), Just(2), Just(8), any::<u8>()], 0_u8..16, any::<u16>()), 0..30),
        writes in prop::collection::vec((0_u64..64, 0_usize..30), 1..20),
        seed in any::<u64>(),
    ) {
        let host = Host { refusals, ..Host::default() };
        let (_, mut disk, _) = looked(Model { fault, seed, ..model(host) });
        for (block, blocks) in writes {
            let _ = disk.write(block * 512, &vec![7; blocks * 512]);
            let _ = disk.read(block * 512, &mut vec![0; blocks * 512]);
            let _ = disk.flush();
        }
    }
}
