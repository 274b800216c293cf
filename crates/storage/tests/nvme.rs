//! The NVMe driver against a controller that keeps to the specification, and against some that do not.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    reason = "helpers of tests may stop at the first surprise, as tests do"
)]

#[allow(dead_code, reason = "a part of it is for the tests of other drivers")]
mod fake;
mod steps;

use std::time::Duration;

use fake::machine::Shared;
use fake::nvme::model::{Fault, Left, Model, Namespace};
use fake::nvme::registers::FakeAccess;
use fake::nvme::{self, Done, FakeDisk, PATIENCE, POOL, World};
use machine::{BlockDevice, BlockError};
use proptest::prelude::*;
use steps::steps;
use storage::{FAILED, Place, Pool, StartError, UNASKED};

/// More than anything takes besides waiting for a deadline.
const A_MOMENT: Duration = Duration::from_millis(500);

fn started(model: Model) -> (Shared<World>, FakeDisk) {
    let world = nvme::machine(model);
    let disk = nvme::start(&world, POOL).unwrap();
    (world, disk)
}

/// A disk that is sound until it is used.
fn faulty(fault: Fault) -> (Shared<World>, FakeDisk) {
    let (world, disk) = started(Model::default());
    nvme::break_by(&world, fault);
    (world, disk)
}

/// Why the disk of a controller cannot be used, and how long that took to find out.
fn refusal(model: Model) -> (StartError, Duration) {
    let world = nvme::machine(model);
    let error = nvme::start(&world, POOL).err().expect("a refusal");
    (error, nvme::elapsed(&world))
}

fn with_namespace(namespace: Namespace) -> Model {
    Model { namespaces: [(1, namespace)].into(), ..Model::default() }
}

/// The whole life of a disk, as sections 3.5.1 and 3.7.2 of the specification order it:
///
/// 1. the controller gets memory;
/// 2. it is turned off, which ends what the old kernel had running;
/// 3. it is turned on, with admin queues;
/// 4. it says what it is; a pair of queues for 5 requests is made;
/// 5. it lists its namespaces, and says what the first is;
/// 6. writes, of which up to 5 are in flight; a read that sees them; a flush that makes them durable;
/// 7. it is turned off again.
#[test]
fn a_disk_is_brought_up_written_read_and_flushed() {
    let (world, mut disk) = started(Model::default());
    let trace = world.borrow().trace.join("\n");
    assert_eq!(
        trace,
        "attached: Platform\n\
         CC = 0x00460000\n\
         3 old requests forgotten\n\
         CC = 0x00460001\n\
         admin queues of 32\n\
         identify controller\n\
         one queue of each kind\n\
         completion queue of 6\n\
         submission queue of 6\n\
         namespaces above 0\n\
         identify namespace 1"
    );
    assert_eq!((disk.size(), disk.block_size()), (512 * 512, 512));
    assert_eq!(disk.pool(), POOL);

    let data: Vec<u8> = (0..40 * 4096_u32).map(|at| (at / 7) as u8).collect();
    disk.write(8192, &data).unwrap();
    assert!(world.borrow().done.len() >= 5, "ten pieces do not fit five slots");
    let mut back = vec![0; data.len() + 512];
    disk.read(8192, &mut back).unwrap();
    assert_eq!(back[..data.len()], data);
    assert_eq!(back[data.len()..], [((8192 + data.len()) / 512) as u8; 512], "and what was there before");

    assert_ne!(world.borrow().contents[&1].durable, world.borrow().contents[&1].disk);
    disk.flush().unwrap();
    assert_eq!(world.borrow().contents[&1].durable, world.borrow().contents[&1].disk);
    assert_eq!(world.borrow().contents[&1].disk[8192..8192 + data.len()], data);
    let flush = Done { opcode: 0, namespace: 1, block: 0, blocks: 0 };
    assert_eq!(world.borrow().done.last(), Some(&flush));
    drop(disk);
    assert_eq!(world.borrow().trace.last().unwrap(), "CC = 0x00460000");
    assert_eq!(world.borrow().status, 0);
}

