//! Runs one crash from beginning to end: boots, loads Holdover, panics, watches, and keeps what the witnesses need.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use handoff::setup_header::ENTRY_64;
use handoff::{BzImage, Event};
use machine::Range;

use crate::crashes::boot::{self, Booted};
use crate::crashes::damage::{Damage, Wound};
use crate::crashes::handover::Loss;
use crate::crashes::used::{self, UsedDisk};
use crate::guests::initramfs::{self, Archive};
use crate::guests::kernels::{Flavour, Kernel};
use crate::guests::signed::{self, SignedImages};
use crate::guests::stock::{self, UserSpace};
use crate::guests::target::Target;
use crate::guests::tool::Tool;
use crate::machines::console::{Echo, Line};
use crate::machines::files::{Files, Moment};
use crate::machines::gdb::{Gdb, RSI};
use crate::machines::qemu::{self, Machine, Watch};
use crate::machines::qmp::ResetBy;
use crate::machines::ram::{self, Ram};
use crate::machines::reserved::{self, Reserved};
use crate::machines::scenario::capture::{Capture, SecondTables};
use crate::machines::scenario::device::DiskTrouble;
use crate::machines::scenario::disk::Disk;
use crate::machines::scenario::events::{End, MachineCheck, Start};
use crate::machines::scenario::file_system::FileSystem;
use crate::machines::scenario::memory::MemoryUse;
use crate::machines::scenario::unit::Translation;
use crate::machines::scenario::watchdog::Watchdog;
use crate::machines::scenario::{Codec, Display, Scenario};
use crate::process;
use crate::witnesses::Readers;
use crate::witnesses::tables::Tables;
use crate::witnesses::trace::Trace;

/// From the panic to Holdover's first instruction.
const ENTRY: Duration = Duration::from_secs(60);
/// From the panic to the reset. Holdover's own deadlines are far below, but a blocked device that does not rest slows the whole
/// emulated machine down: QEMU writes a line of trace for each of its faults.
pub(crate) const RESET: Duration = Duration::from_secs(400);

/// The dump's disk: far more than a dump needs.
pub(crate) const DISK_BYTES: u64 = 256 << 20;

/// MiB that the guest gives back in scenarios that use memory in every way.
const BALLOON_MIB: u64 = 32;

/// The disk of a file system: the least that each of them takes, and more.
const FILE_SYSTEM_BYTES: u64 = 512 << 20;

/// The label of no disk.
const OTHER_AREA: &str = "00000000-1111-4222-8333-444444444444";

/// The beginning of Holdover's lines of progress.
const DUMPED: &str = "] dumped ";

/// The line with which a Linux dies.
pub(crate) const PANIC: &str = "Kernel panic - not syncing";

/// Has `holdover doctor` tell whether the kernel would load, and why not.
const DOCTOR: &str = "holdover doctor | grep -o 'lockdown: .*' | sed 's/^/doctor: /'\n";

/// What the guest says if `holdover load` did not refuse.
pub(crate) const NOT_REFUSED: &str = "it did not refuse";

/// Names of the dumps that a stock crash kernel makes of its /proc/vmcore, in the folder of its disk.
pub(crate) const MADE: [&str; 2] = ["holdover", "holdover.elf"];
/// Name of makedumpfile's.
pub(crate) const REFERENCE: &str = "makedumpfile";

/// Runs in a stock crash kernel that has opened the target of its dumps.
const MAKE_REFERENCE: &str = "\
say_lines() { sed 's/^/bench: /' > /dev/kmsg; }
makedumpfile -c -d 31 --message-level 4 /proc/vmcore /mnt/makedumpfile
keep makedumpfile
echo 'bench: first dump complete' > /dev/kmsg
";

/// Runs there too. Holdover's command line has to share the memory with everything else: 32 MiB of addresses are all it gets.
fn make_dump(name: &str) -> String {
    let format = if name == MADE[1] { "--elf " } else { "" };
    format!(
        "(ulimit -v 32768; holdover makedump -d 31 {format}/proc/vmcore /mnt/{name}) | say_lines\nkeep {name}\n"
    )
}

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

