//! Runs one crash from beginning to end: boots, loads Holdover, panics, watches, and keeps what the witnesses need.

mod commands;
mod disks;
mod entry;
mod payload;

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use handoff::Event;
use machine::Range;

use self::entry::Stop;
use crate::crashes::boot::{self, Booted};
use crate::crashes::used::UsedDisk;
use crate::guests::kernels::{Flavour, Kernel};
use crate::guests::target::Target;
use crate::guests::tool::Tool;
use crate::machines::console::{Echo, Line};
use crate::machines::files::{Files, Moment};
use crate::machines::qemu::{Machine, Watch};
use crate::machines::qmp::ResetBy;
use crate::machines::reserved::{self, Reserved};
use crate::machines::scenario::capture::SecondTables;
use crate::machines::scenario::device::DiskTrouble;
use crate::machines::scenario::events::{End, MachineCheck, Start};
use crate::machines::scenario::file_system::FileSystem;
use crate::machines::scenario::memory::MemoryUse;
use crate::machines::scenario::unit::Translation;
use crate::machines::scenario::{Codec, Display, Scenario};

/// From the panic to Holdover's first instruction.
const ENTRY: Duration = Duration::from_secs(60);
/// From the panic to the reset. Holdover's own deadlines are far below, but a blocked device that does not rest slows the whole
/// emulated machine down: QEMU writes a line of trace for each of its faults.
pub(crate) const RESET: Duration = Duration::from_secs(400);

/// The dump's disk: far more than a dump needs.
pub(crate) const DISK_BYTES: u64 = 256 << 20;

/// MiB that the guest gives back in scenarios that use memory in every way.
const BALLOON_MIB: u64 = 32;

/// The beginning of Holdover's lines of progress.
const DUMPED: &str = "] dumped ";

/// The line with which a Linux dies.
pub(crate) const PANIC: &str = "Kernel panic - not syncing";

/// What the guest says if `holdover load` did not refuse.
pub(super) const NOT_REFUSED: &str = "it did not refuse";

/// Names of the dumps that a stock crash kernel makes of its /proc/vmcore, in the folder of its disk.
pub(crate) const MADE: [&str; 2] = ["holdover", "holdover.elf"];
/// Name of makedumpfile's.
pub(crate) const REFERENCE: &str = "makedumpfile";

/// A crash to run, and how closely to observe it.
pub(crate) struct Crash<'a> {
    /// The machine and what happens on it.
    pub(crate) scenario: &'a Scenario,
    /// Holdover, the capture kernel.
    pub(crate) image: &'a Path,
    /// The host's command line.
    pub(crate) tool: &'a Tool,
    /// How much is observed.
    pub(crate) watch: Watch,
    /// Whether the console is shown.
    pub(crate) echo: Echo,
    /// The dump's disk, if others have crashed with it before.
    pub(crate) used: Option<&'a UsedDisk>,
}

/// What a crash left behind.
pub(crate) struct Evidence {
    /// Which kernel crashed.
    pub(crate) kernel: Flavour,
    /// How its dump is compressed.
    pub(crate) codec: Codec,
    /// The files, the dump disk among them.
    pub(crate) files: Files,
    /// The console.
    pub(crate) lines: Vec<Line>,
    /// The crash reservation: the memory that is Holdover's.
    pub(crate) reserved: Reserved,
    /// The file system in which the area is a file, if it is one.
    pub(crate) file_system: Option<FileSystem>,
    /// Byte of the dump's disk at which the area began; `files` has the area alone.
    pub(crate) area_start: u64,
    /// Persistent memory.
    pub(crate) persistent: Vec<Range<u64>>,
    /// Where a stock crash kernel has written its dumps.
    pub(crate) target: Target,
    /// Whether a stock crash kernel goes on with the tables that it finds.
    pub(crate) second_tables: SecondTables,
    /// Source-ids of the dump's disk.
    pub(crate) disk: Vec<u16>,
    /// The stop at Holdover's first instruction, if there was one.
    pub(crate) stop: Option<Stop>,
}

