//! Runs one crash: the same Linux for every contender, told which contender to load.

use std::fmt;
use std::fs::{self, File};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::contender::{Contender, Mark};
use super::dump::{self, Dump};
use super::stock::{Stock, load_command};
use crate::crashes::boot::{self, Booted};
use crate::crashes::crash::{DISK_BYTES, PANIC};
use crate::guests::image::{self, Image, Variant};
use crate::guests::initramfs;
use crate::guests::kernels::Kernel;
use crate::guests::stock;
use crate::guests::tool::Tool;
use crate::machines::console::{Echo, Line};
use crate::machines::files::Files;
use crate::machines::qemu::{Machine, Watch};
use crate::machines::qmp::ResetBy;
use crate::machines::scenario::Scenario;
use crate::tasks::spread::float;
use crate::witnesses::Readers;

/// From the panic to the reset; stock kdump needs a small part of it, on any machine that this is worth doing on.
const RESET: Duration = Duration::from_secs(300);

/// Runs in the guest. Linux puts free pages aside for the processor, usually up to 10,000, and readers of its memory do not
/// know that they are free. Their number depends on what was loaded. This command keeps it small, so that the dead kernels'
/// memories are alike.
const FEW_ASIDE: &str = "echo 1000000 > /proc/sys/vm/percpu_pagelist_high_fraction\n";

/// What all runs need.
pub(crate) struct Stage {
    scenario: Scenario,
    kernel: Kernel,
    tool: Tool,
    image: Image,
    stock: Stock,
}

/// What one run showed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measurement {
    pub(crate) contender: Contender,
    pub(crate) run: u32,
    /// MiB of memory that Linux cannot use for as long as it lives.
    pub(crate) reserved_mib: u64,
    /// Bytes that the loader puts into the reservation.
    pub(crate) loaded_bytes: u64,
    #[serde(flatten)]
    pub(crate) times: Times,
    #[serde(flatten)]
    pub(crate) dump: Dump,
}

/// Seconds after the panic line.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Times {
    /// The capture kernel's first line.
    #[serde(rename = "panic_to_started_s")]
    pub(crate) started: f64,
    /// It is ready to look for pages.
    #[serde(rename = "panic_to_ready_s")]
    pub(crate) ready: f64,
    /// The dump is complete.
    #[serde(rename = "panic_to_complete_s")]
    pub(crate) complete: f64,
}

impl Stage {
    /// Builds Holdover and prepares stock kdump.
    pub(crate) fn set(scenario: &Scenario) -> Result<Self> {
        let kernel = Kernel::load(scenario.kernel)?;
        let (tool, image) = (Tool::build()?, image::build(Variant::Release)?);
        let stock = Stock::new(scenario, &kernel, &tool)?;
        Ok(Self { scenario: scenario.clone(), kernel, tool, image, stock })
    }

    /// Lets Linux crash once, and checks the dump.
    pub(crate) fn crash(&self, contender: Contender, run: u32) -> Result<Measurement> {
        let (files, lines) = self.crash_into(contender)?;
        let times = Times::of(contender, &lines).with_context(|| format!("{contender}: no complete dump"))?;
        self.take_dump(contender, &files)?;
        let readers = Readers::of(self.scenario.kernel, contender.codec())?;
        let dump =
            dump::check(&files, &readers).with_context(|| format!("{contender}: the dump is not good"))?;
        let reserved_mib = contender.reserved_mib();
        let loaded_bytes = self.loaded_bytes(contender);
        Ok(Measurement { contender, run, reserved_mib, loaded_bytes, times, dump })
    }

    /// Makes the dump on the disk a file.
    fn take_dump(&self, contender: Contender, files: &Files) -> Result<()> {
        let (disk, dump) = (files.disk(), files.dump());
        match contender {
            Contender::Holdover(_) => self.tool.collect(&disk, &dump).map(|_| ()),
            Contender::Makedumpfile(_) => dump::trim(&disk, &dump),
            Contender::Makedump(_) => stock::take_file(&disk, "vmcore", &dump),
        }
    }

    fn crash_into(&self, contender: Contender) -> Result<(Files, Vec<Line>)> {
        let name = format!("compare-{}", contender.name());
        let Booted { files, mut machine, loaded } = boot::boot(&name, |files| self.start(contender, files))?;
        ensure!(loaded.text.contains("crash=1"), "the guest could not load {contender}: see its console");
        machine.type_line("go")?;
        Ok((files, machine.wait_for_reset(RESET, ResetBy::Guest)?))
    }

