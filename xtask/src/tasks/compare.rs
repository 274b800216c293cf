//! `cargo xtask compare`: measures how long after the panic the dump is finished, with Holdover and with stock kdump
//! at its best.
//!
//! The same Linux dies on the same machine each time, with the same programs running and the same files in its
//! memory. Only the kernel that was loaded to take over differs, and the crash reservation that it needs. Runs take
//! turns, one guest at a time. The bench observes only the console, and takes the host's time of each line.

mod contender;
mod dump;
mod round;
mod statistics;
mod stock;
mod table;

use std::fs;
use std::path::PathBuf;
use std::thread;

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;

use crate::guests::kernels::{Flavour, Kernel};
use crate::machines::scenario::Scenario;
use crate::machines::scenario::device::DiskModel;
use crate::machines::scenario::unit::Iommu;
use crate::tasks::setup::Setup;
use contender::Contender;
use round::{Measurement, Stage};
use statistics::Standing;

/// What the absolute times are worth.
const CAVEAT: &str = "The machine is emulated in software: only the ratios of these times mean something.";

/// Measures the time from the panic to the finished dump, Holdover against stock kdump
#[derive(Args)]
pub(crate) struct Compare {
    /// Which of Debian's kernels crashes, and is stock kdump's crash kernel
    #[arg(long, value_enum, default_value = "cloud", default_value_if("iommu", "amd", "amd64-backports"))]
    kernel: Flavour,
    /// Whose IOMMU is before that disk; the kernel for clouds has no driver for AMD's
    #[arg(long, value_enum, default_value = "intel")]
    iommu: Iommu,
    /// What kind of disk takes the dump; the kernel for clouds has no driver for AHCI
    #[arg(long, value_enum, default_value = "virtio-blk")]
    disk_model: DiskModel,
    /// Crashes with each
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Also write the results as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Everything that was measured, and on what.
#[derive(Serialize)]
struct Comparison {
    qemu: String,
    kernel: String,
    scenario: Scenario,
    host_processors: usize,
    /// How many programs wanted a processor in the minute before the first run; more than a few tenths distort the times.
    host_load_before: f64,
    caveat: &'static str,
    standings: Vec<Standing>,
    measurements: Vec<Measurement>,
    /// Runs that came to no dump.
    failures: Vec<Failure>,
}

/// A run of stock kdump without a dump, which says something of it and does not end the comparison.
#[derive(Serialize)]
struct Failure {
    contender: Contender,
    run: u32,
    why: String,
}

impl Compare {
    /// Measures, prints the table, and writes the JSON.
    pub(crate) fn run(&self) -> Result<()> {
        Setup::default().run()?;
        let host_load_before = host_load()?;
        let plain = match self.iommu {
            Iommu::Intel => Scenario::plain(self.kernel),
            Iommu::Amd => Scenario::amd(self.kernel),
        };
        let scenario = Scenario { disk_model: self.disk_model, ..plain };
        let stage = Stage::set(&scenario)?;
        let (measurements, failures) = self.measure(&stage)?;
        let comparison = Comparison {
            qemu: scenario.emulator.version()?,
            kernel: Kernel::load(self.kernel)?.release,
            scenario,
            host_processors: thread::available_parallelism()?.get(),
            host_load_before,
            caveat: CAVEAT,
            standings: statistics::standings(&measurements),
            measurements,
            failures,
        };
        print!("{comparison}");
        self.json.as_ref().map_or(Ok(()), |file| comparison.write(file))
    }

    /// All contenders in turn, so that whatever disturbs the host for a while disturbs each of them.
    fn measure(&self, stage: &Stage) -> Result<(Vec<Measurement>, Vec<Failure>)> {
        let (mut measurements, mut failures) = (Vec::new(), Vec::new());
        for run in 1..=self.runs {
            for contender in Contender::ALL {
                match stage.crash(contender, run) {
                    Err(error) if !contender.is_holdover() => {
                        println!("run {run} of {}: {contender:<34} no dump", self.runs);
                        failures.push(Failure { contender, run, why: format!("{error:#}") });
                    }
                    measured => {
                        let measurement = measured?;
                        println!("run {run} of {}: {measurement}", self.runs);
                        measurements.push(measurement);
                    }
                }
            }
        }
        Ok((measurements, failures))
    }
}

impl Comparison {
    fn write(&self, file: &PathBuf) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        fs::write(file, text + "\n").with_context(|| format!("cannot write {}", file.display()))
    }
}

/// The load average of the last minute.
fn host_load() -> Result<f64> {
    let text = fs::read_to_string("/proc/loadavg")?;
    let first = text.split_whitespace().next().unwrap_or_default();
    first.parse().with_context(|| format!("/proc/loadavg begins with `{first}`"))
}