impl Crash<'_> {
    /// Runs it; its files are kept under `name`. Fails unless the machine has ended as it should.
    pub(crate) fn run(&self, name: &str) -> Result<Evidence> {
        let Booted { files, mut machine, .. } = boot::boot(name, |files| self.start(files))?;
        self.check_guest(&machine.console().lines())?;
        if self.scenario.memory_use == MemoryUse::EveryKind {
            machine.take_memory(BALLOON_MIB)?;
        }
        let reserved = Reserved::of(&machine.console().lines())?;
        let persistent = reserved::persistent_memory(&machine.console().lines());
        let stop = self.crash(&mut machine, &files, &reserved)?;
        if let Some(check) = self.scenario.machine_check {
            machine.wait_for(Event::VITAL_SAFE, RESET)?;
            machine.raise(check)?;
        }
        if self.scenario.disk_trouble == Some(DiskTrouble::Hang) {
            machine.wait_for(Event::VITAL_SAFE, RESET)?;
            machine.stall_first_disk(self.scenario)?;
        }
        let lines = if self.scenario.display == Display::Vga {
            self.end_in_pictures(machine, &files)?
        } else {
            self.end(machine)?
        };
        let Scenario { kernel, codec, target, disk_model, disk_place, .. } = *self.scenario;
        let disk = disk_model.source_ids(disk_place);
        let (file_system, area_start) = (self.scenario.disk.file_system(), self.scenario.disk.area_start());
        files.cut_out(area_start)?;
        Ok(Evidence {
            kernel,
            codec,
            files,
            lines,
            reserved,
            file_system,
            area_start,
            persistent,
            target,
            second_tables: self.scenario.second_tables(),
            disk,
            stop,
        })
    }

    /// Crashes the machine, and watches it until it has said something, has ended, or time is up. Returns the files of the run
    /// and what the machine has said.
    pub(crate) fn run_until(&self, wanted: &str, limit: Duration, name: &str) -> Result<(Files, Vec<Line>)> {
        let Booted { files, mut machine, .. } = boot::boot(name, |files| self.start(files))?;
        self.check_guest(&machine.console().lines())?;
        self.let_go(&mut machine)?;
        // What is missing in the end is for the caller to judge.
        let _ = machine.wait_for(wanted, limit);
        Ok((files, machine.cut_power()))
    }

    fn start(&self, files: &Files) -> Result<Machine> {
        let kernel = Kernel::load(self.scenario.kernel)?;
        self.write_initramfs(&kernel, files)?;
        Machine::start(self.scenario, &kernel, files, self.watch, self.echo)
    }

    /// Checks that the guest is the requested one.
    fn check_guest(&self, lines: &[Line]) -> Result<()> {
        let said = |wanted: &str| lines.iter().filter_map(Line::bench).find(|said| said.starts_with(wanted));
        let kernel = said("kernel").unwrap_or_default();
        let paging = format!("paging {}", self.scenario.paging.levels());
        ensure!(kernel.ends_with(&paging), "the guest does not have {paging}: {kernel}");
        let loaded = said("loaded").unwrap_or_default();
        let wanted = match self.scenario.start {
            Start::Exec => "exec=1",
            _ if self.scenario.loads_nothing() => "crash=0",
            _ => "crash=1",
        };
        let complaint = said("load:").unwrap_or("the loader said nothing");
        ensure!(loaded.contains(wanted), "the guest could not load the capture kernel: {complaint}");
        Ok(())
    }

    /// Lets the guest crash.
    fn crash(&self, machine: &mut Machine, files: &Files, reserved: &Reserved) -> Result<Option<Stop>> {
        if self.watch < Watch::Memory {
            self.let_go(machine)?;
            return Ok(None);
        }
        // QEMU's trace does not show requests that pass a unit untranslated. Frames that a card receives before the swap
        // would then be unexplained changes of memory.
        let unseen = self.scenario.unit.translation == Translation::PassThrough;
        if unseen {
            machine.traffic().hold();
        }
        let stop = self.stop_at_entry(machine, files, reserved)?;
        if unseen {
            machine.wait_for(&Event::TakeoverDone.to_string(), ENTRY)?;
            machine.traffic().resume();
        }
        Ok(Some(stop))
    }

    /// Has the guest end its kernel.
    fn let_go(&self, machine: &mut Machine) -> Result<()> {
        match self.scenario.start {
            Start::MachineCheck => machine.raise(MachineCheck::Fatal),
            Start::PanicInInterrupt => machine.type_system_request('c'),
            Start::PanicInNmi => machine.inject_nmi(),
            Start::Panic | Start::PanicElsewhere | Start::Exec => machine.type_line("go"),
        }
    }

    /// Takes pictures on the way to the end.
    fn end_in_pictures(&self, mut machine: Machine, files: &Files) -> Result<Vec<Line>> {
        if self.scenario.end == End::DiskGoneAfterLog {
            machine.wait_for(Event::LOG_SAFE, RESET)?;
            machine.remove_dump_disk()?;
        } else {
            machine.wait_for(DUMPED, RESET)?;
        }
        machine.take_picture(&files.picture(Moment::During))?;
        machine.take_last_picture(&files.picture(Moment::End), RESET)
    }

    fn end(&self, mut machine: Machine) -> Result<Vec<Line>> {
        match self.scenario.end {
            End::Reset | End::Recorded => machine.wait_for_reset(RESET, ResetBy::Guest),
            End::Watchdog => machine.wait_for_reset(RESET, ResetBy::Watchdog),
            End::PowerCut => {
                machine.wait_for(Event::VITAL_SAFE, RESET)?;
                Ok(machine.cut_power())
            }
            End::PowerCutAfterLog => {
                machine.wait_for(Event::LOG_SAFE, RESET)?;
                Ok(machine.cut_power())
            }
            End::DiskGoneAfterLog => {
                machine.wait_for(Event::LOG_SAFE, RESET)?;
                machine.remove_dump_disk()?;
                machine.wait_for_reset(RESET, ResetBy::Guest)
            }
        }
    }
}
