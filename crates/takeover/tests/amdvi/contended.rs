//! Units that go on with what the dead kernel made, while a device writes the same bytes all the time.

use ::amdvi::registers::COMMAND_TAIL;
use machine::{
    Contended, Frames, OldMemory, PAGE_SIZE, Permission, PhysicalAddress, Range, Registers, SourceId, Table,
    Unreadable,
};
use model::amdvi::scenario::{Attached, Function};
use model::{MemoryKind, Own, OwnFrames, Requester, Rights};
use takeover::failure::{InForce, Reason};
use takeover::hazard::{Danger, HazardPlace};
use takeover::{AttachError, Outcome, UnitError};
use verdict::{limits, told};

use crate::common::{PLENTY, take_over};
use crate::in_place::{commands, halved, locked, table, violations};
use crate::story::{DISK, IOVA, PAGE, dangers, reach};

/// The card whose entry a device keeps writing.
const CARD: u16 = 0x18;

/// Frames that stand for old memory too, of which devices keep writing some.
struct Fought {
    frames: OwnFrames,
    over: Range<PhysicalAddress>,
}

macro_rules! forward {
    ($(fn $name:ident(&self $(, $argument:ident: $type:ty)*) -> $result:ty;)*) => {
        $(fn $name(&self $(, $argument: $type)*) -> $result {
            self.frames.$name($($argument),*)
        })*
    };
    ($(fn $name:ident(&mut self $(, $argument:ident: $type:ty)*) $(-> $result:ty)?;)*) => {
        $(fn $name(&mut self $(, $argument: $type)*) $(-> $result)? {
            self.frames.$name($($argument),*)
        })*
    };
}

impl Frames for Fought {
    forward! {
        fn available(&self) -> usize;
        fn table(&self, frame: PhysicalAddress) -> &Table;
        fn load(&self, frame: PhysicalAddress, index: usize) -> u64;
    }
    forward! {
        fn allocate(&mut self) -> Option<PhysicalAddress>;
        fn allocate_run(&mut self, count: usize) -> Option<PhysicalAddress>;
        fn release(&mut self, frame: PhysicalAddress);
        fn table_mut(&mut self, frame: PhysicalAddress) -> &mut Table;
        fn store(&mut self, frame: PhysicalAddress, index: usize, entry: u64);
        fn reuse(&mut self, old: &impl OldMemory, memory: Range<PhysicalAddress>) -> Result<(), Unreadable>;
        fn publish(&mut self, frame: PhysicalAddress, entries: std::ops::Range<usize>);
    }

    fn store_pair(&mut self, address: PhysicalAddress, words: [u64; 2]) -> Result<(), Contended> {
        if self.over.contains(address) {
            Err(Contended(address))
        } else {
            self.frames.store_pair(address, words)
        }
    }
}

/// The card passed untranslated, and does so still: it is named, and no driver gets it. The disk is none the worse.
#[test]
fn a_device_whose_entry_cannot_be_changed_is_named_and_costs_no_other_device_anything() {
    for mut scenario in [locked(), halved()] {
        scenario.functions.push(Function {
            source: CARD,
            attached: Attached::PassThrough(3, Rights::ALL),
            works_at: vec![0x5000.into()],
            ..Function::default()
        });
        let machine = scenario.machine();
        let clock = machine.clock();
        let entry = table(&machine).start.saturating_add(u64::from(CARD) * 32);
        let over = Range::new(entry, entry.saturating_add(16));
        let mut frames = Fought { frames: machine.frames(PLENTY), over };
        let mut taken = take_over(&scenario, &machine, &mut frames, &clock, &limits()).unwrap();
        let named =
            (HazardPlace::Device(SourceId(CARD)), Danger::EntryContended(entry), Outcome::KeptInPlace);
        assert!(dangers(&taken[0]).contains(&named), "{:?}", dangers(&taken[0]));
        // However often somebody tries.
        for _ in 0..2 {
            let refused = taken[0].attach(SourceId(CARD), &[], &mut frames);
            assert_eq!(refused, Err(AttachError::Unit(UnitError::Contended(Contended(entry)))));
        }
        let end = machine.ranges(MemoryKind::Capture)[0].end;
        let buffer = Range::new((end.get() - PAGE_SIZE).into(), end);
        machine.guard(vec![
            Own { requester: DISK, memory: buffer },
            Own {
                requester: Requester { source: CARD, pasid: None },
                memory: machine.ranges(MemoryKind::Capture)[0],
            },
        ]);
        let disk = taken[0].attach(SourceId(DISK.source), &[], &mut frames).unwrap();
        let iova =
            taken[0].map(&disk, buffer, Permission::ReadWrite, &machine.old_memory(), &mut frames).unwrap();
        assert_eq!(reach(&machine, DISK, iova.get()), Some(buffer.start.get()));
        assert_eq!(reach(&machine, DISK, IOVA), Some(PAGE));
    }
}

/// The disk has tables of ours, of which the table in place does not know: its driver gets addresses as soon as that can be changed.
#[test]
fn a_driver_gets_no_device_that_goes_by_the_dead_kernels_tables() {
    for scenario in [locked(), halved()] {
        let machine = scenario.machine();
        let clock = machine.clock();
        let entry = table(&machine).start.saturating_add(u64::from(DISK.source) * 32);
        let over = Range::new(entry, entry.saturating_add(16));
        let mut frames = Fought { frames: machine.frames(PLENTY), over };
        let mut taken = take_over(&scenario, &machine, &mut frames, &clock, &limits()).unwrap();
        let refused = taken[0].attach(SourceId(DISK.source), &[], &mut frames);
        assert_eq!(refused, Err(AttachError::Unit(UnitError::Contended(Contended(entry)))));
        frames.over = Range::default();
        let end = machine.ranges(MemoryKind::Capture)[0].end;
        let buffer = Range::new((end.get() - PAGE_SIZE).into(), end);
        machine.guard(vec![Own { requester: DISK, memory: buffer }]);
        let disk = taken[0].attach(SourceId(DISK.source), &[], &mut frames).unwrap();
        let iova =
            taken[0].map(&disk, buffer, Permission::ReadWrite, &machine.old_memory(), &mut frames).unwrap();
        assert_eq!(reach(&machine, DISK, iova.get()), Some(buffer.start.get()));
    }
}

/// No command can be given: the unit is left as it was.
#[test]
fn a_command_that_cannot_be_written_is_no_command() {
    let scenario = locked();
    let machine = scenario.machine();
    let clock = machine.clock();
    let tail = machine.registers(0).read64(COMMAND_TAIL.offset);
    let next = commands(&machine).start.saturating_add(tail);
    let over = Range::new(next, next.saturating_add(16));
    let mut frames = Fought { frames: machine.frames(PLENTY), over };
    let failure = take_over(&scenario, &machine, &mut frames, &clock, &limits()).unwrap_err();
    let contended = Reason::Unit(UnitError::Contended(Contended(next)));
    assert_eq!((failure.reason, failure.in_force), (contended, InForce::Old));
    machine.run(100);
    assert_eq!(violations(&machine), [], "{}", told(&machine));
    assert_eq!(reach(&machine, DISK, IOVA), Some(PAGE));
}
