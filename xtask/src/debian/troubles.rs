//! The row `debian-cycle-troubles`: what goes wrong on one machine, one thing after the other, and what Holdover says of it.

use anyhow::{Result, ensure};

use super::machine::{Board, Machine, Start};
use super::rows::{AREA, Stage, add_packages, crashes, install, is_loaded, purge, read, set_up};
use crate::guests::initramfs;
use crate::machines::console::Line;
use crate::machines::firmware::Firmware;
use crate::paths;

/// kdump-tools loads a whole Linux.
const BOARD: Board<'_> = Board { start: Start::Firmware(Firmware::Bios), reserved: "128M" };

/// The panic that nobody asked for; the readers of the dump look for the line before it.
const PANIC_NOW: &str = "echo 'bench: loaded' > /dev/kmsg; echo c > /proc/sysrq-trigger";

/// The version that is to be had takes the place of the older one.
const UPGRADE: &str = "dpkg --install /root/holdover_0.1*.deb";

/// What takes the place of the crash kernel's initial RAM file system, which is never started.
const KDUMP_INITRD: &str = "gzip < /dev/null > /var/lib/kdump/initrd.img-$(uname -r)";

/// Goes through all of it, and purges the package in the end.
pub(super) fn problems(name: &str, stage: &Stage) -> Result<Vec<String>> {
    let mut machine = Machine::boot(name, &stage.system, BOARD)?;
    let aged = stage.deb.aged(&paths::made(machine.files().kept().join("aged"))?)?;
    install(&mut machine, &aged)?;
    let mut problems = kdump_tools(&mut machine, stage)?;
    set_up(&mut machine)?;
    problems.extend(full_disk(&mut machine)?);
    problems.extend(upgrade(&mut machine, stage)?);
    problems.extend(boot_loop(&mut machine)?);
    problems.extend(damaged_area(&mut machine)?);
    forget_damaged_area(&mut machine)?;
    add_bootloader(&mut machine)?;
    problems.extend(purge(&mut machine)?);
    Ok(problems)
}

/// Another's crash kernel: it stays, and whose it is is told, until an administrator does what the message says.
fn kdump_tools(machine: &mut Machine, stage: &Stage) -> Result<Vec<String>> {
    add_packages(machine, stage, "kdump-tools")?;
    machine.run(&format!("{KDUMP_INITRD} && systemctl restart kdump-tools.service"))?;
    ensure!(is_loaded(machine)?, "kdump-tools loads no crash kernel");
    let owner = "kdump-tools.service has loaded ";
    let remedy = "systemctl disable --now kdump-tools.service";
    let setup = format!("holdover setup --yes --no-units --file {AREA} --size 256M");
    let mut problems = Vec::new();
    for command in [&setup, "holdover load", "holdover doctor"] {
        problems.extend(refused(machine, command, &[owner, remedy])?);
    }
    let kept = machine.run("kdump-config show")?;
    if !kept.contains("ready to kdump") || !is_loaded(machine)? {
        problems.push(format!("the crash kernel of kdump-tools is gone: {kept}"));
    }
    machine.run(remedy)?;
    ensure!(!is_loaded(machine)?, "kdump-tools does not unload");
    Ok(problems)
}

/// A panic while the file system with `/var` is full: nothing of the dump can be collected; then the log, once a little room was made.
fn full_disk(machine: &mut Machine) -> Result<Vec<String>> {
    // The file system gives what it has before it refuses the rest.
    machine.run("fallocate -l 64M /var/spare; fallocate -l 4G /var/filler || true; sync")?;
    panics(1, machine)?;
    let unit = words_of("holdover-collect.service", machine)?;
    let waits = ["the dump is still in its area", "make room"];
    let mut problems = lacks("holdover-collect.service", &unit, &waits);
    // It tries again each minute.
    machine.run("systemctl stop holdover-collect.service")?;
    let told = "holds a dump that was not collected; `holdover collect`";
    problems.extend(refused(machine, "holdover status", &[told])?);
    machine.run("rm /var/spare")?;
    problems.extend(refused(machine, "holdover collect", &["only the log is saved", "make room"])?);
    let saved = machine.run("ls /var/crash/server-*/")?;
    if !saved.contains("dmesg.txt") || saved.contains("vmcore") {
        problems.push(format!("where there is room for the log only there is {saved}"));
    }
    Ok(problems)
}

