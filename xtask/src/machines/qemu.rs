//! The machine: QEMU with a remapping unit and devices that do DMA, built from a scenario.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::guests::kernels::Kernel;
use crate::machines::console::{Console, Echo, Line};
use crate::machines::files::Files;
use crate::machines::qmp::{Qmp, ResetBy};
use crate::machines::scenario::device::{
    BALLOON_SLOT, DISPLAY_SLOT, Device, DiskModel, DiskTrouble, DiskUse, FAILING_DISK_SLOT, NvmeOddity,
};
use crate::machines::scenario::events::{End, MachineCheck};
use crate::machines::scenario::memory::{MemoryUse, Paging};
use crate::machines::scenario::unit::{Interrupts, Iommu};
use crate::machines::scenario::{Board, Display, Scenario};
use crate::machines::traffic::Traffic;
use crate::process::{self, Killed};

/// Every access through a remapping unit of Intel's (the first event names pages, which may be large; the second and third exact
/// addresses), every fault, and what software tells the unit to do.
const TRACE_EVENTS: [&str; 8] = [
    "vtd_dmar_translate",
    "vtd_iotlb_page_hit",
    "vtd_iotlb_page_update",
    "vtd_dmar_fault*",
    "vtd_frr_new",
    "vtd_reg_dmar_root",
    "vtd_reg_write_gcmd",
    "vtd_err*",
];

/// The same of AMD's: every access, with its exact address; every fault and other trouble; registers and commands that matter.
const TRACE_EVENTS_OF_AMD: [&str; 17] = [
    "amdvi_translation_result",
    "amdvi_page_fault",
    "amdvi_invalid_dte",
    "amdvi_dte_get_fail",
    "amdvi_get_pte_hwerror",
    "amdvi_mode_invalid",
    "amdvi_err",
    "amdvi_ir_err",
    "amdvi_evntlog_fail",
    "amdvi_command_read_fail",
    "amdvi_unhandled_command",
    "amdvi_completion_wait_fail",
    "amdvi_mmio_write",
    "amdvi_control_status",
    "amdvi_devtab_inval",
    "amdvi_pages_inval",
    "amdvi_all_inval",
];

/// Bytes per second of the throttled disk: its readers always wait for more than that.
const SLOW_DISK_RATE: u32 = 1_000_000;
const SLOW_DISK_BYTES: u64 = 64 << 20;

/// What QEMU calls the first serial port.
const SERIAL_PORT: &str = "serial0";

/// Bytes per second of a disk that does nothing for as long as anybody waits.
const STALLED_RATE: u32 = 1;

// Names of drives.
const DUMP_DRIVE: &str = "dump-drive";
const SLOW_DRIVE: &str = "slow-drive";
const NEIGHBOUR_DRIVE: &str = "neighbour-drive";
const FAILING_DRIVE: &str = "failing";

/// What QEMU's `blkdebug` is told: writes fail (EIO).
const NO_WRITES: &str = "\
[inject-error]
event = \"pwritev\"
iotype = \"write\"
errno = \"5\"
once = \"off\"
immediately = \"on\"
";
/// What it is told besides: only those of the sector at 8 MiB, which a dump comes to after some pages.
const IN_THE_MIDDLE: &str = "sector = \"16384\"\n";

/// How much of a run is observed. Observing costs time: only an unobserved run may be timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Watch {
    /// Nothing but the console.
    Console,
    /// Also QEMU's trace of the remapping unit.
    Trace,
    /// Also memory at the instant between the dead kernel and Holdover, where the machine is stopped for a moment.
    Memory,
}

/// The end of Holdover's last line.
const RESET_LINE: &str = "] reset";

/// A running machine; it ends when this is dropped.
pub(crate) struct Machine {
    child: Killed,
    keyboard: ChildStdin,
    console: Console,
    qmp: Qmp,
    traffic: Traffic,
    memory_mib: u64,
}