/// A stop between the dead kernel and Holdover.
pub(crate) struct Stop {
    /// When.
    pub(crate) entered: SystemTime,
    /// What was done to the dead kernel's tables.
    pub(crate) wound: Option<Wound>,
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

    fn start(&self, files: &Files) -> Result<Machine> {
        let kernel = Kernel::load(self.scenario.kernel)?;
        self.write_initramfs(&kernel, files)?;
        Machine::start(self.scenario, &kernel, files, self.watch, self.echo)
    }

    fn write_initramfs(&self, kernel: &Kernel, files: &Files) -> Result<()> {
        let mut archive = initramfs::base(self.scenario, kernel)?;
        self.tool.add_to(&mut archive)?;
        let load = match self.scenario.capture {
            Capture::Holdover => self.add_holdover(&mut archive, files)?,
            Capture::Stock => self.add_stock(&mut archive, files)?,
            Capture::HandedOver | Capture::Fallback => self.add_handed_over(&mut archive, files)?,
        };
        archive.add("scenario/load", load.as_bytes());
        archive.add("scenario/crash", self.crash_command().as_bytes());
        Ok(fs::write(files.initramfs(), archive.finish())?)
    }

    /// Makes Holdover and its disk ready; returns the command that loads it in the guest.
    fn add_holdover(&self, archive: &mut Archive, files: &Files) -> Result<String> {
        let image = fs::read(self.image).with_context(|| format!("no image {}", self.image.display()))?;
        if self.scenario.is_signed() {
            SignedImages::make(self.image, self.tool, files)?.add_to(archive);
        } else {
            archive.add("capture", &image);
        }
        let mut load = self.scenario.disk.map_volume() + &self.load_command(&self.make_disks(files)?);
        if self.scenario.loss == Some(Loss::Fallback) {
            load = format!("{} {} --handover always\n", load.trim_end(), self.add_fallback(archive)?);
        }
        let Some(system) = self.scenario.disk.file_system() else { return Ok(load) };
        Ok(system.prepare() + &load + &self.scenario.file_fate.after(system, &load))
    }

    /// Adds a fallback kernel that is never started; returns the options that load it.
    fn add_fallback(&self, archive: &mut Archive) -> Result<String> {
        archive.add("stock", &stock::image(&Kernel::load(self.scenario.crash_kernel())?)?);
        archive.add("initramfs", &Archive::default().finish());
        let Scenario { second_use, unit, .. } = *self.scenario;
        Ok(stock::fallback_options((second_use, unit.iommu), "/stock", "/initramfs"))
    }

    /// Makes a stock kernel and its disk ready; returns the command that loads it in the guest.
    fn add_stock(&self, archive: &mut Archive, files: &Files) -> Result<String> {
        let prepare = self.add_crash_kernel(archive, files)?;
        let Scenario { syscall, second_use, unit, .. } = *self.scenario;
        Ok(prepare + &stock::load_command(syscall, (second_use, unit.iommu), "/stock", "/initramfs"))
    }

    /// Makes a stock kernel and the target of its dumps ready; returns what the guest does before it loads it.
    fn add_crash_kernel(&self, archive: &mut Archive, files: &Files) -> Result<String> {
        let Scenario { target, disk_model, .. } = *self.scenario;
        let flavour = self.scenario.crash_kernel();
        let kernel = Kernel::load(flavour)?;
        target.prepare(files)?;
        let user_space = UserSpace::new(disk_model)?
            .with_target(target, flavour, files)?
            .with_makedumpfile(&Readers::of(self.scenario.kernel, Codec::Zlib)?)?
            .with_holdover(self.tool)?;
        let made: String = target.made().iter().map(|name| make_dump(name)).collect();
        let commands =
            ["set -e -o pipefail\n", &target.open(files), MAKE_REFERENCE, &made, "umount /mnt\n"].concat();
        archive.add("stock", &stock::image(&kernel)?);
        archive.add("initramfs", &user_space.writing(&kernel, &commands)?);
        Ok(target.commands_before(disk_model.disk_in_linux()))
    }

