//! A machine that boots a Debian with systemd from a root disk of its own, and does what an administrator types.
//!
//! A panic does not end it: it is reset, and boots again from the same disk. What is typed goes to an agent on the second serial
//! port; the first one is the console. Files come and go through a second disk, the mailbox, as a `tar` archive.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::agent::{Agent, Done};
use super::system::System;
use crate::crashes::crash::PANIC;
use crate::guests::initramfs::{self, Archive};
use crate::machines::console::{Console, Echo, Line};
use crate::machines::emulator::Emulator;
use crate::machines::files::Files;
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
    "root=/dev/vda rw console=ttyS0 intel_iommu=on crashkernel=16M systemd.show_status=no net.ifnames=0";

/// A machine that runs; it ends when this is dropped.
pub(crate) struct Machine {
    files: Files,
    /// Declared before the child: a test that fails must not wait for the console of a machine that runs.
    _child: Killed,
    console: Console,
    agent: Agent,
}

impl Machine {
    /// Starts a machine with a copy of the system's disk, and waits until it has booted.
    pub(crate) fn boot(name: &str, system: &System) -> Result<Self> {
        let files = Files::new(name)?;
        copy_disk(&system.disk, &root_disk(&files))?;
        File::create(mailbox(&files))?.set_len(MAILBOX_BYTES)?;
        fs::write(files.initramfs(), first_user_space(system)?)?;
        let mut command = command(system, &files)?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(files.complaints())?);
        let mut child = Killed(command.spawn().context("cannot start QEMU")?);
        let serial = child.0.stdout.take().context("QEMU has no standard output")?;
        let console = Console::follow(serial, &files.console(), Echo::Hidden)?;
        let agent = Agent::connect(&socket(&files)).with_context(|| complaint(&files))?;
        let mut machine = Self { files, _child: child, console, agent };
        machine.wait_for_boot()?;
        Ok(machine)
    }

    /// The files of the run.
    pub(crate) fn files(&self) -> &Files {
        &self.files
    }

    /// Types a command, and returns what it said; fails unless it ends with status 0.
    pub(crate) fn run(&mut self, command: &str) -> Result<String> {
        let Done { said, status } = self.try_run(command)?;
        ensure!(status == 0, "`{command}` ends with {status}:\n{said}");
        Ok(said)
    }

    /// Types a command that may fail.
    pub(crate) fn try_run(&mut self, command: &str) -> Result<Done> {
        let done = self.agent.run(command, LIMIT)?;
        self.note(&format!("# {command}\n{}\n[{}]\n", done.said, done.status))?;
        Ok(done)
    }

    /// Types a command that ends in a panic, and waits until the machine has booted again; returns what the console showed of it, from
    /// the panic on.
    pub(crate) fn crash(&mut self, command: &str) -> Result<Vec<Line>> {
        let before = self.console.lines().len();
        self.agent.begin(command)?;
        self.wait_for_boot()?;
        let lines = self.console.lines().split_off(before);
        self.note(&format!("# {command}\n[panic, boot]\n"))?;
        ensure!(lines.iter().any(|line| line.text.contains(PANIC)), "`{command}` ends in no panic");
        Ok(lines)
    }

    /// Puts a file into the guest's folder `/root`.
    pub(crate) fn put(&mut self, file: &Path) -> Result<()> {
        let name = file.file_name().context("a file has a name")?;
        let folder = file.parent().context("a file is in a folder")?;
        let letter = self.files.scratch("letter");
        process::stdout(Command::new("tar").arg("-cf").arg(&letter).arg("-C").arg(folder).arg(name))?;
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

fn command(system: &System, files: &Files) -> Result<Command> {
    let mut command = Emulator::Installed.command()?;
    command.args(["-nodefaults", "-display", "none", "-accel", "tcg", "-machine", "q35", "-cpu", "max"]);
    command.args(["-m", "1G", "-device", "intel-iommu,intremap=off", "-serial", "stdio"]);
    let socket = socket(files);
    command.args(["-chardev", &format!("socket,id=agent,path={},server=on,wait=off", socket.display())]);
    command.args(["-serial", "chardev:agent"]);
    command.arg("-kernel").arg(&system.kernel.image).arg("-initrd").arg(files.initramfs());
    command.args(["-append", COMMAND_LINE]);
    for (name, file) in [("root", root_disk(files)), ("mailbox", mailbox(files))] {
        command.args(["-drive", &format!("if=none,id={name},format=raw,file={}", file.display())]);
        let model = "virtio-blk-pci,disable-legacy=on,iommu_platform=on";
        command.args(["-device", &format!("{model},drive={name},serial={name}")]);
    }
    Ok(command)
}
