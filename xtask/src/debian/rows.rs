//! The rows of `cargo xtask test` that are an administrator's days: each a story of commands and panics on a machine of its own.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::deb::{self, Deb};
use super::machine::{Board, Machine};
use super::system::{Release, System};
use super::troubles::{lacks, refused};
use super::{ansible, kdump_tools, package, secure_boot, troubles};
use crate::crashes::crash::PANIC;
use crate::guests::kernels::Flavour;
use crate::machines::console::Line;
use crate::machines::scenario::Codec;
use crate::witnesses::reader::Readers;
use crate::witnesses::readers::{Dump, Readings};

/// What the rows share.
pub(crate) struct Stage {
    /// The package.
    pub(crate) deb: Deb,
    /// The system on which it is installed: Debian 12.
    pub(crate) system: System,
}

impl Stage {
    /// Makes the package, and the system unless it is here.
    pub(crate) fn build() -> Result<Self> {
        Ok(Self { deb: deb::build()?, system: System::fetch(Release::Bookworm)? })
    }
}

/// When a row runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Among {
    /// Always.
    Default,
    /// If it is named, or all rows are asked for.
    All,
}

/// One of these rows.
pub(crate) struct Row {
    /// What a person calls it; also the folder that keeps its files.
    pub(crate) name: &'static str,
    /// When it runs.
    pub(crate) among: Among,
    story: fn(&str, &Stage) -> Result<Vec<String>>,
}

impl Row {
    /// Runs the story and returns the problems; fails if it did not come to its end.
    pub(crate) fn problems(&self, stage: &Stage) -> Result<Vec<String>> {
        (self.story)(self.name, stage)
    }
}

/// All of them.
pub(crate) const ROWS: [Row; 8] = [
    Row { name: "package-contents", among: Among::Default, story: |_, stage| package::problems(stage) },
    Row {
        name: "debian-cycle",
        among: Among::Default,
        story: |name, stage| cycle(name, stage, &stage.system),
    },
    Row { name: "debian-cycle-13", among: Among::All, story: cycle_on_debian_13 },
    Row { name: "secure-boot-package", among: Among::All, story: secure_boot::by_firmware },
    Row { name: "secure-boot-mok", among: Among::All, story: secure_boot::by_shim },
    Row { name: "debian-cycle-troubles", among: Among::All, story: troubles::problems },
    Row { name: "debian-cycle-ansible", among: Among::All, story: ansible::problems },
    Row { name: "handover-kdump-tools", among: Among::All, story: kdump_tools::problems },
];

/// What is beside a dump in its folder.
const BESIDE: [&str; 4] = ["dmesg.txt", "takeover.txt", "takeover.json", "summary.html"];

/// The file that takes dumps.
pub(super) const AREA: &str = "/var/lib/holdover/area";

/// Installation, a dump area in a file on the root disk, two tests, each with a panic and a dump that systemd collects at the next boot;
/// then a purge.
fn cycle(name: &str, stage: &Stage, system: &System) -> Result<Vec<String>> {
    let mut machine = Machine::boot(name, system, Board::default())?;
    install(&mut machine, &stage.deb.path)?;
    ensure!(!is_loaded(&mut machine)?, "the installation alone loads a capture kernel");
    let mut problems = converse(&mut machine)?;
    for round in 1..=2 {
        machine.run("holdover doctor")?;
        if round == 2 {
            grow(&mut machine)?;
        }
        panic(&mut machine)?;
        let folders = crashes(&mut machine)?;
        ensure!(folders.len() == round, "after crash {round} there are {folders:?} in /var/crash");
        machine.run("systemctl is-active holdover.service")?;
        // Ends with 0 only where the next panic would be dumped.
        machine.run("holdover status")?;
        problems.extend(read(&mut machine, stage, &folders[0])?);
        let result = machine.run("holdover test --result")?;
        if !result.contains("passed") {
            problems.push(format!("after crash {round} `holdover test --result` says {result}"));
        }
    }
    problems.extend(purge(&mut machine)?);
    Ok(problems)
}

/// Sets the machine up as somebody does who reads the question at a terminal: who says no has changed nothing, who says yes is ready.
fn converse(machine: &mut Machine) -> Result<Vec<String>> {
    const FILES: &str = "find /etc /var/lib/holdover -type f -print0 | sort -z | xargs -0 md5sum";
    let before = machine.run(FILES)?;
    let mut problems = refused(machine, &answering("n"), &["[Y/n]", "--area or --file"])?;
    if machine.run(FILES)? != before || is_loaded(machine)? {
        problems.push("`holdover setup` changes something although the answer was no".to_owned());
    }
    let said = machine.run(&answering("what?\\ny"))?;
    problems.extend(lacks(
        "holdover setup",
        &said,
        &["Please answer yes or no.", "the next panic is dumped"],
    ));
    is_set_up(machine)?;
    Ok(problems)
}

/// `holdover setup` at a terminal (util-linux, script(1)), at which these lines are typed.
fn answering(lines: &str) -> String {
    let setup = format!("holdover setup --file {AREA} --size 256M");
    format!("printf '{lines}\\n' | script --quiet --return --command '{setup}' /dev/null")
}

/// Memory that is plugged in: one block, of which Linux takes each into use by itself.
const PLUGGED_IN: u64 = 128 << 20;

