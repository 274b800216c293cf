//! Proves that each check can fail on AMD-Vi too: it detects a takeover that was tampered with.

use crate::common::{PLENTY, take_over};
use crate::witnesses::{ForgetfulMemory, Tamper, take_over_with_frames, take_over_with_writes};
use machine::Level;
use model::amdvi::Scenario;
use model::amdvi::scenario::{Attached, DeviceTlb, OldCommands, TablePlace};
use model::habits::{Chore, Habit, Habits};
use model::random::Size;
use model::{Access, Answer, Direction, MemoryKind, Requester, Rights};
use std::cell::Cell;
use std::ops::Range;
use takeover::Limits;
use verdict::{DEADLINE, bounded, continuity, isolation, limits, misused, take_over_through};

const DEVICE_TABLE: usize = 0x00;
const CONTROL: usize = 0x18;
/// A completion wait that does nothing.
const NOTHING: u64 = 1 << 60;

/// Machines whose devices do DMA that is translated.
fn machines() -> impl Iterator<Item = Scenario> {
    let size = Size { units: 1, domains: 4, functions: 6, runs: 5 };
    let made_up = (0..40).map(move |seed| Scenario::random(seed, size));
    let reaches = |(access, answer): &(Access, Answer)| matches!(answer, Answer::Memory(address) if address.get() != access.iova.get());
    made_up.filter(move |scenario| scenario.machine().accesses().iter().any(reaches))
}

#[test]
fn an_untampered_takeover_is_clean() {
    for scenario in machines() {
        let machine = scenario.machine();
        assert!(take_over(&machine, &mut machine.frames(PLENTY), &machine.clock(), &limits()).is_ok());
        machine.run(50);
        assert_eq!(machine.violations(), [], "seed {}", scenario.seed);
    }
}

#[test]
fn turning_the_unit_off_for_a_moment_is_found_out() {
    for scenario in machines() {
        let machine = scenario.machine();
        let tamper = |offset, value| if offset == CONTROL { vec![value & !1, value] } else { vec![value] };
        take_over_with_writes(&machine, tamper);
        assert!(misused(&machine) && continuity::is_broken(&machine));
    }
}

/// The base leads to the page after the device table: the entries of others, or none.
#[test]
fn a_device_table_that_is_somewhere_else_breaks_continuity() {
    let found_out = machines().filter(|scenario| {
        let machine = scenario.machine();
        let tamper = |offset, value| vec![if offset == DEVICE_TABLE { value + 0x1000 } else { value }];
        take_over_with_writes(&machine, tamper);
        machine.run(50);
        continuity::is_broken(&machine)
    });
    assert!(found_out.count() * 10 >= machines().count() * 9);
}

#[test]
fn tables_that_were_not_published_break_continuity() {
    /// All but the first frames, those of buffers, and commands.
    struct TablesAreNotPublished {
        buffers: u32,
    }
    impl Tamper for TablesAreNotPublished {
        fn publishes(&mut self, entries: &Range<usize>) -> bool {
            let is_buffer = self.buffers > 0;
            self.buffers = self.buffers.saturating_sub(1);
            is_buffer || entries.len() <= 2
        }
    }
    let found_out = machines().filter(|scenario| {
        let machine = scenario.machine();
        take_over_with_frames(&machine, TablesAreNotPublished { buffers: 3 });
        machine.run(50);
        continuity::is_broken(&machine)
    });
    // Unpublished stores can still reach memory by chance, on a small machine perhaps all of them.
    assert!(found_out.count() * 10 >= machines().count() * 9);
}

/// Of the first tables that are read, there is one that devices need.
#[test]
fn a_table_that_was_not_copied_breaks_continuity() {
    let is_found_out = |scenario: &Scenario, read: u32| {
        let machine = scenario.machine();
        let old = ForgetfulMemory { inner: machine.old_memory(), reads_left: Cell::new(read) };
        let (mut frames, clock) = (machine.frames(PLENTY), machine.clock());
        let _ = take_over_through((&machine, 0), machine.registers(0), &old, &mut frames, &clock, &limits());
        machine.run(50);
        continuity::is_broken(&machine)
    };
    assert!(machines().all(|scenario| (0..40).any(|read| is_found_out(&scenario, read))));
}

