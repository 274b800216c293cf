//! **isolation**: after the swap no translation reaches memory that the capture kernel owns, except the mappings it made
//! for its own devices.

use crate::common::{
    Described, PLENTY, astray, attach, cases, damaged, function, of_each, plausible, take_over_all,
};
use proptest::prelude::*;
use verdict::isolation::check;
use verdict::limits;

/// A machine with leaves that lead into the capture kernel's memory, where devices do DMA.
fn trespassing() -> impl Strategy<Value = Described> {
    let chosen = prop::collection::vec((any::<usize>(), any::<usize>()), 1..6);
    (plausible(), chosen).prop_map(|(scenario, chosen)| scenario.with_leaks(&chosen))
}

/// Takes all units over, and gives a device to a driver unless `pick` names none.
fn take_over_and_check(
    scenario: &Described,
    budget: usize,
    pick: Option<usize>,
) -> Result<(), TestCaseError> {
    let machine = scenario.machine();
    let (mut frames, clock) = (machine.frames(budget), machine.clock());
    let Ok(mut taken) = take_over_all(&machine, &mut frames, &clock, &limits()) else {
        return Ok(());
    };
    machine.run(200);
    of_each(&machine, |unit| check(&machine, unit))?;
    let Some(pick) = pick else { return Ok(()) };
    let (unit, device) = function(scenario, pick);
    let sharing = machine.sharing_before(unit, device);
    let _ = attach(&machine, &mut taken[unit], &mut frames, &sharing, &[1, 16]);
    machine.run(100);
    of_each(&machine, |unit| check(&machine, unit))
}

proptest! {
    #![proptest_config(cases(80))]

    #[test]
    fn no_device_reaches_the_capture_kernel(scenario in plausible(), pick in 0..9_usize) {
        take_over_and_check(&scenario, PLENTY, Some(pick))?;
    }

    #[test]
    fn leaves_into_the_capture_kernel_are_fenced(scenario in trespassing(), pick in 0..9_usize) {
        take_over_and_check(&scenario, PLENTY, Some(pick))?;
    }

    #[test]
    fn whatever_the_damage_no_device_reaches_the_capture_kernel(scenario in damaged(), pick in 0..9_usize) {
        take_over_and_check(&scenario, PLENTY, Some(pick))?;
    }

    /// When tables change while they are read, nobody knows who shares a domain, so no device is given to a driver.
    #[test]
    fn whatever_goes_astray_meanwhile_no_device_reaches_the_capture_kernel(scenario in astray()) {
        take_over_and_check(&scenario, PLENTY, None)?;
    }

    #[test]
    fn however_few_the_frames_no_device_reaches_the_capture_kernel(scenario in damaged(), budget in 0..80_usize) {
        take_over_and_check(&scenario, budget, None)?;
    }
}