/// Nothing may be done in the wrong order: the fake controller stops the test where the specification calls the result undefined.
#[test]
fn a_controller_is_taken_over_from_any_state() {
    for (left, trace) in [
        (Left::Off, "CC = 0x00460001"),
        (Left::Busy(0), "CC = 0x00460000, CC = 0x00460001"),
        (Left::Busy(100), "CC = 0x00460000, 100 old requests forgotten, CC = 0x00460001"),
        (Left::TurningOn, "CC = 0x00460000, CC = 0x00460001"),
        (Left::TurningOff, "CC = 0x00460001"),
        (Left::Failed, "CC = 0x00460000, 2 old requests forgotten, CC = 0x00460001"),
        (Left::FailedToTurnOn, "CC = 0x00460000, CC = 0x00460001"),
        (Left::ShuttingDown, "CC = 0x00460000, 1 old requests forgotten, CC = 0x00460001"),
        (Left::ShutDown, "CC = 0x00460000, CC = 0x00460001"),
    ] {
        let (world, mut disk) = started(Model { left, ..Model::default() });
        disk.write(0, &[7; 4096]).unwrap();
        disk.flush().unwrap();
        let done = world.borrow().trace.join(", ");
        assert!(done.starts_with(&format!("attached: Platform, {trace}, admin queues")), "{left:?}: {done}");
        assert!(nvme::elapsed(&world) < A_MOMENT, "{left:?}");
    }
}

/// What would be waited for never comes, so that it is turned off as it is. The fake stops the test there unless it never turns on.
#[test]
fn a_controller_that_never_got_ready_is_turned_off_when_the_time_that_it_tells_is_over() {
    let model = Model {
        left: Left::TurningOn,
        timeout: 2,
        slowness: Duration::from_secs(3600),
        fault: Fault::NeverOn,
        ..Model::default()
    };
    let world = nvme::machine(model);
    let error = nvme::start(&world, POOL).err().unwrap();
    assert!(matches!(error, StartError::Stuck(_)), "{error}");
    assert_eq!(world.borrow().trace[1], "CC = 0x00460000");
    assert!(nvme::elapsed(&world) < 4 * Duration::from_millis(1500) + A_MOMENT);
}

/// To turn it off before it is ready is undefined (3.1.3.5): the fake stops the test there. It is ready when it is looked at again.
#[test]
fn a_controller_that_is_not_ready_when_patience_ends_is_left_alone() {
    for left in [Left::TurningOn, Left::Off] {
        let world = nvme::machine(Model { left, slowness: Duration::from_secs(5), ..Model::default() });
        let error = nvme::open(&world, POOL).err().unwrap();
        assert!(matches!(error, StartError::Stuck(_)), "{error}");
        assert!((PATIENCE..PATIENCE + A_MOMENT).contains(&nvme::elapsed(&world)), "{left:?}");
        assert_eq!(world.borrow().configuration & 1, 1, "{left:?}");

        let mut disk = nvme::open_patiently(&world).unwrap();
        assert_eq!(disk.advance(), Some((Place::Namespace(1), Ok(()))));
        disk.read(0, &mut [0; 512]).unwrap();
    }
}

/// CAP.TO can tell of 127.5 s.
#[test]
fn where_there_is_nothing_else_to_try_a_controller_gets_the_time_that_it_tells_of() {
    let slow = Model { timeout: 120, slowness: Duration::from_secs(50), left: Left::Off, ..Model::default() };
    let mut disk = nvme::open_patiently(&nvme::machine(slow)).unwrap();
    assert_eq!(disk.advance(), Some((Place::Namespace(1), Ok(()))));
    let never =
        Model { timeout: 255, with_media: Some(u16::MAX), fault: Fault::NeverOff, ..Model::default() };
    let world = nvme::machine(never);
    assert!(matches!(nvme::open_patiently(&world).err(), Some(StartError::Stuck(_))));
    assert_eq!(nvme::elapsed(&world).as_secs(), 128);
}

/// Namespace Not Ready, for half a minute after the power came back; Command Interrupted.
#[test]
fn what_passes_is_waited_for() {
    for status in [0x082, 0x021, 0x022, 0x303] {
        let (world, mut disk) = faulty(Fault::UnreadyUntil(Duration::from_millis(1900), status));
        disk.write(0, &vec![7; 8 * 4096]).unwrap();
        disk.flush().unwrap();
        assert!(nvme::elapsed(&world) > Duration::from_millis(1900), "{status:#x}");
        assert!(world.borrow().done.len() < 80, "it is left alone meanwhile: {}", world.borrow().done.len());
        assert_eq!(world.borrow().contents[&1].durable[..8 * 4096], vec![7; 8 * 4096]);
    }
    let world = nvme::machine(Model {
        fault: Fault::UnreadyUntil(Duration::from_secs(25), 0x082),
        ..Model::default()
    });
    let mut disk = nvme::start(&world, POOL).unwrap();
    assert_eq!(disk.read(0, &mut [0; 512]), Err(BlockError::TimedOut), "silence: it is tried again");
    drop(disk);
    let mut disk = nvme::open_patiently(&world).unwrap();
    assert_eq!(disk.advance(), Some((Place::Namespace(1), Ok(()))));
    disk.read(0, &mut [0; 512]).unwrap();
}

