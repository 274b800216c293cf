//! Takes over a modelled AMD-Vi machine.

use machine::{Frames, SourceId};
use model::amdvi::Scenario;
use model::random::Size;
use model::{Machine, Ticks, UnitRegisters};
use proptest::prelude::*;
use takeover::{DeviceTlb, Failure, IdentityMap, Limits, Takeover, Unit};
use verdict::Layout;

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
    let size = (1..3_usize, 0..6_usize, 1..9_usize, 0..7_usize);
    (any::<u64>(), size).prop_map(|(seed, (units, domains, functions, runs))| {
        Scenario::random(seed, Size { units, domains, functions, runs })
    })
}

/// What is known of the functions behind a unit: of each whether it has a device-TLB.
fn functions(scenario: &Scenario, unit: usize) -> Vec<DeviceTlb> {
    let here = scenario.functions.iter().filter(|function| function.unit == unit);
    let known = here.map(|function| {
        let source = SourceId(function.source);
        DeviceTlb { source, enabled: function.device_tlb.is_some(), physical: source, depth: 1, tellings: 1 }
    });
    known.collect()
}

/// Takes over one unit, with what is known of its functions.
pub(crate) fn take_over_one<'c>(
    scenario: &Scenario,
    (machine, unit): (&Machine, usize),
    frames: &mut impl Frames,
    clock: &'c Ticks,
    limits: &Limits,
    maps: &[IdentityMap],
) -> Result<Taken<'c>, Failure> {
    let layout = Layout {
        maps: maps.to_vec(),
        device_tlbs: functions(scenario, unit),
        wanted: vec![STRANGER],
        ..Layout::of(machine, unit)
    };
    let registers = Unit::amdvi(machine.registers(unit), clock).expect("a unit");
    Ok(takeover::take_over(registers, &machine.old_memory(), frames, &layout.surroundings(), limits)?)
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
    let (mut taken, mut maps) = (Vec::<Taken<'c>>::new(), Vec::new());
    for unit in 0..scenario.units.len() {
        let unit = take_over_one(scenario, (machine, unit), frames, clock, limits, &maps)?;
        maps.extend_from_slice(unit.identity_maps());
        taken.push(unit);
    }
    machine.guard(Vec::new());
    Ok(taken)
}
