//! The row `handover-kdump-tools`: Debian's own crash kernel, as the package kdump-tools makes it, is the fallback, and dumps after a panic by
//! itself, with the root disk's file system as its target.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::machine::{Board, Machine, Start};
use super::rows::{Stage, add_packages, install, is_loaded, read_dump};
use super::troubles::lacks;
use crate::machines::firmware::Firmware;
use crate::process;

/// In 160 MiB, with 64 of them for bounce buffers, Linux ran out of memory before its first program.
const BOARD: Board<'_> = Board { start: Start::Firmware(Firmware::Bios), reserved: "256M" };

/// No dump area: everything is handed over at once.
const CONFIGURATION: &str = r#"fallback = \"kdump-tools\"\nhandover = \"always\"\n"#;

/// The crash kernel's initial RAM file system, as each installation of a kernel makes it, by the kernel's configuration.
const INITRD: &str =
    "mv /root/config-* /boot/ && /etc/kernel/postinst.d/kdump-tools $(uname -r) && ls -l /var/lib/kdump/";

/// Its newest dump, the only one.
const DUMP: &str = "/var/crash/2*/dump.*";

/// Sets the machine up, has it panic, and looks what an administrator is told of a dump that another program wrote.
pub(super) fn problems(name: &str, stage: &Stage) -> Result<Vec<String>> {
    let mut machine = Machine::boot(name, &stage.system, BOARD)?;
    install(&mut machine, &stage.deb.path)?;
    for package in ["initramfs-tools", "makedumpfile", "kdump-tools"] {
        add_packages(&mut machine, stage, package)?;
    }
    let kernel = &stage.system.kernel;
    machine.put(&kernel.image.with_file_name(format!("config-{}", kernel.release)))?;
    machine.run_patiently(INITRD)?;
    machine.run("systemctl disable --now kdump-tools.service")?;
    machine.run(&format!("printf \"{CONFIGURATION}\" > /etc/holdover.toml && holdover config check"))?;
    machine.run("systemctl enable --now holdover.service")?;
    ensure!(is_loaded(&mut machine)?, "holdover.service is active, and nothing is loaded");
    let doctor = machine.run("holdover doctor")?;
    let words = ["fallback kernel", "Linux 6.1", "the fallback kernel takes the dump"];
    let mut problems = lacks("holdover doctor", &doctor, &words);

    let said = machine.crash("echo 'bench: loaded' > /dev/kmsg; holdover test --yes --countdown 0")?;
    let handed_over = said.iter().any(|line| line.text.contains("handing over to the fallback kernel"));
    ensure!(handed_over, "the capture kernel handed nothing over");
    let folder = PathBuf::from(machine.run(&format!("ls -d {DUMP}"))?.trim());
    let folder = folder.parent().context("a dump is in a folder")?.display().to_string();
    for (command, words) in told(&folder) {
        let said = machine.run(&command)?;
        problems.extend(lacks(&command, &said, &words));
    }
    let fetched = machine.fetch(&folder)?;
    let dump = std::fs::read_dir(fetched)?.filter_map(Result::ok).map(|entry| entry.path());
    let is_dump =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("dump."));
    let dump = dump.into_iter().find(is_dump).context("the dump did not come")?;
    problems.extend(read_dump(&machine, stage, &rearranged(&dump)?)?.problems);
    Ok(problems)
}

/// The same dump in the order in which every reader takes it: kdump-tools has makedumpfile write to a pipe, in its flattened format.
fn rearranged(flattened: &Path) -> Result<PathBuf> {
    let path = flattened.with_extension("rearranged");
    process::run(Command::new("makedumpfile").arg("-R").arg(&path).stdin(File::open(flattened)?))?;
    Ok(path)
}

/// What must be said of the dump in this folder.
fn told(folder: &str) -> [(String, Vec<&'static str>); 5] {
    [
        (
            "journalctl --boot --output cat --unit holdover-collect.service".to_owned(),
            vec![DUMP_TOLD, HANDED_OVER],
        ),
        ("holdover status".to_owned(), vec!["another program's dump", "passed"]),
        ("holdover test --result".to_owned(), vec!["passed: the dump came, written by the fallback kernel"]),
        (format!("holdover inspect {folder}/dump.*"), vec!["contexts"]),
        (
            format!("holdover summary {folder}/dump.* /root/summary.html && cat /root/summary.html"),
            vec!["sysrq", "dmar0"],
        ),
    ]
}

/// Before the path of another program's dump.
const DUMP_TOLD: &str = "another program's  /var/crash/2";
const HANDED_OVER: &str = "written after Holdover had handed the machine over";
