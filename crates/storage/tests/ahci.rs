//! The AHCI driver against a controller that keeps to the specification, and against some that do not.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests may stop at the first surprise, as tests do"
)]

#[allow(dead_code, reason = "a part of it is for the tests of other drivers")]
mod fake;
mod steps;

use std::time::Duration;

use fake::ahci::model::{Attached, Cache, DISK, DiskModel, Fault, Links, Model};
use fake::ahci::{self, FakeDisk, PATIENCE, World};
use fake::machine::Shared;
use machine::{BlockDevice, BlockError};
use proptest::prelude::*;
use steps::steps;
use storage::{Place, StartError};

/// More than anything takes besides waiting for a deadline.
const A_MOMENT: Duration = Duration::from_millis(900);

fn started(model: Model) -> (Shared<World>, FakeDisk) {
    let world = ahci::machine(model);
    let disk = ahci::start(&world).unwrap();
    (world, disk)
}

fn faulty(fault: Fault) -> (Shared<World>, FakeDisk) {
    started(Model { fault, ..Model::default() })
}

fn with_disk(disk: DiskModel) -> Model {
    Model { ports: vec![Attached::Nothing, Attached::Disk(disk)], ..Model::default() }
}

fn codes(world: &Shared<World>) -> Vec<u8> {
    ahci::last(&world.borrow()).done.iter().map(|(code, _)| *code).collect()
}

/// The whole life of a disk at the last port:
///
/// 1. the function gets memory; the controller is told that it is used by these registers, and sends no interrupts;
/// 2. both engines of all ports stop, which ends what the old kernel had running (10.1.2);
/// 3. at each port: memory; FISes are received; the link is reset (10.4.2); the empty port is stopped again;
/// 4. the disk's errors are cleared, it is started, and asked what it is;
/// 5. writes, of which up to 5 are queued; a read that sees them; a flush that makes them durable;
/// 6. the port is stopped.
#[test]
fn a_disk_is_brought_up_written_read_and_flushed() {
    let (world, mut disk) =
        started(Model { ports: vec![Attached::Nothing, Attached::Disk(DISK)], ..Model::default() });
    let trace = world.borrow().trace.join("\n");
    assert_eq!(
        trace,
        "attached: Platform\n\
         GHC = 0x80000000\n\
         port 1 CMD = 0xc010\n\
         port 0 CMD = 0xc010\n\
         port 1 CMD = 0x4000\n\
         port 0 CMD = 0x4000\n\
         port 1 CMD = 0x0\n\
         port 1 CMD = 0x0\n\
         port 1 CLB = 0x70000000\n\
         port 1 FB = 0x70000400\n\
         port 1 CMD = 0x10000016\n\
         port 1 SCTL = 0x301\n\
         port 1 SCTL = 0x300\n\
         port 1 CMD = 0x17\n\
         port 1 CI = 0x1"
    );
    assert_eq!((disk.size(), disk.block_size()), (512 * 512, 512));

    let data: Vec<u8> = (0..10 * 4096_u32).map(|at| (at / 7) as u8).collect();
    disk.write(8192, &data).unwrap();
    assert!(codes(&world).len() >= 5, "ten pieces do not fit five slots");
    let mut back = vec![0; data.len() + 512];
    disk.read(8192, &mut back).unwrap();
    assert_eq!(back[..data.len()], data);
    assert_eq!(back[data.len()..], [(2 + 10) as u8 * 8; 512], "and what was there before");
    assert_ne!(ahci::last(&world.borrow()).durable, ahci::last(&world.borrow()).disk);
    disk.flush().unwrap();
    assert_eq!(ahci::last(&world.borrow()).durable, ahci::last(&world.borrow()).disk);
    assert_eq!(ahci::last(&world.borrow()).most, 5);
    assert_eq!(codes(&world).last(), Some(&0xea));

    disk.write(0, &[7; 4096]).unwrap();
    drop(disk);
    let world = world.borrow();
    assert_eq!((ahci::last(&world).command & 0xc011, ahci::last(&world).issued), (0, 0), "nothing runs");
}

