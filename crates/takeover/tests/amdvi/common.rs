//! Takes over a modelled AMD-Vi machine.

use machine::{Frames, SourceId};
use model::amdvi::Scenario;
use model::amdvi::scenario::UnitScenario;
use model::random::Size;
use model::{Machine, Ticks, UnitRegisters};
use proptest::prelude::*;
use takeover::{DeviceTlb, Failure, Limits, Takeover, Unit};
use verdict::{Layout, isolation, told};

/// Frames that a takeover gets in most tests: more than any made-up machine needs.
pub(crate) const PLENTY: usize = 3000;

/// A device that the old kernel did not know.
pub(crate) const STRANGER: SourceId = SourceId(0x00FF);

pub(crate) type Taken<'c> = Takeover<'c, UnitRegisters, Ticks>;

/// As many cases as the environment says, or `few`.
pub(crate) fn cases(few: u32) -> ProptestConfig {
    let told = std::env::var_os("PROPTEST_CASES").is_some();
    let cases = if told { ProptestConfig::default().cases } else { few };
    ProptestConfig { cases, failure_persistence: None, max_shrink_time: 20_000, ..ProptestConfig::default() }
}

/// Machines as a kernel that worked left them.
pub(crate) fn plausible() -> impl Strategy<Value = Scenario> {
    machines(1..3)
}

/// The same with so many units.
fn machines(units: std::ops::Range<usize>) -> impl Strategy<Value = Scenario> {
    let size = (units, 0..6_usize, 1..9_usize, 0..7_usize);
    (any::<u64>(), size).prop_map(|(seed, (units, domains, functions, runs))| {
        Scenario::random(seed, Size { units, domains, functions, runs })
    })
}

/// Machines whose functions are behind several units that share a device table, as a kernel that worked left them.
pub(crate) fn servers() -> impl Strategy<Value = Scenario> {
    (machines(1..2), 2..5_usize).prop_map(|(mut scenario, units)| {
        let first = scenario.units[0].clone();
        scenario.units.resize(units, UnitScenario { table_of: Some(0), ..first });
        let functions = scenario.functions.iter_mut().enumerate();
        functions.for_each(|(index, function)| function.unit = index % units);
        scenario
    })
}

/// What is known of the functions of which a unit's device table has entries: of each whether it has a device-TLB that asks this unit.
fn functions(scenario: &Scenario, unit: usize) -> Vec<DeviceTlb> {
    let table = |unit: usize| scenario.units[unit].table_of.unwrap_or(unit);
    let listed = scenario.functions.iter().filter(|function| table(function.unit) == table(unit));
    let known = listed.map(|function| {
        let (source, enabled) =
            (SourceId(function.source), function.device_tlb.is_some() && function.unit == unit);
        DeviceTlb { source, enabled, physical: source, depth: 1, tellings: 1 }
    });
    known.collect()
}

/// Takes over one unit, after others, with what is known of its functions.
pub(crate) fn take_over_one<'c>(
    scenario: &Scenario,
    (machine, unit): (&Machine, usize),
    frames: &mut impl Frames,
    clock: &'c Ticks,
    limits: &Limits,
    before: &[Taken<'c>],
) -> Result<Taken<'c>, Failure> {
    let locked = (0..scenario.units.len()).flat_map(|unit| {
        let mut unit = Unit::amdvi(machine.registers(unit), clock).expect("a unit");
        unit.locked_memory().expect("memory")
    });
    let layout = Layout {
        in_use: before.iter().flat_map(Takeover::in_use).copied().chain(locked).collect(),
        maps: before.iter().flat_map(Takeover::identity_maps).copied().collect(),
        device_tlbs: functions(scenario, unit),
        wanted: vec![STRANGER],
        ..Layout::of(machine, unit)
    };
    let registers = Unit::amdvi(machine.registers(unit), clock).expect("a unit");
    let (old, surroundings) = (machine.old_memory(), layout.surroundings());
    Ok(takeover::take_over_after(registers, before, &old, frames, &surroundings, limits)?)
}

/// Takes over all units, which share the frames and the maps in place of pass-through. From then on no device may reach the
/// capture kernel's memory.
pub(crate) fn take_over<'c>(
    scenario: &Scenario,
    machine: &Machine,
    frames: &mut impl Frames,
    clock: &'c Ticks,
    limits: &Limits,
) -> Result<Vec<Taken<'c>>, Failure> {
    let mut taken = Vec::<Taken<'c>>::new();
    for unit in 0..scenario.units.len() {
        let unit = take_over_one(scenario, (machine, unit), frames, clock, limits, &taken)?;
        taken.push(unit);
    }
    machine.guard(Vec::new());
    Ok(taken)
}

/// Checks that after a takeover every answer is what it was, no device reaches our memory, and no page of the old kernel's changed.
pub(crate) fn changed_nothing(scenario: &Scenario, machine: &Machine) -> Result<(), TestCaseError> {
    machine.run(100);
    prop_assert!(machine.violations().is_empty(), "{}", told(machine));
    for unit in 0..scenario.units.len() {
        isolation::check(machine, unit).map_err(TestCaseError::fail)?;
    }
    prop_assert!(machine.old_pages_changed().is_empty(), "{:x?}", machine.old_pages_changed());
    Ok(())
}