/// A processor and memory come while the machine runs, and no restart: udev has Holdover loaded again for each of them.
fn grow(machine: &mut Machine) -> Result<()> {
    machine.plug_in_processor()?;
    machine.run("until [ -e /sys/devices/system/cpu/cpu1 ]; do sleep 0.2; done")?;
    machine.run(LOADED_AGAIN)?;
    machine.run("echo 1 > /sys/devices/system/cpu/cpu1/online")?;
    machine.plug_in_memory(PLUGGED_IN)?;
    machine.run("until grep -l offline /sys/devices/system/memory/memory*/state; do sleep 0.2; done")?;
    machine.run("echo online > $(grep -l offline /sys/devices/system/memory/memory*/state)")?;
    machine.run(LOADED_AGAIN).map(drop)
}

/// Until the capture kernel knows all processors and all memory: a timer of three seconds begins anew with each that comes.
const LOADED_AGAIN: &str =
    "for second in $(seq 60); do holdover status && exit; sleep 1; done; holdover status; exit 1";

/// The same with the user space of Debian 13: its systemd, its dpkg, its e2fsprogs.
fn cycle_on_debian_13(name: &str, stage: &Stage) -> Result<Vec<String>> {
    cycle(name, stage, &System::fetch(Release::Trixie)?)
}

/// Purges the package, and names what is left of it.
pub(super) fn purge(machine: &mut Machine) -> Result<Vec<String>> {
    machine.run("apt-get -q -q -y purge holdover")?;
    let mut problems = Vec::new();
    let swap = machine.run("swapon --show --noheadings")?;
    if !swap.is_empty() {
        problems.push(format!("after a purge there is still swap: {swap}"));
    }
    if is_loaded(machine)? {
        problems.push("after a purge a capture kernel is still loaded".to_owned());
    }
    let left = machine.run(
        "find / -xdev -path '*holdover*' | grep -vE '^/(root|var/crash|var/log|var/lib/dpkg)/' || true",
    )?;
    problems.extend(left.lines().map(|path| format!("a purge leaves {path}")));
    Ok(problems)
}

/// Makes the machine ready for a panic, as an administrator does who is asked nothing.
pub(super) fn set_up(machine: &mut Machine) -> Result<()> {
    machine.run(&format!("holdover setup --yes --file {AREA} --size 256M"))?;
    is_set_up(machine)
}

/// Fails unless the setup has left a capture kernel loaded, and its service active.
fn is_set_up(machine: &mut Machine) -> Result<()> {
    machine.run("systemctl is-active holdover.service")?;
    ensure!(is_loaded(machine)?, "holdover.service is active, and nothing is loaded");
    Ok(())
}

pub(super) fn is_loaded(machine: &mut Machine) -> Result<bool> {
    Ok(machine.run("cat /sys/kernel/kexec_crash_loaded")?.trim() == "1")
}

/// The folders of collected crashes, the newest first.
pub(super) fn crashes(machine: &mut Machine) -> Result<Vec<String>> {
    let listed = machine.run("ls -dt /var/crash/*/ 2>/dev/null || true")?;
    Ok(listed.lines().map(str::to_owned).collect())
}

/// Installs the package as an administrator does who has its file.
pub(super) fn install(machine: &mut Machine, package: &Path) -> Result<()> {
    let name = package.file_name().context("a package has a name")?.display();
    machine.put(package)?;
    machine.run(&format!("apt-get -q -q -y --no-install-recommends install /root/{name}")).map(|_| ())
}

/// Installs one of Debian's packages, with what it needs.
pub(super) fn add_packages(machine: &mut Machine, stage: &Stage, package: &str) -> Result<()> {
    let packages = stage.system.packages_of(package)?;
    machine.put(&packages)?;
    let folder = packages.file_name().unwrap_or_default().display().to_string();
    machine.run(&format!("dpkg --install --recursive /root/{folder} && rm -r /root/{folder}")).map(drop)
}

/// Has the machine panic by `holdover test`.
pub(super) fn panic(machine: &mut Machine) -> Result<()> {
    panic_by("holdover test --yes --countdown 0", machine)
}

/// Has the machine panic by a command; the capture kernel must seal a complete dump, and the machine boot again.
fn panic_by(command: &str, machine: &mut Machine) -> Result<()> {
    let said = machine.crash(&format!("echo 'bench: loaded' > /dev/kmsg; {command}"))?;
    let sealed = said.iter().filter_map(Line::holdover).any(|text| text.starts_with("sealed complete"));
    ensure!(sealed, "the capture kernel sealed no complete dump");
    Ok(())
}

/// Has crash, drgn and makedumpfile read the dump in a folder of the guest.
pub(super) fn read(machine: &mut Machine, stage: &Stage, folder: &str) -> Result<Vec<String>> {
    let fetched = machine.fetch(folder)?;
    let mut readings = read_dump(machine, stage, &fetched.join("vmcore"))?;
    let empty =
        BESIDE.iter().filter(|name| !fs::metadata(fetched.join(name)).is_ok_and(|file| file.len() > 0));
    readings.problems.extend(empty.map(|name| format!("beside the dump there is no {name}")));
    Ok(readings.problems)
}

/// Has them read a dump that was fetched.
pub(super) fn read_dump(machine: &Machine, stage: &Stage, path: &Path) -> Result<Readings> {
    let programs = &Readers::of(Flavour::Cloud, Codec::Zlib)?;
    let kernel = stage.system.kernel.debug.as_deref();
    let mut readings = Readings::default();
    Dump { path, programs, kernel, files: machine.files() }.read(&mut readings);
    if !readings.log.iter().any(|line| line.contains(PANIC)) {
        readings.problems.push("the dump's log has no panic".to_owned());
    }
    Ok(readings)
}