#[test]
fn every_port_is_looked_at_and_what_is_no_usable_disk_is_named() {
    let other = |disk: DiskModel| Attached::Disk(disk);
    let ports = vec![
        Attached::Packet,
        Attached::Nothing,
        Attached::Multiplier,
        other(DiskModel { locked: true, ..DISK }),
        other(DiskModel { long_addresses: false, ..DISK }),
        other(DiskModel { block_size: 8192, blocks: 32, ..DISK }),
        other(DiskModel { blocks: 0, ..DISK }),
    ];
    let world = ahci::machine(Model { ports, ..Model::default() });
    let mut disk = ahci::open(&world).unwrap();
    let found = ahci::survey(&mut disk);
    let words: Vec<_> =
        found.iter().map(|(place, result)| format!("{place}: {}", result.unwrap_err())).collect();
    assert_eq!(
        words,
        [
            " port 0: it is no disk but a packet device, such as a DVD drive",
            " port 2: it is no disk but a port multiplier",
            " port 3: the disk is locked by a password",
            " port 4: the disk does not support 48-bit addresses",
            " port 5: the device tells of impossible sizes",
            " port 6: the device tells of impossible sizes",
        ]
    );
    assert!(world.borrow().ports.iter().all(|port| port.command & 0xc011 == 0), "no port runs");
}

/// Each port without a device costs a wait for one: nobody waits there who finds the area elsewhere.
#[test]
fn ports_where_a_device_is_known_come_first() {
    let mut ports: Vec<_> = (0..7).map(|_| Attached::Nothing).collect();
    ports.extend([Attached::Disk(DISK), Attached::Disk(DISK)]);
    let world = ahci::machine(Model { ports, ..Model::default() });
    let mut disk = ahci::open(&world).unwrap();
    assert_eq!(disk.advance(), Some((Place::Port(7), Ok(()))));
    assert_eq!(disk.advance(), Some((Place::Port(8), Ok(()))));
    assert!(ahci::elapsed(&world) < A_MOMENT, "{:?}", ahci::elapsed(&world));
    assert_eq!(disk.advance(), None);
}

#[test]
fn several_disks_are_used_one_after_the_other() {
    let (world, mut disk) =
        started(Model { ports: vec![Attached::Disk(DISK), Attached::Disk(DISK)], ..Model::default() });
    disk.write(0, &[1; 512]).unwrap();
    assert_eq!(disk.advance(), Some((Place::Port(1), Ok(()))));
    disk.write(0, &[2; 512]).unwrap();
    assert_eq!(disk.advance(), None);
    assert_eq!(disk.read(0, &mut [0; 512]), Err(BlockError::OutOfBounds));
    let world = world.borrow();
    assert_eq!((world.ports[0].disk[0], world.ports[1].disk[0]), (1, 2));
}

/// Registers are read when a FIS has come, and once in a while: many more times the memory is looked at.
#[test]
fn the_end_of_a_request_is_seen_in_memory() {
    for queuing in [true, false] {
        let (world, mut disk) = started(Model { queuing, ..Model::default() });
        world.borrow_mut().machine.tick = Duration::from_micros(1);
        (world.borrow_mut().pace, world.borrow_mut().accesses) = (100, 0);
        disk.write(0, &vec![7; 100 * 512]).unwrap();
        disk.flush().unwrap();
        let world = world.borrow();
        let requests = ahci::last(&world).done.len();
        assert!(world.accesses <= 8 * requests, "{} accesses for {requests} requests", world.accesses);
    }
}

#[test]
fn a_controller_that_stores_no_end_is_asked_by_its_registers() {
    let (world, mut disk) = faulty(Fault::StoresNothing);
    world.borrow_mut().machine.tick = Duration::from_micros(100);
    disk.write(0, &[7; 4096]).unwrap();
    disk.flush().unwrap();
    assert_eq!(ahci::last(&world.borrow()).durable[..4096], [7; 4096]);
}