    /// Makes Holdover, a stock kernel and its disk ready; returns the command that loads both in the guest.
    fn add_handed_over(&self, archive: &mut Archive, files: &Files) -> Result<String> {
        let prepare = self.add_crash_kernel(archive, files)?;
        let image = fs::read(self.image).with_context(|| format!("no image {}", self.image.display()))?;
        archive.add("capture", &image);
        let Scenario { second_use, unit, .. } = *self.scenario;
        let fallback = stock::fallback_options((second_use, unit.iommu), "/stock", "/initramfs");
        let when = match self.scenario.capture {
            Capture::Fallback => format!("--area {}", self.format(&files.failing_disk(), DISK_BYTES)?),
            _ => "--handover always".to_owned(),
        };
        let (syscall, append) = (self.scenario.syscall.option(), self.append());
        Ok(format!("{prepare}holdover load --image /capture {syscall} {fallback} {when} {append}\n"))
    }

    /// Makes the disks for the dump, and returns the areas that are named when Holdover is loaded.
    fn make_disks(&self, files: &Files) -> Result<Vec<String>> {
        let disk = files.disk();
        let areas = match self.scenario.disk {
            Disk::Labelled => vec![self.labelled(&disk)?],
            Disk::Tight => vec![self.format(&disk, 29 << 20)?],
            Disk::TooSmallForLevel => vec![self.format(&disk, 40 << 20)?],
            Disk::TooSmall => vec![self.format(&disk, 7 << 20)?],
            Disk::OtherLabel => {
                self.format(&disk, DISK_BYTES)?;
                vec![OTHER_AREA.to_owned()]
            }
            Disk::AfterMissing => vec![OTHER_AREA.to_owned(), self.format(&disk, DISK_BYTES)?],
            Disk::AfterFailing => {
                vec![self.format(&files.failing_disk(), DISK_BYTES)?, self.format(&disk, DISK_BYTES)?]
            }
            Disk::FileExt4 | Disk::FileXfs | Disk::FileBtrfs => {
                self.make_file_system(&disk)?;
                vec![FileSystem::AREA.to_owned()]
            }
            Disk::Partition => vec![self.format_part(&disk)?],
            Disk::Volume => {
                self.format_part(&disk)?;
                vec![Disk::VOLUME.to_owned()]
            }
            Disk::HoldsDump => vec![self.dump_once(&disk)?],
        };
        files.remember_disk()?;
        Ok(areas)
    }

    /// Makes a disk with an area that is free, and returns its UUID: a fresh one, or the one of panics before.
    fn labelled(&self, disk: &Path) -> Result<String> {
        if self.scenario.panics_before > 0 {
            return used::panic_often(self, disk);
        }
        match self.used {
            Some(used) => used.copy_to(disk),
            None => self.format(disk, DISK_BYTES),
        }
    }

    /// Makes a disk a dump area, and returns its UUID.
    fn format(&self, disk: &Path, bytes: u64) -> Result<String> {
        File::create(disk)?.set_len(bytes)?;
        self.tool.format(disk).with_context(|| format!("cannot label {}", disk.display()))
    }

    /// Makes a part of a disk a dump area, names it in a partition table, and returns the area's UUID.
    fn format_part(&self, disk: &Path) -> Result<String> {
        let area = self.format(disk, DISK_BYTES - Disk::PART)?;
        let (mut content, part) = (mbr(), fs::read(disk)?);
        content.resize(Disk::PART as usize, 0);
        content.extend(part);
        fs::write(disk, content)?;
        Ok(area)
    }

