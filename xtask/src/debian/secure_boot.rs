//! The rows `secure-boot-package` and `secure-boot-mok`: a machine under Secure Boot that has a key for its kernel modules, as DKMS makes
//! one. In the first the firmware trusts it, in the second shim does.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use super::machine::{Board, Machine, Start};
use super::package::make_key;
use super::rows::{AREA, Stage, add_packages, crashes, install, is_loaded, panic, purge, read, set_up};
use super::troubles::{lacks, refused};
use crate::guests::signed;
use crate::machines::firmware::{self, Firmware};
use crate::{paths, process};

/// What the guest takes from its folder `/root`, and where DKMS has it.
const TAKE_KEY: &str = "mkdir -p /var/lib/dkms && mv /root/keys/* /var/lib/dkms/";

/// The firmware trusts the key.
pub(super) fn by_firmware(name: &str, stage: &Stage) -> Result<Vec<String>> {
    let start = Start::Firmware(Firmware::SecureBoot);
    let mut machine = Machine::boot(name, &stage.system, Board { start, ..Board::default() })?;
    let keys = paths::made(machine.files().kept().join("keys"))?;
    let trusted = firmware::trusted_key()?;
    fs::copy(signed::without_password(&trusted.key, machine.files())?, keys.join("mok.key"))?;
    let mut openssl = Command::new("openssl");
    openssl.args(["x509", "-outform", "der", "-in"]).arg(trusted.certificate);
    process::stdout(openssl.arg("-out").arg(keys.join("mok.pub")))?;
    story(&mut machine, stage, &keys)
}

/// The firmware trusts Microsoft's keys, and shim the owner's, as where an administrator of Debian has typed `mokutil --import`.
pub(super) fn by_shim(name: &str, stage: &Stage) -> Result<Vec<String>> {
    let folder = tempfile::tempdir()?;
    let keys = paths::made(folder.path().join("keys"))?;
    make_key(&keys)?;
    let start = Start::Shim(&keys.join("mok.pub"));
    let mut machine = Machine::boot(name, &stage.system, Board { start, ..Board::default() })?;
    story(&mut machine, stage, &keys)
}

/// The installation signs the capture kernel; nobody names an image or a key, and a panic is dumped and collected.
fn story(machine: &mut Machine, stage: &Stage, keys: &Path) -> Result<Vec<String>> {
    let lockdown = machine.run("cat /sys/kernel/security/lockdown")?;
    ensure!(lockdown.contains("[integrity]"), "the kernel is not locked down: {lockdown}");
    machine.put(keys)?;
    machine.run(TAKE_KEY)?;
    add_packages(machine, stage, "sbsigntool")?;
    install(machine, &stage.deb.path)?;
    set_up(machine)?;
    let doctor = machine.run("holdover doctor")?;
    let mut problems = lacks("holdover doctor", &doctor, &["Secure Boot is on; the image is signed by "]);
    panic(machine)?;
    let folders = crashes(machine)?;
    ensure!(folders.len() == 1, "after a crash there are {folders:?} in /var/crash");
    problems.extend(read(machine, stage, &folders[0])?);
    // Loaded again by its unit.
    machine.run("holdover status")?;
    problems.extend(without_signature(machine)?);
    problems.extend(purge(machine)?);
    Ok(problems)
}

/// Without the signed copy the image inside the program is refused, in words; `holdover sign` finds the key by itself.
fn without_signature(machine: &mut Machine) -> Result<Vec<String>> {
    machine.run("systemctl stop holdover.service && rm /var/lib/holdover/capture.bzImage")?;
    let mut problems = refused(
        machine,
        "holdover load",
        &["the image has no signature, and this kernel loads signed images only"],
    )?;
    machine.run("holdover sign")?;
    machine.run("systemctl start holdover.service")?;
    if !is_loaded(machine)? {
        problems.push(format!("with a signed image and {AREA} nothing is loaded"));
    }
    Ok(problems)
}