/// The controller cannot queue, the disk cannot, or its queue is shorter than the pool.
#[test]
fn without_a_queue_one_request_at_a_time_is_given_to_the_disk() {
    let short = with_disk(DiskModel { depth: 4, ..DISK });
    let none = with_disk(DiskModel { depth: 0, long_flush: false, ..DISK });
    for (model, flush) in [(Model { queuing: false, ..Model::default() }, 0xea), (short, 0xea), (none, 0xe7)]
    {
        let (world, mut disk) = started(model);
        disk.write(0, &vec![7; 6 * 4096]).unwrap();
        disk.flush().unwrap();
        let world = world.borrow();
        assert_eq!(ahci::last(&world).most, 1);
        assert_eq!(ahci::last(&world).durable[..6 * 4096], vec![7; 6 * 4096]);
        assert_eq!(ahci::last(&world).done.iter().filter(|(code, _)| *code == 0x35).count(), 6);
        assert_eq!(ahci::last(&world).done.last(), Some(&(flush, 0)));
    }
}

#[test]
fn a_short_command_list_is_enough() {
    let (world, mut disk) = started(Model { slots: 2, ..Model::default() });
    assert_eq!(disk.pool().slots, 2);
    disk.write(0, &vec![7; 6 * 4096]).unwrap();
    disk.flush().unwrap();
    assert_eq!(ahci::last(&world.borrow()).most, 2);
}

#[test]
fn blocks_may_have_4096_bytes() {
    let (world, mut disk) = started(with_disk(DiskModel { block_size: 4096, blocks: 64, ..DISK }));
    assert_eq!((disk.size(), disk.block_size()), (64 * 4096, 4096));
    disk.write(8192, &[7; 4096]).unwrap();
    disk.flush().unwrap();
    assert_eq!(ahci::last(&world.borrow()).done[0], (0x61, 2));
    assert_eq!(disk.write(512, &[7; 4096]), Err(BlockError::Misaligned));
}

/// Its addresses are too short for the memory that it gets at first, or for that of a slot that it gets later.
#[test]
fn a_controller_with_short_addresses_is_never_given_long_ones() {
    let world = ahci::machine(Model { wide_addresses: false, ..Model::default() });
    assert_eq!(ahci::open(&world).err(), Some(StartError::OutOfReach));

    let world = ahci::machine(Model { wide_addresses: false, ..Model::default() });
    ahci::put_memory_at(&world, 0xfd00_0000);
    let mut disk = ahci::start(&world).unwrap();
    assert_eq!(disk.pool().slots, 2, "a slot that it does not reach is none");
    disk.write(0, &vec![8; 5 * 4096]).unwrap();
    disk.flush().unwrap();
    assert_eq!(ahci::last(&world.borrow()).durable[..5 * 4096], vec![8; 5 * 4096]);
}

#[test]
fn firmware_is_asked_to_let_go_and_not_waited_for_for_ever() {
    for (fault, limit) in [(Fault::None, A_MOMENT), (Fault::FirmwareStays, PATIENCE + A_MOMENT)] {
        let (world, mut disk) = started(Model { firmware: true, fault, ..Model::default() });
        assert!(ahci::elapsed(&world) < limit);
        assert_eq!(world.borrow().trace[1], "BOHC = 0x7", "SOOE stays, OOC is not cleared");
        disk.write(0, &[7; 512]).unwrap();
        disk.flush().unwrap();
    }
}

#[test]
fn a_port_that_does_not_stop_is_stopped_by_a_reset_of_the_controller() {
    for fault in [Fault::ListKeepsRunning, Fault::ReceiveKeepsRunning] {
        let (world, mut disk) = faulty(fault);
        assert!(world.borrow().trace.contains(&String::from("GHC = 0x80000001")));
        disk.write(0, &[7; 512]).unwrap();
        disk.flush().unwrap();
        assert_eq!(ahci::last(&world.borrow()).durable[0], 7);
    }
}

#[test]
fn a_controller_without_ports_is_refused_in_words() {
    let world = ahci::machine(Model { ports: Vec::new(), ..Model::default() });
    let words = ahci::open(&world).err().unwrap().to_string();
    assert_eq!(words, "the driver cannot use a controller none of whose ports was implemented by firmware");
}