#[test]
fn what_passes_for_commands_to_the_controller_is_waited_for() {
    let unready = |seconds| Model {
        fault: Fault::AdminUnreadyUntil(Duration::from_secs(seconds), 0x024),
        ..Model::default()
    };
    started(unready(1));
    let (error, elapsed) = refusal(unready(20));
    assert!(matches!(error, StartError::Stuck(_)), "{error}");
    assert!((PATIENCE..PATIENCE + A_MOMENT).contains(&elapsed), "{elapsed:?}");
}

/// DNR is bit 14.
#[test]
fn what_is_final_is_not_tried_again() {
    for status in [0x082, 0x281, 0x006] {
        let (world, mut disk) = faulty(Fault::FailsAtFirst(1, 0x4000 | status));
        assert_eq!(disk.read(0, &mut [0; 512]), Err(BlockError::Device(status.into())));
        assert_eq!(world.borrow().done.len(), 1);
        disk.read(0, &mut [0; 512]).unwrap();
    }
    let (_, mut disk) = faulty(Fault::UnreadyUntil(Duration::MAX, 0x4082));
    assert_eq!(disk.flush(), Err(BlockError::Device(0x082)));
}

#[test]
fn what_may_succeed_is_tried_a_few_times_more() {
    for (failures, result) in [(3, Ok(())), (4, Err(BlockError::Device(0x006)))] {
        let (world, mut disk) = faulty(Fault::FailsAtFirst(failures, 0x006));
        assert_eq!(disk.read(0, &mut [0; 512]), result, "{failures}");
        assert_eq!(world.borrow().done.len(), 4, "{failures}");
    }
}

#[test]
fn a_namespace_that_does_not_answer_does_not_cost_the_others() {
    let namespaces = (1..=6).map(|number| (number, Namespace::default())).collect();
    let world = nvme::machine(Model { namespaces, fault: Fault::SilentNamespace(1), ..Model::default() });
    let mut disk = nvme::open(&world, POOL).unwrap();
    assert_eq!(disk.advance(), Some((Place::Namespace(1), Ok(()))));
    assert_eq!(disk.read(0, &mut [0; 512]), Err(BlockError::TimedOut));
    assert_eq!(disk.advance(), Some((Place::Namespace(2), Ok(()))));
    disk.write(0, &[7; 4096]).unwrap();
    disk.flush().unwrap();
    assert_eq!(world.borrow().contents[&2].durable[..4096], [7; 4096]);

    // Where none answers, that does not go on for ever.
    nvme::break_by(&world, Fault::DeadAfter(0));
    let before = nvme::elapsed(&world);
    let mut ended = 0;
    while disk.advance().is_some() {
        assert!(disk.read(0, &mut [0; 512]).is_err());
        ended += 1;
    }
    assert_eq!(ended, 3, "it was brought up three times");
    assert!(nvme::elapsed(&world).saturating_sub(before) < 3 * PATIENCE + 2 * A_MOMENT);
}

#[test]
fn a_controller_that_does_not_turn_on_or_off_is_left_when_patience_ends() {
    for (fault, waits) in [(Fault::NeverOff, 1), (Fault::NeverOn, 1), (Fault::SilentFrom(0), 1)] {
        let (error, elapsed) = refusal(Model { fault, ..Model::default() });
        assert!(matches!(error, StartError::Stuck(_)), "{fault:?}: {error}");
        assert!((waits * PATIENCE..waits * PATIENCE + A_MOMENT).contains(&elapsed), "{fault:?}: {elapsed:?}");
    }
}

#[test]
fn each_admin_command_may_remain_unanswered() {
    for answered in 0..6 {
        let (error, elapsed) = refusal(Model { fault: Fault::SilentFrom(answered), ..Model::default() });
        assert!(matches!(error, StartError::Stuck(_)), "{answered}: {error}");
        assert!((PATIENCE..PATIENCE + A_MOMENT).contains(&elapsed), "{answered}: {elapsed:?}");
    }
    started(Model { fault: Fault::SilentFrom(6), ..Model::default() });
}

/// The controller says how long it may take: one unit of 500 ms, and one more because some tell of none.
#[test]
fn no_more_time_passes_than_the_controller_says() {
    let stuck = |timeout, with_media| {
        let (_, elapsed) = refusal(Model { timeout, with_media, fault: Fault::NeverOff, ..Model::default() });
        elapsed.as_millis() / 500
    };
    assert_eq!(stuck(0, None), 1);
    assert_eq!(stuck(1, None), 2);
    assert_eq!(stuck(1, Some(2)), 3, "CRTO is longer");
    assert_eq!(stuck(2, Some(1)), 3, "CAP.TO is longer, which is wrong");
    assert_eq!(stuck(255, Some(u16::MAX)), 4, "patience is shorter");
}

