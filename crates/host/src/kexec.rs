//! Runs `kexec`, and says why when it fails.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::{fs, io};

use crate::sysfs::{self, SysfsError};

/// The file in which the kernel gives the bytes reserved for a crash kernel.
const CRASH_SIZE: &str = "/sys/kernel/kexec_crash_size";
/// The file in which the kernel says whether a crash kernel is loaded.
const CRASH_LOADED: &str = "/sys/kernel/kexec_crash_loaded";
/// How many of the kernel's last messages are shown after a failure.
const LAST_MESSAGES: usize = 5;

/// The system call that loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KexecSyscall {
    /// `kexec_file_load`: the running kernel takes the image apart, and checks its signature if it wants one.
    File,
    /// `kexec_load`: the tool takes the image apart.
    Load,
}

/// Why kexec failed.
#[derive(Debug, thiserror::Error)]
pub enum KexecError {
    /// The running kernel was built without kexec, or hides its files.
    #[error("this kernel cannot load a crash kernel")]
    Unsupported(#[source] SysfsError),
    /// The running kernel does not say whether a crash kernel is loaded.
    #[error(transparent)]
    NotTold(#[from] SysfsError),
    /// There is no such program.
    #[error("cannot run kexec; the package kexec-tools has it")]
    NoTool(#[source] io::Error),
    /// It failed.
    #[error("kexec failed ({status}): {said}{last_messages}")]
    Failed {
        /// Its exit status.
        status: ExitStatus,
        /// What it said.
        said: String,
        /// What the kernel said last, on lines of its own.
        last_messages: String,
    },
    /// It reports success, and nothing is loaded.
    #[error("kexec reported success, but {CRASH_LOADED} says that nothing is loaded")]
    NotLoaded,
    /// There is no file of the image's name.
    #[error("cannot read {image}; `cargo xtask build` makes the capture kernel's image")]
    NoImage {
        /// The path that was given.
        image: PathBuf,
        /// What the host's file system said.
        source: io::Error,
    },
    /// The image is no kernel.
    #[error("{image} is not a bzImage; `cargo xtask build` makes the capture kernel's image")]
    NotABzImage {
        /// The path that was given.
        image: PathBuf,
    },
}

type Result<T> = std::result::Result<T, KexecError>;

impl KexecSyscall {
    fn option(self) -> &'static str {
        match self {
            Self::File => "-s",
            Self::Load => "-c",
        }
    }
}

/// Why the running kernel refuses to load any crash kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// What was found.
    pub(crate) found: &'static str,
    /// What to do about it.
    pub(crate) remedy: &'static str,
}

/// Why the running kernel refuses to load a crash kernel, if it does. Neither switch can be turned back.
pub(crate) fn refusal() -> Option<Refusal> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    refusal_by(
        &read("/proc/sys/kernel/kexec_load_disabled"),
        &read("/proc/sys/kernel/kexec_load_limit_panic"),
    )
}

/// `disabled` is 1 when nothing may be loaded any more; `limit` is how often a crash kernel may still be, -1 for ever
/// (Documentation/admin-guide/sysctl/kernel.rst).
fn refusal_by(disabled: &str, limit: &str) -> Option<Refusal> {
    if disabled.trim() == "1" {
        return Some(Refusal {
            found: "kexec_load_disabled is 1",
            remedy: "restart, and load before it is set",
        });
    }
    (limit.trim() == "0").then_some(Refusal {
        found: "kexec_load_limit_panic is 0: crash kernels were loaded as often as is allowed",
        remedy: "restart with a higher limit, or with none (-1)",
    })
}

/// Bytes reserved for a crash kernel.
pub(crate) fn reserved() -> Result<u64> {
    sysfs::number(Path::new(CRASH_SIZE)).map_err(KexecError::Unsupported)
}

/// Whether a crash kernel is loaded.
pub(crate) fn is_loaded() -> Result<bool> {
    Ok(sysfs::number(Path::new(CRASH_LOADED))? != 0)
}

/// Loads `image`, to be started by a panic.
pub(crate) fn load(image: &Path, command_line: &str, syscall: KexecSyscall) -> Result<()> {
    let mut kexec = Command::new("kexec");
    kexec.arg("-p").arg(syscall.option()).arg(format!("--command-line={command_line}")).arg(image);
    run(kexec)?;
    if !is_loaded()? {
        return Err(KexecError::NotLoaded);
    }
    Ok(())
}

/// Removes the loaded crash kernel.
pub(crate) fn unload() -> Result<()> {
    let mut kexec = Command::new("kexec");
    kexec.args(["-p", "-u"]);
    run(kexec)
}

fn run(mut kexec: Command) -> Result<()> {
    let output = kexec.output().map_err(KexecError::NoTool)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(KexecError::Failed { status: output.status, said, last_messages: last_messages() })
}

/// The kernel's last messages: with `-s`, only the kernel knows why it refused.
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
pub(crate) fn check_image(image: &Path) -> Result<()> {
    let image = image.to_owned();
    match fs::read(&image) {
        Ok(bytes) if bytes.get(0x202..0x206) == Some(b"HdrS") => Ok(()),
        Ok(_) => Err(KexecError::NotABzImage { image }),
        Err(source) => Err(KexecError::NoImage { image, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_loads_no_crash_kernel_any_more_is_noticed() {
        let found = |disabled, limit| refusal_by(disabled, limit).map(|refusal| refusal.found);
        assert_eq!((found("", ""), found("0\n", "-1\n"), found("0\n", "3\n")), (None, None, None));
        assert_eq!(found("1\n", "-1\n"), Some("kexec_load_disabled is 1"));
        assert!(found("0\n", "0\n").is_some_and(|found| found.contains("kexec_load_limit_panic is 0")));
    }
}