/// Links that nobody has used take their time, and disks spin up after a reset of the controller.
#[test]
fn a_disk_that_announces_itself_late_is_found() {
    let late = |slowness, fault| Model { links: Links::Silent, slowness, fault, ..Model::default() };
    assert!(ahci::start(&ahci::machine(late(Duration::from_millis(100), Fault::None))).is_ok());
    let world = ahci::machine(late(Duration::from_secs(1), Fault::None));
    assert_eq!(ahci::survey(&mut ahci::open(&world).unwrap()), [], "in haste");
    let mut disk = ahci::open_patiently(&world).unwrap();
    assert_eq!(disk.advance(), Some((Place::Port(2), Ok(()))));

    // It was seen before the controller was reset.
    let reset = Model { links: Links::Up, ..late(Duration::from_secs(1), Fault::ListKeepsRunning) };
    assert!(ahci::start(&ahci::machine(reset)).is_ok());
}

#[test]
fn a_disk_is_asked_again_what_it_is_if_the_question_was_lost() {
    faulty(Fault::IdentifyLost);
}

/// Nothing is shared with a controller that may be at work on memory of the dead kernel's.
#[test]
fn a_controller_that_does_not_get_ready_is_left_in_time() {
    for fault in [Fault::Unstoppable, Fault::NeverEnabled] {
        let world = ahci::machine(Model { fault, ..Model::default() });
        assert!(matches!(ahci::open(&world).err(), Some(StartError::Stuck(_))));
        assert!(ahci::elapsed(&world) < PATIENCE + A_MOMENT, "{fault:?}");
        assert!(!world.borrow().trace.iter().any(|line| line.contains("CLB")), "{fault:?}");
    }
}

#[test]
fn a_disk_that_does_not_get_ready_is_left_when_patience_ends() {
    for fault in [Fault::LinkStaysDown, Fault::StaysBusy, Fault::IdentifyHangs] {
        let world = ahci::machine(Model { fault, ..Model::default() });
        let mut disk = ahci::open(&world).unwrap();
        let found = ahci::survey(&mut disk);
        assert!(matches!(found[..], [(Place::Port(2), Err(StartError::Stuck(_)))]), "{found:?}");
        assert!((PATIENCE..PATIENCE + A_MOMENT).contains(&ahci::elapsed(&world)), "{fault:?}");
    }
}

#[test]
fn a_disk_that_does_not_say_what_it_is_is_refused() {
    let error = ahci::start(&ahci::machine(Model { fault: Fault::IdentifyFails, ..Model::default() })).err();
    assert_eq!(error, Some(StartError::Unidentified(BlockError::Device(0x4000_0451))));
}

#[test]
fn a_disk_that_never_completed_anything_is_left_when_patience_ends() {
    let (world, mut disk) = faulty(Fault::DeadAfter(0));
    let before = ahci::elapsed(&world);
    assert_eq!(disk.read(0, &mut [0; 512]), Err(BlockError::TimedOut));
    assert!((PATIENCE..PATIENCE + A_MOMENT).contains(&ahci::elapsed(&world).saturating_sub(before)));
    assert_eq!(ahci::last(&world.borrow()).command & 0xc011, 0, "it was stopped");
    assert_eq!(disk.flush(), Err(BlockError::TimedOut));
}

/// The disk gets the others that it had again.
#[test]
fn a_bad_block_costs_its_own_request() {
    for queuing in [true, false] {
        let (world, mut disk) = started(Model { queuing, fault: Fault::BadBlock(9), ..Model::default() });
        let error = Err(BlockError::Device(0x4000_4051));
        let written = disk.write(0, &vec![7; 8 * 4096]).and_then(|()| disk.flush());
        assert_eq!(written, error, "queuing {queuing}");
        let disk_after = ahci::last(&world.borrow()).disk.clone();
        assert_eq!(
            disk_after[2 * 4096..8 * 4096],
            vec![7; 6 * 4096],
            "queuing {queuing}: the other writes were done"
        );
        assert_eq!(disk.flush(), Ok(()), "it is told once");
        disk.write(16 * 512, &vec![8; 4 * 4096]).unwrap();
        disk.flush().unwrap();
        assert_eq!(ahci::last(&world.borrow()).durable[16 * 512..][..4 * 4096], [8; 4 * 4096]);
        assert_eq!(ahci::last(&world.borrow()).durable[..4096], [7; 4096]);
        assert_eq!(disk.read(4096, &mut [0; 4096]), error);
    }
}