/// An upgrade while a dump is in the area; afterwards it is collected, whole.
fn upgrade(machine: &mut Machine, stage: &Stage) -> Result<Vec<String>> {
    machine.put(&stage.deb.path)?;
    // apt-get has no room for its lists.
    machine.run(UPGRADE)?;
    machine.run("rm /var/filler")?;
    machine.run("systemctl start holdover-collect.service && systemctl start holdover.service")?;
    let folders = crashes(machine)?;
    ensure!(folders.len() == 1, "after an upgrade there are {folders:?} in /var/crash");
    let problems = read(machine, stage, &folders[0])?;
    machine.run("holdover status")?;
    machine.run("holdover verify")?;
    Ok(problems)
}

/// Two more panics soon after their boots, the second without an administrator: of the three dumps the first and the newest are kept.
fn boot_loop(machine: &mut Machine) -> Result<Vec<String>> {
    let first = crashes(machine)?;
    let unit = machine.files().kept().join("panic-at-boot.service");
    std::fs::write(&unit, initramfs::guest_file("panic-at-boot.service")?)?;
    machine.put(&unit)?;
    machine.run("systemctl enable /root/panic-at-boot.service && echo 1 > /root/panics && sync")?;
    panics(2, machine)?;
    machine.run("systemctl disable panic-at-boot.service")?;
    let mut problems = Vec::new();
    let folders = crashes(machine)?;
    if folders.len() != 2 || folders.last() != first.last() {
        problems.push(format!("after a boot loop that began with {first:?} there are {folders:?}"));
    }
    let unit = words_of("holdover-collect.service", machine)?;
    problems.extend(lacks("holdover-collect.service", &unit, &["3 crashes in a row"]));
    let status = machine.run("holdover status")?;
    problems.extend(lacks("holdover status", &status, &["3 crashes in a row"]));
    Ok(problems)
}

/// An area that has lost its label: whoever needs it says so, and nothing is loaded for it.
fn damaged_area(machine: &mut Machine) -> Result<Vec<String>> {
    // While it is in use, nobody can write it.
    machine.run("systemctl stop holdover.service")?;
    machine.run(&format!("dd if=/dev/zero of={AREA} bs=64K seek=1 count=1 conv=notrunc,fsync"))?;
    // It would try again for ten minutes.
    let mut problems = refused(machine, "timeout 20 systemctl start holdover.service", &[])?;
    if is_loaded(machine)? {
        problems.push("a capture kernel is loaded for a damaged area".to_owned());
    }
    for command in ["holdover load", "holdover status", "holdover collect", "holdover doctor"] {
        problems.extend(refused(machine, command, &[AREA])?);
    }
    let unit = words_of("holdover.service", machine)?;
    problems.extend(lacks("holdover.service", &unit, &[AREA, "is not a dump area", "`holdover format"]));
    Ok(problems)
}

/// Deletes the file without a label, as an administrator must: it may be a damaged dump, and Holdover deletes none.
fn forget_damaged_area(machine: &mut Machine) -> Result<()> {
    machine.run(&format!("holdover remove --discard-dump {AREA} && rm {AREA}")).map(drop)
}

/// Has the machine ask for memory as one with GRUB does, whose package is not here.
pub(super) fn add_bootloader(machine: &mut Machine) -> Result<()> {
    machine.run(
        "ln -s /bin/true /usr/sbin/update-grub; mkdir -p /etc/default/grub.d; touch /etc/default/grub",
    )?;
    let line = "GRUB_CMDLINE_LINUX_DEFAULT=crashkernel=16M";
    machine.run(&format!("echo {line} > /etc/default/grub.d/holdover.cfg")).map(drop)
}

/// Has the machine panic now, and waits until it has booted and does not panic any more: after so many panics.
fn panics(count: usize, machine: &mut Machine) -> Result<()> {
    let said = machine.crash(PANIC_NOW)?;
    let sealed = said.iter().filter_map(Line::holdover).filter(|text| text.starts_with("sealed complete"));
    let sealed = sealed.count();
    ensure!(sealed == count, "of {count} panics {sealed} were dumped");
    Ok(())
}

/// What a unit has said since the boot.
fn words_of(unit: &str, machine: &mut Machine) -> Result<String> {
    machine.run(&format!("journalctl --boot --output cat --unit {unit}"))
}

/// Runs a command that must not succeed, and must say this.
pub(super) fn refused(machine: &mut Machine, command: &str, words: &[&str]) -> Result<Vec<String>> {
    let done = machine.try_run(command)?;
    let mut problems = lacks(command, &done.said, words);
    if done.status == 0 {
        problems.push(format!("`{command}` ends with 0"));
    }
    Ok(problems)
}

/// What of these words is not said.
pub(super) fn lacks(who: &str, said: &str, words: &[&str]) -> Vec<String> {
    let missing = words.iter().filter(|words| !said.contains(*words));
    missing.map(|words| format!("`{who}` does not say `{words}`: {said}")).collect()
}