    /// Makes the file system in which the guest makes the area.
    fn make_file_system(&self, disk: &Path) -> Result<()> {
        File::create(disk)?.set_len(FILE_SYSTEM_BYTES)?;
        let Some([program, options @ ..]) = self.scenario.disk.file_system().map(FileSystem::make) else {
            return Ok(());
        };
        process::run(Command::new(program).args(options).arg(disk))
    }

    /// Crashes a machine, and takes the disk with its dump; returns the area's UUID.
    fn dump_once(&self, disk: &Path) -> Result<String> {
        let scenario = Scenario { disk: Disk::Labelled, ..self.scenario.clone() };
        let first =
            Crash { scenario: &scenario, watch: Watch::Console, ..*self }.run("first-of-two-panics")?;
        UsedDisk::of(&first)?.copy_to(disk)
    }

    /// The command that loads Holdover in the guest. It uses `kexec` itself where `holdover load` would refuse.
    fn load_command(&self, areas: &[String]) -> String {
        let letter = self.scenario.syscall.letter();
        match (self.scenario.start, self.scenario.disk) {
            (Start::Exec, _) => format!("kexec -{letter} -l /capture --command-line=console=ttyS0\n"),
            (_, Disk::OtherLabel | Disk::AfterMissing | Disk::HoldsDump) => self.forced_load(areas),
            _ if self.scenario.is_signed() => self.loads_under_secure_boot(areas),
            _ if self.scenario.loads_nothing() => self.loads_under_lockdown(areas),
            _ if self.scenario.is_refused() => {
                let refused = self.ordinary_load(areas);
                format!("holdover doctor\n{refused} && echo {NOT_REFUSED}\n{}", self.forced_load(areas))
            }
            _ if self.scenario.memory_use == MemoryUse::EveryKind => {
                format!("{}\nholdover doctor | grep 'room for a dump'\n", self.ordinary_load(areas))
            }
            _ => self.ordinary_load(areas) + "\n",
        }
    }

    fn ordinary_load(&self, areas: &[String]) -> String {
        let append = self.append();
        let Scenario { syscall, codec, level, .. } = self.scenario;
        let (codec, areas) = (codec.name(), areas.join(" --area "));
        let syscall = syscall.option();
        format!(
            "holdover load --image /capture --area {areas} {syscall} --codec {codec} --level {level} {append}"
        )
    }

    /// The option with which Holdover makes a mistake on request.
    fn append(&self) -> String {
        let mutation = self.scenario.mutation;
        mutation.map(|mutation| format!("--append holdover.mutate={}", mutation.name())).unwrap_or_default()
    }

    /// Tries what a kernel under Secure Boot must refuse; then loads the signed image, removes it, and loads it again.
    fn loads_under_secure_boot(&self, areas: &[String]) -> String {
        let load = self.ordinary_load(areas);
        let wrong = |name: &str| load.replace("/capture ", &format!("/{name} "));
        let refused: String =
            signed::REFUSED.map(|name| format!("{} && echo {NOT_REFUSED}\n", wrong(name))).concat();
        format!(
            "{DOCTOR}{refused}{load} --syscall load && echo {NOT_REFUSED}\n\
             {load}\nholdover unload\necho unloaded $(cat /sys/kernel/kexec_crash_loaded)\n\
             mkdir -p /var/lib/holdover\ncp /capture /var/lib/holdover/capture.bzImage\n{load}\n{DOCTOR}"
        )
    }

    /// Tries both system calls on a kernel that wants a signature and takes no key.
    fn loads_under_lockdown(&self, areas: &[String]) -> String {
        let load = self.ordinary_load(areas);
        format!("{DOCTOR}{load} && echo {NOT_REFUSED}\n{load} --syscall load && echo {NOT_REFUSED}\n")
    }

    /// Loads it in spite of what `holdover load` says.
    fn forced_load(&self, areas: &[String]) -> String {
        let (letter, areas) = (self.scenario.syscall.letter(), areas.join(","));
        format!("kexec -{letter} -p /capture --command-line='console=ttyS0 holdover.area={areas}'\n")
    }