impl Machine {
    /// Starts the machine of `scenario` with the RAM file, disks and initial RAM file system in `files`.
    pub(crate) fn start(
        scenario: &Scenario,
        kernel: &Kernel,
        files: &Files,
        watch: Watch,
        echo: Echo,
    ) -> Result<Self> {
        File::create(files.slow_disk())?.set_len(SLOW_DISK_BYTES)?;
        let traffic = Traffic::prepare(files)?;
        let complaints = File::create(files.complaints())?;
        let mut command = command(scenario, kernel, files, watch)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(complaints);
        let mut child = Killed(command.spawn().context("cannot start QEMU")?);
        let keyboard = child.0.stdin.take().context("QEMU has no standard input")?;
        let serial = child.0.stdout.take().context("QEMU has no standard output")?;
        let console = Console::follow(serial, &files.console(), echo)?;
        let has_ended = || child.0.try_wait().is_ok_and(|status| status.is_some());
        let qmp = Qmp::connect(&qmp_socket(files), has_ended).with_context(|| complaint(files))?;
        let memory_mib = scenario.memory_mib;
        Ok(Self { child, keyboard, console, qmp, traffic: traffic.start(scenario.capture), memory_mib })
    }

    /// What the guest said so far.
    pub(crate) fn console(&self) -> &Console {
        &self.console
    }

    /// What the guest's network card receives.
    pub(crate) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Waits until the guest has said something.
    pub(crate) fn wait_for(&self, wanted: &str, limit: Duration) -> Result<Line> {
        self.console.wait_for(wanted, limit)
    }

    /// Has the guest give back so much of its memory.
    pub(crate) fn take_memory(&mut self, mib: u64) -> Result<()> {
        self.qmp.shrink_memory_to((self.memory_mib - mib) << 20)
    }

    /// Raises a machine check.
    pub(crate) fn raise(&mut self, check: MachineCheck) -> Result<()> {
        self.qmp.raise(check)
    }

    /// Takes the dump's disk away: each request to it fails from now on.
    pub(crate) fn remove_dump_disk(&mut self) -> Result<()> {
        self.qmp.remove_drive(DUMP_DRIVE)
    }

    /// Has the disk of the first area answer no request any more.
    pub(crate) fn stall_first_disk(&mut self, scenario: &Scenario) -> Result<()> {
        let drive = if scenario.has_first_disk() { FAILING_DRIVE } else { DUMP_DRIVE };
        self.qmp.limit_drive(drive, STALLED_RATE)
    }

    /// Takes a picture of the display.
    pub(crate) fn take_picture(&mut self, file: &Path) -> Result<()> {
        self.qmp.take_picture(file)
    }

    /// Takes a picture of the display as it is when the machine has been reset, and ends the machine.
    pub(crate) fn take_last_picture(mut self, file: &Path, limit: Duration) -> Result<Vec<Line>> {
        self.console.wait_for(RESET_LINE, limit)?;
        self.qmp.take_picture(file)?;
        Ok(self.cut_power())
    }

    /// Types a line on the guest's serial console.
    pub(crate) fn type_line(&mut self, line: &str) -> Result<()> {
        writeln!(self.keyboard, "{line}")
            .and_then(|()| self.keyboard.flush())
            .context("the machine has ended")
    }

    /// Types a break and a letter on the guest's serial console, which Linux takes in the port's interrupt.
    pub(crate) fn type_system_request(&mut self, letter: char) -> Result<()> {
        self.qmp.send_break(SERIAL_PORT)?;
        self.type_line(&letter.to_string())
    }

    /// Gives each processor an NMI of which nobody knows the reason.
    pub(crate) fn inject_nmi(&mut self) -> Result<()> {
        self.qmp.inject_nmi()
    }

    /// Ends QEMU at once, whatever it is doing.
    pub(crate) fn cut_power(self) -> Vec<Line> {
        drop(self.child);
        self.console.finish()
    }