#[test]
fn a_controller_that_fails_is_told_at_once() {
    let (error, elapsed) = refusal(Model { fault: Fault::FailsToTurnOn, ..Model::default() });
    assert_eq!(error, StartError::Failed);
    assert!(elapsed < A_MOMENT);

    let (world, mut disk) = faulty(Fault::FailsAfter(2));
    assert_eq!(
        disk.write(0, &vec![7; 40 * 4096]).and_then(|()| disk.flush()),
        Err(BlockError::Device(FAILED))
    );
    assert_eq!(world.borrow().configuration & 1, 0, "it is turned off");
    assert_eq!(disk.flush(), Err(BlockError::Device(FAILED)));
    assert!(nvme::elapsed(&world) < 2 * A_MOMENT);
}

/// At every access to its registers, and at every moment between them.
#[test]
fn a_controller_that_vanishes_is_given_up_at_once() {
    let mut refused = 0;
    for events in 0..400 {
        let world = nvme::machine(Model { fault: Fault::GoneAfter(events), ..Model::default() });
        match nvme::start(&world, POOL) {
            Err(error) => {
                refused += 1;
                assert_eq!(error, StartError::Gone, "after {events} events");
                assert!(nvme::elapsed(&world) < PATIENCE, "after {events} events");
            }
            Ok(mut disk) => {
                let mut use_it = || disk.write(0, &vec![7; 40 * 4096]).and_then(|()| disk.flush());
                let ended = (0..20).map(|_| use_it()).find(Result::is_err).expect("an end");
                assert_eq!(ended, Err(BlockError::Gone), "after {events} events");
                assert_eq!(disk.read(0, &mut [0; 512]), ended);
                assert_eq!(disk.advance(), None);
                // Much less than is waited for a disk that is silent.
                assert!(nvme::elapsed(&world) < 2 * PATIENCE, "after {events} events");
            }
        }
    }
    assert!((30..350).contains(&refused), "{refused}");
}

/// Reading a register of a device slows it down.
#[test]
fn a_controller_at_work_is_rarely_looked_at() {
    let (world, mut disk) = started(Model::default());
    let before = world.borrow().looks;
    for _ in 0..20 {
        disk.write(0, &vec![7; 40 * 4096]).unwrap();
        disk.flush().unwrap();
    }
    assert_eq!(world.borrow().looks, before);
}

#[test]
fn namespaces_are_gone_through_in_order() {
    let namespace = |blocks, shift| Namespace { blocks, shift, ..Namespace::default() };
    let namespaces = [(3, namespace(8, 12)), (9, namespace(64, 9)), (0x1_0000, namespace(128, 9))];
    let world = nvme::machine(Model { namespaces: namespaces.into(), ..Model::default() });
    let mut disk = nvme::open(&world, POOL).unwrap();
    assert_eq!(disk.size(), 0);
    for (number, bytes) in [(3, 8 << 12), (9, 64 << 9), (0x1_0000, 128 << 9)] {
        assert_eq!(disk.advance(), Some((Place::Namespace(number), Ok(()))));
        assert_eq!(disk.size(), bytes);
        disk.write(4096, &[number as u8 + 1; 4096]).unwrap();
        disk.flush().unwrap();
        let done = world.borrow().done.clone();
        assert!(done.iter().rev().take(2).all(|done| done.namespace == number));
        assert_eq!(world.borrow().contents[&number].durable[4096..8192], [number as u8 + 1; 4096]);
    }
    assert_eq!(disk.advance(), None);
    assert_eq!(disk.read(0, &mut [0; 512]), Err(BlockError::OutOfBounds));
    assert_eq!(disk.advance(), None);
}

#[test]
fn a_controller_without_a_list_is_asked_for_each_namespace() {
    let namespaces = [(2, Namespace::default()), (5, Namespace::default())];
    let old = Model { version: 0x0001_0000, namespaces: namespaces.into(), ..Model::default() };
    let refusing = Model { version: 0x0001_0200, fault: Fault::Refuses(6, Some(2), 0x02), ..old.clone() };
    for model in [old, refusing] {
        let world = nvme::machine(model);
        let mut disk = nvme::open(&world, POOL).unwrap();
        let places: Vec<_> = std::iter::from_fn(|| disk.advance()).collect();
        assert_eq!(places, [(Place::Namespace(2), Ok(())), (Place::Namespace(5), Ok(()))]);
    }
}

