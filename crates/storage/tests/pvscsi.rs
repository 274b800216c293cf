//! The driver of VMware's paravirtual SCSI host against one that works, and against some that do not.

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
use fake::pvscsi::{self, FakeDisk, Fault, Model, PATIENCE, World};
use fake::scsi::{DISK, Host, Looked, Unit, look};
use machine::{BlockDevice, BlockError};
use proptest::prelude::*;
use steps::steps;
use storage::{Place, Pool, StartError, UNASKED};

const A_MOMENT: Duration = Duration::from_secs(1);

/// Starts a host, and looks at what it has up to the first disk that can be used.
fn looked(model: Model) -> (Shared<World>, FakeDisk, Vec<Looked>) {
    let world = pvscsi::machine(model);
    let mut disk = pvscsi::start(&world).unwrap();
    let found = look(|| disk.advance());
    if found.last().is_some_and(|(_, usable)| usable.is_ok()) {
        pvscsi::fill_pool(&world, &mut disk);
    }
    (world, disk, found)
}

fn started(model: Model) -> (Shared<World>, FakeDisk) {
    let (world, disk, found) = looked(model);
    assert_eq!(found.last(), Some(&(DISK, Ok(()))));
    (world, disk)
}

/// The whole life of a disk. The dead kernel's rings are gone before there is memory for others.
#[test]
fn a_disk_is_found_written_read_and_flushed() {
    let (world, mut disk, found) = looked(Model::default());
    let optical = StartError::NoDisk("an optical drive");
    assert_eq!(found, [(Place::LogicalUnit { target: 3, lun: 0 }, Err(optical)), (DISK, Ok(()))]);
    assert_eq!(world.borrow().trace, ["attached: Platform", "reset", "rings"]);
    let asked: Vec<_> = world.borrow().done.iter().map(|(code, _)| *code).collect();
    assert_eq!(asked, [0xa0, 0x12, 0xa0, 0x12, 0x00, 0x9e, 0x1a]);
    assert_eq!((disk.size(), disk.block_size()), (512 * 512, 512));

    let data: Vec<u8> = (0..100 * 4096_u32 / 3).map(|at| (at / 7) as u8).collect();
    let data = &data[..130 * 1024];
    disk.write(8192, data).unwrap();
    assert_eq!(world.borrow().trace[3..], ["kick for transfers"]);
    let mut back = vec![0; data.len()];
    disk.read(8192, &mut back).unwrap();
    assert_eq!(back, data);
    assert_ne!(world.borrow().durable, world.borrow().disk);
    disk.flush().unwrap();
    assert_eq!(world.borrow().durable, world.borrow().disk);
    assert_eq!(disk.advance(), None);
    drop(disk);
    assert_eq!(world.borrow().trace.last().map(String::as_str), Some("reset"));
}

/// VMware has a BAR in I/O space before the one with the registers.
#[test]
fn the_registers_are_in_the_first_bar_in_memory_space() {
    started(Model { bar: 1, ..Model::default() });
    let world = pvscsi::machine(Model { bar: 7, ..Model::default() });
    assert!(matches!(pvscsi::start(&world).err(), Some(StartError::Unmapped(_))));
}

#[test]
fn a_pool_is_no_larger_than_the_ring() {
    let world = pvscsi::machine(Model::default());
    let mut disk = pvscsi::start_with(&world, Pool { slots: 100, slot_size: 4096 }).unwrap();
    while disk.advance().is_some_and(|(_, usable)| usable.is_err()) {}
    pvscsi::fill_pool(&world, &mut disk);
    assert_eq!(disk.pool().slots, 32);
    for _ in 0..3 {
        disk.write(0, &vec![7; 256 * 1024]).unwrap();
    }
    assert_eq!(disk.flush(), Ok(()));
}

#[test]
fn blocks_may_have_4096_bytes() {
    let (world, mut disk) =
        started(Model { host: Host { block_size: 4096, ..Host::default() }, ..Model::default() });
    disk.write(8192, &[7; 8192]).unwrap();
    disk.flush().unwrap();
    assert_eq!(world.borrow().durable[8192..16384], [7; 8192]);
    assert_eq!(disk.write(512, &[7; 4096]), Err(BlockError::Misaligned));
}

#[test]
fn what_cannot_be_used_is_named() {
    let units = vec![(0, 0, Unit::ReadOnlyDisk), (0, 1, Unit::Absent), (64, 2, Unit::Optical)];
    let (_, _, found) = looked(Model { host: Host { units, ..Host::default() }, ..Model::default() });
    let at = |target, lun| Place::LogicalUnit { target, lun };
    let optical = StartError::NoDisk("an optical drive");
    assert_eq!(found, [(at(0, 0), Err(StartError::ReadOnly)), (at(64, 2), Err(optical))]);
    let gone = |fault| pvscsi::start(&pvscsi::machine(Model { fault, ..Model::default() })).err();
    assert_eq!(gone(Fault::Gone), Some(StartError::Gone));
    assert!(matches!(gone(Fault::RefusesRings), Some(StartError::Refused { .. })));
}

