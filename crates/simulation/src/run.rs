//! Lets a kernel die, takes its machine over, and says what happened.

mod devices;
mod domains;
mod telling;

use machine::{IoAddress, PAGE_SIZE, Permission, PhysicalAddress, Range, SourceId};
use model::trace::Event;
use model::{Access, Answer, Direction, Machine, MemoryKind, Own, Requester};
use takeover::{Limits, Resources, census};
use verdict::{Layout, Taken};

use crate::stage::Stage;
use crate::values::Simulation;

/// For how many steps devices are watched before and after the takeover.
const WATCH: u64 = 300;
/// Pages of the driver's buffer.
const BUFFER_PAGES: u64 = 4;
/// How often the driver's device uses each page of its buffer.
const USES: usize = 8;

/// Runs the scenario.
pub fn run(stage: &Stage) -> Simulation {
    let census_steps = census_steps(stage);
    let machine = stage.machine();
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

/// How many steps the census takes. The seed decides everything random on the machine, so a second census takes as
/// many.
fn census_steps(stage: &Stage) -> u64 {
    let machine = stage.machine();
    machine.run(WATCH);
    let (clock, layout) = (machine.clock(), Layout::of(&machine, 0));
    let limits = limits(stage);
    if let Ok(unit) = verdict::unit(&machine, 0, &clock) {
        let mut frames = machine.frames(stage.budget);
        // If the census fails, so does the takeover, which says why.
        let (old, surroundings) = (machine.old_memory(), layout.surroundings());
        let mut resources =
            Resources { old: &old, frames: &mut frames, surroundings: &surroundings, limits: &limits };
        let _ = census::take(&unit, &mut resources);
    }
    machine.steps() - WATCH
}

/// The step in which the takeover first wrote to the unit.
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
    /// The answers to the driver's device.
    own: Vec<(Access, Answer)>,
}

/// The names of the phases, and what happens in each. What VT-d calls root pointer is the base of AMD-Vi's device table.
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

    /// The buffer in the capture kernel's memory that its disk uses.
    fn buffer(&self) -> Range<PhysicalAddress> {
        let own = self.machine.ranges(MemoryKind::Capture).first().copied().unwrap_or_default();
        let start = own.start.saturating_add(own.len() - own.len() / 4).align_down(PAGE_SIZE);
        Range::new(start, start.saturating_add(BUFFER_PAGES * PAGE_SIZE))
    }

    /// Gives the disk to its driver, which resets it and starts to work; returns the I/O addresses of its buffer.
    fn attach(
        &mut self,
        taken: &mut Taken,
        frames: &mut model::OwnFrames,
    ) -> Result<Range<IoAddress>, String> {
        let (machine, memory, disk) = (self.machine, self.buffer(), self.disk());
        let sharing = machine.sharing_before(0, disk);
        machine.guard(sharing.into_iter().map(|requester| Own { requester, memory }).collect());
        let device = taken.attach(SourceId(disk.source), &[], frames).map_err(|error| error.to_string())?;
        let old = machine.old_memory();
        let start = taken.map(&device, memory, Permission::ReadWrite, &old, frames);
        let start = start.map_err(|error| error.to_string())?;
        let iova = Range::new(start, start.saturating_add(memory.len()));
        machine.silence(disk.source);
        let pages = (0..BUFFER_PAGES).map(|page| start.saturating_add(page * PAGE_SIZE)).cycle();
        for page in pages.take(USES * BUFFER_PAGES as usize) {
            let access = disk.access(page, Direction::Write);
            self.own.push((access, machine.access(0, access)));
        }
        Ok(iova)
    }
}
