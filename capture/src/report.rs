//! Prints the takeover and the dump on the console. The lines that programs read are in `handoff`.

use core::fmt;

use amdvi::event::Event;
use area::LeftOut;
use handoff::Summary;
use record::{
    Architecture, Context, Counts, Domain, Hazard, List, Outcome, Queue, Record, Takeover, UnitFate,
    UnitRecord,
};
use vtd::fault::FaultRecord;

use crate::acpi::AcpiError;
use crate::dump::Dumped;
use crate::platform::console::say;
use crate::platform::{exceptions, machine_check};
use crate::root_pointer::Place;
use crate::watchdogs;

/// Most hazards or recorded faults that are told one by one, of all units together. A serial line carries 11 characters in a
/// millisecond, so large machines would wait for it longer than for the dump. The dump's record has all.
const LINES_TOLD: usize = 16;
/// Most devices, and most domains, that are told of one outcome.
const ITEMS_TOLD: usize = 64;

/// How much of a unit is told: each has its share.
#[derive(Clone, Copy)]
struct Share {
    lines: usize,
    items: usize,
}

impl Share {
    /// The share of one unit of `record`: something of each.
    fn of(record: &Record) -> Self {
        let units = record.units.listed.len().max(1);
        Self { lines: (LINES_TOLD / units).max(1), items: (ITEMS_TOLD / units).max(4) }
    }
}

/// Reports where ACPI's root pointer is, or why there are no tables.
pub(crate) fn root_pointer(found: Result<Place, AcpiError>) {
    match found {
        Ok(place) => say!("ACPI's root pointer: {place}"),
        Err(error) => say!("no ACPI tables: {error}"),
    }
}

/// Reports what happened to each unit.
pub(crate) fn units(record: &Record) {
    let share = Share::of(record);
    for unit in &record.units.listed {
        tell_unit(unit, share);
    }
    tell_unlisted("units", &record.units);
    say!("{}", handoff::Event::TakeoverDone);
}

fn tell_unit(unit: &UnitRecord, share: Share) {
    let base = unit.base;
    match &unit.state {
        UnitFate::TakenOver(takeover) => tell_takeover(unit, takeover, share),
        UnitFate::Off => say!("unit {base:#x}: translation is off, nothing to take over"),
        UnitFate::Absent(why) => say!("unit {base:#x}: the firmware lists it, and there is none: {why}"),
        UnitFate::Lost(why) => say!("unit {base:#x}: {why}"),
    }
}

fn tell_takeover(unit: &UnitRecord, takeover: &Takeover, share: Share) {
    let UnitRecord { base, architecture, .. } = *unit;
    let (root, queue) = match architecture {
        Architecture::Vtd => ("root", "invalidation queue"),
        Architecture::AmdVi => ("device table", "command buffer"),
    };
    say!("unit {base:#x}: {root} {:#x} -> {:#x}", takeover.old_root, takeover.new_root);
    for ended in Outcome::ALL.map(|outcome| Ended { takeover, outcome, most: share.items }) {
        if !ended.is_empty() {
            say!("  {ended}");
        }
    }
    tell_unlisted("contexts", &takeover.contexts);
    tell_unlisted("domains", &takeover.domains);
    if let Queue::Stuck { head, tail } = takeover.queue {
        say!("  the {queue} had stopped at {head:#x} of {tail:#x}");
    }
    for &(low, high) in takeover.faults.listed.iter().take(share.lines) {
        match architecture {
            Architecture::Vtd => {
                say!("  fault recorded before: {}", Fault(FaultRecord::from_words(low, high)));
            }
            Architecture::AmdVi => say!("  event logged before: {}", Logged(Event::from_words([low, high]))),
        }
    }
    tell_others("faults", &takeover.faults, share);
    takeover.hazards.listed.iter().take(share.lines).for_each(tell_hazard);
    tell_others("hazards", &takeover.hazards, share);
}

/// Tells how many items were not told one by one.
fn tell_others<T>(what: &str, list: &List<T>, share: Share) {
    let others = list.count().saturating_sub(share.lines as u64);
    if others > 0 {
        say!("  and {others} {what} more: in the dump's record");
    }
}

/// Reports the hazards of attaching devices: those that the record has gained since the takeover.
pub(crate) fn attached(before: &Record, after: &Record) {
    let share = Share::of(after);
    for (before, after) in before.units.listed.iter().zip(&after.units.listed) {
        if let (UnitFate::TakenOver(before), UnitFate::TakenOver(after)) = (&before.state, &after.state) {
            let known = before.hazards.listed.len();
            after.hazards.listed.iter().skip(known).take(share.lines).for_each(tell_hazard);
        }
    }
}

fn tell_hazard(hazard: &Hazard) {
    say!("  {}: {}: {}", hazard.place, hazard.what, hazard.outcome);
}

/// The devices and domains of a unit that ended in the same way, on one line.
struct Ended<'a> {
    takeover: &'a Takeover,
    outcome: Outcome,
    /// Most devices, and most domains, to list.
    most: usize,
}

impl Ended<'_> {
    fn contexts(&self) -> Spaced<impl Iterator<Item = impl fmt::Display> + Clone> {
        let contexts = self.takeover.contexts.listed.iter();
        let items = contexts.filter(|context| context.outcome == self.outcome).map(Context::requester);
        Spaced { items, most: self.most }
    }

    fn domains(&self) -> Spaced<impl Iterator<Item = DomainSize<'_>> + Clone> {
        let domains = self.takeover.domains.listed.iter();
        Spaced {
            items: domains.filter(|domain| domain.outcome == self.outcome).map(DomainSize),
            most: self.most,
        }
    }

    fn is_empty(&self) -> bool {
        self.contexts().is_empty() && self.domains().is_empty()
    }
}