#[test]
fn a_list_of_namespaces_without_an_end_ends() {
    // One that goes back, one that stays, and one that says nothing.
    for fault in [Fault::Lists(1), Fault::Lists(2), Fault::SaysNothing] {
        let world = nvme::machine(Model { fault, ..Model::default() });
        let mut disk = nvme::open(&world, POOL).unwrap();
        assert!(std::iter::from_fn(|| disk.advance()).count() <= 1, "{fault:?}");
    }
    // All numbers, none of which is a namespace.
    let last = Namespace { blocks: 0, ..Namespace::default() };
    let namespaces = [(u32::MAX - 1, last)].into();
    let world = nvme::machine(Model { version: 0x0001_0000, namespaces, ..Model::default() });
    assert_eq!(nvme::open(&world, POOL).unwrap().advance(), None);
    let asked = world.borrow().trace.iter().filter(|done| done.starts_with("identify namespace")).count();
    assert_eq!(asked, 1024);
}

#[test]
fn a_controller_without_namespaces_has_no_disk() {
    let world = nvme::machine(Model { namespaces: [].into(), ..Model::default() });
    assert_eq!(nvme::open(&world, POOL).unwrap().advance(), None);
}

/// The disk that is looked for may be the next one.
#[test]
fn a_namespace_that_cannot_be_used_does_not_hide_the_next_one() {
    let metadata = Namespace { metadata: 8, ..Namespace::default() };
    let namespaces = [(1, metadata), (2, Namespace::default())].into();
    let world = nvme::machine(Model { namespaces, ..Model::default() });
    let mut disk = nvme::open(&world, POOL).unwrap();
    let refused = Err(StartError::Unusable("blocks with metadata"));
    assert_eq!(disk.advance(), Some((Place::Namespace(1), refused)));
    assert_eq!(disk.read(0, &mut [0; 512]), Err(BlockError::OutOfBounds));
    assert_eq!(disk.advance(), Some((Place::Namespace(2), Ok(()))));
    disk.read(0, &mut [0; 512]).unwrap();
}

#[test]
fn a_controller_that_falls_silent_while_its_namespaces_are_gone_through_is_turned_off() {
    for answered in 4..6 {
        let world = nvme::machine(Model { fault: Fault::SilentFrom(answered), ..Model::default() });
        let mut disk = nvme::open(&world, POOL).unwrap();
        let place = if answered == 4 { Place::Only } else { Place::Namespace(1) };
        let (told, error) = disk.advance().unwrap();
        assert_eq!(told, place);
        assert!(matches!(error, Err(StartError::Stuck(_))));
        assert_eq!(world.borrow().configuration & 1, 0);
        // It is brought up once more, and says nothing then.
        let (told, error) = disk.advance().unwrap();
        assert!(told == Place::Only && matches!(error, Err(StartError::Stuck(_))));
        assert_eq!(world.borrow().configuration & 1, 0);
        assert_eq!(disk.advance(), None);
    }
}

#[test]
fn a_disk_that_cannot_be_used_is_refused_for_a_reason() {
    let ok = Model::default();
    let namespace = Namespace::default;
    let geometry = |blocks, shift| with_namespace(Namespace { blocks, shift, ..namespace() });
    for (model, words) in [
        (with_namespace(Namespace { metadata: 8, ..namespace() }), "cannot use blocks with metadata"),
        (Model { fault: Fault::Claims(26, 0x10), ..ok.clone() }, "cannot use blocks with metadata"),
        (with_namespace(Namespace { protection: 1, ..namespace() }), "cannot use end-to-end data protection"),
        (with_namespace(Namespace { write_protected: true, ..namespace() }), "the disk is read-only"),
        (Model { command_sets: 0x80, ..ok.clone() }, "without the NVM command set"),
        (Model { smallest_page: 1, ..ok.clone() }, "smallest memory page is above 4 KiB"),
        (
            Model { fault: Fault::Claims(111, 2), ..ok.clone() },
            "a controller that is not for reads and writes",
        ),
        (Model { fault: Fault::Claims(512, 0x77), ..ok.clone() }, "whose queues have longer entries"),
        (Model { fault: Fault::Claims(513, 0x55), ..ok.clone() }, "whose queues have longer entries"),
        (Model { most_entries: 0, ..ok.clone() }, "no usable queue"),
        (
            Model { fault: Fault::Refuses(6, Some(1), 6), ..ok.clone() },
            "refuses to identify itself: status 0x6",
        ),
        (Model { fault: Fault::Refuses(6, Some(0), 0xb), ..ok.clone() }, "refuses to identify a namespace"),
        (
            Model { fault: Fault::Refuses(5, None, 0x101), ..ok.clone() },
            "to make a completion queue: status 0x101",
        ),
        (Model { fault: Fault::Refuses(1, None, 0x101), ..ok.clone() }, "to make a submission queue"),
        (Model { fault: Fault::AnswersAnother, ..ok.clone() }, "answers what nobody has asked"),
    ] {
        let told = refusal(model.clone()).0.to_string();
        assert!(told.contains(words), "{told}: not {words}");
    }
    // What is in it is described by the fake as well: there is no such disk.
    for (blocks, shift) in [(8, 8), (8, 13)] {
        assert_eq!(refusal(geometry(blocks, shift)).0, StartError::Geometry, "{blocks} << {shift}");
    }
    for shift in [0, 8, 13, 64, 255] {
        let model = Model { fault: Fault::Claims(130, shift), ..ok.clone() };
        assert_eq!(refusal(model).0, StartError::Geometry, "{shift}");
    }
    let too_large = Model { fault: Fault::Claims(7, 0xff), ..ok };
    assert_eq!(refusal(too_large).0, StartError::Geometry);
}