    /// Waits until the machine is reset, which ends QEMU; fails if somebody else resets it.
    pub(crate) fn wait_for_reset(mut self, limit: Duration, wanted: ResetBy) -> Result<Vec<Line>> {
        let status = process::wait_within(&mut self.child.0, limit)?;
        let status = status.with_context(|| format!("no reset within {} s", limit.as_secs()))?;
        ensure!(status.success(), "QEMU ended with {status}");
        let reset_by = self.qmp.reset_by()?;
        ensure!(reset_by == wanted, "the machine was reset by {reset_by:?}, not by {wanted:?}");
        Ok(self.console.finish())
    }
}

/// Socket of the debugger stub.
pub(crate) fn gdb_socket(files: &Files) -> std::path::PathBuf {
    files.scratch("gdb")
}

fn qmp_socket(files: &Files) -> std::path::PathBuf {
    files.scratch("qmp")
}

/// QEMU's own words on why it did not start.
fn complaint(files: &Files) -> String {
    let said = std::fs::read_to_string(files.complaints()).unwrap_or_default();
    format!("QEMU did not start: {}", said.trim())
}

fn command(scenario: &Scenario, kernel: &Kernel, files: &Files, watch: Watch) -> Result<Command> {
    let mut command = scenario.emulator.command()?;
    add_machine(&mut command, scenario, files);
    scenario.scale.add_to(&mut command, files, scenario.cpus)?;
    scenario.firmware.add_to(&mut command, files)?;
    add_kernel(&mut command, scenario, kernel, files);
    add_dump_disk(&mut command, scenario, files)?;
    if scenario.has_first_disk() {
        add_first_disk(&mut command, scenario, files)?;
    }
    if let Some(watchdog) = scenario.watchdog {
        command.args(watchdog.options());
    }
    if let Some(table) = scenario.firmware_table() {
        fs::write(files.acpi_table(), table).context("writing ACPI's table")?;
        command.args(["-acpitable", &format!("file={}", path(&files.acpi_table()))]);
    }
    add_drive(&mut command, SLOW_DRIVE, &path(&files.slow_disk()), &slow_reads());
    let slot = Device::SLOW_DISK.slot;
    command.args(["-device", &format!("nvme,serial=slow,drive={SLOW_DRIVE},addr={slot:#x}")]);
    add_network(&mut command, scenario, files)?;
    if scenario.kernel.is_general() {
        add_usb_and_sound(&mut command);
    }
    if scenario.memory_use == MemoryUse::EveryKind {
        command.args(["-device", &format!("virtio-balloon-pci,addr={BALLOON_SLOT:#x}")]);
    }
    if scenario.display == Display::Vga {
        command.args(["-device", &format!("VGA,addr={DISPLAY_SLOT:#x}")]);
        // Its last picture can be taken.
        command.args(["-action", "shutdown=pause"]);
    }
    if watch >= Watch::Trace {
        add_trace(&mut command, scenario.unit.iommu, &files.trace());
    }
    if watch >= Watch::Memory {
        let socket = path(&gdb_socket(files));
        command.args(["-chardev", &format!("socket,id=gdb,path={socket},server=on,wait=off")]);
        command.args(["-gdb", "chardev:gdb"]);
    }
    Ok(command)
}

/// Processor, memory and the remapping unit; software emulation, which every machine has.
fn add_machine(command: &mut Command, scenario: &Scenario, files: &Files) {
    let mut cpu = "max".to_owned();
    if scenario.paging == Paging::FourLevel {
        cpu += ",la57=off";
    }
    if scenario.unit.interrupts == Interrupts::X2apic {
        cpu += ",+x2apic";
    }
    let (size, scale) = (scenario.memory_mib, scenario.scale);
    let board = if scenario.board == Board::Pc { "pc" } else { "q35" };
    let machine = format!("{board},{}{}", scale.machine_options(), scenario.firmware.machine_options());
    let ram = path(&files.ram());
    command.args(["-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio"]);
    command.args(["-accel", "tcg", "-machine", &machine, "-cpu", &cpu]);
    command.args(["-smp", &scenario.cpus.to_string(), "-m", &format!("{size}M{}", scale.memory_options())]);
    command.args(["-object", &format!("memory-backend-file,id=ram,share=on,size={size}M,mem-path={ram}")]);
    command.args(["-qmp", &format!("unix:{},server=on,wait=off", path(&qmp_socket(files)))]);
    let mut devices = scenario.unit.devices();
    if let Some(unit) = devices.last_mut() {
        *unit += scale.unit_options();
    }
    for device in devices {
        command.args(["-device", &device]);
    }
}

