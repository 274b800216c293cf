//! Collects what became of devices, and what they met.

use model::scenario::{Attached, Function};
use model::{Access, Answer};
use takeover::Report;
use takeover::report::ContextReport;

use super::{PHASES, Run};
use crate::file;
use crate::rivals::judge;
use crate::values::{Device, Purpose, Traffic};

impl Run<'_> {
    /// The devices of the file, and the disk if it is not among them.
    pub(super) fn devices(&self, report: Option<&Report>) -> Vec<Device> {
        let named = self.stage.file.devices.iter().zip(&self.stage.scenario.functions);
        let mut devices: Vec<Device> =
            named.map(|(device, function)| self.device(device, function, report)).collect();
        if self.has_driver() && !devices.iter().any(|device| device.purpose == Purpose::Disk) {
            devices.push(self.unnamed_disk());
        }
        devices
    }

    fn device(&self, device: &file::Device, function: &Function, report: Option<&Report>) -> Device {
        let is_driven = self.has_driver() && function.source == self.disk().source;
        Device {
            at: device.at.get_ref().to_string(),
            name: device.name.clone(),
            domain: Some(self.domain_of(function.attached)),
            purpose: if is_driven { Purpose::Disk } else { Purpose::Left },
            outcome: report.and_then(|report| outcome(report, function.source)),
            traffic: self.traffic(function.source),
        }
    }

    /// A disk that the file does not name. Its domain is new, and comes after all others.
    fn unnamed_disk(&self) -> Device {
        Device {
            at: self.stage.file.disk.get_ref().to_string(),
            name: "disk".into(),
            domain: Some(self.stage.scenario.domains.len() + usize::from(self.passes())),
            purpose: Purpose::Disk,
            outcome: None,
            traffic: self.traffic(self.disk().source),
        }
    }

    fn has_driver(&self) -> bool {
        !self.own.is_empty()
    }

    /// Whether any device is in pass-through.
    pub(super) fn passes(&self) -> bool {
        let mut functions = self.stage.scenario.functions.iter();
        functions.any(|function| matches!(function.attached, Attached::PassThrough(_)))
    }

    /// The index of a device's domain. Pass-through comes after all domains.
    pub(super) fn domain_of(&self, attached: Attached) -> usize {
        match attached {
            Attached::To(index) => index,
            Attached::PassThrough(_) => self.stage.scenario.domains.len(),
        }
    }

    /// What a device met in each phase.
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
}

fn outcome(report: &Report, source: u16) -> Option<String> {
    let of = |context: &&ContextReport| context.source.0 == source && context.pasid.is_none();
    report.contexts.iter().find(of).map(|context| context.outcome.to_string())
}
