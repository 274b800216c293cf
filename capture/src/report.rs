//! Prints the takeover and the dump on the console. The lines that programs read are in `handoff`.

use core::fmt;

use handoff::{Event, Summary};
use record::{Context, Counts, Domain, Hazard, List, Outcome, Queue, Record, Takeover, UnitFate, UnitRecord};
use vtd::fault::FaultRecord;

use crate::dump::Dumped;
use crate::platform::console::say;
use crate::platform::{exceptions, machine_check};

/// Most hazards that are listed one by one; serial lines are slow.
const HAZARDS_TOLD: usize = 16;

/// Reports what happened to each unit.
pub(crate) fn units(record: &Record) {
    for unit in &record.units.listed {
        tell_unit(unit);
    }
    tell_unlisted("units", &record.units);
    say!("{}", Event::TakeoverDone);
}

fn tell_unit(unit: &UnitRecord) {
    let base = unit.base;
    match &unit.state {
        UnitFate::TakenOver(takeover) => tell_takeover(base, takeover),
        UnitFate::Off => say!("unit {base:#x}: translation is off, nothing to take over"),
        UnitFate::Absent(why) => say!("unit {base:#x}: the firmware lists it, and there is none: {why}"),
        UnitFate::Lost(why) => say!("unit {base:#x}: {why}"),
    }
}

fn tell_takeover(base: u64, takeover: &Takeover) {
    say!("unit {base:#x}: root {:#x} -> {:#x}", takeover.old_root, takeover.new_root);
    for outcome in Outcome::ALL {
        tell_outcome(takeover, outcome);
    }
    tell_unlisted("contexts", &takeover.contexts);
    tell_unlisted("domains", &takeover.domains);
    if let Queue::Stuck { head, tail } = takeover.queue {
        say!("  the invalidation queue had stopped at {head:#x} of {tail:#x}");
    }
    for &(low, high) in &takeover.faults.listed {
        say!("  fault recorded before: {}", Fault(FaultRecord::from_words(low, high)));
    }
    tell_hazards(takeover);
}

fn tell_hazards(takeover: &Takeover) {
    let hazards = &takeover.hazards;
    hazards.listed.iter().take(HAZARDS_TOLD).for_each(tell_hazard);
    if hazards.count() > HAZARDS_TOLD as u64 {
        say!("  {} hazards in all", hazards.count());
    }
}

/// Reports the hazards of attaching devices: those that the record has gained since the takeover.
pub(crate) fn attached(before: &Record, after: &Record) {
    for (before, after) in before.units.listed.iter().zip(&after.units.listed) {
        if let (UnitFate::TakenOver(before), UnitFate::TakenOver(after)) = (&before.state, &after.state) {
            let known = before.hazards.listed.len();
            after.hazards.listed.iter().skip(known).take(HAZARDS_TOLD).for_each(tell_hazard);
        }
    }
}

fn tell_hazard(hazard: &Hazard) {
    say!("  {}: {}: {}", hazard.place, hazard.what, hazard.outcome);
}

/// Lists the devices and domains that ended this way.
fn tell_outcome(takeover: &Takeover, outcome: Outcome) {
    let contexts = takeover.contexts.listed.iter().filter(|context| context.outcome == outcome);
    let domains = takeover.domains.listed.iter().filter(|domain| domain.outcome == outcome);
    let (contexts, domains) = (Spaced(contexts.map(Context::requester)), Spaced(domains.map(DomainSize)));
    match (contexts.is_empty(), domains.is_empty()) {
        (true, true) => {}
        (false, true) => say!("  {outcome}: devices{contexts}"),
        (true, false) => say!("  {outcome}: domains{domains}"),
        (false, false) => say!("  {outcome}: devices{contexts}, domains{domains}"),
    }
}

fn tell_unlisted<T>(what: &str, list: &List<T>) {
    if list.unlisted > 0 {
        say!("  and {} {what} more", list.unlisted);
    }
}

/// A domain, as `id:mappings`.
struct DomainSize<'a>(&'a Domain);

impl fmt::Display for DomainSize<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}:{}", self.0.id, self.0.leaves)
    }
}

/// A recorded fault (VT-d specification, section 11.4.7).
struct Fault(FaultRecord);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FaultRecord { high, .. } = self.0;
        write!(f, "{} at {:#x}, reason {:#x}", high.source(), self.0.address(), high.reason().0)
    }
}

/// Items, each after a space.
struct Spaced<I>(I);

impl<I: Iterator + Clone> Spaced<I> {
    fn is_empty(&self) -> bool {
        self.0.clone().next().is_none()
    }
}

impl<T: fmt::Display, I: Iterator<Item = T> + Clone> fmt::Display for Spaced<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.clone().try_for_each(|item| write!(f, " {item}"))
    }
}

/// Reports the dump: the summary, and last of all the seal.
pub(crate) fn dump(counts: Counts, frames_used: usize, dumped: &Dumped) {
    if let Some(error) = dumped.error {
        say!("the dump is not complete: {error}");
    }
    let Counts { contexts_accepted, tables_duplicated, leaf_mappings, domains_reserved, hazards } = counts;
    let summary = Summary {
        contexts_accepted,
        tables_duplicated,
        leaf_mappings,
        domains_reserved,
        hazards,
        pages_kept: dumped.written.pages,
        pages_zero: dumped.written.zero,
        pages_missing: dumped.written.missing,
        pages_unknown: dumped.counts.unknown,
        disk_wait_ms: dumped.disk_wait.as_millis() as u64,
        frames_used: frames_used as u64,
        nmis: exceptions::nmi_count(),
        machine_checks: machine_check::count(),
    };
    say!("{}", Event::Summary(summary));
    say!("{}", Event::Sealed { completeness: dumped.completeness(), bytes: dumped.seal.dump_len });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_goes_on_one_line() {
        let domain = |id, leaves| {
            let outcome = Outcome::Duplicated;
            Domain { id, address_bits: 39, tables: 1, leaves, fenced: 0, outcome }
        };
        let domains = [domain(2, 0), domain(0x1F, 4096)];
        assert_eq!(format!("domains{}", Spaced(domains.iter().map(DomainSize))), "domains 0x2:0 0x1f:4096");
    }
}