/// Commands of some kinds become waits that do nothing. A takeover stores nothing else: tables are filled before hardware knows
/// them.
struct Without(&'static [u64]);

impl Tamper for Without {
    fn store(&mut self, index: usize, entry: u64) -> u64 {
        if index.is_multiple_of(2) && self.0.contains(&(entry >> 60)) { NOTHING } else { entry }
    }
}

/// The same machine with all small pages mapped to the capture kernel's memory, where devices go on to write.
fn trespassing(mut scenario: Scenario) -> Scenario {
    let capture = scenario.memory.iter().find(|(_, kind)| *kind == MemoryKind::Capture);
    let own = capture.map(|(range, _)| range.start).unwrap_or_default();
    let mappings = scenario.domains.iter_mut().flat_map(|domain| &mut domain.mappings);
    mappings.filter(|mapping| mapping.level == Level::ONE).for_each(|mapping| mapping.memory = own);
    let unit = &mut scenario.units[0];
    unit.habits = unit.habits.clone().hoarding();
    scenario
}

/// Leaves into the capture kernel are fenced, but translations are never invalidated.
#[test]
fn translations_that_were_not_forgotten_break_isolation() {
    let found_out = machines().map(trespassing).filter(|scenario| {
        let machine = scenario.machine();
        let taken = take_over_with_frames(&machine, Without(&[3, 8]));
        machine.guard(Vec::new());
        machine.run(100);
        taken && isolation::is_broken(&machine)
    });
    assert!(found_out.count() > 5);
}

/// A device that passed has its entry cached: it goes on passing.
#[test]
fn entries_that_were_not_forgotten_break_isolation() {
    let passing = |mut scenario: Scenario| {
        scenario.units[0].traits.feature.set_ia(false);
        scenario.units[0].habits = scenario.units[0].habits.clone().hoarding();
        scenario.functions.truncate(1);
        scenario.functions[0].attached = Attached::PassThrough(0xF, Rights::ALL);
        scenario.functions[0].processes.clear();
        scenario
    };
    let found_out = machines().take(10).map(passing).filter(|scenario| {
        let machine = scenario.machine();
        let taken = take_over_with_frames(&machine, Without(&[2]));
        let own = machine.ranges(MemoryKind::Capture)[0].start;
        let requester = Requester { source: scenario.functions[0].source, pasid: None };
        let access = requester.access(own.get(), Direction::Write);
        taken && machine.access(0, access) == Answer::Memory(own)
    });
    assert!(found_out.count() > 5);
}

#[test]
fn a_device_that_is_not_told_to_forget_breaks_isolation() {
    let keeping = |mut scenario: Scenario| {
        for function in &mut scenario.functions {
            let translated = matches!(function.attached, Attached::To(_));
            function.device_tlb = translated.then_some(DeviceTlb::Answers);
        }
        scenario
    };
    let found_out = machines().map(trespassing).map(keeping).filter(|scenario| {
        let machine = scenario.machine();
        let taken = take_over_with_frames(&machine, Without(&[4]));
        machine.guard(Vec::new());
        machine.run(200);
        taken && isolation::is_broken(&machine)
    });
    assert!(found_out.count() > 3);
}

/// A table that stays in force is not changed: pass-through goes on to our memory.
#[test]
fn a_table_in_place_that_was_not_changed_breaks_isolation() {
    struct NothingIsWritten;
    impl Tamper for NothingIsWritten {
        fn stores_pairs(&mut self) -> bool {
            false
        }
    }
    for mut scenario in machines().take(10) {
        scenario.memory.push(((1 << 32..(1 << 32) + 0x100_0000).into(), MemoryKind::Old));
        scenario.units[0].table_place = TablePlace::High;
        scenario.functions[0].attached = Attached::PassThrough(0xF, Rights::ALL);
        scenario.functions[0].processes.clear();
        let machine = scenario.machine();
        assert!(take_over_with_frames(&machine, NothingIsWritten));
        assert!(isolation::check(&machine, 0).is_err());
    }
}

/// A takeover that waits twenty times as long as it may.
#[test]
fn waiting_too_long_is_found_out() {
    let patient = Limits { deadline: DEADLINE * 20, ..limits() };
    let stuck = Habits::default().with(Chore::StopCommands, Habit::Never);
    for mut scenario in machines().take(4) {
        // A large table may take its time.
        (scenario.units[0].table_pages, scenario.units[0].segments) = (1, 0);
        scenario.units[0].habits.clone_from(&stuck);
        scenario.units[0].commands = OldCommands::Idle;
        let machine = scenario.machine();
        let _ = take_over(&machine, &mut machine.frames(PLENTY), &machine.clock(), &patient);
        assert!(bounded::check(&machine, 0, PLENTY).is_err());
    }
}