#[test]
fn a_controller_that_was_refused_is_left_turned_off() {
    for fault in [Fault::Refuses(6, Some(1), 6), Fault::Refuses(1, None, 2), Fault::SilentFrom(2)] {
        let world = nvme::machine(Model { fault, ..Model::default() });
        assert!(nvme::open(&world, POOL).is_err());
        assert_eq!(world.borrow().configuration & 1, 0, "{fault:?}");
    }
}

/// Degraded controllers do that, and still make a queue.
#[test]
fn a_controller_that_refuses_to_count_queues_is_used() {
    let (_, mut disk) = started(Model { fault: Fault::Refuses(9, None, 2), ..Model::default() });
    disk.write(0, &[7; 4096]).unwrap();
    disk.flush().unwrap();
}

#[test]
fn odd_shapes_are_disks_too() {
    let big_blocks = Namespace { blocks: 64, shift: 12, ..Namespace::default() };
    let ok = Model::default();
    for (name, model, pool) in [
        ("one page at a time", Model { most_data: 1, ..ok.clone() }, Pool { slot_size: 2 * 4096, ..POOL }),
        ("no limit", Model { most_data: 0, ..ok.clone() }, POOL),
        ("a limit beyond all", Model { most_data: 255, ..ok.clone() }, POOL),
        ("two entries", Model { most_entries: 1, ..ok.clone() }, Pool { slots: 1, ..POOL }),
        ("three entries", Model { most_entries: 2, ..ok.clone() }, Pool { slots: 2, ..POOL }),
        ("as many entries as can be", Model { most_entries: 0xffff, ..ok.clone() }, POOL),
        ("wide doorbells", Model { stride: 3, ..ok.clone() }, POOL),
        ("widest doorbells", Model { stride: 15, ..ok.clone() }, POOL),
        ("a late format", with_namespace(Namespace { format: 63, ..Namespace::default() }), POOL),
        ("version 1.0", Model { version: 0x0001_0000, ..ok.clone() }, POOL),
        ("version 2.1", Model { version: 0x0002_0100, with_media: Some(4), ..ok.clone() }, POOL),
        ("large blocks", with_namespace(big_blocks), POOL),
        ("PM1725", Model { ids: (0x144d, 0xa822), most_entries: 0, ..ok.clone() }, POOL),
    ] {
        let (world, mut disk) = started(model);
        assert_eq!(disk.pool(), pool, "{name}");
        let data: Vec<u8> = (0..50 * 4096_u32).map(|at| (at / 11) as u8).collect();
        for round in 0..3 {
            disk.write(round * 4096, &data).unwrap();
        }
        disk.flush().unwrap();
        assert_eq!(world.borrow().contents[&1].durable[2 * 4096..][..data.len()], data, "{name}");
        let mut back = vec![0; data.len()];
        disk.read(2 * 4096, &mut back).unwrap();
        assert_eq!(back, data, "{name}");
    }
}

/// A page, two pages, and lists, one of which is as long as a page.
#[test]
fn data_of_any_length_finds_its_pages() {
    for slot_size in [4096, 2 * 4096, 3 * 4096, 66 * 4096, 600 * 4096] {
        let pool = Pool { slots: 2, slot_size };
        let namespace = Namespace { blocks: 4096, shift: 12, ..Namespace::default() };
        let world = nvme::machine(Model { most_data: 0, ..with_namespace(namespace) });
        nvme::limit_memory(&world, 64 << 20);
        let mut disk = nvme::start(&world, pool).unwrap();
        // A list has a page for 512 more, at most.
        assert_eq!(disk.pool(), Pool { slot_size: slot_size.min(513 * 4096), ..pool });
        for len in [4096, 2 * 4096, 3 * 4096, slot_size, slot_size + 4096] {
            let data: Vec<u8> = (0..len).map(|at| (at / 4099) as u8).collect();
            disk.write(4096, &data).unwrap();
            let mut back = vec![0; len];
            disk.read(4096, &mut back).unwrap();
            assert_eq!(back, data, "{len} of {slot_size}");
        }
    }
}

