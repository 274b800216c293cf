//! `crashkernel=` on the kernel's command line, through the distribution's own configuration of its bootloader.
//!
//! | distribution | where | made to count by |
//! |---|---|---|
//! | Debian, Ubuntu | `/etc/default/grub.d/holdover.cfg`, a file of Holdover's | `update-grub` |
//! | Fedora, Red Hat | GRUB's entries, through `grubby` | nothing more |
//! | systemd-boot | `/etc/kernel/cmdline` | `kernel-install`, which a person runs |
//!
//! Nothing that somebody else has written there is changed: another `crashkernel=` is told. The bootloader's own files are never
//! touched. Each function takes the root folder of the system that it works on.

mod asked;

use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::Serialize;

use crate::programs::Programs;
use crate::state;

/// Holdover's part of the configuration of GRUB.
const DROP_IN: &str = "etc/default/grub.d/holdover.cfg";
/// The configuration of GRUB.
const GRUB: &str = "etc/default/grub";
/// Where packages add to it, in alphabetical order.
const GRUB_PARTS: &str = "etc/default/grub.d";
/// The command line of kernels that kernel-install installs.
const KERNEL_INSTALL: &str = "etc/kernel/cmdline";
/// What Holdover asked for where there is no file of its own.
const NOTE: &str = "var/lib/holdover/crashkernel";

/// How the command line is set on a system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bootloader {
    /// GRUB as Debian and Ubuntu have it.
    GrubParts,
    /// GRUB as Fedora and Red Hat have it.
    Grubby,
    /// A command line of kernel-install's.
    KernelInstall,
}

/// Why the command line was not set.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum BootloaderError {
    /// There is no configuration that is known.
    #[error(
        "it is not known how this system sets its kernel's command line: add crashkernel={mebibytes}M to it by hand, and restart"
    )]
    Unknown {
        /// What is needed.
        mebibytes: u64,
    },
    /// Somebody else asks for less than is needed.
    #[error(
        "{file} has crashkernel={value}, and this machine needs {mebibytes}M: change it there (a package's file comes back with the \
         package; `apt purge kdump-tools` removes that of kdump-tools), and restart"
    )]
    Other {
        /// The file.
        file: PathBuf,
        /// What it asks for.
        value: String,
        /// What is needed.
        mebibytes: u64,
    },
    /// A file cannot be read or written.
    #[error("cannot change {file}; run `holdover setup` as root")]
    File {
        /// The file.
        file: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// The program that makes it count failed.
    #[error("`{command}` failed; the kernel's command line is what it was until it has run")]
    Program {
        /// The command.
        command: String,
        /// What it said.
        source: io::Error,
    },
}

/// What became of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reservation {
    /// It asks for enough already: the next boot reserves it. It says so in this file.
    Asked {
        /// The file.
        file: PathBuf,
        /// What is asked for.
        value: String,
    },
    /// It asks for enough from now on.
    Set {
        /// How.
        bootloader: Bootloader,
        /// What is asked for.
        value: String,
        /// The command that a person must run before it counts, if there is one.
        left: Option<String>,
    },
}

impl Bootloader {
    /// Finds the one of a system.
    pub fn of(root: &Path) -> Option<Self> {
        let has = |file: &str| root.join(file).exists();
        if has("usr/sbin/grubby") || has("sbin/grubby") {
            Some(Self::Grubby)
        } else if has(GRUB) && (has("usr/sbin/update-grub") || has("sbin/update-grub")) {
            Some(Self::GrubParts)
        } else {
            has(KERNEL_INSTALL).then_some(Self::KernelInstall)
        }
    }
}

/// Asks for `needed` bytes, in whole mebibytes, from the next boot on. `memory` is what the machine has, in bytes.
pub fn reserve(
    root: &Path,
    needed: u64,
    memory: u64,
    programs: &dyn Programs,
) -> Result<Reservation, BootloaderError> {
    let mebibytes = needed >> 20;
    let bootloader = Bootloader::of(root).ok_or(BootloaderError::Unknown { mebibytes })?;
    let value = format!("{mebibytes}M");
    // The last one on the command line counts; Holdover's own gives way to a larger one.
    if let Some((file, asked)) = asked(root).pop() {
        let is_enough = asked::reserved(&asked, memory).is_some_and(|bytes| bytes >= needed);
        let is_ours = is_ours(root, &file, &asked);
        // A setup that failed or ended before the bootloader knew has left its value too. Only the running kernel shows who knew.
        if is_enough && (!is_ours || is_running(root, &asked)) {
            return Ok(Reservation::Asked { file, value: asked });
        }
        if !is_ours {
            return Err(BootloaderError::Other { file, value: asked, mebibytes });
        }
    }
    let left = set(root, bootloader, &value, programs)?;
    Ok(Reservation::Set { bootloader, value, left })
}

/// Whether the running kernel was started with this.
pub(crate) fn is_running(root: &Path, value: &str) -> bool {
    let line = fs::read_to_string(root.join("proc/cmdline")).unwrap_or_default();
    line.split_whitespace().any(|word| word.strip_prefix("crashkernel=") == Some(value))
}

