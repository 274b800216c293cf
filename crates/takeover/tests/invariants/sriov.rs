//! Device-TLBs of functions that nobody knows of, as virtual functions are unless somebody looks for them, and of very many
//! functions whose device has failed.

use crate::common::{PLENTY, cases, holds, with_vtd};
use machine::SourceId;
use model::Scenario;
use model::scenario::{DeviceTlb, Function};
use proptest::prelude::*;
use takeover::Unit;
use takeover::hazard::{Danger, HazardPlace};
use verdict::{Layout, REGISTERS, accounted, bounded, isolation, limits};

/// Takes over each unit of a machine whose capture kernel found none of these functions.
fn take_over_without(scenario: &Scenario, hidden: &[u16]) -> Result<(), TestCaseError> {
    let machine = scenario.machine();
    let (mut frames, clock) = (machine.frames(PLENTY), machine.clock());
    let mut reports = Vec::new();
    for unit in 0..scenario.units.len() {
        let mut layout = Layout::of(&machine, unit);
        for source in hidden {
            layout.forget(SourceId(*source));
        }
        let registers = Unit::vtd(machine.registers(unit), REGISTERS, &clock)?;
        let surroundings = layout.surroundings();
        let taken =
            takeover::take_over(registers, &machine.old_memory(), &mut frames, &surroundings, &limits());
        reports.push(taken?.report().clone());
    }
    machine.guard(Vec::new());
    machine.run(200);
    for (unit, report) in reports.iter().enumerate() {
        holds(isolation::check(&machine, unit))?;
        holds(accounted::check(&machine, unit, report))?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(30))]

    #[test]
    fn sriov_functions_that_nobody_found_forget_what_they_keep(mut scenario in with_vtd(), some: u16) {
        for function in &mut scenario.functions {
            let unit = &mut scenario.units[function.unit];
            unit.traits.extended.set_dt(unit.traits.extended.qi());
            function.device_tlb.get_or_insert(DeviceTlb::Answers);
        }
        let hidden: Vec<u16> = scenario.functions.iter().map(|function| function.source).collect();
        take_over_without(&scenario, &hidden)?;
        let some: Vec<u16> = hidden.into_iter().filter(|source| source % 3 == some % 3).collect();
        take_over_without(&scenario, &some)?;
    }
}

/// A card with 240 virtual functions whose link is down: the unit waits for each of them for ever. The disk, which comes
/// last, is told all the same.
#[test]
fn sriov_functions_of_a_dead_card_delay_the_takeover_no_longer_than_one() {
    let mut scenario = crate::step_by_step::scenario();
    scenario.units[0].traits.extended.set_dt(true);
    let dead = |number: u16| Function {
        source: 0x0100 + number,
        device_tlb: Some(DeviceTlb::Stalls),
        ..Function::default()
    };
    scenario.functions.extend((0..240).map(dead));
    let last = Function { source: 0x0200, device_tlb: Some(DeviceTlb::Answers), ..Function::default() };
    scenario.functions.push(last);
    let machine = scenario.machine();
    let clock = machine.clock();
    let mut frames = machine.frames(PLENTY);
    let taken = crate::common::take_over(&machine, &mut frames, &clock, &limits()).unwrap();
    let silent = taken.report().hazards.listed.iter().filter(|hazard| {
        matches!(hazard.place, HazardPlace::Device(source) if source.bus() == 1)
            && hazard.danger == Danger::DeviceTlbSilent
    });
    assert_eq!(silent.count(), 240);
    assert!(machine.was_told(0, 0x0200));
    assert_eq!(bounded::check(&machine, 0, PLENTY), Ok(()));
    // Patience, and a hundred devices in passing.
    assert!(
        machine.time() < limits().patience.devices + std::time::Duration::from_secs(21),
        "{:?}",
        machine.time()
    );
}
