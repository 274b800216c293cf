//! Collects what happened in a run, as values.

use machine::{IoAddress, PhysicalAddress, Range};
use model::trace::Event;
use takeover::Report;

use super::{PHASES, Run, WATCH};
use crate::file::{File, Mode};
use crate::rivals;
use crate::stage::{domains, ram};
use crate::values::{Phase, Policy, PolicyResult, Simulation, Tables};

impl Run<'_> {
    /// Collects everything. `failure` says why the takeover failed; `buffer` holds the driver's I/O addresses, or why
    /// there are none.
    pub(super) fn tell(
        &self,
        report: Option<&Report>,
        failure: Option<String>,
        buffer: &Result<Range<IoAddress>, String>,
    ) -> Simulation {
        let file = &self.stage.file;
        let mut policies = vec![self.accepted()];
        policies.extend(rivals::rivals(self.stage, self.machine.steps() - WATCH));
        let hazards = report.iter().flat_map(|report| &report.hazards.listed);
        Simulation {
            title: file.title.clone(),
            story: file.story.trim().to_owned(),
            memory: ram(file.memory.get_ref().0),
            reservation: reservation(file),
            mode: match file.mode {
                Mode::Legacy => "legacy",
                Mode::Scalable => "scalable",
                Mode::AmdVi => "AMD-Vi",
            },
            devices: self.devices(report),
            domains: self.domains(report, buffer.as_ref().ok().copied()),
            tables: self.tables(),
            phases: self.phases(),
            hazards: hazards.map(ToString::to_string).collect(),
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
    fn accepted(&self) -> PolicyResult {
        let after_panic = self.ends.first().copied().unwrap_or_default();
        let deliveries = self.machine.deliveries();
        let first = deliveries.partition_point(|delivery| delivery.step <= after_panic);
        rivals::result(Policy::Accept, self.machine, &deliveries[first..])
    }

    fn tables(&self) -> Tables {
        let trace = self.machine.trace();
        let frames = trace.events().iter().fold(0_u64, |frames, (_, event)| match event {
            Event::Allocated { .. } => frames + 1,
            Event::Released { .. } => frames - 1,
            _ => frames,
        });
        let scenario = &self.stage.scenario;
        let upper = self.stage.upper_tables();
        let roots = [self.stage.machine().root(0), self.machine.root(0)];
        Tables {
            roots,
            old: upper + domains::tables(&scenario.domains),
            own: frames,
            budget: self.stage.budget as u64,
        }
    }
}

fn reservation(file: &File) -> Range<PhysicalAddress> {
    let reservation = file.reservation.get_ref();
    Range::from(reservation.start..reservation.start + reservation.size)
}
