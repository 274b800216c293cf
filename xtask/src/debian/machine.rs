//! A machine that boots a Debian with systemd from a root disk of its own, and does what an administrator types.
//!
//! A panic does not end it: it is reset, and boots again from the same disk. What is typed goes to an agent on the second serial
//! port; the first one is the console. Files come and go through a second disk, the mailbox, as a `tar` archive.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::agent::{Agent, Done};
use super::shim;
use super::system::System;
use crate::crashes::crash::PANIC;
use crate::guests::initramfs::{self, Archive};
use crate::machines::console::{Console, Echo, Line};
use crate::machines::emulator::Emulator;
use crate::machines::files::Files;
use crate::machines::firmware::Firmware;
use crate::machines::qmp::Qmp;
use crate::process::{self, Killed};

/// Emulated machines are slow, and share two processors with others.
const LIMIT: Duration = Duration::from_secs(300);

/// Bytes of the disk by which files come and go.
const MAILBOX_BYTES: u64 = 256 << 20;
/// What the guest calls that disk.
const MAILBOX: &str = "/dev/disk/by-id/virtio-mailbox";

/// Linux' drivers of the root disk.
const MODULES: [&str; 4] = ["virtio_pci", "virtio_blk", "crc32c_generic", "ext4"];

const COMMAND_LINE: &str =
    "root=/dev/vda rw console=ttyS0 intel_iommu=on systemd.show_status=no net.ifnames=0 crashkernel=";

/// With the gibibyte of translated code that is usual, a page collects so much of it over two boots that QEMU 7.2 takes milliseconds for
/// each byte that Linux writes into that page after a reset: it goes through all of it. Linux then stands still for minutes. With several
/// threads QEMU ends when a processor is plugged in while the buffer happens to be given away.
const TRANSLATOR: &str = "tcg,thread=single,tb-size=64";

/// What machines differ in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Board<'a> {
    /// What starts the kernel.
    pub(crate) start: Start<'a>,
    /// What is reserved for a crash kernel, as `crashkernel=` has it.
    pub(crate) reserved: &'a str,
}

impl Default for Board<'_> {
    /// As little memory as Holdover needs, and a BIOS.
    fn default() -> Self {
        Self { start: Start::Firmware(Firmware::Bios), reserved: "16M" }
    }
}

/// What starts the kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Start<'a> {
    /// Firmware, to which QEMU hands the kernel.
    Firmware(Firmware),
    /// Firmware with Secure Boot, shim and GRUB; shim trusts this owner's certificate.
    Shim(&'a Path),
}

impl Start<'_> {
    fn firmware(self) -> Firmware {
        match self {
            Self::Firmware(firmware) => firmware,
            Self::Shim(_) => Firmware::SecureBoot,
        }
    }
}

/// A machine that runs; it ends when this is dropped.
pub(crate) struct Machine {
    files: Files,
    /// Declared before the child: a test that fails must not wait for the console of a machine that runs.
    _child: Killed,
    console: Console,
    agent: Agent,
    control: Qmp,
}