    /// Runs in the guest.
    fn crash_command(&self) -> String {
        let arm = self.scenario.watchdog.map_or("", Watchdog::arm);
        let crash = match self.scenario.start {
            Start::PanicElsewhere => "taskset 2 sh -c 'echo c > /proc/sysrq-trigger'",
            Start::Exec => "kexec -e",
            // These do not come from the guest's own program.
            Start::MachineCheck | Start::PanicInInterrupt | Start::PanicInNmi => "",
            Start::Panic => "echo c > /proc/sysrq-trigger",
        };
        format!("{arm}{crash}\n")
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

    /// The entry of the kernel that takes the dump.
    fn entry(&self) -> Result<Entry> {
        match self.scenario.capture {
            Capture::Holdover | Capture::HandedOver | Capture::Fallback => entry_of(self.image),
            Capture::Stock => entry_of(&Kernel::load(self.scenario.crash_kernel())?.image),
        }
    }

    /// Lets the guest crash, and stops it between the dead kernel and Holdover to damage and to copy its memory.
    fn stop_at_entry(&self, machine: &mut Machine, files: &Files, reserved: &Reserved) -> Result<Stop> {
        let entry = self.entry()?.find(files, reserved)?;
        let mut gdb = Gdb::connect(&qemu::gdb_socket(files))?;
        gdb.break_at(entry)?;
        self.let_go(machine)?;
        gdb.run_to_breakpoint(ENTRY)?;
        let entered = SystemTime::now();
        if let Some(loss) = self.scenario.loss {
            // At the 64-bit entry, RSI has the address of boot_params (boot.rst, "64-bit Boot Protocol").
            loss.inflict(&Ram::open_writable(&files.ram())?, gdb.register(RSI)?)?;
        }
        let wound = self.scenario.damage.map(|damage| inflict(damage, files, reserved)).transpose()?;
        ram::copy(&files.ram(), &files.snapshot())?;
        gdb.detach()?;
        Ok(Stop { entered, wound })
    }
}

fn inflict(damage: Damage, files: &Files, reserved: &Reserved) -> Result<Wound> {
    let ram = Ram::open_writable(&files.ram())?;
    let trace = Trace::read(&files.trace(), SystemTime::now())?;
    let iova = trace.lowest_iova(damage.victim().source_id()).context("the victim does no DMA")?;
    damage.inflict(&ram, &Tables::new(&ram, trace.dead_root()?), reserved, iova)
}

/// The first instructions of an image's 64-bit entry.
struct Entry {
    code: Vec<u8>,
}

/// Reads the instructions at the 64-bit entry of a bzImage.
fn entry_of(image: &Path) -> Result<Entry> {
    let image = fs::read(image)?;
    let first = image.first_chunk().context("the image is too short for a bzImage")?;
    let program = BzImage::parse(first, image.len() as u64)?.program();
    let start = (program.start + ENTRY_64) as usize;
    let code = image.get(start..start + 256).context("the image is too short for a bzImage")?;
    Ok(Entry { code: code.to_vec() })
}

impl Entry {
    /// Physical address of the loaded entry.
    fn find(&self, files: &Files, reserved: &Reserved) -> Result<u64> {
        Ram::open(&files.ram())?
            .find(reserved.pieces(), 0x200, &self.code)
            .context("cannot find the loaded capture kernel in memory")
    }
}

/// A partition table of one partition, from [`Disk::PART`] to the end (the classic one, of type 0x83).
fn mbr() -> Vec<u8> {
    const SECTOR: u64 = 512;
    let [first, count] =
        [Disk::PART, DISK_BYTES - Disk::PART].map(|bytes| ((bytes / SECTOR) as u32).to_le_bytes());
    let mut mbr = vec![0; SECTOR as usize];
    mbr[450] = 0x83;
    mbr[454..458].copy_from_slice(&first);
    mbr[458..462].copy_from_slice(&count);
    mbr[510..].copy_from_slice(&[0x55, 0xaa]);
    mbr
}
