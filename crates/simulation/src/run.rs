//! Lets a kernel die, takes its machine over, and says what happened.

use machine::{PAGE_SIZE, Range};
use model::scenario::Attached;
use model::trace::Event;
use model::{Access, Answer, Direction, Kind, Machine, Own, Requester};
use takeover::report::ContextReport;
use takeover::{Limits, Report, Unit, census};
use verdict::{Layout, Taken};
use vtd::paging::Permission;
use vtd::source::SourceId;

use crate::rivals::{self, judge};
use crate::stage::{Stage, domains, ram};
use crate::values::{Device, Domain, Mapping, Phase, Policy, Purpose, Simulation, Tables, Traffic};

/// Steps for which devices are watched before the takeover and after it.
const WATCH: u64 = 300;
/// Pages of the driver's buffer.
const BUFFER_PAGES: u64 = 4;
/// How often the driver's device uses each page of it.
const USES: usize = 8;

/// Runs the scenario.
pub fn run(stage: &Stage) -> Simulation {
    let census_steps = census_steps(stage);
    let machine = stage.scenario.machine();
    machine.watch_deliveries();
    machine.run(WATCH);
    let panic = machine.steps();
    let (mut frames, clock) = (machine.frames(stage.budget), machine.clock());
    let taken = verdict::take_over(&machine, 0, &mut frames, &clock, &limits(stage));
    let swapped = machine.steps();
    let ends = [panic, panic + census_steps, swap_start(&machine, panic), swapped];
    let mut run = Run { stage, machine: &machine, ends: ends.into(), own: Vec::new() };
    let report = taken.as_ref().ok().map(|taken| taken.report().clone());
    let failure = taken.as_ref().err().map(ToString::to_string);
    let buffer = taken.map_err(|_| "the takeover failed".to_owned());
    let buffer = buffer.and_then(|mut taken| run.attach(&mut taken, &mut frames));
    run.ends.push(machine.steps());
    machine.run(WATCH);
    run.ends.push(machine.steps());
    run.tell(report.as_ref(), failure, &buffer)
}

fn limits(stage: &Stage) -> Limits {
    let limits = verdict::limits();
    Limits { spare_frames: limits.spare_frames.min(stage.budget / 4), ..limits }
}

/// How many steps the census takes: chance on the machine comes from its seed, so a second one takes as many.
fn census_steps(stage: &Stage) -> u64 {
    let machine = stage.scenario.machine();
    machine.run(WATCH);
    let (clock, layout) = (machine.clock(), Layout::of(&machine, 0));
    let limits = limits(stage);
    let unit = Unit::new(machine.registers(0), verdict::REGISTERS, &clock, limits.deadline);
    if let Ok(unit) = unit {
        let mut frames = machine.frames(stage.budget);
        // Should it fail, so does the takeover: it says why.
        let _ = census::take(&unit, &machine.old_memory(), &mut frames, &layout.surroundings(), &limits);
    }
    machine.steps() - WATCH
}

/// The step in which the takeover first told the unit something.
fn swap_start(machine: &Machine, panic: u64) -> u64 {
    let trace = machine.trace();
    let mut events = trace.events().iter().filter(|(step, _)| *step > panic);
    events.find(|(_, event)| matches!(event, Event::Wrote { .. })).map_or(machine.steps(), |(step, _)| *step)
}

/// A run in progress.
struct Run<'a> {
    stage: &'a Stage,
    machine: &'a Machine,
    /// The last step of each phase.
    ends: Vec<u64>,
    /// What the driver's device was told.
    own: Vec<(Access, Answer)>,
}

/// The names of the phases, and what is done in them.
const PHASES: [(&str, &str); 6] = [
    ("panic", "the kernel is dead, devices go on"),
    ("census", "who is translated? copy and check the upper tables"),
    ("duplicate", "copy and check page tables, relink them"),
    ("swap", "new root pointer, caches forgotten"),
    ("attach", "addresses that nobody used, for the disk's driver"),
    ("dump", "other devices still go on"),
];

