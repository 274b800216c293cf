//! The rows of `cargo xtask test` that are an administrator's days: each a story of commands and panics on a machine of its own.

use std::fs;

use anyhow::{Result, ensure};

use super::deb::{self, Deb};
use super::machine::Machine;
use super::package;
use super::system::System;
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
    /// The system on which it is installed.
    pub(crate) system: System,
}

impl Stage {
    /// Makes the package, and the system unless it is here.
    pub(crate) fn build() -> Result<Self> {
        Ok(Self { deb: deb::build()?, system: System::fetch()? })
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
pub(crate) const ROWS: [Row; 2] = [
    Row { name: "package-contents", among: Among::Default, story: |_, stage| package::problems(stage) },
    Row { name: "debian-cycle", among: Among::Default, story: cycle },
];

/// What is beside a dump in its folder.
const BESIDE: [&str; 4] = ["dmesg.txt", "takeover.txt", "takeover.json", "summary.html"];

/// The file that takes dumps.
const AREA: &str = "/var/lib/holdover/area";

/// Installation, a dump area in a file on the root disk, two tests, each with a panic and a dump that systemd collects at the next boot;
/// then a purge.
fn cycle(name: &str, stage: &Stage) -> Result<Vec<String>> {
    let mut machine = Machine::boot(name, &stage.system)?;
    install(&mut machine, stage)?;
    ensure!(!is_loaded(&mut machine)?, "the installation alone loads a capture kernel");
    set_up(&mut machine)?;
    let mut problems = Vec::new();
    for round in 1..=2 {
        machine.run("holdover doctor")?;
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

/// Purges the package, and names what is left of it.
fn purge(machine: &mut Machine) -> Result<Vec<String>> {
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
fn set_up(machine: &mut Machine) -> Result<()> {
    machine.run(&format!("holdover setup --yes --file {AREA} --size 256M"))?;
    machine.run("systemctl is-active holdover.service")?;
    ensure!(is_loaded(machine)?, "holdover.service is active, and nothing is loaded");
    Ok(())
}

fn is_loaded(machine: &mut Machine) -> Result<bool> {
    Ok(machine.run("cat /sys/kernel/kexec_crash_loaded")?.trim() == "1")
}

/// The folders of collected crashes, the newest first.
fn crashes(machine: &mut Machine) -> Result<Vec<String>> {
    let listed = machine.run("ls -dt /var/crash/*/ 2>/dev/null || true")?;
    Ok(listed.lines().map(str::to_owned).collect())
}

/// Installs the package as an administrator does who has its file.
fn install(machine: &mut Machine, stage: &Stage) -> Result<()> {
    machine.put(&stage.deb.path)?;
    machine.run("apt-get -q -q -y --no-install-recommends install /root/holdover_*.deb").map(|_| ())
}

/// Has the machine panic by `holdover test`.
fn panic(machine: &mut Machine) -> Result<()> {
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
fn read(machine: &mut Machine, stage: &Stage, folder: &str) -> Result<Vec<String>> {
    let fetched = machine.fetch(folder)?;
    let path = fetched.join("vmcore");
    let programs = &Readers::of(Flavour::Cloud, Codec::Zlib)?;
    let kernel = stage.system.kernel.debug.as_deref();
    let mut readings = Readings::default();
    Dump { path: &path, programs, kernel, files: machine.files() }.read(&mut readings);
    if !readings.log.iter().any(|line| line.contains(PANIC)) {
        readings.problems.push("the dump's log has no panic".to_owned());
    }
    let empty =
        BESIDE.iter().filter(|name| !fs::metadata(fetched.join(name)).is_ok_and(|file| file.len() > 0));
    readings.problems.extend(empty.map(|name| format!("beside the dump there is no {name}")));
    Ok(readings.problems)
}