fn add_kernel(command: &mut Command, scenario: &Scenario, kernel: &Kernel, files: &Files) {
    command.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(files.initramfs());
    command.args(["-append", &scenario.kernel_command_line()]);
}

/// The disk that takes the dump, its controller, the bridge before that, and another disk.
fn add_dump_disk(command: &mut Command, scenario: &Scenario, files: &Files) -> Result<()> {
    let Scenario { disk_model: model, disk_use, .. } = *scenario;
    let slow_writes = |rate: u32| format!(",throttling.bps-write={rate}");
    let speed = scenario.dump_rate().map(slow_writes).unwrap_or_default();
    let speed = if disk_use == DiskUse::Busy { speed + &slow_reads() } else { speed };
    match (scenario.end, scenario.disk_trouble) {
        (End::Recorded, _) => add_recorded_drive(command, files, &speed)?,
        (_, Some(DiskTrouble::WriteErrors)) if !scenario.has_first_disk() => {
            let image = refusing_writes(files, &path(&files.disk()), IN_THE_MIDDLE)?;
            add_drive(command, DUMP_DRIVE, &image, &speed);
        }
        _ => add_drive(command, DUMP_DRIVE, &path(&files.disk()), &speed),
    }
    for bridge in scenario.disk_place.bridges() {
        command.args(["-device", &bridge]);
    }
    let place = scenario.disk_place.options(Device::DUMP_DISK.slot);
    let with = |device: &str, oddity: fn(NvmeOddity) -> Option<&'static str>| {
        let oddities = scenario.nvme.iter().filter_map(|&odd| oddity(odd));
        oddities.fold(device.to_owned(), |device, option| format!("{device},{option}"))
    };
    let drive = if model.disk().is_none() { format!(",drive={DUMP_DRIVE}") } else { String::new() };
    if let Some(function) = model.function() {
        let function = with(function, NvmeOddity::of_controller);
        command.args(["-device", &format!("{function},{place}{drive}")]);
    }
    if let Some(disk) = model.disk() {
        let disk = with(disk, NvmeOddity::of_namespace);
        // A neighbour is the first namespace.
        let number =
            if model == DiskModel::Nvme && disk_use == DiskUse::BusyNeighbour { ",nsid=2" } else { "" };
        command.args(["-device", &format!("{disk}{number},drive={DUMP_DRIVE}")]);
    }
    if disk_use == DiskUse::BusyNeighbour {
        let neighbour = model.neighbour().context("the dump's disk can have no neighbour")?;
        File::create(files.scratch(NEIGHBOUR_DRIVE))?.set_len(SLOW_DISK_BYTES)?;
        add_drive(command, NEIGHBOUR_DRIVE, &path(&files.scratch(NEIGHBOUR_DRIVE)), &slow_reads());
        command.args(["-device", &format!("{neighbour},drive={NEIGHBOUR_DRIVE}")]);
    }
    Ok(())
}

/// The disk with the first area: one that fails in the middle of the dump, unless something else is to be wrong with it or with
/// Holdover.
fn add_first_disk(command: &mut Command, scenario: &Scenario, files: &Files) -> Result<()> {
    let (slot, model) = (FAILING_DISK_SLOT, DiskModel::VirtioBlk.function().unwrap_or_default());
    let image = path(&files.failing_disk());
    let (image, speed) = match (scenario.disk_trouble, scenario.mutation) {
        (Some(DiskTrouble::Hang), _) => {
            (image, format!(",throttling.bps-write={}", scenario.dump_rate().unwrap_or_default()))
        }
        (Some(DiskTrouble::NoWrites), _) => (refusing_writes(files, &image, "")?, String::new()),
        (None, Some(_)) => (image, String::new()),
        _ => (refusing_writes(files, &image, IN_THE_MIDDLE)?, String::new()),
    };
    add_drive(command, FAILING_DRIVE, &image, &speed);
    command.args(["-device", &format!("{model},drive={FAILING_DRIVE},addr={slot:#x}")]);
    Ok(())
}