/// The disk gets again what it had, once it has announced itself. No write is lost, because none was done since a flush, or because
/// the disk has no cache.
#[test]
fn a_broken_link_costs_nothing_but_time() {
    for (queuing, slowness) in [(true, 0), (false, 0), (true, 3), (false, 3)] {
        let slowness = Duration::from_secs(slowness);
        for (cache, fault) in [
            (Cache::On, Fault::LinkBreaks(2, slowness)),
            (Cache::On, Fault::PowerFails(2, slowness)),
            (Cache::Off, Fault::LinkBreaks(4, slowness)),
            (Cache::Off, Fault::PowerFails(4, slowness)),
        ] {
            let (world, mut disk) = started(Model { queuing, ..with_disk(DiskModel { cache, ..DISK }) });
            disk.write(0, &[6; 4096]).unwrap();
            disk.flush().unwrap();
            ahci::break_by(&world, fault);
            disk.write(0, &vec![7; 9 * 4096]).unwrap();
            assert_eq!(disk.flush(), Ok(()), "queuing {queuing}, {fault:?}");
            assert_eq!(ahci::last(&world.borrow()).durable[..9 * 4096], vec![7; 9 * 4096]);
            disk.read(0, &mut [0; 4096]).unwrap();
        }
    }
}

/// Its link breaks, and it comes back as the same disk: what was in its cache is lost, and nothing else tells of it. The flush
/// that should have saved it fails, be it the very request at which the link breaks.
#[test]
fn a_disk_that_may_have_lost_its_cache_fails_the_flush() {
    for (queuing, at) in [(true, 2), (false, 2), (true, 9), (false, 9)] {
        for fault in [Fault::PowerFails(at, Duration::ZERO), Fault::LinkBreaks(at, Duration::ZERO)] {
            let (world, mut disk) = started(Model { queuing, ..Model::default() });
            ahci::break_by(&world, fault);
            disk.write(0, &vec![7; 9 * 4096]).unwrap();
            let is_told = matches!(disk.flush(), Err(BlockError::Device(_)));
            assert!(is_told, "queuing {queuing}, {fault:?}");
            assert_eq!(disk.flush(), Ok(()), "it is told once");
            disk.write(0, &vec![8; 9 * 4096]).unwrap();
            assert_eq!(disk.flush(), Ok(()));
            assert_eq!(ahci::last(&world.borrow()).durable[..9 * 4096], vec![8; 9 * 4096]);
        }
    }
}

/// While there are other disks to try.
#[test]
fn a_link_that_does_not_come_back_is_left_when_patience_ends() {
    let (world, mut disk) = faulty(Fault::LinkBreaks(0, Duration::from_secs(3600)));
    let before = ahci::elapsed(&world);
    assert_eq!(disk.read(0, &mut [0; 512]), Err(BlockError::Gone));
    assert!((PATIENCE..PATIENCE + A_MOMENT).contains(&ahci::elapsed(&world).saturating_sub(before)));
}

#[test]
fn a_link_that_breaks_at_each_request_is_given_up() {
    for queuing in [true, false] {
        let (world, mut disk) =
            started(Model { queuing, fault: Fault::LinkAlwaysBreaks, ..Model::default() });
        let written = disk.write(0, &vec![7; 4 * 4096]).and_then(|()| disk.flush());
        assert_eq!(written, Err(BlockError::Device(0x0800_0080)));
        assert!(ahci::elapsed(&world) < Duration::from_secs(10));
    }
}

