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
