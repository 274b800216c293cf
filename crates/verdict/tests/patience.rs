//! **bounded**, for a whole machine: 16 units are taken over within a stated time, whatever the units do and however many
//! devices their contexts name that do not answer.

use std::time::Duration;

use machine::{PhysicalAddress, Range};
use model::habits::{Chore, Habit, Habits};
use model::scenario::{Attached, DeviceTlb, Domain, Function, OldQueue, UnitScenario};
use model::walk::Traits;
use model::{MemoryKind, Scenario};
use proptest::prelude::*;
use takeover::{Limits, Patience, Refusal, Unit};
use verdict::{Layout, REGISTERS};
use vtd::capability::{Capability, ExtendedCapability};

const UNITS: usize = 16;
/// What all waits of their takeovers take at most, together.
const LONGEST: Duration = Duration::from_secs(300);
const CAPTURE: Range<PhysicalAddress> =
    Range::new(PhysicalAddress::new(0x1000_0000), PhysicalAddress::new(0x1400_0000));

/// A unit that is slow or stuck at some chores, and what is behind it.
#[derive(Clone, Debug)]
struct Hostile {
    habits: Habits,
    queue: OldQueue,
    /// On how many buses there are devices that do not answer, and how many on each.
    silent: (u16, u16),
    kind: DeviceTlb,
}

/// Chores that take up to ten seconds, which is how long the takeover waits for any; a few never end.
fn habits() -> impl Strategy<Value = Habits> {
    let habit = prop_oneof![12 => (0..9_000_u32).prop_map(Habit::After), 1 => Just(Habit::Never)];
    let chores = prop::collection::vec((prop::sample::select(Chore::VTD.to_vec()), habit), 0..6);
    let time_outs = prop::collection::vec(1..300_000_u64, 0..6);
    (chores, time_outs).prop_map(|(chores, time_outs)| {
        let habits =
            chores.into_iter().fold(Habits::default(), |habits, (chore, habit)| habits.with(chore, habit));
        time_outs.into_iter().fold(habits, Habits::with_time_out)
    })
}

fn hostile() -> impl Strategy<Value = Hostile> {
    let silent = prop_oneof![Just((0, 0)), (1..4_u16, 1..200_u16), (1..13_u16, 1..4_u16)];
    let kind = prop::sample::select(vec![DeviceTlb::Silent, DeviceTlb::Stalls, DeviceTlb::Answers]);
    let queue = prop::sample::select(vec![OldQueue::Off, OldQueue::Idle]);
    let habits = prop_oneof![1 => Just(Habits::default()), 3 => habits()];
    (habits, queue, silent, kind).prop_map(|(habits, queue, silent, kind)| Hostile {
        habits,
        queue,
        silent,
        kind,
    })
}

fn scenario(hostile: &[Hostile]) -> Scenario {
    let capability =
        Capability::new().with_sagaw(0b0100).with_mgaw(47).with_nd(6).with_fro(0x22).with_sslps(0b11);
    let extended = ExtendedCapability::new().with_qi(true).with_iro(0xF).with_dt(true);
    let traits = Traits { capability, extended, host_address_bits: 46 };
    let unit = |unit: &Hostile| UnitScenario {
        traits,
        habits: unit.habits.clone(),
        queue: unit.queue,
        ..UnitScenario::default()
    };
    let functions = hostile.iter().enumerate().flat_map(|(unit, hostile)| {
        let places = (0..hostile.silent.0).flat_map(|bus| (0..hostile.silent.1).map(move |at| (bus, at)));
        places.map(move |(bus, at)| Function {
            unit,
            source: (unit as u16 * 16 + bus) << 8 | at,
            attached: Attached::To(0),
            device_tlb: Some(hostile.kind),
            ..Function::default()
        })
    });
    Scenario {
        seed: 3,
        memory: vec![
            (Range::new(PhysicalAddress::new(0), CAPTURE.start), MemoryKind::Old),
            (CAPTURE, MemoryKind::Capture),
        ],
        units: hostile.iter().map(unit).collect(),
        domains: vec![Domain::default()],
        functions: functions.collect(),
        ..Scenario::default()
    }
}

/// Takes all units over, as the capture kernel does; returns how long that took, and how many were taken over.
fn take_all(hostile: &[Hostile]) -> (Duration, usize) {
    let machine = scenario(hostile).machine();
    let (clock, mut frames, mut count) = (machine.clock(), machine.frames(2000), 0);
    let mut patience = Patience::default();
    for unit in 0..hostile.len() {
        let layout = Layout::of(&machine, unit);
        let limits = Limits { patience, ..Limits::default() };
        let registers = Unit::vtd(machine.registers(unit), REGISTERS, &clock).expect("a unit");
        let (old, around) = (machine.old_memory(), layout.surroundings());
        patience = match takeover::take_over(registers, &old, &mut frames, &around, &limits) {
            Ok(taken) => {
                count += 1;
                taken.patience()
            }
            Err(Refusal { patience, .. }) => patience,
        };
    }
    (machine.time(), count)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, max_shrink_iters: 8, ..ProptestConfig::with_cases(
        std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(6)) })]

    #[test]
    fn whatever_they_do_sixteen_units_are_taken_over_in_five_minutes(
        hostile in prop::collection::vec(hostile(), UNITS),
    ) {
        let (time, count) = take_all(&hostile);
        println!("{count} units in {time:?}");
        prop_assert!(time <= LONGEST, "took {:?}", time);
    }
}