/// Nothing is written to a disk whose label nobody has seen.
#[test]
fn another_disk_in_place_of_the_one_that_was_there_is_not_written() {
    let (world, mut disk) = faulty(Fault::Swapped(2));
    let written = disk.write(0, &vec![7; 4 * 4096]).and_then(|()| disk.flush());
    assert_eq!(written, Err(BlockError::Gone));
    assert_eq!(disk.write(0, &[7; 4096]), Err(BlockError::Gone));
    assert_eq!(codes(&world), [0x61, 0x61, 0], "those before");
}

#[test]
fn a_disk_that_was_pulled_is_given_up_when_it_does_not_come_back() {
    let (world, mut disk) = faulty(Fault::Pulled(2));
    let before = ahci::elapsed(&world);
    let written = disk.write(0, &vec![7; 4 * 4096]).and_then(|()| disk.flush());
    assert_eq!(written, Err(BlockError::Gone));
    assert!(ahci::elapsed(&world) < before + Duration::from_secs(5) + A_MOMENT);
    assert_eq!(disk.read(0, &mut [0; 512]), Err(BlockError::Gone));
}

/// Whatever the driver was doing.
#[test]
fn a_controller_that_vanishes_is_given_up_at_once() {
    let steps = {
        let (world, mut disk) = faulty(Fault::GoneAfter(usize::MAX));
        use_it(&mut disk).unwrap();
        drop(disk);
        ahci::accesses(&world)
    };
    assert!(steps > 100);
    for step in 0..steps {
        let world = ahci::machine(Model { fault: Fault::GoneAfter(step), ..Model::default() });
        let result = ahci::start(&world).map(|mut disk| use_it(&mut disk));
        assert!(ahci::elapsed(&world) < 2 * A_MOMENT, "step {step}: {:?}", ahci::elapsed(&world));
        match result {
            Err(StartError::Gone) | Ok(Err(BlockError::Gone) | Ok(())) => {}
            other => panic!("step {step}: {other:?}"),
        }
    }
}

fn use_it(disk: &mut FakeDisk) -> Result<(), BlockError> {
    disk.write(0, &[7; 3 * 4096])?;
    disk.flush()?;
    disk.read(0, &mut [0; 4096])
}

proptest! {
    #[test]
    fn a_disk_holds_what_was_written_last(
        steps in steps(1..60, 30),
        depth in 0_u32..=32,
        slots in 1_u32..=32,
        seed in any::<u64>(),
    ) {
        let (world, mut disk) = started(Model { slots, seed, ..with_disk(DiskModel { depth, ..DISK }) });
        let expected = ahci::last(&world.borrow()).disk.clone();
        steps::check(&mut disk, steps, expected, || ahci::last(&world.borrow()).durable.clone())?;
    }

    #[test]
    fn no_answer_of_a_controller_breaks_the_driver(
        fault in prop_oneof![
            (0_usize..10).prop_map(Fault::DeadAfter),
            (0_u64..64).prop_map(Fault::BadBlock),
            (0_usize..10, 0_u64..8).prop_map(|(at, seconds)| Fault::LinkBreaks(at, Duration::from_secs(seconds))),
            (0_usize..10, 0_u64..8).prop_map(|(at, seconds)| Fault::PowerFails(at, Duration::from_secs(seconds))),
            (0_usize..10).prop_map(Fault::Swapped),
            Just(Fault::LinkAlwaysBreaks),
            (0_usize..10).prop_map(Fault::Pulled),
            (0_usize..2000).prop_map(Fault::GoneAfter),
            (1_usize..300).prop_map(Fault::Junk),
            any::<u64>().prop_map(Fault::IdentifyJunk),
        ],
        queuing in any::<bool>(),
        steps in steps(1..20, 30),
        seed in any::<u64>(),
    ) {
        let world = ahci::machine(Model { queuing, fault, seed, ..Model::default() });
        let Ok(mut disk) = ahci::start(&world) else { return Ok(()) };
        steps::take(&mut disk, steps);
    }
}