impl fmt::Display for Ended<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (outcome, contexts, domains) = (self.outcome, self.contexts(), self.domains());
        match (contexts.is_empty(), domains.is_empty()) {
            (_, true) => write!(f, "{outcome}: devices{contexts}"),
            (true, false) => write!(f, "{outcome}: domains{domains}"),
            (false, false) => write!(f, "{outcome}: devices{contexts}, domains{domains}"),
        }
    }
}

/// Tells how many items the record left out.
fn tell_unlisted<T>(what: &str, list: &List<T>) {
    if list.unlisted > 0 {
        say!("  and {} {what} more, for which the record has no room", list.unlisted);
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

/// A logged event (AMD-Vi specification, section 2.5).
struct Logged(Event);

impl fmt::Display for Logged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Event { low, address } = self.0;
        write!(f, "{} at {address:#x}, code {:#x}", low.source(), low.code().0)
    }
}

/// The first items, each after a space, and how many more there are.
struct Spaced<I> {
    items: I,
    most: usize,
}

impl<I: Iterator + Clone> Spaced<I> {
    fn is_empty(&self) -> bool {
        self.items.clone().next().is_none()
    }
}

impl<T: fmt::Display, I: Iterator<Item = T> + Clone> fmt::Display for Spaced<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.items.clone().take(self.most).try_for_each(|item| write!(f, " {item}"))?;
        match self.items.clone().skip(self.most).count() {
            0 => Ok(()),
            others => write!(f, " and {others} more: in the dump's record"),
        }
    }
}

/// Reports that a disk did not take the dump, and what of it is there. The dump begins again in another area, if there is one.
pub(crate) fn disk_failed(dumped: &Dumped) {
    match dumped.error {
        Some(error) => say!("this disk does not take the dump: {error}"),
        None => say!("this disk did not take some pages"),
    }
    let kib = dumped.seal.dump_len >> 10;
    say!("{kib} KiB of the dump stay there, sealed as partial; it begins again if there is another area");
}

/// Reports the dump: the summary, and last of all the seal.
pub(crate) fn dump(counts: Counts, frames_used: usize, dumped: &Dumped) {
    for kind in watchdogs::lost().iter() {
        say!("watchdog {kind} did not answer, and was not pinged any more");
    }
    if let Some(error) = dumped.error {
        say!("the dump is not complete: {error}");
    }
    tell_left_out(dumped.seal.left_out);
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
        watchdog_pings: watchdogs::pings(),
        nmis: exceptions::nmi_count(),
        machine_checks: machine_check::count(),
    };
    say!("{}", handoff::Event::Summary(summary));
    say!("{}", handoff::Event::Sealed { completeness: dumped.completeness(), bytes: dumped.seal.dump_len });
}

/// Reports which pages are not in the dump.
fn tell_left_out(LeftOut { pages, reached }: LeftOut) {
    match reached {
        _ if pages == 0 => {}
        Some(level) => say!("{pages} pages are missing; all of level {level} are there"),
        None => say!("{pages} pages are missing"),
    }
}

#[cfg(test)]
mod tests {
    use record::Entry;

    use super::*;

    fn takeover(contexts: u16, domains: u16) -> Takeover {
        let outcome = Outcome::Duplicated;
        let context =
            |source| Context { source, pasid: None, entry: Entry::Context([0; 2]), domain: None, outcome };
        let domain = |id| Domain { id, address_bits: 39, tables: 1, leaves: 4096, fenced: 0, outcome };
        Takeover {
            old_root: 0,
            new_root: 0,
            queue: Queue::Off,
            faults: List::default(),
            counts: Counts::default(),
            contexts: (0..contexts).map(context).collect(),
            domains: (0..domains).map(domain).collect(),
            hazards: List::default(),
        }
    }

    fn told(takeover: &Takeover, most: usize) -> String {
        Ended { takeover, outcome: Outcome::Duplicated, most }.to_string()
    }

    #[test]
    fn a_list_goes_on_one_line() {
        let duplicated = Outcome::Duplicated;
        assert_eq!(told(&takeover(2, 0), 9), format!("{duplicated}: devices 00:00.0 00:00.1"));
        assert_eq!(told(&takeover(0, 2), 9), format!("{duplicated}: domains 0x0:4096 0x1:4096"));
        assert_eq!(told(&takeover(1, 1), 9), format!("{duplicated}: devices 00:00.0, domains 0x0:4096"));
    }

    /// A second of a serial line carries 11,520 characters.
    #[test]
    fn a_large_machine_does_not_wait_for_its_console() {
        let line = told(&takeover(4000, 4000), ITEMS_TOLD);
        assert!(
            line.len() < 1500 && line.contains(" and 3936 more: in the dump's record, domains"),
            "{line}"
        );
    }

    #[test]
    fn many_units_share_what_is_told_and_each_has_some() {
        let record = |units| Record {
            writer: record::Text::new("test"),
            host_address_bits: 46,
            units: (0..units)
                .map(|base| UnitRecord {
                    architecture: Architecture::Vtd,
                    base,
                    segment: 0,
                    registers: List::default(),
                    state: UnitFate::Off,
                })
                .collect(),
        };
        let share = |units| Share::of(&record(units));
        assert_eq!((share(0).items, share(1).lines, share(1).items), (64, 16, 64));
        assert_eq!((share(8).lines, share(8).items, share(40).lines, share(40).items), (2, 8, 1, 4));
    }
}
