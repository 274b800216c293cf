//! The conditions in which a takeover may find a unit.

use vtd::capability::{Capability, ExtendedCapability};
use vtd::registers::IRTA;

use super::kernel::DEADLINE;
use super::world::{OldRam, QUEUE_ON};
use super::*;
use takeover::failure::InForce;
use takeover::{Failure, Found, UnitError, VtdFound};

/// Bits of the global command that turn something off when they are not repeated: TE, EAFL, QIE, IRE, CFI.
const STICKY: u64 = 1 << 31 | 1 << 28 | QUEUE_ON | 1 << 25 | 1 << 23;
/// Bits that start something besides a root pointer or a flush: SFL, SIRTP.
const ONE_SHOT: u64 = 1 << 29 | 1 << 24;

/// A kernel with one device, whose domain maps a page.
fn kernel() -> Kernel {
    let mut kernel = Kernel::legacy();
    let top = kernel.table();
    kernel.map(top, Level::ONE, 0x1000, 0x5000);
    kernel.legacy_context(DISK, 0, top, 7);
    kernel
}

/// Takes over a unit whose registers fill this many bytes.
fn die_in(kernel: &Kernel, size: usize) -> Result<Takeover<'_, Port, World>, Failure> {
    die_with_width(kernel, size, 39)
}

/// The same on a machine of which firmware says that its addresses have this many bits.
fn die_with_width(
    kernel: &Kernel,
    size: usize,
    host_address_bits: u32,
) -> Result<Takeover<'_, Port, World>, Failure> {
    let mut frames = Pool { world: kernel.world.clone(), tables: BTreeMap::new() };
    let unit = Unit::vtd(Port(kernel.world.clone()), size, &*kernel.world).unwrap();
    let (memory, own) = ([physical(MEMORY)], [physical(OWN)]);
    let surroundings = Surroundings::new(host_address_bits, &memory, &own);
    let limits = Limits { deadline: DEADLINE, ..Limits::default() };
    Ok(takeover::take_over(unit, &OldRam(kernel.world.clone()), &mut frames, &surroundings, &limits)?)
}

/// The state in which the unit was found.
#[expect(clippy::panic, reason = "another architecture is a surprise")]
fn found<'t>(taken: &'t Takeover<'_, Port, World>) -> &'t VtdFound {
    match &taken.report().found {
        Found::Vtd(found) => found,
        other @ Found::AmdVi(_) => panic!("another architecture: {other:?}"),
    }
}

/// Interrupt remapping, compatibility-format interrupts and the fault log stay as they were; the queue is turned off
/// just to be replaced.
#[test]
fn every_command_repeats_what_is_on() {
    let kernel = kernel();
    kernel.world.set(GSTS.offset, STICKY | 1 << 30 | 1 << 24);
    let _ = kernel.die();
    let writes = kernel.world.writes.borrow();
    let commands: Vec<u64> =
        writes.iter().filter(|(offset, _)| *offset == GCMD.offset).map(|(_, value)| *value).collect();
    assert_eq!(commands, [STICKY & !QUEUE_ON, STICKY, STICKY | 1 << 30]);
    assert!(commands.iter().all(|command| command & ONE_SHOT == 0));
    assert!(writes.iter().all(|(offset, _)| *offset != IRTA.offset));
}

#[test]
fn translation_that_is_off_leaves_nothing_to_inherit() {
    let kernel = kernel();
    kernel.world.set(GSTS.offset, 0x4700_0000);
    let failure = die_in(&kernel, 0x1000).unwrap_err();
    assert_eq!(failure, Failure::from(takeover::failure::Reason::TranslationOff));
    assert_eq!(kernel.world.writes.borrow()[..], []);
}