/// Asks for nothing any more; says whether anything was asked for by Holdover.
pub fn release(root: &Path, programs: &dyn Programs) -> Result<bool, BootloaderError> {
    let drop_in = root.join(DROP_IN);
    if drop_in.exists() {
        fs::remove_file(&drop_in).map_err(failed(&drop_in))?;
        run(programs, "update-grub", &[])?;
        return Ok(true);
    }
    let note = root.join(NOTE);
    let Ok(value) = fs::read_to_string(&note) else { return Ok(false) };
    let word = format!("crashkernel={}", value.trim());
    match Bootloader::of(root) {
        Some(Bootloader::Grubby) => {
            run(programs, "grubby", &["--update-kernel=ALL", &format!("--remove-args={word}")])?;
        }
        _ => change_words(root, |words| words.retain(|other| *other != word))?,
    }
    fs::remove_file(&note).map_err(failed(&note))?;
    Ok(true)
}

fn set(
    root: &Path,
    bootloader: Bootloader,
    value: &str,
    programs: &dyn Programs,
) -> Result<Option<String>, BootloaderError> {
    let word = format!("crashkernel={value}");
    match bootloader {
        Bootloader::GrubParts => {
            let file = root.join(DROP_IN);
            state::write(&file, drop_in(value).as_bytes()).map_err(failed(&file))?;
            run(programs, "update-grub", &[])?;
            Ok(None)
        }
        Bootloader::Grubby => {
            note(root, value)?;
            run(programs, "grubby", &["--update-kernel=ALL", &format!("--args={word}")])?;
            Ok(None)
        }
        Bootloader::KernelInstall => {
            note(root, value)?;
            change_words(root, |words| {
                words.retain(|other| !other.starts_with("crashkernel="));
                words.push(word);
            })?;
            // Its arguments depend on the distribution and on the version.
            Ok(Some("kernel-install add $(uname -r) /lib/modules/$(uname -r)/vmlinuz".to_owned()))
        }
    }
}

/// The text of Holdover's part of the configuration of GRUB, which is read by a shell.
fn drop_in(value: &str) -> String {
    format!(
        "# Written by `holdover setup`: the memory that the capture kernel needs on this machine.\n\
         # `holdover setup --remove-crashkernel` removes this file.\n\
         GRUB_CMDLINE_LINUX_DEFAULT=\"$GRUB_CMDLINE_LINUX_DEFAULT crashkernel={value}\"\n"
    )
}

/// All that is asked for, in the order of the command line.
fn asked(root: &Path) -> Vec<(PathBuf, String)> {
    let parts = fs::read_dir(root.join(GRUB_PARTS)).into_iter().flatten().flatten();
    let mut parts: Vec<_> = parts.map(|part| part.path()).collect();
    parts.retain(|part| part.extension().is_some_and(|ending| ending == "cfg"));
    parts.sort();
    let files = [root.join(GRUB)].into_iter().chain(parts).chain([root.join(KERNEL_INSTALL)]);
    let values = |file: PathBuf| {
        let text = fs::read_to_string(&file).unwrap_or_default();
        asked::values(&text).into_iter().map(move |value| (file.clone(), value)).collect::<Vec<_>>()
    };
    files.flat_map(values).collect()
}

/// Whether Holdover has written this value in this file.
fn is_ours(root: &Path, file: &Path, value: &str) -> bool {
    let noted = || fs::read_to_string(root.join(NOTE)).is_ok_and(|noted| noted.trim() == value);
    file == root.join(DROP_IN) || noted()
}

fn note(root: &Path, value: &str) -> Result<(), BootloaderError> {
    let note = root.join(NOTE);
    state::write(&note, format!("{value}\n").as_bytes()).map_err(failed(&note))
}

/// Changes the words of kernel-install's command line.
fn change_words(root: &Path, change: impl FnOnce(&mut Vec<String>)) -> Result<(), BootloaderError> {
    let file = root.join(KERNEL_INSTALL);
    let text = fs::read_to_string(&file).map_err(failed(&file))?;
    let mut words: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
    change(&mut words);
    state::write(&file, (words.join(" ") + "\n").as_bytes()).map_err(failed(&file))
}

fn run(programs: &dyn Programs, program: &str, arguments: &[&str]) -> Result<(), BootloaderError> {
    let command = || [&[program], arguments].concat().join(" ");
    let ran = programs.run(program, arguments);
    ran.map(drop).map_err(|source| BootloaderError::Program { command: command(), source })
}

fn failed(file: &Path) -> impl Fn(io::Error) -> BootloaderError + '_ {
    |source| BootloaderError::File { file: file.to_owned(), source }
}

/// Bytes of memory that a machine has, by its `/proc/meminfo`; 0 if it does not say.
pub(crate) fn memory(root: &Path) -> u64 {
    let text = fs::read_to_string(root.join("proc/meminfo")).unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes = total.and_then(|total| total.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kibibytes.map_or(0, |kibibytes| kibibytes.saturating_mul(1024))
}

impl std::fmt::Display for Reservation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Asked { file, value } => {
                write!(f, "{} has crashkernel={value}, which is enough", file.display())
            }
            Self::Set { value, left: None, .. } => write!(f, "crashkernel={value} from the next boot on"),
            Self::Set { value, left: Some(command), .. } => {
                write!(f, "crashkernel={value} from the next boot on, once `{command}` has run")
            }
        }
    }
}

#[cfg(test)]
mod tests;