impl Machine {
    /// Starts a machine with a copy of the system's disk, and waits until it has booted.
    pub(crate) fn boot(name: &str, system: &System, board: Board<'_>) -> Result<Self> {
        let files = Files::new(name)?;
        copy_disk(&system.disk, &root_disk(&files))?;
        File::create(mailbox(&files))?.set_len(MAILBOX_BYTES)?;
        fs::write(files.initramfs(), first_user_space(system)?)?;
        let mut command = command(system, &files, board)?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(files.complaints())?);
        let mut child = Killed(command.spawn().context("cannot start QEMU")?);
        let serial = child.0.stdout.take().context("QEMU has no standard output")?;
        let console = Console::follow(serial, &files.console(), Echo::Hidden)?;
        let agent = Agent::connect(&socket(&files)).with_context(|| complaint(&files))?;
        let control = Qmp::connect(&control(&files), || false)?;
        let mut machine = Self { files, _child: child, console, agent, control };
        machine.wait_for_boot()?;
        Ok(machine)
    }

    /// The files of the run.
    pub(crate) fn files(&self) -> &Files {
        &self.files
    }

    /// Types a command, and returns what it said; fails unless it ends with status 0.
    pub(crate) fn run(&mut self, command: &str) -> Result<String> {
        ended_well(command, self.try_run(command)?)
    }

    /// The same for a command that takes many times as long as others.
    pub(crate) fn run_patiently(&mut self, command: &str) -> Result<String> {
        ended_well(command, self.try_run_within(command, 3 * LIMIT)?)
    }

    /// Types a command that may fail.
    pub(crate) fn try_run(&mut self, command: &str) -> Result<Done> {
        self.try_run_within(command, LIMIT)
    }

    fn try_run_within(&mut self, command: &str, limit: Duration) -> Result<Done> {
        let start = Instant::now();
        let done = self.agent.run(command, limit)?;
        let took = start.elapsed().as_secs_f64();
        self.note(&format!("# {command}\n{}\n[{}, {took:.1} s]\n", done.said, done.status))?;
        Ok(done)
    }

    /// Types a command that ends in a panic, and waits until the machine has booted again; returns what the console showed of it, from
    /// the panic on.
    pub(crate) fn crash(&mut self, command: &str) -> Result<Vec<Line>> {
        let before = self.console.lines().len();
        let start = Instant::now();
        self.agent.begin(command)?;
        // A whole Linux may come in between.
        self.agent.wait_for_boot(2 * LIMIT).with_context(|| self.last_lines())?;
        let took = start.elapsed().as_secs_f64();
        let lines = self.console.lines().split_off(before);
        self.note(&format!("# {command}\n[panic, boot, {took:.1} s]\n"))?;
        ensure!(lines.iter().any(|line| line.text.contains(PANIC)), "`{command}` ends in no panic");
        Ok(lines)
    }

    /// Plugs in a second processor; nobody has told Linux to use it.
    pub(crate) fn plug_in_processor(&mut self) -> Result<()> {
        self.note("[a processor is plugged in]\n")?;
        self.control.plug_in_processor()
    }

    /// Plugs in so many bytes of memory; nobody has told Linux to use them.
    pub(crate) fn plug_in_memory(&mut self, bytes: u64) -> Result<()> {
        self.note("[memory is plugged in]\n")?;
        self.control.plug_in_memory(bytes)
    }

    /// Puts a file, or a folder with all that is in it, into the guest's folder `/root`; of a link what it points to.
    pub(crate) fn put(&mut self, file: &Path) -> Result<()> {
        let name = file.file_name().context("a file has a name")?;
        let folder = file.parent().context("a file is in a folder")?;
        let letter = self.files.scratch("letter");
        process::stdout(Command::new("tar").arg("-chf").arg(&letter).arg("-C").arg(folder).arg(name))?;
        let letter = File::open(&letter)?;
        let mut box_ = File::options().write(true).open(mailbox(&self.files))?;
        std::io::copy(&mut &letter, &mut box_)?;
        self.run(&format!("blockdev --flushbufs {MAILBOX} && tar -xf {MAILBOX} -C /root")).map(|_| ())
    }

    /// Brings a folder of the guest to the run's files, and returns it.
    pub(crate) fn fetch(&mut self, folder: &str) -> Result<PathBuf> {
        let into = self.files.kept().join("fetched");
        if into.exists() {
            fs::remove_dir_all(&into)?;
        }
        fs::create_dir(&into)?;
        self.run(&format!("tar -cf {MAILBOX} -C {folder} . && sync"))?;
        process::stdout(Command::new("tar").arg("-xf").arg(mailbox(&self.files)).arg("-C").arg(&into))?;
        Ok(into)
    }

    /// Waits until systemd has started everything, failed units included.
    fn wait_for_boot(&mut self) -> Result<()> {
        self.agent.wait_for_boot(LIMIT).with_context(|| self.last_lines())
    }

    /// The end of the console, for an error.
    fn last_lines(&self) -> String {
        let lines = self.console.lines();
        let last = lines.iter().skip(lines.len().saturating_sub(20));
        last.map(|line| format!("    | {}", line.text)).collect::<Vec<_>>().join("\n")
    }

    /// Keeps a transcript of what was typed.
    fn note(&self, text: &str) -> Result<()> {
        use std::io::Write;
        let transcript = self.files.kept().join("transcript");
        let mut file = File::options().create(true).append(true).open(transcript)?;
        Ok(file.write_all(text.as_bytes())?)
    }
}

