//! What the console says of the takeover and of the dump. ARCHITECTURE.md fixes the lines that programs read.

use core::fmt;

use takeover::{Outcome, Report};

use crate::console::say;
use crate::dump::Dumped;
use crate::exceptions;
use crate::remapping::{Remapping, State, Unit};

/// Hazards that are told one by one; serial lines are slow.
const HAZARDS_TOLD: usize = 16;

/// From good to bad.
const OUTCOMES: [Outcome; 5] =
    [Outcome::Duplicated, Outcome::Folded, Outcome::KeptInPlace, Outcome::Fenced, Outcome::Blocked];

/// Says what became of each unit.
pub(crate) fn units(remapping: &Remapping) {
    for unit in &remapping.units {
        tell_unit(unit);
    }
    say!("takeover done");
}

fn tell_unit(unit: &Unit) {
    let base = unit.base;
    match &unit.state {
        State::TakenOver(takeover) => tell_takeover(base, takeover.report()),
        State::Off => say!("unit {base:#x}: translation is off, nothing to take over"),
        State::Lost(error) => say!("unit {base:#x}: {error}"),
    }
}

fn tell_takeover(base: u64, report: &Report) {
    say!("unit {base:#x}: root {:#x} -> {:#x}", report.found.root.into_bits(), report.root.into_bits());
    for outcome in OUTCOMES {
        tell_outcome(report, outcome);
    }
    for record in &report.found.fault_records {
        say!("  fault recorded before: {record:?}");
    }
    let hazards = &report.hazards;
    for hazard in hazards.listed.iter().take(HAZARDS_TOLD) {
        say!("  {hazard}");
    }
    if hazards.count() > HAZARDS_TOLD as u64 {
        say!("  {} hazards in all", hazards.count());
    }
}

/// Lists the devices and domains that ended this way.
fn tell_outcome(report: &Report, outcome: Outcome) {
    let devices = report.contexts.iter().filter(|context| context.outcome == outcome);
    let devices = List(devices.map(|context| context.source));
    let domains = report.domains.iter().filter(|domain| domain.outcome == outcome);
    let domains = List(domains.map(|domain| Domain { id: domain.id, mappings: domain.leaves }));
    match report.ended(outcome) {
        (0, 0) => {}
        (_, 0) => say!("  {outcome}: devices{devices}"),
        (0, _) => say!("  {outcome}: domains{domains}"),
        _ => say!("  {outcome}: devices{devices}, domains{domains}"),
    }
}

/// A domain, as `id:mappings`.
struct Domain {
    id: u16,
    mappings: u64,
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}:{}", self.id, self.mappings)
    }
}

/// Things, each after a space.
struct List<I>(I);

impl<T: fmt::Display, I: Iterator<Item = T> + Clone> fmt::Display for List<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.clone().try_for_each(|item| write!(f, " {item}"))
    }
}

/// The counts of a whole run.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    contexts_accepted: u64,
    tables_duplicated: u64,
    leaf_mappings: u64,
    domains_reserved: u64,
    hazards: u64,
}

impl Totals {
    fn of(remapping: &Remapping) -> Self {
        let mut totals = Self::default();
        for unit in &remapping.units {
            let State::TakenOver(takeover) = &unit.state else { continue };
            let report = takeover.report();
            totals.contexts_accepted += report.contexts_accepted();
            totals.tables_duplicated += report.tables_duplicated;
            totals.leaf_mappings += report.leaf_mappings();
            totals.domains_reserved += report.domains_reserved();
            totals.hazards += report.hazards.count();
        }
        totals
    }
}

/// Says what was dumped: the summary, then the seal, which is the last word.
pub(crate) fn dump(remapping: &Remapping, dumped: &Dumped) {
    if let Some(error) = dumped.error {
        say!("the dump is not complete: {error}");
    }
    let Totals { contexts_accepted, tables_duplicated, leaf_mappings, domains_reserved, hazards } =
        Totals::of(remapping);
    say!(
        "summary contexts_accepted={contexts_accepted} tables_duplicated={tables_duplicated} \
         leaf_mappings={leaf_mappings} domains_reserved={domains_reserved} hazards={hazards} \
         pages_kept={} pages_zero={} pages_missing={} pages_unknown={} frames_used={} nmis={}",
        dumped.written.pages,
        dumped.written.zero,
        dumped.written.missing,
        dumped.counts.unknown,
        remapping.frames.used(),
        exceptions::nmi_count(),
    );
    let state = if dumped.is_complete() { "complete" } else { "partial" };
    say!("sealed {state} bytes={}", dumped.seal.dump_len);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_goes_on_one_line() {
        let domains = List([(2, 0), (0x1F, 4096)].into_iter().map(|(id, mappings)| Domain { id, mappings }));
        assert_eq!(format!("domains{domains}"), "domains 0x2:0 0x1f:4096");
    }
}
