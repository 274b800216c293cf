//! The invariants, on machines made at random.

use machine::{PAGE_SIZE, Permission, PhysicalAddress, Range, SourceId};
use model::amdvi::Scenario;
use model::amdvi::scenario::Stage;
use model::walk::Reached;
use model::{Answer, Direction, Machine, MemoryKind, Own, Requester};
use proptest::prelude::*;
use verdict::{isolation, limits, told};

use takeover::hazard::{Danger, HazardPlace};
use takeover::{MapError, UnitError};

use crate::common::{PLENTY, STRANGER, Taken, cases, changed_nothing, plausible, servers, take_over};

/// Whether a unit may have been without a table for an instant.
fn may_be_between(taken: &Taken<'_>) -> bool {
    taken.report().hazards.listed.iter().any(|hazard| matches!(hazard.danger, Danger::BaseInHalves { .. }))
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn every_answer_stays_what_it_was_and_no_device_reaches_our_memory(scenario in plausible()) {
        let machine = scenario.machine();
        let (mut frames, clock) = (machine.frames(PLENTY), machine.clock());
        let taken = take_over(&scenario, &machine, &mut frames, &clock, &limits());
        prop_assert!(taken.is_ok(), "{:?}\n{}", taken.err(), told(&machine));
        prop_assume!(taken.is_ok_and(|taken| !taken.iter().any(may_be_between)));
        changed_nothing(&scenario, &machine)?;
    }

    /// A driver's buffers are for its device alone, at addresses that nobody used, and disturb nobody.
    #[test]
    fn a_driver_gets_addresses_that_nobody_used(
        scenario in prop_oneof![plausible(), servers()],
        pick in 0..9_usize,
        pages in 1..17_u64,
    ) {
        let machine = scenario.machine();
        let (mut frames, clock) = (machine.frames(PLENTY), machine.clock());
        let taken = take_over(&scenario, &machine, &mut frames, &clock, &limits());
        prop_assert!(taken.is_ok(), "{:?}", taken.err());
        let mut taken = taken?;
        prop_assume!(!taken.iter().any(may_be_between));
        // The guest is as dead as its host: there is nothing to continue.
        prop_assume!(!is_of_guest(&scenario, pick));
        let function = scenario.functions.get(pick);
        let (unit, source) = function.map_or((0, STRANGER.0), |function| (function.unit, function.source));
        let requester = Requester { source, pasid: None };
        let memory = buffer(&machine, pages);
        // Where guest tables translate requests without PASID, they are those of PASID 0 (GIoV).
        let same_tables = Requester { source, pasid: Some(0) };
        machine.guard([requester, same_tables].map(|requester| Own { requester, memory }).to_vec());
        let before: Vec<_> = machine.reached_before(unit, requester);
        let device = taken[unit].attach(SourceId(source), &[], &mut frames);
        let device = device.map_err(|error| TestCaseError::fail(format!("attach: {error}")))?;
        let old = machine.old_memory();
        let iova = taken[unit].map(&device, memory, Permission::ReadWrite, &old, &mut frames)?;
        let mapped = Range::new(iova, iova.saturating_add(memory.len()));
        let is_same = |leaf: &Reached| Range::sized(leaf.iova, leaf.memory.len()).is_some_and(|old| old.overlaps(mapped));
        prop_assert!(stage(&scenario, pick).is_none() || !before.iter().any(is_same));
        machine.run(100);
        let access = requester.access(iova, Direction::Write);
        prop_assert_eq!(machine.access(unit, access), Answer::Memory(memory.start));
        prop_assert!(machine.violations().is_empty(), "{}", told(&machine));
        for unit in 0..scenario.units.len() {
            isolation::check(&machine, unit).map_err(TestCaseError::fail)?;
        }
        match taken[unit].unmap(&device, mapped, &mut frames) {
            // It was said, and nobody uses the memory any more.
            Err(MapError::Unit(UnitError::DeviceUnheard)) => return Ok(()),
            other => prop_assert_eq!(other, Ok(())),
        }
        // A device that did not confirm may keep what it has.
        let hazards = taken[unit].report().hazards.listed.iter();
        let place = HazardPlace::Device(SourceId(source));
        let mut silent = hazards.filter(|hazard| hazard.danger == Danger::DeviceTlbSilent);
        let confirms = silent.all(|hazard| hazard.place != place);
        prop_assert!(!confirms || matches!(machine.access(unit, access), Answer::Blocked(_)));
        prop_assert!(machine.old_pages_changed().is_empty());
    }
}

/// The stage through which a function's requests without PASID go, if they go through tables.
fn stage(scenario: &Scenario, pick: usize) -> Option<Stage> {
    scenario.stage_of(scenario.functions.get(pick)?).0
}

fn is_of_guest(scenario: &Scenario, pick: usize) -> bool {
    matches!(stage(scenario, pick), Some(Stage::Nested(_)))
}

/// The capture kernel's memory that is not table frames: its last pages.
fn buffer(machine: &Machine, pages: u64) -> Range<PhysicalAddress> {
    let capture = machine.ranges(MemoryKind::Capture)[0];
    let start = capture.end.get() - pages * PAGE_SIZE;
    Range::new(start.into(), capture.end)
}
