//! Has the running kernel load or remove a crash kernel, and says why when it refuses.

mod kernel_log;
mod refusal;

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, ExitStatus};

pub use self::kernel_log::KernelLog;
pub use self::refusal::Refused;
use crate::image::{self, Image};
use crate::lockdown::Lockdown;
use crate::sysfs::{self, SysfsError};

/// The file in which the kernel gives the bytes reserved for a crash kernel.
const CRASH_SIZE: &str = "sys/kernel/kexec_crash_size";
/// The file in which the kernel says whether a crash kernel is loaded.
const CRASH_LOADED: &str = "/sys/kernel/kexec_crash_loaded";

/// The system call that loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KexecSyscall {
    /// `kexec_file_load`: the running kernel takes the image apart, and checks its signature if it wants one.
    File,
    /// `kexec_load`: the program `kexec` takes the image apart.
    Load,
}

/// Why no crash kernel was loaded or removed.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum KexecError {
    /// The running kernel was built without kexec, or hides its files.
    #[error(
        "this kernel cannot load a crash kernel: it was built without kexec, or hides its files; `mount -t sysfs sysfs /sys` where /sys is empty, \
         otherwise start a kernel with CONFIG_KEXEC_FILE"
    )]
    Unsupported(#[source] SysfsError),
    /// The running kernel refused.
    #[error("{why}{said}")]
    Refused {
        /// What is wrong, and what to do about it.
        why: Refused,
        /// What the kernel wrote to its log meanwhile.
        said: KernelLog,
    },
    /// There is no such program.
    #[error(
        "cannot run kexec, which --syscall load needs; leave that out, or install the package kexec-tools"
    )]
    NoTool(#[source] io::Error),
    /// It failed.
    #[error("kexec failed ({status}): {said}{log}")]
    Failed {
        /// Its exit status.
        status: ExitStatus,
        /// What it said.
        said: String,
        /// What the kernel wrote to its log meanwhile.
        log: KernelLog,
    },
    /// It reports success, and nothing is loaded.
    #[error(
        "the kernel reported success, but {CRASH_LOADED} says that nothing is loaded; `dmesg` may say why"
    )]
    NotLoaded,
    /// A command line ends at a zero byte.
    #[error(
        "the capture kernel's command line has a zero byte; look at --append and at `append =` in /etc/holdover.toml"
    )]
    ZeroByte,
    /// The image cannot be opened again, or there is no memory for a copy.
    #[error("cannot hand the image over to the kernel; `free -m` shows whether there is memory for it")]
    Image(#[source] io::Error),
}

type Result<T> = std::result::Result<T, KexecError>;

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
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
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

/// Bytes reserved for a crash kernel on this host.
pub(crate) fn reserved() -> Result<u64> {
    reserved_below(Path::new("/"))
}

/// Bytes reserved for a crash kernel on the system whose root folder this is.
pub(crate) fn reserved_below(root: &Path) -> Result<u64> {
    sysfs::number(&root.join(CRASH_SIZE)).map_err(KexecError::Unsupported)
}

/// Whether a crash kernel is loaded.
pub(crate) fn is_loaded() -> Result<bool> {
    sysfs::number(Path::new(CRASH_LOADED)).map(|loaded| loaded != 0).map_err(KexecError::Unsupported)
}

/// Loads `image`, to be started by a panic, and an initramfs if there is one.
pub(crate) fn load(
    image: &Image,
    initramfs: Option<&File>,
    command_line: &str,
    syscall: KexecSyscall,
) -> Result<()> {
    match syscall {
        KexecSyscall::File => load_by_kernel(image, initramfs, command_line)?,
        KexecSyscall::Load => load_by_tool(image, initramfs, command_line)?,
    }
    if is_loaded()? { Ok(()) } else { Err(KexecError::NotLoaded) }
}

fn load_by_kernel(image: &Image, initramfs: Option<&File>, command_line: &str) -> Result<()> {
    let command_line = CString::new(command_line).map_err(|_| KexecError::ZeroByte)?;
    let file = image.open().map_err(KexecError::Image)?;
    asked(|| ::kexec::load_crash_kernel(file.as_fd(), initramfs.map(AsFd::as_fd), &command_line))
}

/// The image goes into the reservation by another program: what it has to prepare there is more than a system call.
fn load_by_tool(image: &Image, initramfs: Option<&File>, command_line: &str) -> Result<()> {
    if Lockdown::now().is_on() {
        return Err(KexecError::Refused { why: Refused::OldCall, said: KernelLog::default() });
    }
    let file = image.open().map_err(KexecError::Image)?;
    let mut kexec = Command::new("kexec");
    kexec.args(["-p", "-c"]).arg(format!("--command-line={command_line}"));
    kexec.args(initramfs.map(|file| format!("--initrd={}", image::path_of(file).display())));
    kexec.arg(image::path_of(&file));
    let (output, log) = KernelLog::during(|| kexec.output());
    let output = output.map_err(KexecError::NoTool)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(KexecError::Failed { status: output.status, said, log })
}

/// Removes the loaded crash kernel. A locked-down kernel permits it.
pub(crate) fn unload() -> Result<()> {
    asked(::kexec::unload_crash_kernel)
}

/// Asks the running kernel for something; if it refuses, finds out why.
fn asked(request: impl FnOnce() -> io::Result<()>) -> Result<()> {
    let (answer, said) = KernelLog::during(request);
    answer.map_err(|error| KexecError::Refused { why: Refused::now(error), said })
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