#[test]
fn a_large_disk_is_used_to_its_end() {
    let world = nvme::machine(Model { fault: Fault::Claims(5, 0x01), ..Model::default() });
    let mut disk = nvme::start(&world, POOL).unwrap();
    assert_eq!(disk.size(), ((1 << 40) + 512) * 512);
    // Past the content of the fake, which would panic: the request is refused before.
    let block = (1 << 40) + 500;
    nvme::break_by(&world, Fault::BadBlock(block, 0x281));
    assert_eq!(disk.read(block * 512, &mut [0; 512]), Err(BlockError::Device(0x281)));
}

#[test]
fn a_write_of_many_pieces_rings_once_for_each_time_around() {
    let (world, mut disk) = started(Model::default());
    disk.write(0, &vec![7; 5 * 4 * 4096]).unwrap();
    assert_eq!(world.borrow().notifications, 1);
    disk.flush().unwrap();
    assert_eq!(world.borrow().done.len(), 6);
}

#[test]
fn without_a_cache_nothing_is_flushed() {
    let (world, mut disk) = started(Model { cached: false, ..Model::default() });
    disk.write(0, &[7; 4096]).unwrap();
    disk.flush().unwrap();
    assert_eq!(world.borrow().done, [Done { opcode: 1, namespace: 1, block: 0, blocks: 8 }]);
}

#[test]
fn writes_to_the_same_block_keep_their_order() {
    for seed in 0..50 {
        let (world, mut disk) = started(Model { seed, ..Model::default() });
        for version in 1..=4 {
            disk.write(0, &vec![version; 8 * 4096]).unwrap();
            disk.write(4096, &[version + 100; 512]).unwrap();
        }
        disk.flush().unwrap();
        assert_eq!(world.borrow().contents[&1].disk[..4096], [4; 4096]);
        assert_eq!(world.borrow().contents[&1].disk[4096..4608], [104; 512]);
    }
}

#[test]
fn little_memory_is_enough() {
    let (queues, lists, slot) = (4 * 4096, 4096, 4 * 4096);
    let world = nvme::machine(Model::default());
    nvme::limit_memory(&world, queues + lists + slot);
    let mut disk = nvme::start(&world, POOL).unwrap();
    assert_eq!(disk.pool().slots, 1);
    disk.write(0, &vec![7; 40 * 4096]).unwrap();
    disk.flush().unwrap();
    for short in [0, 4096, queues, queues + lists] {
        let world = nvme::machine(Model::default());
        nvme::limit_memory(&world, short);
        assert_eq!(nvme::start(&world, POOL).err(), Some(StartError::NoMemory), "{short}");
        assert_eq!(world.borrow().configuration & 1, 0);
    }
}

/// Samsung's PM1725 and others must not be read after they were turned off, for so long.
#[test]
fn a_controller_that_needs_a_rest_gets_it_and_others_do_not() {
    let rested = |ids| {
        let (world, _disk) = started(Model { ids, ..Model::default() });
        nvme::elapsed(&world)
    };
    assert!(rested((0x1c58, 0x0003)) >= Duration::from_millis(2300));
    assert!(rested((0x1b36, 0x0010)) < A_MOMENT);
}

#[test]
fn a_function_of_another_class_is_left_alone() {
    let world = nvme::machine(Model::default());
    let access = FakeAccess::new(&world);
    // NVM Express, administrative controller.
    access.config.put(0x09, &[0x03]);
    let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut access = access;
        nvme::open_with(&mut access, POOL).is_ok()
    }));
    assert!(opened.is_err(), "there is no driver");
    assert!(world.borrow().trace.is_empty());
}

#[test]
fn a_disk_that_never_completed_anything_is_left_when_patience_ends() {
    let (world, mut disk) = faulty(Fault::DeadAfter(0));
    let before = nvme::elapsed(&world);
    assert_eq!(disk.read(0, &mut [0; 512]), Err(BlockError::TimedOut));
    assert_eq!(world.borrow().configuration & 1, 0, "it was turned off");
    drop(disk);
    assert!((PATIENCE..PATIENCE + A_MOMENT).contains(&nvme::elapsed(&world).saturating_sub(before)));
}

