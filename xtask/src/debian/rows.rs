//! The rows of `cargo xtask test` that are an administrator's days: each a story of commands and panics on a machine of its own.

use anyhow::{Result, ensure};

use super::deb::{self, Deb};
use super::machine::Machine;
use super::package;
use super::system::System;
use crate::crashes::crash::PANIC;
use crate::guests::kernels::Flavour;
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

/// Installation, a dump area in a file on the root disk, a panic, the dump; then a second panic.
fn cycle(name: &str, stage: &Stage) -> Result<Vec<String>> {
    let mut machine = Machine::boot(name, &stage.system)?;
    install(&mut machine, stage)?;
    machine.run("holdover format /var/lib/holdover/area --size 256M")?;
    let mut problems = Vec::new();
    for round in ["first", "second"] {
        machine.run("holdover load --area /var/lib/holdover/area")?;
        machine.run("holdover doctor")?;
        panic(&mut machine)?;
        let folder = format!("/var/crash/{round}");
        machine
            .run(&format!("mkdir -p {folder} && holdover collect /var/lib/holdover/area {folder}/vmcore"))?;
        problems.extend(read(&mut machine, stage, &folder)?);
    }
    Ok(problems)
}

/// Installs the package as an administrator does who has its file.
fn install(machine: &mut Machine, stage: &Stage) -> Result<()> {
    machine.put(&stage.deb.path)?;
    machine.run("apt-get -q -q -y install /root/holdover_*.deb").map(|_| ())
}

/// Lets the machine panic; the capture kernel must seal a complete dump, and the machine boot again.
fn panic(machine: &mut Machine) -> Result<()> {
    let said = machine.crash("echo 'bench: loaded' > /dev/kmsg; echo c > /proc/sysrq-trigger")?;
    let sealed =
        said.iter().filter_map(|line| line.holdover()).any(|text| text.starts_with("sealed complete"));
    ensure!(sealed, "the capture kernel sealed no complete dump");
    Ok(())
}

/// Has crash, drgn and makedumpfile read the dump in a folder of the guest.
fn read(machine: &mut Machine, stage: &Stage, folder: &str) -> Result<Vec<String>> {
    let path = machine.fetch(folder)?.join("vmcore");
    let programs = &Readers::of(Flavour::Cloud, Codec::Zlib)?;
    let kernel = stage.system.kernel.debug.as_deref();
    let mut readings = Readings::default();
    Dump { path: &path, programs, kernel, files: machine.files() }.read(&mut readings);
    if !readings.log.iter().any(|line| line.contains(PANIC)) {
        readings.problems.push("the dump's log has no panic".to_owned());
    }
    Ok(readings.problems)
}
