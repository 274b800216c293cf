//! Makes the takeover's record. The console's report is printed from it, and the dump contains it.
//!
//! Every structure of the takeover's report is destructured completely, so that the compiler points here when a field
//! is added.

#![expect(clippy::disallowed_methods, reason = "a record's lists count what there is no memory for")]

use record::{
    Context, Counts, Domain, Entry, Hazard, HazardPlace, Outcome, Queue, Record, Takeover, Text, UnitFate,
    UnitRecord,
};
use takeover::hazard::Hazards;
use takeover::report::{ContextReport, DomainReport};
use takeover::{AmdViEntry, AmdViFound, Found, OldQueue, Report, VtdEntry, VtdFound, hazard};

use crate::remapping::{Fate, Remapping, RemappingUnit};

/// Makes the record of what happened to the units.
pub(crate) fn record(remapping: &Remapping) -> Record {
    Record {
        writer: Text::new(env!("CARGO_PKG_VERSION")),
        host_address_bits: remapping.host_address_bits,
        units: remapping.units.iter().map(unit).collect(),
    }
}

fn unit(unit: &RemappingUnit) -> UnitRecord {
    let state = match &unit.fate {
        Fate::TakenOver(unit) => UnitFate::TakenOver(takeover(unit.report())),
        Fate::Off => UnitFate::Off,
        Fate::Absent(why) => UnitFate::Absent(Text::new(why)),
        Fate::Lost(error) => UnitFate::Lost(Text::new(error)),
    };
    let registers = unit.registers.iter().copied().collect();
    UnitRecord {
        architecture: unit.architecture,
        base: unit.base.get(),
        segment: unit.segment,
        registers,
        state,
    }
}

fn takeover(report: &Report) -> Takeover {
    let Report { found, root, contexts, domains, hazards, tables_duplicated } = report;
    Takeover {
        old_root: found.root(),
        new_root: *root,
        queue: old_queue(found.queue()),
        faults: faults(found),
        counts: Counts {
            contexts_accepted: report.contexts_accepted(),
            tables_duplicated: *tables_duplicated,
            leaf_mappings: report.leaf_mappings(),
            domains_reserved: report.domains_reserved(),
            hazards: hazards.count(),
        },
        contexts: contexts.iter().map(context).collect(),
        domains: domains.iter().map(domain).collect(),
        hazards: listed_hazards(hazards),
    }
}

/// The faults or events that were recorded. The registers, read before anything was written, include all else that was found.
fn faults(found: &Found) -> record::List<(u64, u64)> {
    match found {
        Found::Vtd(VtdFound {
            fault_records,
            root: _,
            queue: _,
            status: _,
            faults: _,
            queue_error: _,
            page_requests: _,
        }) => fault_records.iter().map(|fault| (fault.low.into_bits(), fault.high.into_bits())).collect(),
        Found::AmdVi(AmdViFound { events, control: _, status: _, device_table: _, queue: _ }) => {
            events.iter().map(|event| (event.low.into_bits(), event.address)).collect()
        }
    }
}

fn old_queue(queue: OldQueue) -> Queue {
    match queue {
        OldQueue::Off => Queue::Off,
        OldQueue::Drained => Queue::Drained,
        OldQueue::Stuck { head, tail } => Queue::Stuck { head, tail },
    }
}

fn context(context: &ContextReport) -> Context {
    let ContextReport { source, pasid, entry, domain, outcome: end } = *context;
    let entry = match entry {
        takeover::Entry::Vtd(VtdEntry::Context(entry)) => Entry::Context(entry.words()),
        takeover::Entry::Vtd(VtdEntry::Pasid(entry)) => Entry::Pasid(entry.words()),
        takeover::Entry::AmdVi(AmdViEntry::Device(entry)) => Entry::Device(entry.words()),
        takeover::Entry::AmdVi(AmdViEntry::Guest { device, cr3 }) => {
            let [host, guest, interrupts, attributes] = device.words();
            Entry::Guest([host, guest, interrupts, attributes, cr3.into_bits()])
        }
    };
    Context { source: source.0, pasid, entry, domain, outcome: outcome(end) }
}

fn domain(domain: &DomainReport) -> Domain {
    let DomainReport { id, address_bits, tables, leaves, fenced, outcome: end } = *domain;
    Domain { id, address_bits, tables, leaves, fenced, outcome: outcome(end) }
}

fn listed_hazards(hazards: &Hazards) -> record::List<Hazard> {
    let mut list: record::List<Hazard> = hazards.listed.iter().map(hazard).collect();
    list.leave_out(hazards.unlisted);
    list
}

fn hazard(hazard: &hazard::Hazard) -> Hazard {
    let hazard::Hazard { place, danger, outcome: end } = *hazard;
    let place = match place {
        hazard::HazardPlace::Unit => HazardPlace::Unit,
        hazard::HazardPlace::Bus(bus) => HazardPlace::Bus(bus),
        hazard::HazardPlace::Device(source) => HazardPlace::Device(source.0),
        hazard::HazardPlace::Domain { id, iova } => {
            HazardPlace::Domain { id, start: iova.start.get(), end: iova.end.get() }
        }
    };
    Hazard { place, what: Text::new(danger), outcome: outcome(end) }
}

fn outcome(outcome: takeover::Outcome) -> Outcome {
    match outcome {
        takeover::Outcome::Duplicated => Outcome::Duplicated,
        takeover::Outcome::Folded => Outcome::Folded,
        takeover::Outcome::KeptInPlace => Outcome::KeptInPlace,
        takeover::Outcome::Fenced => Outcome::Fenced,
        takeover::Outcome::Blocked => Outcome::Blocked,
    }
}
