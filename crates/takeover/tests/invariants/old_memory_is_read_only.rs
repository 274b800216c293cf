//! **old memory is read-only**: the capture kernel never writes the old kernel's memory.
//!
//! `OldMemory` has no write. Two ways around it remain: frames that are not ours, and a unit that is told to write
//! (the status of an invalidation wait). Writes by the old kernel's own queue are not the capture kernel's doing.

use crate::common::{
    PLENTY, astray, attach, cases, erratic, function, plausible, take_over_all, with_habits,
};
use machine::{PhysicalAddress, Range};
use model::Machine;
use proptest::prelude::*;
use verdict::{limits, misused, told};

fn check(machine: &Machine) -> Result<(), TestCaseError> {
    prop_assert_eq!(machine.old_pages_changed(), []);
    Ok(())
}

/// The same, but for what a unit that takes no other table or buffer uses where it is.
fn check_but_for(machine: &Machine, reused: &[Range<PhysicalAddress>]) -> Result<(), TestCaseError> {
    let is_elsewhere = |page: &PhysicalAddress| !reused.iter().any(|memory| memory.contains(*page));
    let elsewhere: Vec<_> = machine.old_pages_changed().into_iter().filter(is_elsewhere).collect();
    prop_assert_eq!(elsewhere, []);
    Ok(())
}

proptest! {
    #![proptest_config(cases(80))]

    #[test]
    fn a_takeover_and_a_driver_change_no_old_page(scenario in plausible(), pick in 0..9_usize) {
        let machine = scenario.machine();
        let (mut frames, clock) = (machine.frames(PLENTY), machine.clock());
        let mut taken = take_over_all(&machine, &mut frames, &clock, &limits()).unwrap();
        let (unit, device) = function(&scenario, pick);
        let sharing = machine.sharing_before(unit, device);
        attach(&machine, &mut taken[unit], &mut frames, &sharing, &[1, 5])?;
        machine.run(200);
        check(&machine)?;
        prop_assert!(!misused(&machine), "{}", told(&machine));
    }

    #[test]
    fn whatever_the_damage_no_old_page_changes(scenario in astray(), habits in erratic(), budget in 0..300_usize) {
        let scenario = with_habits(scenario, &habits);
        let machine = scenario.machine();
        let reused: Vec<_> = (0..machine.units()).flat_map(|unit| machine.reusable(unit)).collect();
        let (mut frames, clock) = (machine.frames(budget), machine.clock());
        let _ = take_over_all(&machine, &mut frames, &clock, &limits());
        machine.run(200);
        check_but_for(&machine, &reused)?;
    }
}