/// The ring of records starts at FRI. All are cleared, and so is the overflow bit, or no later fault would be recorded.
#[test]
fn faults_are_kept_in_their_order_and_cleared() {
    let kernel = kernel();
    // PFO, PPF; the first fault is in record 2.
    kernel.world.set(FSTS.offset, 0x0203);
    for (record, reason) in [(0, 5), (2, 6), (3, 2)] {
        kernel.world.set(FAULTS + record * FRCD_SIZE, 0x1000 * reason);
        kernel.world.set(FAULTS + record * FRCD_SIZE + 8, 1 << 63 | reason << 32 | u64::from(DISK.0));
    }
    let (taken, _) = kernel.die();
    let found = found(&taken);
    assert!(found.faults.pfo());
    let reasons: Vec<u8> = found.fault_records.iter().map(|record| record.high.reason().0).collect();
    assert_eq!(reasons, [6, 2, 5]);
    assert_eq!(found.fault_records[0].address().get(), 0x6000);
    assert!((0..4).all(|record| kernel.world.get(FAULTS + record * FRCD_SIZE + 8) >> 63 == 0));
    assert_eq!(kernel.world.get(FSTS.offset) & 1, 0);
}

/// Firmware's table reports one page; the unit has its fault records beyond it.
#[test]
fn fault_records_outside_the_block_are_not_looked_at() {
    let kernel = kernel();
    let capability = Capability::from_bits(kernel.world.get(CAP.offset)).with_fro(0x3FF).with_nfr(255);
    kernel.world.set(CAP.offset, capability.into_bits());
    let unit = Unit::vtd(Port(kernel.world.clone()), 0x1000, &*kernel.world).unwrap();
    assert_eq!(unit.register_bytes(), 0x3FF0 + 256 * FRCD_SIZE);
    let taken = die_in(&kernel, 0x1000).unwrap();
    assert_eq!(found(&taken).fault_records, []);
}

/// Without a queue the IOTLB registers are needed: the takeover finds them missing before it changes anything.
#[test]
fn without_queue_and_iotlb_registers_the_unit_is_left_alone() {
    let kernel = kernel();
    let extended = ExtendedCapability::from_bits(kernel.world.get(ECAP.offset)).with_iro(0x3FF);
    kernel.world.set(ECAP.offset, extended.into_bits());
    assert!(die_in(&kernel, 0x1000).is_ok());

    let kernel = self::kernel();
    kernel.world.set(ECAP.offset, extended.with_qi(false).into_bits());
    kernel.world.set(GSTS.offset, 0xC300_0000);
    let failure = die_in(&kernel, 0x1000).unwrap_err();
    assert_eq!(failure.reason, UnitError::Outside("IOTLB").into());
    assert_eq!(failure.in_force, InForce::Old);
    assert_eq!(kernel.world.writes.borrow()[..], []);
}

/// ITE stops the queue until it is cleared; what came after it is executed then.
#[test]
fn an_old_queue_that_waits_for_a_silent_device_goes_on_without_it() {
    let kernel = kernel();
    kernel.world.set(FSTS.offset, 0x40);
    kernel.world.set(IQERCD.offset, u64::from(SOUND.0) << 32);
    kernel.world.set(IQH.offset, 0x40);
    kernel.world.set(IQT.offset, 0x80);
    let (taken, _) = kernel.die();
    let found = found(&taken);
    assert_eq!(found.queue, OldQueue::Drained);
    assert!(found.faults.ite());
    assert_eq!(found.queue_error.silent(), SOUND);
}

/// IQE cannot be mended without writing the old kernel's memory: the queue is replaced as it is.
#[test]
fn an_old_queue_that_met_a_senseless_descriptor_is_replaced() {
    let kernel = kernel();
    kernel.world.set(FSTS.offset, 0x10);
    kernel.world.set(IQERCD.offset, 5);
    kernel.world.set(IQH.offset, 0x40);
    kernel.world.set(IQT.offset, 0x80);
    let (taken, _) = kernel.die();
    let found = found(&taken);
    assert_eq!(found.queue, OldQueue::Stuck { head: 0x40, tail: 0x80 });
    assert!(found.faults.iqe());
    assert_eq!(found.queue_error.reason(), 5);
    assert_eq!(kernel.reach(DISK, 0x1000), Some(0x5000));
}