impl Run<'_> {
    fn disk(&self) -> Requester {
        Requester { source: self.stage.file.disk.get_ref().0, pasid: None }
    }

    /// The capture kernel's memory that its disk is to reach.
    fn buffer(&self) -> Range {
        let own = self.machine.ranges(Kind::Capture).first().copied().unwrap_or_default();
        let start = (own.end - own.len() / 4) & !(PAGE_SIZE - 1);
        Range::new(start, start + BUFFER_PAGES * PAGE_SIZE)
    }

    /// Gives the disk to its driver, which resets it and starts to work; returns the I/O addresses of its buffer.
    fn attach(&mut self, taken: &mut Taken, frames: &mut model::OwnFrames) -> Result<Range, String> {
        let (machine, memory, disk) = (self.machine, self.buffer(), self.disk());
        let sharing = machine.sharing_before(0, disk);
        machine.guard(sharing.into_iter().map(|requester| Own { requester, memory }).collect());
        let device = taken.attach(SourceId(disk.source), &[], frames).map_err(|error| error.to_string())?;
        let old = machine.old_memory();
        let start = taken.map(&device, memory.start, memory.len(), Permission::ReadWrite, &old, frames);
        let iova = Range::new(start.map_err(|error| error.to_string())?, 0);
        let iova = Range::new(iova.start, iova.start + memory.len());
        machine.silence(disk.source);
        let pages = (iova.start..iova.end).step_by(PAGE_SIZE as usize).cycle();
        for page in pages.take(USES * BUFFER_PAGES as usize) {
            let access = disk.access(page, Direction::Write);
            self.own.push((access, machine.access(0, access)));
        }
        Ok(iova)
    }

    fn tell(
        &self,
        report: Option<&Report>,
        failure: Option<String>,
        buffer: &Result<Range, String>,
    ) -> Simulation {
        let file = &self.stage.file;
        let mut policies = vec![self.accepted()];
        policies.extend(rivals::rivals(self.stage, self.machine.steps() - WATCH));
        Simulation {
            title: file.title.clone(),
            story: file.story.trim().to_owned(),
            memory: ram(file.memory.get_ref().0),
            reservation: Range::new(
                file.reservation.get_ref().start,
                file.reservation.get_ref().start + file.reservation.get_ref().size,
            ),
            mode: match file.mode {
                crate::file::Mode::Legacy => "legacy",
                crate::file::Mode::Scalable => "scalable",
            },
            devices: self.devices(report),
            domains: self.domains(report, buffer.as_ref().ok().copied()),
            tables: self.tables(),
            phases: self.phases(),
            hazards: report
                .iter()
                .flat_map(|report| &report.hazards.listed)
                .map(ToString::to_string)
                .collect(),
            failure,
            without_buffer: buffer.as_ref().err().cloned(),
            policies,
        }
    }

    fn phases(&self) -> Vec<Phase> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let lengths = starts.zip(&self.ends).map(|(start, end)| end.saturating_sub(start));
        PHASES.iter().zip(lengths).map(|(&(name, what), steps)| Phase { name, what, steps }).collect()
    }

    /// What devices met from the beginning of the takeover on.
    fn accepted(&self) -> crate::values::PolicyResult {
        let after_panic = self.ends.first().copied().unwrap_or_default();
        let deliveries = self.machine.deliveries();
        let first = deliveries.partition_point(|delivery| delivery.step <= after_panic);
        rivals::result(Policy::Accept, self.machine, &deliveries[first..])
    }

    fn devices(&self, report: Option<&Report>) -> Vec<Device> {
        let (disk, has_driver) = (self.disk().source, !self.own.is_empty());
        let mut devices: Vec<Device> = self
            .stage
            .file
            .devices
            .iter()
            .zip(&self.stage.scenario.functions)
            .map(|(device, function)| Device {
                at: device.at.get_ref().to_string(),
                name: device.name.clone(),
                domain: Some(self.domain_of(function.attached)),
                purpose: if function.source == disk && has_driver { Purpose::Disk } else { Purpose::Left },
                outcome: report.and_then(|report| outcome(report, function.source)),
                traffic: self.traffic(function.source),
            })
            .collect();
        if has_driver && !devices.iter().any(|device| device.purpose == Purpose::Disk) {
            devices.push(Device {
                at: self.stage.file.disk.get_ref().to_string(),
                name: "disk".into(),
                domain: Some(self.stage.scenario.domains.len() + usize::from(self.passes())),
                purpose: Purpose::Disk,
                outcome: None,
                traffic: self.traffic(disk),
            });
        }
        devices
    }

    /// Whether some device's addresses are physical.
    fn passes(&self) -> bool {
        self.stage
            .scenario
            .functions
            .iter()
            .any(|function| matches!(function.attached, Attached::PassThrough(_)))
    }

    /// Pass-through comes after all domains.
    fn domain_of(&self, attached: Attached) -> usize {
        match attached {
            Attached::To(index) => index,
            Attached::PassThrough(_) => self.stage.scenario.domains.len(),
        }
    }

    /// What a device was told in each phase.
    fn traffic(&self, source: u16) -> Vec<Traffic> {
        let mut traffic = vec![Traffic::default(); PHASES.len()];
        let deliveries = self.machine.deliveries();
        for delivery in deliveries.iter().filter(|delivery| delivery.access.source == source) {
            let phase = self.ends.partition_point(|end| *end < delivery.step).min(PHASES.len() - 1);
            traffic[phase] += judge(self.machine, delivery);
        }
        let buffer = self.buffer();
        let reached = |(access, answer): &&(Access, Answer)| {
            access.source == source && matches!(answer, Answer::Memory(address) if buffer.contains(*address))
        };
        traffic[PHASES.len() - 1].own += self.own.iter().filter(reached).count() as u64;
        traffic
    }

    fn domains(&self, report: Option<&Report>, buffer: Option<Range>) -> Vec<Domain> {
        let disk = self.disk();
        let scenario = &self.stage.scenario;
        let mut domains: Vec<Domain> = scenario
            .domains
            .iter()
            .enumerate()
            .map(|(index, domain)| Domain {
                id: Some(domain.id),
                pass_through: false,
                old: self.mappings(index),
                new: Vec::new(),
                tables: domains::tables_of(domain),
                outcome: report.and_then(|report| domain_outcome(report, domain.id)),
            })
            .collect();
        if self.passes() {
            domains.push(self.pass_through(report));
        }
        let attached = scenario.functions.iter().find(|function| function.source == disk.source);
        let index = attached.map_or(domains.len(), |function| self.domain_of(function.attached));
        if index == domains.len() && buffer.is_some() {
            domains.push(Domain {
                id: None,
                pass_through: false,
                old: Vec::new(),
                new: Vec::new(),
                tables: 0,
                outcome: Some("new".into()),
            });
        }
        if let Some(iova) = buffer {
            domains[index].new.push(Mapping { iova, memory: self.buffer(), before: false, after: true });
        }
        domains
    }

    /// The mappings of a domain, neighbours that fared alike as one.
    fn mappings(&self, index: usize) -> Vec<Mapping> {
        let user =
            self.stage.scenario.functions.iter().find(|function| function.attached == Attached::To(index));
        let requester = user.map(|function| Requester { source: function.source, pasid: None });
        let mut mappings: Vec<Mapping> = Vec::new();
        let mut pages = self.stage.scenario.domains[index].mappings.clone();
        pages.sort_by_key(|page| page.iova);
        for page in pages {
            let answers = |access| (self.machine.answer_before(0, access), self.machine.answer(0, access));
            let access = |requester: Requester| {
                let direction = if page.permission.reads() { Direction::Read } else { Direction::Write };
                requester.access(page.iova, direction)
            };
            let (before, now) = match requester {
                Some(requester) => answers(access(requester)),
                None => continue,
            };
            let memory = match before {
                Answer::Memory(address) => address,
                _ => page.memory,
            };
            let next = Mapping {
                iova: Range::new(page.iova, page.iova + page.level.span()),
                memory: Range::new(memory, memory + page.level.span()),
                before: matches!(before, Answer::Memory(_)),
                after: before == now,
            };
            match mappings.last_mut().filter(|last| last.continues(&next)) {
                Some(last) => (last.iova.end, last.memory.end) = (next.iova.end, next.memory.end),
                None => mappings.push(next),
            }
        }
        mappings
    }

    /// All of memory, and what is left of it.
    fn pass_through(&self, report: Option<&Report>) -> Domain {
        let passes =
            |function: &&model::scenario::Function| matches!(function.attached, Attached::PassThrough(_));
        let user = self.stage.scenario.functions.iter().find(passes);
        let id = user.and_then(|function| match function.attached {
            Attached::PassThrough(id) => Some(id),
            Attached::To(_) => None,
        });
        let memory = [Kind::Old, Kind::Capture].into_iter().flat_map(|kind| self.machine.ranges(kind));
        let mut old: Vec<Mapping> = memory
            .map(|range| {
                let now = user.map(|function| {
                    let requester = Requester { source: function.source, pasid: None };
                    self.machine.answer(0, requester.access(range.start, Direction::Read))
                });
                let after = now == Some(Answer::Memory(range.start));
                Mapping { iova: range, memory: range, before: true, after }
            })
            .collect();
        old.sort_by_key(|mapping| mapping.iova.start);
        let outcome = report.zip(id).and_then(|(report, id)| domain_outcome(report, id));
        Domain { id, pass_through: true, old, new: Vec::new(), tables: 0, outcome }
    }

    fn tables(&self) -> Tables {
        let trace = self.machine.trace();
        let frames = trace.events().iter().fold(0_u64, |frames, (_, event)| match event {
            Event::Allocated { .. } => frames + 1,
            Event::Released { .. } => frames - 1,
            _ => frames,
        });
        let scenario = &self.stage.scenario;
        let buses = scenario.functions.iter().map(|function| function.source >> 8);
        let buses = buses.collect::<std::collections::BTreeSet<_>>().len() as u64;
        let roots = [self.stage.scenario.machine().root(0), self.machine.root(0)];
        Tables {
            roots,
            old: 1 + buses + domains::tables(&scenario.domains),
            own: frames,
            budget: self.stage.budget as u64,
        }
    }
}

impl Mapping {
    /// Whether `next` begins where this one ends, in memory too, and fared alike.
    fn continues(&self, next: &Self) -> bool {
        self.iova.end == next.iova.start
            && self.memory.end == next.memory.start
            && (self.before, self.after) == (next.before, next.after)
    }
}

fn outcome(report: &Report, source: u16) -> Option<String> {
    let of = |context: &&ContextReport| context.source.0 == source && context.pasid.is_none();
    report.contexts.iter().find(of).map(|context| context.outcome.to_string())
}

fn domain_outcome(report: &Report, id: u16) -> Option<String> {
    report.domains.iter().find(|domain| domain.id == id).map(|domain| domain.outcome.to_string())
}
