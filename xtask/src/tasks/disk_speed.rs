//! `cargo xtask disk-speed`: measures how fast Holdover writes pages that cannot be compressed, and how fast Linux writes the same
//! disk.
//!
//! Linux fills a part of its memory with random bytes, and writes them to the dump's disk past its caches (`dd oflag=direct`), to the
//! blocks that the dump will take. Then it panics, and Holdover dumps all of its memory to the same disk, behind the same remapping
//! unit. Both times end when everything is durable. Drivers take turns, one guest at a time.

use std::fmt;
use std::fs::{self, File};
use std::path::PathBuf;
use std::thread;
use std::time::SystemTime;

use anyhow::{Context, Result};
use clap::Args;
use handoff::{Completeness, Event};
use serde::Serialize;

use crate::crashes::boot::{self, Booted};
use crate::crashes::crash::RESET;
use crate::guests::image::{self, Image, Variant};
use crate::guests::initramfs;
use crate::guests::kernels::{Flavour, Kernel};
use crate::guests::tool::Tool;
use crate::machines::console::{Echo, Line};
use crate::machines::emulator::Emulator;
use crate::machines::files::Files;
use crate::machines::qemu::{Machine, Watch};
use crate::machines::qmp::ResetBy;
use crate::machines::scenario::device::DiskModel;
use crate::machines::scenario::{Codec, Scenario};
use crate::tasks::setup::Setup;
use crate::tasks::spread::{Spread, float};

/// Room for all memory of the guest.
const DISK_BYTES: u64 = 1 << 30;

/// Without free pages and those full of zeros: there is nothing to write for these. The random bytes are pages of a file.
const LEVEL: u8 = 17;

/// What Linux writes at a time.
const WRITTEN_BYTES: u64 = 256 << 20;

/// Runs in the guest, before it loads Holdover. The dump begins 4 MiB into its area, and the label at the area's other end is far
/// behind what is written here.
const WRITE: &str = "\
DISK=$(find-disk $DISK)
dd if=/dev/urandom of=/tmp/random bs=1M count=256 2> /dev/null
for blocks in '1M count=256' '4M count=64' '1M count=256' '4M count=64'; do
    echo writes
    dd if=/tmp/random of=$DISK oflag=direct,seek_bytes conv=fsync,notrunc seek=8388608 bs=$blocks 2> /dev/null && echo wrote
done
";

/// Measures writing pages that cannot be compressed, Holdover against Linux on the same disk
#[derive(Args)]
pub(crate) struct DiskSpeed {
    /// Which kinds of disks
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["virtio-blk", "nvme", "ahci", "virtio-scsi"])]
    disk_model: Vec<DiskModel>,
    /// How Holdover compresses the dump's pages
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["none", "zlib"])]
    codec: Vec<Codec>,
    /// Bytes per second that the disk takes, if it is not as fast as this host makes it
    #[arg(long, value_name = "BYTES")]
    rate: Option<u32>,
    /// Crashes with each
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Also write the results as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// A kind of disk, and how pages are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Case {
    disk_model: DiskModel,
    codec: Codec,
}

/// What one guest showed, in MB/s.
#[derive(Clone, Copy, Debug, Serialize)]
struct Measurement {
    #[serde(flatten)]
    case: Case,
    holdover: f64,
    /// The better size of blocks, and the better of two turns with each.
    linux: f64,
}

/// What all guests with a kind of disk showed.
#[derive(Clone, Copy, Debug, Serialize)]
struct Standing {
    #[serde(flatten)]
    case: Case,
    holdover: Spread,
    linux: Spread,
    ratio: Spread,
}

/// Everything that was measured, and on what.
#[derive(Serialize)]
struct Results {
    qemu: String,
    /// Bytes per second that each disk takes, if it is not as fast as the host makes it.
    rate: Option<u32>,
    host_processors: usize,
    standings: Vec<Standing>,
    measurements: Vec<Measurement>,
}

/// What all guests need.
struct Stage {
    tool: Tool,
    image: Image,
}

impl DiskSpeed {
    /// Measures, prints the table, and writes the JSON.
    pub(crate) fn run(&self) -> Result<()> {
        Setup::default().run()?;
        let stage = Stage { tool: Tool::build()?, image: image::build(Variant::Release)? };
        let measurements = self.measure(&stage)?;
        let results = Results {
            qemu: Emulator::Installed.version()?,
            rate: self.rate,
            host_processors: thread::available_parallelism()?.get(),
            standings: self.cases().filter_map(|case| standing(case, &measurements)).collect(),
            measurements,
        };
        print!("{results}");
        let write = |file: &PathBuf| {
            let text = serde_json::to_string_pretty(&results)? + "\n";
            fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
        };
        self.json.as_ref().map_or(Ok(()), write)
    }

    fn cases(&self) -> impl Iterator<Item = Case> {
        let codecs = |disk_model| self.codec.iter().map(move |&codec| Case { disk_model, codec });
        self.disk_model.iter().copied().flat_map(codecs)
    }

    fn measure(&self, stage: &Stage) -> Result<Vec<Measurement>> {
        let mut measurements = Vec::new();
        for run in 1..=self.runs {
            for case in self.cases() {
                let measured = stage.measure(case, self.rate).with_context(|| case.to_string())?;
                let Measurement { holdover, linux, .. } = measured;
                println!("run {run} of {}: {case}: Holdover {holdover:.0} MB/s, Linux {linux:.0}", self.runs);
                measurements.push(measured);
            }
        }
        Ok(measurements)
    }
}