/// ICE says that some device answered without being asked; the queue goes on.
#[test]
fn an_answer_that_nobody_waits_for_stops_no_queue() {
    let kernel = kernel();
    kernel.world.set(FSTS.offset, 0x20);
    let (taken, _) = kernel.die();
    assert_eq!(found(&taken).queue, OldQueue::Drained);
    assert!(found(&taken).faults.ice());
    assert_eq!(kernel.world.get(FSTS.offset), 0);
}

/// A kernel whose queue ends with a wait, whose status word is this. The unit has fetched the wait.
fn kernel_that_waits(status: u64) -> Kernel {
    let mut kernel = kernel();
    let (queue, statuses) = (kernel.table(), kernel.table());
    kernel.set(queue, 6, 2 << 32 | 1 << 5 | 5);
    kernel.set(queue, 7, statuses + 8);
    kernel.set(statuses, 1, status);
    kernel.world.set(IQA.offset, queue);
    kernel.world.set(IQH.offset, 0x40);
    kernel.world.set(IQT.offset, 0x40);
    kernel
}

/// Linux's `QI_IN_USE`, `QI_DONE`, and `QI_FREE` after it has seen that one.
#[test]
fn an_old_queue_is_done_when_its_last_wait_says_so() {
    for (status, queue) in
        [(1, OldQueue::Stuck { head: 0x40, tail: 0x40 }), (2, OldQueue::Drained), (0, OldQueue::Drained)]
    {
        let kernel = kernel_that_waits(status);
        let (taken, _) = kernel.die();
        assert_eq!(found(&taken).queue, queue, "{status}");
    }
}

/// Whatever a dead kernel left as its queue, only memory is read.
#[test]
fn an_old_queue_that_is_nowhere_is_not_waited_for() {
    for (address, word) in [(0, 0), (!0xFFF, 0), (0x7_FFFF_F000, 1)] {
        let mut kernel = kernel_that_waits(1);
        let queue = kernel.world.get(IQA.offset);
        match word {
            0 => kernel.world.set(IQA.offset, address),
            _ => kernel.set(queue, 7, address),
        }
        let (taken, _) = kernel.die();
        assert_eq!(found(&taken).queue, OldQueue::Drained);
    }
}

/// Firmware's width ends below a page that a device uses, and below the end of memory.
#[test]
fn firmwares_width_is_not_believed_against_memory() {
    let mut kernel = Kernel::legacy();
    let top = kernel.table();
    kernel.map(top, Level::ONE, 0x1000, 0x7000_5000);
    kernel.legacy_context(DISK, 0, top, 7);
    let taken = die_with_width(&kernel, 0x1000, 20).unwrap();
    assert_eq!(taken.report().hazards.listed, []);
    assert_eq!(kernel.reach(DISK, 0x1000), Some(0x7000_5000));
}

/// Abort-DMA mode lets nobody through; what RTADDR points to does not matter. So does an empty table, and a driver's
/// device gets an entry in it.
#[test]
fn a_unit_in_abort_dma_mode_is_taken_over_empty() {
    for (mode, extended) in [
        (TableMode::LEGACY, ExtendedCapability::new()),
        (TableMode::SCALABLE, ExtendedCapability::new().with_smts(true).with_fsts(true)),
    ] {
        let kernel = Kernel::new(TableMode::ABORT_DMA, extended);
        if mode == TableMode::SCALABLE {
            kernel.has(|capability| capability.with_sagaw(0));
        }
        kernel.world.set(RTADDR.offset, 0x8_0000_0000 | 3 << 10);
        let (mut taken, mut frames) = kernel.die();
        assert_eq!((taken.report().contexts.len(), taken.report().hazards.count()), (0, 0));
        assert_eq!(RootTableAddress::from_bits(kernel.world.get(RTADDR.offset)).mode(), mode);
        assert_eq!(kernel.reach(DISK, 0x1000), None);
        let disk = taken.attach(DISK, &[], &mut frames).unwrap();
        assert_eq!(disk.inherited, Inherited::Nothing);
        let iova = taken.map(&disk, own_pages(0x1000), Permission::ReadWrite, &kernel.memory(), &mut frames);
        assert_eq!(kernel.reach(DISK, iova.unwrap().get()), Some(OWN.start));
    }
}
