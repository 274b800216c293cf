//! **isolation**: after the swap no translation reaches memory that the capture kernel owns, except the mappings it made
//! for its own devices.

use model::{Machine, Violation};

use crate::{Verdict, ensure, told};

/// Whether some access reached memory of the capture kernel.
pub fn is_broken(machine: &Machine) -> bool {
    machine.violations().iter().any(|violation| matches!(violation, Violation::Isolation { .. }))
}

/// Checks that no device reached the capture kernel's memory, and that none can.
pub fn check(machine: &Machine, unit: usize) -> Verdict {
    ensure(!is_broken(machine), || told(machine))?;
    let trespasses = machine.trespasses(unit);
    ensure(trespasses.is_empty(), || format!("{:x?}", trespasses.first()))
}