impl Case {
    fn scenario(self, disk_rate: Option<u32>) -> Scenario {
        let Self { disk_model, codec } = self;
        // Debian's kernel for clouds has no driver for AHCI.
        let ahci = [DiskModel::Ahci, DiskModel::AhciOfChipset].contains(&disk_model);
        let kernel = if ahci { Flavour::Amd64 } else { Flavour::Cloud };
        Scenario { disk_model, disk_rate, codec, level: LEVEL, ..Scenario::plain(kernel) }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, {}", self.disk_model, self.codec.name())
    }
}

impl Stage {
    /// Has Linux write the disk, and die.
    fn measure(&self, case: Case, rate: Option<u32>) -> Result<Measurement> {
        let scenario = case.scenario(rate);
        let Booted { mut machine, .. } =
            boot::boot("disk-speed", |files| self.start(case, &scenario, files))?;
        machine.type_line("go")?;
        let lines = machine.wait_for_reset(RESET, ResetBy::Guest)?;
        let linux = written(&lines).context("Linux wrote nothing: see its console")?;
        let holdover = dumped(&lines).context("there is no complete dump: see the console")?;
        Ok(Measurement { case, holdover, linux })
    }

    fn start(&self, case: Case, scenario: &Scenario, files: &Files) -> Result<Machine> {
        let kernel = Kernel::load(scenario.kernel)?;
        File::create(files.disk())?.set_len(DISK_BYTES)?;
        let area = self.tool.format(&files.disk()).context("cannot label the dump's disk")?;
        let mut archive = initramfs::base(scenario, &kernel)?;
        archive.add("capture", &fs::read(&self.image.path)?);
        self.tool.add_to(&mut archive)?;
        let (disk, codec) = (case.disk_model.disk_in_linux(), case.codec.name());
        let load = format!(
            "DISK={disk}\n{WRITE}holdover load --image /capture --area {area} --syscall file --codec {codec} --level {LEVEL}\n"
        );
        archive.add("scenario/load", load.as_bytes());
        archive.add("scenario/crash", b"echo c > /proc/sysrq-trigger\n");
        fs::write(files.initramfs(), archive.finish())?;
        Machine::start(scenario, &kernel, files, Watch::Console, Echo::Hidden)
    }
}

/// MB/s of Linux's fastest turn.
fn written(lines: &[Line]) -> Option<f64> {
    let mut begun = None;
    let mut speeds = Vec::new();
    for line in lines {
        match line.bench() {
            Some("load: writes") => begun = Some(line.at),
            // A turn that failed has no end: the next one's is not its.
            Some("load: wrote") => {
                speeds.extend(begun.take().and_then(|begin| speed(WRITTEN_BYTES, begin, line.at)));
            }
            _ => {}
        }
    }
    speeds.into_iter().reduce(f64::max)
}

/// MB/s of so many bytes between two instants.
fn speed(bytes: u64, begin: SystemTime, end: SystemTime) -> Option<f64> {
    Some(float(bytes) / end.duration_since(begin).ok()?.as_secs_f64() / 1e6)
}

/// MB/s from the choice of pages to the seal; `None` unless the dump is complete.
fn dumped(lines: &[Line]) -> Option<f64> {
    let chose = lines.iter().find(|line| line.holdover().is_some_and(|said| said.starts_with("chose ")))?;
    let sealed = |line: &Line| match line.event()? {
        Event::Sealed { completeness: Completeness::Complete, bytes } => Some((line.at, bytes)),
        _ => None,
    };
    let (at, bytes) = lines.iter().find_map(sealed)?;
    speed(bytes, chose.at, at)
}

fn standing(case: Case, measurements: &[Measurement]) -> Option<Standing> {
    let of = |value: fn(&Measurement) -> f64| {
        Spread::of(measurements.iter().filter(|measured| measured.case == case).map(value))
    };
    Some(Standing {
        case,
        holdover: of(|measured| measured.holdover)?,
        linux: of(|measured| measured.linux)?,
        ratio: of(|measured| measured.holdover / measured.linux)?,
    })
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{}, TCG; {} processors. MB/s, median (least – most):\n",
            self.qemu, self.host_processors
        )?;
        if let Some(rate) = self.rate {
            writeln!(f, "Each disk takes {rate} bytes per second.\n")?;
        }
        writeln!(f, "| disk, codec | Holdover | Linux, `dd oflag=direct` | ratio |\n|---|---:|---:|---:|")?;
        self.standings.iter().try_for_each(|Standing { case, holdover, linux, ratio }| {
            writeln!(f, "| {case} | {holdover} | {linux} | {ratio} |")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linux_counts_by_its_fastest_turn() {
        let [writes, wrote, other] = ["bench: load: writes", "bench: load: wrote", "bench: kernel"];
        let lines = Line::a_second_apart(&[writes, other, wrote, writes, wrote]);
        assert!((written(&lines).unwrap() - 268.435_456).abs() < 1e-9);
        let failed_once = Line::a_second_apart(&[writes, writes, wrote]);
        assert!((written(&failed_once).unwrap() - 268.435_456).abs() < 1e-9, "one turn, not both");
        assert_eq!(written(&Line::a_second_apart(&[writes, other])), None);
    }

    #[test]
    fn a_dump_is_timed_from_the_choice_of_pages_to_its_seal() {
        let lines = |end| {
            let end = format!("holdover: [3.000] sealed {end} bytes=8000000");
            Line::a_second_apart(&[
                "holdover: [1.000] chose 5 pages of 9",
                "holdover: [2.000] stored 1 of 5",
                &end,
            ])
        };
        assert!((dumped(&lines("complete")).unwrap() - 4.0).abs() < 1e-9);
        assert_eq!(dumped(&lines("partial")), None);
    }
}