fn ended_well(command: &str, Done { said, status }: Done) -> Result<String> {
    ensure!(status == 0, "`{command}` ends with {status}:\n{said}");
    Ok(said)
}

/// Copies a disk without its holes.
fn copy_disk(from: &Path, to: &Path) -> Result<()> {
    process::stdout(Command::new("cp").arg("--sparse=always").arg(from).arg(to)).map(|_| ())
}

fn root_disk(files: &Files) -> PathBuf {
    files.scratch("root")
}

fn mailbox(files: &Files) -> PathBuf {
    files.scratch("mailbox")
}

fn socket(files: &Files) -> PathBuf {
    files.scratch("agent")
}

fn control(files: &Files) -> PathBuf {
    files.scratch("control")
}

/// QEMU's own words on why it did not start.
fn complaint(files: &Files) -> String {
    let said = fs::read_to_string(files.complaints()).unwrap_or_default();
    format!("QEMU did not start: {}", said.trim())
}

/// What the kernel starts first: it mounts the root disk.
fn first_user_space(system: &System) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    archive.add("init", &initramfs::guest_file("debian-init")?);
    archive.add("agent", &initramfs::guest_file("debian-agent")?);
    archive.add("agent.service", &initramfs::guest_file("debian-agent.service")?);
    for folder in ["proc", "sys", "dev", "root"] {
        archive.add_folder(Path::new(folder));
    }
    archive.copy_program("busybox")?;
    initramfs::add_modules(&mut archive, &system.kernel, &MODULES)?;
    Ok(archive.finish())
}

fn command(system: &System, files: &Files, board: Board<'_>) -> Result<Command> {
    let mut command = Emulator::Installed.command()?;
    command.args(["-nodefaults", "-display", "none", "-accel", TRANSLATOR, "-cpu", "max"]);
    command.args(["-machine", &format!("q35{}", board.start.firmware().machine_options())]);
    // A processor and memory may be plugged in.
    command.args(["-smp", "1,maxcpus=2,sockets=2", "-m", "1G,slots=1,maxmem=2G"]);
    command.args(["-device", "intel-iommu,intremap=off", "-serial", "stdio"]);
    let socket = socket(files);
    command.args(["-chardev", &format!("socket,id=agent,path={},server=on,wait=off", socket.display())]);
    command.args(["-serial", "chardev:agent"]);
    command.args(["-qmp", &format!("unix:{},server=on,wait=off", control(files).display())]);
    for (name, file) in [("root", root_disk(files)), ("mailbox", mailbox(files))] {
        command.args(["-drive", &format!("if=none,id={name},format=raw,file={}", file.display())]);
        let model = "virtio-blk-pci,disable-legacy=on,iommu_platform=on";
        command.args(["-device", &format!("{model},drive={name},serial={name}")]);
    }
    add_start(&mut command, system, files, board)?;
    Ok(command)
}

/// Adds what starts the kernel; the root disk is the machine's first.
fn add_start(command: &mut Command, system: &System, files: &Files, board: Board<'_>) -> Result<()> {
    let line = format!("{COMMAND_LINE}{}", board.reserved);
    match board.start {
        Start::Firmware(firmware) => {
            firmware.add_to(command, files)?;
            command.arg("-kernel").arg(&system.kernel.image).arg("-initrd").arg(files.initramfs());
            command.args(["-append", &line]);
            Ok(())
        }
        Start::Shim(owner) => shim::add_to(command, files, system, &line, owner),
    }
}