#[test]
fn a_dead_queue_ends_every_call_and_the_controller_is_turned_off() {
    let (world, mut disk) = faulty(Fault::DeadAfter(3));
    assert_eq!(disk.write(0, &vec![7; 60 * 4096]), Err(BlockError::TimedOut));
    assert_eq!(world.borrow().configuration & 1, 0);
    assert_eq!(disk.write(0, &[7; 512]), Err(BlockError::TimedOut));
    assert_eq!(disk.read(0, &mut [0; 512]), Err(BlockError::TimedOut));
    assert_eq!(disk.flush(), Err(BlockError::TimedOut));
    assert!(nvme::elapsed(&world) >= Duration::from_secs(30), "it may be at work on a bad block");
}

/// Status type 2, code 0x81: an unrecovered read error.
#[test]
fn the_error_of_a_queued_write_surfaces_once_at_the_latest_with_the_flush() {
    let (world, mut disk) = faulty(Fault::BadBlock(40, 0x281));
    disk.write(0, &vec![7; 16 * 4096]).unwrap();
    assert_eq!(disk.flush(), Err(BlockError::Device(0x281)));
    assert_eq!(disk.flush(), Ok(()));
    assert_eq!(world.borrow().contents[&1].disk[..4 * 4096], [7; 4 * 4096], "the other writes were done");
    assert_eq!(disk.read(0x5000, &mut [0; 4096]), Err(BlockError::Device(0x281)));
}

#[test]
fn junk_completions_are_an_error_of_the_device() {
    let junk = |fault, pages: usize| {
        let (world, mut disk) = faulty(fault);
        let first = disk.write(0, &vec![7; pages * 4096]).and_then(|()| disk.flush());
        assert_eq!(disk.flush(), first, "{fault:?}: it stays an error");
        assert_eq!(world.borrow().configuration & 1, 0, "{fault:?}: the controller is turned off");
        first
    };
    let unasked = Err(BlockError::Device(UNASKED));
    for id in [1, 5, 6, 0xff, 0xffff] {
        assert_eq!(junk(Fault::JunkId(id), 1), unasked, "id {id}");
    }
    assert_eq!(junk(Fault::JunkId(0), 20), unasked);
    assert_eq!(junk(Fault::Repeats, 8), unasked);
    for entries in [1, 4, 5, 6, 7, 20] {
        // Answers that overtake the driver by a round are none.
        let told = junk(Fault::PhaseAhead(entries), 20);
        assert!(told == unasked || told == Err(BlockError::TimedOut), "{entries} entries: {told:?}");
    }
}

proptest! {
    #[test]
    fn a_disk_holds_what_was_written_last(
        steps in steps(1..60, 100),
        most_entries in 1_u16..10,
        most_data in 0_u8..4,
        stride in 0_u8..16,
        seed in any::<u64>(),
    ) {
        let (world, mut disk) = started(Model { most_entries, stride, most_data, seed, ..Model::default() });
        let expected = world.borrow().contents[&1].disk.clone();
        steps::check(&mut disk, steps, expected, || world.borrow().contents[&1].durable.clone())?;
    }

    #[test]
    fn no_answer_of_a_controller_breaks_the_driver(
        fault in prop_oneof![
            any::<u16>().prop_map(Fault::JunkId),
            (0_u16..8).prop_map(Fault::JunkId),
            (0_u16..20).prop_map(Fault::PhaseAhead),
            (0_usize..10).prop_map(Fault::DeadAfter),
            (0_usize..10).prop_map(Fault::FailsAfter),
            (0_usize..500).prop_map(Fault::GoneAfter),
            (0_u64..64, 0_u16..0x800).prop_map(|(block, status)| Fault::BadBlock(block, status)),
            Just(Fault::Repeats),
        ],
        steps in steps(1..20, 100),
        seed in any::<u64>(),
    ) {
        let (world, mut disk) = started(Model { seed, ..Model::default() });
        nvme::break_by(&world, fault);
        steps::take(&mut disk, steps);
        while disk.advance().is_some() {}
    }

    /// Whatever a controller says of itself and of its disk.
    #[test]
    fn no_claim_of_a_controller_breaks_the_driver(
        offset in prop_oneof![0_usize..150, 500_usize..530],
        byte in any::<u8>(),
        left in prop_oneof![Just(Left::Off), Just(Left::Busy(2)), Just(Left::Failed)],
    ) {
        let world = nvme::machine(Model { fault: Fault::Claims(offset, byte), left, ..Model::default() });
        let Ok(mut disk) = nvme::open(&world, POOL) else { return Ok(()) };
        for _ in 0..3 {
            if let Some((_, Ok(()))) = disk.advance() {
                prop_assert!(disk.size().is_multiple_of(disk.block_size().into()));
                prop_assert!(disk.pool().slot_size <= POOL.slot_size);
            }
        }
    }
}