#[test]
fn what_passes_is_tried_again() {
    let (world, mut disk) = started(Model::default());
    // Sense of a reset, a busy unit, a reset of the bus.
    for refusal in [(0, 2, 6, 0x2a06), (0, 8, 0, 0), (4, 0, 0, 0)] {
        pvscsi::refuse(&world, refusal, 3);
        disk.write(0, &[7; 4096]).unwrap();
        assert_eq!(disk.flush(), Ok(()), "{refusal:?}");
    }
}

#[test]
fn an_error_is_told_and_the_disk_goes_on() {
    let (world, mut disk) = started(Model::default());
    pvscsi::refuse(&world, (0, 2, 3, 0x0c02), 1);
    assert_eq!(disk.write(0, &[7; 512]).and_then(|()| disk.flush()), Err(BlockError::Device(0x03_0c02)));
    pvscsi::refuse(&world, (9, 0, 0, 0), 1);
    assert_eq!(disk.read(0, &mut [0; 512]), Err(BlockError::Device(0x0100_3000)));
    disk.write(0, &[8; 512]).unwrap();
    assert_eq!(disk.flush(), Ok(()));
}

/// A transfer that was cut short has failed, also where nobody says by how much.
#[test]
fn a_short_transfer_is_an_error() {
    let (world, mut disk) = started(Model::default());
    for code in [0x0c, 0x12] {
        pvscsi::break_it(&world, Fault::HostStatus(code));
        assert_eq!(disk.read(0, &mut [0; 512]), Err(BlockError::Device(0xffff_0002)));
    }
}

#[test]
fn a_silent_unit_leaves_the_others_to_be_used() {
    let units = vec![(0, 0, Unit::Silent), (1, 0, Unit::Unreadable), (5, 0x102, Unit::Disk)];
    let world = pvscsi::machine(Model { host: Host { units, ..Host::default() }, ..Model::default() });
    let mut disk = pvscsi::start(&world).unwrap();
    assert!(matches!(disk.advance(), Some((_, Err(StartError::Stuck(_))))));
    assert_eq!(disk.advance(), Some((Place::LogicalUnit { target: 1, lun: 0 }, Ok(()))));
    assert_eq!(disk.read(0, &mut [0; 512]), Err(BlockError::TimedOut));
    assert_eq!(disk.advance(), Some((DISK, Ok(()))));
    disk.write(0, &[7; 512]).unwrap();
    assert_eq!(disk.flush(), Ok(()));
    assert_eq!(world.borrow().trace.iter().filter(|line| *line == "rings").count(), 3);
}

#[test]
fn a_host_that_answers_nothing_is_left_after_four_units() {
    let (world, _, found) = looked(Model { fault: Fault::DeadAfter(0), ..Model::default() });
    assert_eq!(found.len(), 4, "{found:?}");
    assert!((4 * PATIENCE..4 * PATIENCE + A_MOMENT).contains(&pvscsi::elapsed(&world)));
}

#[test]
fn junk_on_the_ring_is_an_error_of_the_device() {
    for fault in [
        Fault::JunkContext(0),
        Fault::JunkContext(6),
        Fault::JunkContext(u64::MAX),
        Fault::Repeats,
        Fault::IndexJump(128),
        Fault::IndexJump(u32::MAX - 5),
    ] {
        let (_, _, found) = looked(Model { fault, ..Model::default() });
        let error = StartError::Unidentified(BlockError::Device(UNASKED));
        assert_eq!(found.last().unwrap().1, Err(error), "{fault:?}");
    }
}

proptest! {
    #[test]
    fn each_read_sees_the_last_write_and_a_flush_makes_it_durable(
        steps in steps(1..40, 30),
        seed in any::<u64>(),
    ) {
        let (world, mut disk) = started(Model { seed, ..Model::default() });
        let expected = world.borrow().disk.clone();
        steps::check(&mut disk, steps, expected, || world.borrow().durable.clone())?;
    }

    #[test]
    fn no_answer_of_a_host_breaks_the_driver(
        fault in prop_oneof![
            Just(Fault::None),
            Just(Fault::Repeats),
            (0_u64..20).prop_map(Fault::JunkContext),
            any::<u32>().prop_map(Fault::IndexJump),
            (0_u32..300).prop_map(Fault::IndexJump),
            (0_usize..20).prop_map(Fault::DeadAfter),
            (0_u16..0x40).prop_map(Fault::HostStatus),
        ],
        refusals in prop::collection::vec((0_u8..10, prop_oneof![Just(0_u8), Just(2), Just(8), any::<u8>()], 0_u8..16, any::<u16>()), 0..30),
        sense_format in 0x6f_u8..0x75,
        pages in prop::collection::vec(any::<u8>(), 0..180),
        steps in steps(1..20, 30),
        seed in any::<u64>(),
    ) {
        let host = Host { refusals, sense_format, pages, ..Host::default() };
        let (_, mut disk, _) = looked(Model { host, fault, seed, ..Model::default() });
        steps::take(&mut disk, steps);
    }
}