/// The dump's disk, with a record of each request to it.
fn add_recorded_drive(command: &mut Command, files: &Files, options: &str) -> Result<()> {
    let (disk, record) = (files.disk(), files.disk_requests());
    File::create(&record)?;
    let children = [("file", &disk), ("log", &record)];
    let children =
        children.map(|(child, file)| format!("{child}.driver=file,{child}.filename={}", path(file)));
    let children = children.join(",");
    command.args(["-drive", &format!("if=none,id={DUMP_DRIVE},driver=blklogwrites,{children}{options}")]);
    Ok(())
}

/// QEMU's name of an image that refuses writes, all or `which`.
fn refusing_writes(files: &Files, image: &str, which: &str) -> Result<String> {
    fs::write(files.failures(), format!("{NO_WRITES}{which}")).context("writing the list of failures")?;
    Ok(format!("blkdebug:{}:{image}", path(&files.failures())))
}

fn add_drive(command: &mut Command, name: &str, image: &str, options: &str) {
    command.args(["-drive", &format!("if=none,id={name},format=raw,file={image}{options}")]);
}

/// Options of a drive that is slower than its readers.
fn slow_reads() -> String {
    format!(",throttling.bps-read={SLOW_DISK_RATE}")
}

/// The card has no boot ROM: the package with those need not be installed.
fn add_network(command: &mut Command, scenario: &Scenario, files: &Files) -> Result<()> {
    let virtio = "virtio-net-pci,disable-legacy=on,iommu_platform=on";
    let model = if scenario.kernel.is_general() { "e1000e" } else { virtio };
    let slot = Device::NETWORK.slot;
    let local = path(&Traffic::guest_end(files));
    let remote = path(&Traffic::bench_end(files));
    let ends = format!("local.type=unix,local.path={local},remote.type=unix,remote.path={remote}");
    command.args(["-netdev", &format!("dgram,id=network,{ends}")]);
    let mut end = "network";
    if let Some(server) = scenario.target.network(files)? {
        command.args(["-netdev", &server]);
        for port in ["network", "server"] {
            let port = format!("hubport,id={port}-port,hubid=0,netdev={port}");
            command.args(["-netdev", &port]);
        }
        command.args(["-netdev", "hubport,id=card,hubid=0"]);
        end = "card";
    }
    command.args(["-device", &format!("{model},netdev={end},romfile=,addr={slot:#x}")]);
    Ok(())
}

fn add_usb_and_sound(command: &mut Command) {
    let (usb, sound) = (Device::USB.slot, Device::SOUND.slot);
    command.args([
        "-device",
        &format!("piix3-usb-uhci,id=usb,addr={usb:#x}"),
        "-device",
        "usb-tablet,bus=usb.0",
    ]);
    command.args(["-audiodev", "none,id=audio", "-device", &format!("intel-hda,id=sound,addr={sound:#x}")]);
    command.args(["-device", "hda-duplex,bus=sound.0,audiodev=audio"]);
}

fn add_trace(command: &mut Command, iommu: Iommu, file: &Path) {
    command.args(["-msg", "timestamp=on"]).arg("-D").arg(file);
    let events: &[&str] = match iommu {
        Iommu::Intel => &TRACE_EVENTS,
        Iommu::Amd => &TRACE_EVENTS_OF_AMD,
    };
    for event in events {
        command.args(["-trace", event]);
    }
}

/// A path as an option's value, in which QEMU wants commas doubled.
fn path(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}
