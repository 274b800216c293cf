//! **isolation**: after the swap no translation reaches memory that the capture kernel owns, except the mappings it made
//! for its own devices.

use crate::common::{PLENTY, attach, cases, damaged, holds, plausible, sharing, take_over};
use model::Scenario;
use model::damage::{Damage, Harm, Table, Victim};
use proptest::prelude::*;
use verdict::isolation::check;
use verdict::limits;

/// A machine some of whose leaves have come to lead into the capture kernel's memory, where devices do DMA.
fn trespassing() -> impl Strategy<Value = Scenario> {
    let some = |(which, word)| Victim::Some { table: Table::Paging, which, word };
    let into_capture = move |word| Damage { victim: some(word), harm: Harm::PointAtForbidden(0) };
    let damage = prop::collection::vec((any::<usize>(), any::<usize>()).prop_map(into_capture), 1..6);
    (plausible(), damage).prop_map(|(scenario, damage)| Scenario { damage, ..scenario })
}

fn take_over_and_check(scenario: &Scenario, budget: usize, pick: usize) -> Result<(), TestCaseError> {
    let machine = scenario.machine();
    let (mut frames, clock) = (machine.frames(budget), machine.clock());
    let Ok(mut taken) = take_over(&machine, &mut frames, &clock, &limits()) else { return Ok(()) };
    machine.run(200);
    holds(check(&machine, 0))?;
    if budget == PLENTY {
        let _ = attach(&machine, &mut taken, &mut frames, &sharing(scenario, &machine, pick), &[1, 16]);
        machine.run(100);
        holds(check(&machine, 0))?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(80))]

    #[test]
    fn no_device_reaches_the_capture_kernel(scenario in plausible(), pick in 0..9_usize) {
        take_over_and_check(&scenario, PLENTY, pick)?;
    }

    #[test]
    fn leaves_into_the_capture_kernel_are_fenced(scenario in trespassing(), pick in 0..9_usize) {
        take_over_and_check(&scenario, PLENTY, pick)?;
    }

    #[test]
    fn whatever_the_damage_no_device_reaches_the_capture_kernel(scenario in damaged(), pick in 0..9_usize) {
        take_over_and_check(&scenario, PLENTY, pick)?;
    }

    #[test]
    fn however_few_the_frames_no_device_reaches_the_capture_kernel(scenario in damaged(), budget in 0..80_usize) {
        take_over_and_check(&scenario, budget, 0)?;
    }
}
