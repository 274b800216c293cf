//! Finds the dump area and its disk, and has the capture kernel loaded; removes it again.

use std::path::{Path, PathBuf};
use std::{fs, io};

use kdump::Codec;
use pci::Function;
use uuid::Uuid;
use vmcore::Level;

use crate::areas::{self, AreaCopy, AreaError, AreaName, FoundArea};
use crate::kexec;
use crate::sysfs::{self, Location, SysfsError};

pub use crate::kexec::{KexecError, KexecSyscall};

/// What to load, and what to tell it.
#[derive(Clone, Debug)]
pub struct LoadRequest {
    /// The capture kernel, a bzImage.
    pub image: PathBuf,
    /// Where dumps go.
    pub area: AreaName,
    /// PCI function of the area's disk; `None` takes the one that `/sys` names.
    pub disk: Option<Function>,
    /// Which pages to leave out.
    pub level: Level,
    /// How to compress pages: one of [`Codec::EVERYWHERE`], which the capture kernel knows.
    pub codec: Codec,
    /// The system call that loads.
    pub syscall: KexecSyscall,
    /// More options for the capture kernel's command line.
    pub append: Option<String>,
}

/// Why the capture kernel was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// There is no memory for it.
    #[error("no memory is reserved for a crash kernel; start this kernel with crashkernel=16M")]
    NothingReserved,
    /// The image cannot be loaded, or kexec failed.
    #[error(transparent)]
    Kexec(#[from] KexecError),
    /// The dump area cannot be used.
    #[error(transparent)]
    Area(#[from] AreaError),
    /// The area's disk cannot be found.
    #[error(transparent)]
    Disk(#[from] SysfsError),
    /// The area's partition begins within a block.
    #[error(
        "{device} begins at byte {offset} of its disk, which is not a multiple of {}; make a partition that begins at a whole \
         mebibyte",
        area::BLOCK
    )]
    Misaligned {
        /// The area's device.
        device: PathBuf,
        /// Where it begins on its disk.
        offset: u64,
    },
    /// The area's disk is not a PCI function's.
    #[error("{disk} has no PCI function in /sys; name the one it is behind with --disk")]
    NoFunction {
        /// The kernel's name of the disk.
        disk: String,
    },
    /// The capture kernel has no driver for the area's disk.
    #[error("{objection}; make a dump area on another disk with `holdover format`")]
    NoDriver {
        /// Which function it is, and why it cannot be used.
        objection: String,
    },
    /// The running kernel's command line, which names its serial console, cannot be read.
    #[error("cannot read the command line; is /proc mounted?")]
    NoCommandLine(#[source] io::Error),
}

/// What was loaded.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The capture kernel.
    pub image: PathBuf,
    /// The dump area's device.
    pub device: PathBuf,
    /// The capture kernel's command line.
    pub command_line: String,
    /// Other devices that could get the dump.
    pub copies: Vec<AreaCopy>,
}

/// The capture kernel's command line.
struct CommandLine<'a> {
    uuid: Uuid,
    offset: u64,
    disk: Function,
    level: u8,
    codec: Codec,
    console: Option<&'a str>,
    append: Option<&'a str>,
}

impl CommandLine<'_> {
    fn compose(&self) -> String {
        let mut options = vec![format!("holdover.area={}@{}", self.uuid, self.offset)];
        options.push(format!("holdover.disk={}", self.disk));
        options.push(format!("holdover.level={}", self.level));
        options.push(format!("holdover.codec={}", self.codec.name()));
        options.extend(self.console.into_iter().chain(self.append).map(str::to_owned));
        options.join(" ")
    }
}

/// Has the running kernel load the capture kernel, to be started by a panic.
pub fn load(request: &LoadRequest) -> Result<Loaded, LoadError> {
    if kexec::reserved()? == 0 {
        return Err(LoadError::NothingReserved);
    }
    kexec::check_image(&request.image)?;
    let found = areas::find(&request.area)?;
    let location = sysfs::locate(&found.device)?;
    check_start(&found.device, location.offset)?;
    let running = fs::read_to_string("/proc/cmdline").map_err(LoadError::NoCommandLine)?;
    let loaded = Loaded {
        image: request.image.clone(),
        command_line: command_line(request, &found, &location, &running)?,
        copies: found.copies(&areas::all()?).collect(),
        device: found.device,
    };
    kexec::load(&loaded.image, &loaded.command_line, request.syscall)?;
    Ok(loaded)
}

/// What the capture kernel is told; `running` is what the running kernel was told.
fn command_line(
    request: &LoadRequest,
    found: &FoundArea,
    location: &Location,
    running: &str,
) -> Result<String, LoadError> {
    let disk = request.disk.map_or_else(|| disk_function(location), Ok)?;
    let command_line = CommandLine {
        uuid: found.label.uuid,
        offset: location.offset,
        disk,
        level: request.level.number(),
        codec: request.codec,
        console: serial_console(running),
        append: request.append.as_deref(),
    };
    Ok(command_line.compose())
}

/// Has the running kernel remove the capture kernel: from then on a panic is not dumped.
pub fn unload() -> Result<(), KexecError> {
    kexec::unload()
}

/// Refuses an area that the capture kernel will refuse for where it begins on its disk.
fn check_start(device: &Path, offset: u64) -> Result<(), LoadError> {
    if offset.is_multiple_of(area::BLOCK) {
        return Ok(());
    }
    Err(LoadError::Misaligned { device: device.to_owned(), offset })
}

/// The function behind which the capture kernel will find the disk.
fn disk_function(location: &Location) -> Result<Function, LoadError> {
    let Some(controller) = &location.controller else {
        return Err(LoadError::NoFunction { disk: location.disk.clone() });
    };
    match controller.objection() {
        Some(objection) => Err(LoadError::NoDriver { objection }),
        None => Ok(controller.function),
    }
}

/// The last serial console of the running kernel: the capture kernel speaks there too.
fn serial_console(command_line: &str) -> Option<&str> {
    command_line.split_ascii_whitespace().rfind(|option| option.starts_with("console=ttyS"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The form is the one in ARCHITECTURE.md.
    #[test]
    fn the_command_line_has_the_documented_form() {
        let command_line = CommandLine {
            uuid: Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef),
            offset: 1 << 20,
            disk: Function { segment: 0, bus: 0, devfn: 4 << 3 },
            level: 31,
            codec: Codec::Lzo,
            console: serial_console("quiet console=tty0 console=ttyS1,9600 console=ttyS0,115200 ro"),
            append: Some("a=b c"),
        };
        let expected = "holdover.area=01234567-89ab-cdef-0123-456789abcdef@1048576 holdover.disk=0000:00:04.0 \
             holdover.level=31 holdover.codec=lzo console=ttyS0,115200 a=b c";
        assert_eq!(command_line.compose(), expected);
    }

    #[test]
    fn an_area_that_begins_within_a_block_is_refused_before_the_crash() {
        assert!(check_start(Path::new("/dev/vda1"), 1 << 20).is_ok());
        assert!(check_start(Path::new("/dev/vda1"), 63 * 512).is_err());
    }

    #[test]
    fn a_kernel_without_a_serial_console_names_none() {
        assert_eq!(serial_console("quiet console=tty0 ro"), None);
    }
}
