//! Runs `kexec`, and says why when it fails.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::sysfs;

/// Where the kernel says how many bytes are reserved for a crash kernel.
const CRASH_SIZE: &str = "/sys/kernel/kexec_crash_size";
/// Where the kernel says whether a crash kernel is loaded.
const CRASH_LOADED: &str = "/sys/kernel/kexec_crash_loaded";
/// How many of the kernel's last messages are shown after a failure.
const LAST_MESSAGES: usize = 5;

/// The system call that loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Syscall {
    /// `kexec_file_load`: the running kernel takes the image apart, and checks its signature if it wants one
    File,
    /// `kexec_load`: the tool takes the image apart
    Load,
}

impl Syscall {
    fn option(self) -> &'static str {
        match self {
            Self::File => "-s",
            Self::Load => "-c",
        }
    }
}

/// Bytes reserved for a crash kernel.
pub fn reserved() -> Result<u64> {
    sysfs::number(Path::new(CRASH_SIZE)).context("this kernel cannot load a crash kernel")
}

/// Whether a crash kernel is loaded.
pub fn is_loaded() -> Result<bool> {
    Ok(sysfs::number(Path::new(CRASH_LOADED))? != 0)
}

/// Loads `image`, to be started by a panic.
pub fn load(image: &Path, command_line: &str, syscall: Syscall) -> Result<()> {
    let mut kexec = Command::new("kexec");
    kexec.arg("-p").arg(syscall.option()).arg(format!("--command-line={command_line}")).arg(image);
    run(kexec)?;
    if !is_loaded()? {
        bail!("kexec reported success, but {CRASH_LOADED} says that nothing is loaded");
    }
    Ok(())
}

/// Removes the loaded crash kernel.
pub fn unload() -> Result<()> {
    let mut kexec = Command::new("kexec");
    kexec.args(["-p", "-u"]);
    run(kexec)
}

fn run(mut kexec: Command) -> Result<()> {
    let output = kexec.output().context("cannot run kexec; the package kexec-tools has it")?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    bail!("kexec failed ({}): {}{}", output.status, said.trim(), last_messages())
}

/// What the kernel said last: with `-s` only it knows why it refused.
fn last_messages() -> String {
    let Ok(output) = Command::new("dmesg").output() else {
        return "\nread the kernel's log for the reason".into();
    };
    let log = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = log.lines().collect();
    let last = &lines[lines.len().saturating_sub(LAST_MESSAGES)..];
    format!("\nthe kernel's last messages:\n{}", last.join("\n"))
}

/// Checks that a file is a kernel that kexec can load.
///
/// The boot protocol of Linux on x86 (Documentation/arch/x86/boot.rst) has "HdrS" at 0x202.
pub fn check_image(image: &Path) -> Result<()> {
    let bytes = fs::read(image).with_context(|| {
        format!("cannot read {}; `cargo xtask build` makes the capture kernel's image", image.display())
    })?;
    if bytes.get(0x202..0x206) != Some(b"HdrS") {
        bail!("{} is not a bzImage; `cargo xtask build` makes the capture kernel's image", image.display());
    }
    Ok(())
}
