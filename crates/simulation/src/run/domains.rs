//! Collects what became of domains and their mappings.

use machine::{IoAddress, PhysicalAddress, Range};
use model::scenario::{self, Attached, Function};
use model::{Answer, Direction, MemoryKind, Requester};
use takeover::Report;

use super::Run;
use crate::stage::domains;
use crate::values::{Domain, Mapping};

impl Run<'_> {
    /// The domains of the file, pass-through if a device uses it, and the disk's domain if it is new. `buffer` is the
    /// I/O address range of the driver's buffer, if it is mapped.
    pub(super) fn domains(&self, report: Option<&Report>, buffer: Option<Range<IoAddress>>) -> Vec<Domain> {
        let scenario = &self.stage.scenario;
        let old = scenario.domains.iter().enumerate();
        let mut domains: Vec<Domain> =
            old.map(|(index, domain)| self.old_domain(index, domain, report)).collect();
        if self.passes() {
            domains.push(self.pass_through(report));
        }
        let Some(iova) = buffer else { return domains };
        let disk = scenario.functions.iter().find(|function| function.source == self.disk().source);
        let index = disk.map_or(domains.len(), |function| self.domain_of(function.attached));
        if index == domains.len() {
            domains.push(new_domain());
        }
        domains[index].new.push(Mapping { iova, memory: self.buffer(), before: false, after: true });
        domains
    }

    fn old_domain(&self, index: usize, domain: &scenario::Domain, report: Option<&Report>) -> Domain {
        Domain {
            id: Some(domain.id),
            pass_through: false,
            old: self.mappings(index),
            new: Vec::new(),
            tables: domains::tables_of(domain),
            outcome: report.and_then(|report| outcome(report, domain.id)),
        }
    }

    /// The mappings of a domain; neighbours with the same result are merged. Empty if no device can show their
    /// result.
    fn mappings(&self, index: usize) -> Vec<Mapping> {
        let scenario = &self.stage.scenario;
        let Some(requester) = requester(&scenario.functions, |attached| attached == Attached::To(index))
        else {
            return Vec::new();
        };
        let mut pages = scenario.domains[index].mappings.clone();
        pages.sort_by_key(|page| page.iova);
        let mut mappings: Vec<Mapping> = Vec::new();
        for next in pages.iter().map(|page| self.mapping(requester, page)) {
            match mappings.last_mut().filter(|last| last.continues(&next)) {
                Some(last) => (last.iova.end, last.memory.end) = (next.iova.end, next.memory.end),
                None => mappings.push(next),
            }
        }
        mappings
    }

    /// What became of a page, as this requester sees it.
    fn mapping(&self, requester: Requester, page: &scenario::Mapping) -> Mapping {
        let direction = if page.permission.reads() { Direction::Read } else { Direction::Write };
        let access = requester.access(page.iova, direction);
        let (before, now) = (self.machine.answer_before(0, access), self.machine.answer(0, access));
        let memory = match before {
            Answer::Memory(address) => address,
            _ => page.memory,
        };
        Mapping {
            iova: page.level.entry_span(page.iova),
            memory: Range::new(memory, memory.saturating_add(page.level.span())),
            before: matches!(before, Answer::Memory(_)),
            after: before == now,
        }
    }

    /// The domain of pass-through: all of memory, and what is left of it.
    fn pass_through(&self, report: Option<&Report>) -> Domain {
        let functions = &self.stage.scenario.functions;
        let requester = requester(functions, |attached| matches!(attached, Attached::PassThrough(_)));
        let id = functions.iter().find_map(|function| match function.attached {
            Attached::PassThrough(id) => Some(id),
            Attached::To(_) => None,
        });
        let leads_there = |address: PhysicalAddress| {
            let iova = IoAddress::new(address.get());
            let answer =
                |requester: Requester| self.machine.answer(0, requester.access(iova, Direction::Read));
            requester.map(answer) == Some(Answer::Memory(address))
        };
        let memory =
            [MemoryKind::Old, MemoryKind::Capture].into_iter().flat_map(|kind| self.machine.ranges(kind));
        let mut old: Vec<Mapping> = memory
            .map(|range| Mapping {
                iova: Range::from(range.start.get()..range.end.get()),
                memory: range,
                before: true,
                after: leads_there(range.start),
            })
            .collect();
        old.sort_by_key(|mapping| mapping.iova.start);
        let outcome = report.zip(id).and_then(|(report, id)| outcome(report, id));
        Domain { id, pass_through: true, old, new: Vec::new(), tables: 0, outcome }
    }
}

impl Mapping {
    /// Whether `next` starts where this one ends, in memory too, and has the same result.
    fn continues(&self, next: &Self) -> bool {
        self.iova.end == next.iova.start
            && self.memory.end == next.memory.start
            && (self.before, self.after) == (next.before, next.after)
    }
}

/// The domain of a device that the old kernel did not know.
fn new_domain() -> Domain {
    Domain {
        id: None,
        pass_through: false,
        old: Vec::new(),
        new: Vec::new(),
        tables: 0,
        outcome: Some("new".into()),
    }
}

/// The first function with this attachment, for its requests without PASID.
fn requester(functions: &[Function], is_wanted: impl Fn(Attached) -> bool) -> Option<Requester> {
    let function = functions.iter().find(|function| is_wanted(function.attached))?;
    Some(Requester { source: function.source, pasid: None })
}

fn outcome(report: &Report, id: u16) -> Option<String> {
    report.domains.iter().find(|domain| domain.id == id).map(|domain| domain.outcome.to_string())
}