    fn start(&self, contender: Contender, files: &Files) -> Result<Machine> {
        File::create(files.disk())?.set_len(DISK_BYTES)?;
        if let Contender::Makedump(_) = contender {
            stock::make_file_system(&files.disk())?;
        }
        self.write_initramfs(contender, files)?;
        let reserved_mib = contender.reserved_mib();
        let scenario = Scenario { reserved_mib, ..self.scenario.clone() };
        Machine::start(&scenario, &self.kernel, files, Watch::Console, Echo::Hidden)
    }

    /// Every guest has the files of all contenders, so that the dead kernels' memories are alike.
    fn write_initramfs(&self, contender: Contender, files: &Files) -> Result<()> {
        let mut archive = initramfs::base(&self.scenario, &self.kernel)?;
        archive.add("capture", &fs::read(&self.image.path)?);
        self.tool.add_to(&mut archive)?;
        self.stock.add_to(&mut archive);
        archive
            .add("scenario/load", (FEW_ASIDE.to_owned() + &self.load_command(contender, files)?).as_bytes());
        archive.add("scenario/crash", b"echo c > /proc/sysrq-trigger\n");
        Ok(fs::write(files.initramfs(), archive.finish())?)
    }

    fn load_command(&self, contender: Contender, files: &Files) -> Result<String> {
        let Contender::Holdover(codec) = contender else {
            return Ok(load_command(contender, self.scenario.unit.iommu));
        };
        let area = self.tool.format(&files.disk()).context("cannot label the dump's disk")?;
        let codec = codec.name();
        Ok(format!("holdover load --image /capture --area {area} --syscall file --codec {codec}\n"))
    }

    fn loaded_bytes(&self, contender: Contender) -> u64 {
        match contender {
            Contender::Holdover(_) => self.image.bytes,
            Contender::Makedumpfile(_) | Contender::Makedump(_) => self.stock.loaded_bytes(contender),
        }
    }
}

impl Times {
    /// Finds the lines that are timed; `None` if one of them is missing.
    fn of(contender: Contender, lines: &[Line]) -> Option<Self> {
        let panic = lines.iter().position(|line| line.text.contains(PANIC))?;
        let (panic, later) = (lines[panic].at, &lines[panic..]);
        let seconds_to = |mark: Mark| {
            let line = later.iter().find(|line| mark.is_on(line))?;
            Some(line.at.duration_since(panic).ok()?.as_secs_f64())
        };
        let marks = contender.marks();
        Some(Self {
            started: seconds_to(marks.started)?,
            ready: seconds_to(marks.ready)?,
            complete: seconds_to(marks.complete)?,
        })
    }
}

impl Measurement {
    /// Seconds from panic to complete for every 10,000 pages that are in the dump. From boot to boot, Linux has different
    /// numbers of pages that are worth keeping.
    pub(crate) fn seconds_per_10_000_pages(&self) -> f64 {
        self.times.complete * 10_000.0 / float(self.dump.pages)
    }
}

impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (contender, seconds) = (self.contender, self.times.complete);
        write!(f, "{contender:<34} complete after {seconds:.2} s, {} pages", self.dump.pages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machines::scenario::Codec;

    #[test]
    fn the_first_kernels_own_start_is_not_taken_for_the_crash_kernels() {
        let lines = Line::a_second_apart(&[
            "[    0.0] Linux version 6.1",
            "[    9.0] Kernel panic - not syncing: sysrq triggered crash",
            "[    0.0] Linux version 6.1",
            "[    1.0] bench: crash kernel's init",
            "[    1.0] something",
            "[    2.0] bench: dump complete",
        ]);
        let expected = Times { started: 1.0, ready: 2.0, complete: 4.0 };
        assert_eq!(Times::of(Contender::Makedumpfile(Codec::Lzo), &lines), Some(expected));
    }

    #[test]
    fn a_partial_dump_has_no_time() {
        let lines = Line::a_second_apart(&[
            "[    9.0] Kernel panic - not syncing: sysrq triggered crash",
            "holdover: [0.001] Holdover",
            "holdover: [0.100] takeover done",
            "holdover: [2.000] sealed partial bytes=4096",
        ]);
        assert_eq!(Times::of(Contender::Holdover(Codec::Zlib), &lines), None);
    }
}
